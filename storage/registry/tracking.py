"""MLflow: runs, data sets, registered models. The one module that imports it.

The server is named by MLFLOW_TRACKING_URI, its credentials by MLflow's own variables. What a
device needs of MLflow is in `storage.registry.evaluations`, without the package.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

# A dead server is told within seconds, not minutes; no progress bars in logs.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from storage.addresses import without_credentials
from storage.errors import RegistryError
from storage.files import sha256_file, sha256_folder
from storage.registry.experiments import get_or_make_experiment
from storage.registry.model_files import LITERT, MANIFEST, WEIGHTS
from storage.registry.models import ModelVersion as ModelVersion
from storage.registry.signing import sign_name
from storage.registry.tags import REASON_TAG, artifact_tag, folder_tag

if TYPE_CHECKING:
    import pandas as pd

#: The end of a page's address that has MLflow 3.17 open it among trainings; else a browser that has
#: not chosen is among its pages for language models.
TRAINING_MODE = "?workflowType=machine_learning"
#: What an experiment is for, where a page does not say.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


def _uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "") or str(mlflow.get_tracking_uri())


def address() -> str:
    """Where MLflow is: MLFLOW_TRACKING_URI, without the credentials that may be in it."""
    return without_credentials(_uri())


@contextmanager
def _client_to(action: str) -> Iterator[MlflowClient]:
    """A client; whatever MLflow raises becomes one sentence with the server's address."""
    mlflow.set_tracking_uri(_uri())
    try:
        yield MlflowClient()
    except (MlflowException, OSError) as error:
        cause = str(error).split("\n")[0]
        raise RegistryError(f"MLflow at {address()}: cannot {action}: {cause}") from error


def start_run(
    experiment: str, run_name: str, params: Mapping[str, object], tags: Mapping[str, str]
) -> str:
    """Start a run in an experiment, made if need be; gives the run's id."""
    with _client_to(f"start run {run_name}") as client:
        experiment_id = get_or_make_experiment(experiment, EXPERIMENT_TAGS).id
        run = client.create_run(experiment_id, tags=dict(tags), run_name=run_name)
        items = [Param(name, str(value)) for name, value in params.items()]
        client.log_batch(run.info.run_id, params=items)
        return str(run.info.run_id)


def log_metrics(run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
    """Log metrics in one call; undefined ones (NaN) are left out, as MLflow's pages expect."""
    now = int(time.time() * 1000)
    items = [Metric(k, float(v), now, step) for k, v in metrics.items() if math.isfinite(v)]
    with _client_to("log metrics") as client:
        client.log_batch(run_id, metrics=items)


def log_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run in one call."""
    with _client_to("log tags") as client:
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def log_file(run_id: str, path: Path, folder: str) -> None:
    """Log a file as an artifact under a folder; its digest becomes a tag."""
    log_tags(run_id, {artifact_tag(f"{folder}/{path.name}"): sha256_file(path)})
    with _client_to(f"log {path.name}") as client:
        client.log_artifact(run_id, str(path), folder)


def list_files(run_id: str, folder: str) -> list[str]:
    """The names of a run's artifacts below a folder, those in folders below it too."""
    with _client_to(f"list {folder}") as client:
        store = get_artifact_repository(client.get_run(run_id).info.artifact_uri)
        waiting, names = [folder.rstrip("/")], list[str]()
        while waiting:
            for file in store.list_artifacts(waiting.pop()):
                (waiting if file.is_dir else names).append(str(file.path))
        return sorted(names)


def delete_file(run_id: str, file: str) -> None:
    """Delete an artifact of a run for good; what its tags say of it stays."""
    with _client_to(f"delete {file}") as client:
        store = get_artifact_repository(client.get_run(run_id).info.artifact_uri)
        store.delete_artifacts(file)  # type: ignore[no-untyped-call]


def log_folder(run_id: str, path: Path, folder: str) -> None:
    """Log a folder's files as artifacts under a folder; one digest of them all becomes a tag."""
    log_tags(run_id, {folder_tag(folder): sha256_folder(path)})
    with _client_to(f"log {path.name}") as client:
        client.log_artifacts(run_id, str(path), folder)


def log_table(run_id: str, name: str, table: pd.DataFrame) -> None:
    """Log a table that MLflow's page of evaluations holds against those of other runs."""
    with _client_to(f"log the table {name}") as client:
        client.log_table(run_id, table, f"tables/{name}.json")


@dataclass(frozen=True)
class RunInput:
    """A data set as MLflow shows it: name, content digest, where it lies, figures and tags."""

    name: str
    sha256: str
    source: str
    profile: Mapping[str, Any]
    tags: Mapping[str, str]


def log_input(run_id: str, data: RunInput, context: str) -> None:
    """Log a data set as the run's input, with our own content digest.

    MLflow shows 36 characters of a digest; the whole SHA-256 is among the tags.
    """
    dataset = Dataset(
        name=data.name,
        digest=data.sha256[:36],
        source_type="holter",
        source=json.dumps({"uri": without_credentials(data.source)}),
        profile=json.dumps(data.profile),
    )
    marks = {MLFLOW_DATASET_CONTEXT: context, "sha256": data.sha256, **data.tags}
    with _client_to(f"log data set {data.name}") as client:
        inputs = [InputTag(key, value) for key, value in marks.items()]
        client.log_inputs(run_id, [DatasetInput(dataset, inputs)])


def finish_run(run_id: str, status: str, reason: str | None = None) -> None:
    """End a run FINISHED or FAILED, with the reason as a tag."""
    if reason:
        log_tags(run_id, {REASON_TAG: without_credentials(reason)[:4000]})
    with _client_to("end the run") as client:
        client.set_terminated(run_id, status)


def close_runs_of(flow_run_id: str, reason: str) -> list[str]:
    """End as FAILED the runs of a Prefect flow run that are still RUNNING; gives their ids."""
    with _client_to("find the runs of a flow run") as client:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        condition = (
            f"tags.`prefect.flow_run_id` = '{flow_run_id}' and attributes.status = 'RUNNING'"
        )
        run_ids = [run.info.run_id for run in client.search_runs(experiments, condition)]
    for run_id in run_ids:
        finish_run(run_id, "FAILED", reason)
    return run_ids


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
) -> ModelVersion:
    """Register a folder as a new version of `name`; `flows.train.training_run.seal` makes it known.

    The version's number is stated, signed, beside the folder's files as soon as it is known.
    """
    digests = {artifact_tag(f): sha256_file(folder / f) for f in (LITERT, WEIGHTS, MANIFEST)}
    marks = {**tags, **digests}
    with _client_to(f"register {name}") as client:
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
    model = ModelVersion(name, int(version.version), run_id, marks)
    log_name(model, sign_name(folder, name, model.version))
    return model


def log_name(model: ModelVersion, statement: Path) -> None:
    """Put the signed statement of a version's name beside its files."""
    with _client_to(f"name {model.reference}") as client:
        source = str(client.get_model_version(model.name, str(model.version)).source)
        client.log_model_artifact(source.removeprefix("models:/"), str(statement))


def tag_version(model: ModelVersion, tags: Mapping[str, str]) -> None:
    """Set tags of a model version."""
    with _client_to(f"tag {model.reference}") as client:
        for key, value in tags.items():
            client.set_model_version_tag(model.name, str(model.version), key, value)


def describe_version(model: ModelVersion, description: str) -> None:
    """Put a description, Markdown, on a model version's page."""
    with _client_to(f"describe {model.reference}") as client:
        client.update_model_version(model.name, str(model.version), description)


def run_link(run_id: str) -> str:
    """A run's page, from any page of the same server: right wherever that server moves."""
    with _client_to(f"read run {run_id}") as client:
        experiment = client.get_run(run_id).info.experiment_id
    return f"#/experiments/{quote(experiment)}/runs/{quote(run_id)}{TRAINING_MODE}"


def model_link(model: ModelVersion) -> str:
    """A model version's page, from any page of the same server."""
    return f"#/models/{quote(model.name)}/versions/{model.version}{TRAINING_MODE}"


def file_link(run_id: str, file: str) -> str:
    """An artifact of a run, from any page of the same server."""
    page, _, mode = run_link(run_id).partition("?")
    return f"{page}/artifacts/{quote(file)}?{mode}"


def run_page(run_id: str) -> str:
    """A run's page, for a browser."""
    return f"{address()}/{run_link(run_id)}"


def model_page(model: ModelVersion) -> str:
    """A model version's page, for a browser."""
    return f"{address()}/{model_link(model)}"
