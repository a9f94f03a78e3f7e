"""MLflow: runs, data sets, registered models, a device's requests. The one module that knows it.

Both sides use it: the server with the full mlflow, a device with mlflow-skinny, so nothing here
needs pandas. The server is named by MLFLOW_TRACKING_URI, its credentials by MLflow's own variables.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

# A dead server is told within seconds, not minutes; no progress bars in logs.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunStatus,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from storage.errors import DigestMismatch, RegistryError
from storage.files import sha256_file
from storage.model_files import LITERT, MANIFEST, WEIGHTS

#: How long a claim is left to settle before it is read back.
SETTLE_S = 0.5
#: No artifact larger than this is fetched.
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class RegisteredModel:
    """A model version: its name, number, the run that made it, and its tags."""

    name: str
    version: int
    run_id: str
    tags: Mapping[str, str]

    @property
    def reference(self) -> str:
        """NAME/version."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class RequestState:
    """A device evaluation: what was asked, who took it, and what came of it."""

    request_id: str
    device: str
    model: str
    version: int
    status: str
    agent: str | None
    reason: str | None
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


def address() -> str:
    """Where MLflow is: MLFLOW_TRACKING_URI."""
    return os.environ.get("MLFLOW_TRACKING_URI", "") or str(mlflow.get_tracking_uri())


@contextmanager
def _told(what: str) -> Iterator[MlflowClient]:
    """A client; whatever MLflow raises becomes one sentence with the server's address."""
    mlflow.set_tracking_uri(address())
    try:
        yield MlflowClient()
    except (MlflowException, OSError) as error:
        cause = str(error).split("\n")[0]
        raise RegistryError(f"MLflow at {address()}: cannot {what}: {cause}") from error


def start_run(
    experiment: str, run_name: str, params: Mapping[str, object], tags: Mapping[str, str]
) -> str:
    """Start a run in an experiment, made if need be; gives the run's id."""
    with _told(f"start run {run_name}") as client:
        run = client.create_run(_experiment(client, experiment), tags=dict(tags), run_name=run_name)
        items = [Param(name, str(value)) for name, value in params.items()]
        client.log_batch(run.info.run_id, params=items)
        return str(run.info.run_id)


def _experiment(client: MlflowClient, name: str) -> str:
    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:  # another process made it meanwhile
        if found := client.get_experiment_by_name(name):
            return str(found.experiment_id)
        raise


def log_metrics(run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
    """Log metrics in one call; undefined ones (NaN) are left out, as MLflow's pages expect."""
    now = int(time.time() * 1000)
    items = [Metric(k, float(v), now, step) for k, v in metrics.items() if math.isfinite(v)]
    with _told("log metrics") as client:
        client.log_batch(run_id, metrics=items)


def log_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run in one call."""
    with _told("log tags") as client:
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def log_file(run_id: str, path: Path, folder: str) -> None:
    """Log a file as an artifact under a folder."""
    with _told(f"log {path.name}") as client:
        client.log_artifact(run_id, str(path), folder)


def log_folder(run_id: str, path: Path, folder: str) -> None:
    """Log a folder's files as artifacts under a folder."""
    with _told(f"log {path.name}") as client:
        client.log_artifacts(run_id, str(path), folder)


def log_input(
    run_id: str,
    *,
    name: str,
    digest: str,
    source: str,
    context: str,
    profile: Mapping[str, Any],
    tags: Mapping[str, str],
) -> None:
    """Log a data set as the run's input, with our own content digest.

    MLflow shows 36 characters of a digest; the whole SHA-256 is among the tags.
    """
    dataset = Dataset(
        name=name,
        digest=digest[:36],
        source_type="holter",
        source=json.dumps({"uri": source}),
        profile=json.dumps(profile),
    )
    marks = {MLFLOW_DATASET_CONTEXT: context, "sha256": digest, **tags}
    with _told(f"log data set {name}") as client:
        inputs = [InputTag(key, value) for key, value in marks.items()]
        client.log_inputs(run_id, [DatasetInput(dataset, inputs)])


def finish_run(run_id: str, status: str, reason: str | None = None) -> None:
    """End a run FINISHED or FAILED, with the reason as a tag."""
    if reason:
        log_tags(run_id, {"holter.reason": reason[:4000]})
    with _told("end the run") as client:
        client.set_terminated(run_id, status)


def save_keras_flavor(model: Any, folder: Path) -> None:
    """Save a Keras model as `mlflow.tensorflow.load_model` reads it. Server only."""
    import mlflow.tensorflow
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def spec(shape: tuple[int, ...]) -> TensorSpec:
        return TensorSpec(np.dtype(np.float32), [-1, *shape[1:]])

    signature = ModelSignature(
        inputs=Schema([spec(model.input_shape)]), outputs=Schema([spec(model.output_shape)])
    )
    packages = ["tensorflow-cpu==2.21.0", "keras==3.15.1"]
    mlflow.tensorflow.save_model(model, str(folder), signature=signature, pip_requirements=packages)


def register_model(
    run_id: str,
    *,
    name: str,
    folder: Path,
    tags: Mapping[str, str],
    description: str,
    alias: str = "candidate",
) -> RegisteredModel:
    """Register a model's folder as a new version of `name` and move the alias to it."""
    digests = {f"holter.sha256.{f}": sha256_file(folder / f) for f in (LITERT, WEIGHTS, MANIFEST)}
    marks = {**tags, **digests}
    with _told(f"register {name}") as client:
        experiment = client.get_run(run_id).info.experiment_id
        logged = client.create_logged_model(experiment, name=name, source_run_id=run_id, tags=marks)
        client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        version = client.create_model_version(
            name,
            f"models:/{logged.model_id}",
            run_id=run_id,
            tags=marks,
            description=description,
            model_id=logged.model_id,
        )
        client.set_registered_model_alias(name, alias, version.version)
    return RegisteredModel(name, int(version.version), run_id, marks)


def resolve_model(reference: str) -> RegisteredModel:
    """The version that NAME@alias, NAME/version or NAME (its newest) means."""
    with _told(f"find model {reference}") as client:
        name, at, alias = reference.partition("@")
        if at:
            found = client.get_model_version_by_alias(name, alias)
        else:
            name, _, number = reference.partition("/")
            if not number:
                newest = client.search_model_versions(f"name = '{name}'")
                number = str(max((int(v.version) for v in newest), default=0))
            found = client.get_model_version(name, number)
    return RegisteredModel(found.name, int(found.version), str(found.run_id), dict(found.tags))


def request_evaluation(
    *,
    device: str,
    model: RegisteredModel,
    testset_run_id: str,
    testset_path: str,
    testset_sha256: str,
    tags: Mapping[str, str],
) -> str:
    """Ask a device to evaluate a model: a run in status SCHEDULED in its experiment."""
    marks = {
        **tags,
        "holter.kind": "edge-request",
        "holter.device": device,
        "holter.model": model.name,
        "holter.version": str(model.version),
        "holter.model_sha256": model.tags.get(f"holter.sha256.{LITERT}", ""),
        "holter.threshold": model.tags.get("holter.threshold", "0.5"),
        "holter.training_run_id": model.run_id,
        "holter.testset_run_id": testset_run_id,
        "holter.testset_path": testset_path,
        "holter.testset_sha256": testset_sha256,
    }
    with _told(f"ask {device}") as client:
        name = f"{model.name}-v{model.version}-on-{device}"
        run = client.create_run(_experiment(client, f"edge/{device}"), tags=marks, run_name=name)
        client.update_run(run.info.run_id, status="SCHEDULED")
        return str(run.info.run_id)


def request_state(request_id: str) -> RequestState:
    """The state of a device evaluation."""
    with _told(f"read request {request_id}") as client:
        return _state(client.get_run(request_id))


def _state(run: Run) -> RequestState:
    tags = dict(run.data.tags)
    return RequestState(
        request_id=run.info.run_id,
        device=tags.get("holter.device", ""),
        model=tags.get("holter.model", ""),
        version=int(tags.get("holter.version", "0")),
        status=run.info.status,
        agent=tags.get("holter.agent"),
        reason=tags.get("holter.reason"),
        metrics=dict(run.data.metrics),
        tags=tags,
    )


def device_requests(device: str, status: str | None = None) -> list[RequestState]:
    """A device's evaluations, newest first; only those in a status, if one is given."""
    with _told(f"read the requests of {device}") as client:
        experiment = client.get_experiment_by_name(f"edge/{device}")
        if experiment is None:
            return []
        wanted = f"attributes.status = '{status}'" if status else ""
        runs = client.search_runs([experiment.experiment_id], wanted, max_results=200)
    return [_state(run) for run in runs]


def claim(request_id: str, agent_id: str, settle: Callable[[float], None] = time.sleep) -> bool:
    """Take a SCHEDULED request for an agent; of several that try, one gets True.

    The last to write its name wins: each writes, lets it settle, and reads back whose name stands.
    """
    with _told(f"claim request {request_id}") as client:
        before = client.get_run(request_id)
        if before.info.status != RunStatus.to_string(RunStatus.SCHEDULED):
            return False
        client.set_tag(request_id, "holter.agent", agent_id)
        settle(SETTLE_S)
        if client.get_run(request_id).data.tags.get("holter.agent") != agent_id:
            return False
        client.update_run(request_id, status="RUNNING")
        return True


def download_model_file(model: str, version: int, file: str, sha256: str, to: Path) -> Path:
    """Fetch one file of a model version; its digest must be the one named."""
    with _told(f"fetch {file} of {model}/{version}"):
        repository = get_artifact_repository(f"models:/{model}/{version}")
        return _fetched(repository, file, sha256, to)


def download_run_file(run_id: str, file: str, sha256: str, to: Path) -> Path:
    """Fetch one artifact of a run; its digest must be the one named."""
    with _told(f"fetch {file} of run {run_id}") as client:
        repository = get_artifact_repository(client.get_run(run_id).info.artifact_uri)
        return _fetched(repository, file, sha256, to)


def _fetched(repository: Any, file: str, sha256: str, to: Path) -> Path:
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or "\\" in file or not path.name:
        raise RegistryError(f"artifact {file!r}: found a path that leaves its folder")
    parent = str(path.parent) if len(path.parts) > 1 else None
    sizes = {entry.path: entry.file_size for entry in repository.list_artifacts(parent)}
    if file not in sizes:
        raise RegistryError(f"artifact {file}: found none; there are {sorted(sizes) or 'no files'}")
    if sizes[file] is None or sizes[file] > MOST_BYTES:
        raise RegistryError(f"artifact {file}: found {sizes[file]} bytes; at most {MOST_BYTES}")
    to.mkdir(parents=True, exist_ok=True)
    local = Path(repository.download_artifacts(file, str(to)))
    found = sha256_file(local)
    if found != sha256:
        local.unlink()
        raise DigestMismatch(f"artifact {file}: found SHA-256 {found}; expected {sha256 or 'one'}")
    return local


def finish_request(request_id: str, metrics: Mapping[str, float], report: Path) -> None:
    """Report a device evaluation: metrics, files, and the end of the run."""
    log_folder(request_id, report, "report")
    log_metrics(request_id, metrics)
    finish_run(request_id, "FINISHED")


def fail_request(request_id: str, reason: str) -> None:
    """End a device evaluation FAILED with its reason."""
    finish_run(request_id, "FAILED", reason)


def run_page(run_id: str) -> str:
    """A run's page, for a browser."""
    with _told(f"read run {run_id}") as client:
        experiment = client.get_run(run_id).info.experiment_id
    return f"{address()}/#/experiments/{experiment}/runs/{run_id}"


def model_page(model: RegisteredModel) -> str:
    """A model version's page, for a browser."""
    return f"{address()}/#/models/{model.name}/versions/{model.version}"
