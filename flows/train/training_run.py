"""What every training records as it goes: its inputs, its Prefect tasks, and its sealed chain."""

from __future__ import annotations

import functools
import getpass
import inspect
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run, task_run

from flows.ingest.flow import used_by
from flows.reports.card import card, log_card
from flows.reports.version_page import description, flow_link, renew_pages
from flows.train.settings import Training
from flows.train.teacher import Distillation
from storage.audit import chain, ledger
from storage.audit.provenance import ROOT, environment_sha256, git_changes, git_state, packages
from storage.audit.versions import read_version
from storage.files import home, read_json, sha256_json, write_bytes, write_json
from storage.logs import bound
from storage.places import Place, local_file
from storage.registry import tracking
from storage.registry.model_files import MANIFEST
from storage.registry.models import ModelVersion
from storage.registry.sbom import ENVIRONMENTS, sbom
from storage.registry.tags import (
    ACCELERATOR_TAG,
    CERTAINTY_TAG,
    CHAIN_FOLDER,
    CHAIN_SHA256_TAG,
    NETWORK_TAG,
    SMOOTHING_CHANGE_TAG,
    TEACHER_RUN_TAG,
    TEACHER_TAG,
    THRESHOLD_TAG,
)
from storage.tables.beats_manifest import Manifest, rhythm_words
from tasks import THREADS
from tasks.learning.splits import SIDES, Split
from tasks.pages.markup import paragraph
from tasks.scores.rule import Rule

P = ParamSpec("P")
R = TypeVar("R")


def step(function: Callable[P, R]) -> Callable[P, R]:
    """A Prefect task of a training: its task run's id becomes a tag of the MLflow run `run_id`."""
    parameters = inspect.signature(function)

    @functools.wraps(function)
    def with_tag(*args: P.args, **kwargs: P.kwargs) -> R:
        run_id = parameters.bind(*args, **kwargs).arguments["run_id"]
        if task_run_id := task_run.get_id():
            tracking.log_tags(run_id, {f"prefect.task_run.{function.__name__}": task_run_id})
        return function(*args, **kwargs)

    wrapped: Callable[P, R] = task(cache_policy=NO_CACHE, persist_result=False)(with_tag)
    return wrapped


@dataclass(frozen=True)
class TrainingRun:
    """A training, ready to begin: all that is recorded of it before it learns.

    Attributes
    ----------
    settings : Training
        What is trained, on what, and how.
    manifests : mapping of Place to Manifest
        The data sets' manifests, by their files.
    split : Split
        How the beats are dealt.
    sides : mapping
        Subjects, beats and AF beats of each side, and what else is to be told of the split.
    title, caveat : str
        What its figures are of, and what they cannot say.
    distillation : Distillation
        Whose answers it learns from.
    """

    settings: Training
    manifests: Mapping[Place, Manifest]
    split: Split
    sides: Mapping[str, Any]
    title: str
    caveat: str
    distillation: Distillation

    @property
    def data(self) -> list[Manifest]:
        """The manifests of its data sets, in their order."""
        return list(self.manifests.values())

    @property
    def dataset(self) -> str:
        """The names of its data sets."""
        return "+".join(manifest.dataset for manifest in self.data)

    @property
    def source(self) -> str:
        """The module of its recipe."""
        return self.settings.recipe.replace(".", "/") + ".py"

    @property
    def params(self) -> dict[str, object]:
        """The run's parameters: the settings by their names, and what is made of them."""
        return {
            "dataset": self.dataset,
            **self.settings.model_dump(exclude={"datasets"}, exclude_none=True),
            "paradigm": self.split.paradigm,
            "split_rule": self.split.rule,
            **asdict(self.settings.config),
            **drawing(self.settings),
            **reading(self.data),
            **self.distillation.params,
        }

    @property
    def facts(self) -> dict[str, Any]:
        """The split as a version's chain and the run's files have it."""
        return {
            **self.split.description(),
            **self.sides,
        }

    @property
    def tags(self) -> dict[str, str]:
        """What both the run and its version say of data, split and teacher."""
        return {
            **digests(self.data),
            "holter.split_sha256": self.split.digest(),
            "holter.split_seed": str(self.split.seed),
            "holter.simulated": str(any(manifest.simulated for manifest in self.data)).lower(),
            "prefect.flow_run_url": str(flow_run.get_flow_run_ui_url() or ""),
            **self.distillation.tags,
        }

    def fingerprint(self) -> str:
        """All that the result depends on: the same again goes on from its last epoch."""
        settings = self.settings
        return sha256_json(
            [
                settings.model,
                asdict(settings.config),
                drawing(settings),
                [manifest.digest() for manifest in self.data],
                self.split.digest(),
                *self.distillation.fingerprint,
            ]
        )


@dataclass(frozen=True)
class Release:
    """What a training made: files to register, and how they score on the test side."""

    folder: Path
    title: str
    metrics: Mapping[str, float]
    testset_sha256: str
    rule: Rule


def drawing(settings: Training) -> dict[str, object]:
    """How beats are drawn, as parameters of a training's run."""
    weights = {"weight": ",".join(map(str, settings.weights))} if settings.weights else {}
    return {"balance": settings.balance, **weights}


def reading(manifests: Sequence[Manifest]) -> dict[str, object]:
    """Of which data sets signals were read, as a parameter; none where of all of them."""
    signals = [manifest.has_signal for manifest in manifests]
    return {} if all(signals) else {"signal": ",".join(str(signal).lower() for signal in signals)}


@contextmanager
def mlflow_run(run: TrainingRun) -> Iterator[str]:
    """The MLflow run of a training: what went in is recorded first, a failure with its reason."""
    model = run.settings.model
    ledger.check_open(run.settings.registered_name)
    git = git_state()
    run_id = tracking.start_run(
        experiment=f"train/{run.dataset}",
        run_name=f"{model}-{run.split.paradigm}-seed{run.split.seed}",
        params=run.params,
        tags={
            **git,
            "mlflow.user": getpass.getuser(),
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": run.source,
            "mlflow.source.git.commit": git["git.commit"],
            "mlflow.note.content": paragraph(f"{run.title}. {run.caveat}") + flow_link(),
            "holter.kind": "training",
            "holter.environment_sha256": environment_sha256(),
            "holter.python": platform.python_version(),
            "holter.tensorflow_threads": " and ".join(os.environ[name] for name in THREADS),
            **use_accelerators(),
            "prefect.flow_run_id": str(flow_run.get_id() or ""),
            "prefect.ingest_flow_run_ids": ",".join(entry.flow_run_id for entry in run.data),
            **run.tags,
        },
    )
    page = tracking.run_page(run_id)
    create_link_artifact(key="training-run", link=page, link_text="The training's run in MLflow")
    for manifest in run.data:
        used_by(manifest, run.sides, page)
    try:
        for path, manifest in run.manifests.items():
            log_dataset(run_id, path, manifest, "training", run.sides)
        for file in inputs(work_folder(run_id), run):
            tracking.log_file(run_id, file, "inputs")
        with bound(mlflow_run_id=run_id):
            yield run_id
    except BaseException as error:
        tracking.finish_run(run_id, "FAILED", f"{type(error).__name__}: {error}")
        raise
    tracking.finish_run(run_id, "FINISHED")


def use_accelerators() -> dict[str, str]:
    """Have TensorFlow keep float32 as it is on a GPU, as exports do; the GPUs that it has, a tag.

    Without a GPU nothing changes, and there is no tag.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return {}
    tf.config.experimental.enable_tensor_float_32_execution(False)
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return {ACCELERATOR_TAG: ", ".join(str(d.get("device_name", "GPU")) for d in details)}


def digests(manifests: Sequence[Manifest]) -> dict[str, str]:
    """Digests of data sets: content, TOML, preprocessing, code; where they differ, of them all."""
    columns = {
        "holter.dataset_sha256": [manifest.digest() for manifest in manifests],
        "holter.spec_sha256": [manifest.spec_sha256 for manifest in manifests],
        "holter.preprocessing_sha256": [manifest.preprocessing_sha256 for manifest in manifests],
        "holter.beat_code_sha256": [manifest.code_sha256 for manifest in manifests],
    }
    return {k: v[0] if len(set(v)) == 1 else sha256_json(v) for k, v in columns.items()}


def log_dataset(
    run_id: str, path: Place, manifest: Manifest, context: str, profile: Mapping[str, Any]
) -> None:
    """A data set as an input of a run, and its manifest among the run's artifacts."""
    beats = "|".join(manifest.spec.get("annotations", {}).get("beats", ()))
    data = tracking.RunInput(
        name=manifest.dataset,
        sha256=manifest.digest(),
        source=manifest.origin,
        profile={
            "records": len(manifest.entries),
            "beats": sum(entry.beats for entry in manifest.entries),
            **{side: profile[side] for side in SIDES if side in profile},
        },
        tags={
            "title": manifest.title,
            "version": manifest.version,
            "licence": manifest.licence,
            "annotations": f"{beats}; {rhythm_words(manifest.spec)}",
            **digests([manifest]),
        },
    )
    tracking.log_input(run_id, data, context)
    with local_file(path) as file:
        tracking.log_file(run_id, file, f"inputs/{manifest.dataset}")


def inputs(folder: Path, run: TrainingRun) -> list[Path]:
    """The split, the environment with its lock and bills, and what differs from the commit."""
    files = [
        write_json(folder / "split.json", run.facts),
        write_json(folder / "environment.json", packages()),
        write_bytes(folder / "constraints.txt", (ROOT / "constraints.txt").read_bytes()),
    ]
    files += [write_json(folder / f"sbom-{e}.cdx.json", sbom(e)) for e in ENVIRONMENTS]
    if changes := git_changes():
        files.append(write_bytes(folder / "changes.diff", changes))
    return files


@step
def register(run: TrainingRun, release: Release, run_id: str) -> ModelVersion:
    """Register the folder as a version, seal its chain, and move `candidate` to it."""
    score = f"{release.title}. F1 {release.metrics['f1']:.4f}"
    version = tracking.register_model(
        run_id,
        name=run.settings.registered_name,
        folder=release.folder,
        tags={
            "holter.dataset": run.dataset,
            NETWORK_TAG: run.settings.model,
            "holter.paradigm": run.split.paradigm,
            THRESHOLD_TAG: str(release.rule.threshold),
            SMOOTHING_CHANGE_TAG: str(release.rule.change),
            CERTAINTY_TAG: json.dumps(release.rule.certainty()),
            "holter.testset_sha256": release.testset_sha256,
            "holter.testset": "testset/testset.npz",
            **runtime_tags(read_json(release.folder / MANIFEST)),
            **run.tags,
        },
        description=description(score, run.data, run.sides),
    )
    candidate = seal(version, run.data, run.facts, release.folder, release.title)
    sealed_version = read_version(version.reference)
    log_card(sealed_version, card(sealed_version))
    renew_pages(candidate)
    create_link_artifact(
        key="model-version",
        link=tracking.model_page(version),
        link_text=f"{version.name} version {version.version} in MLflow",
    )
    return version


def runtime_tags(manifest: Mapping[str, Any]) -> dict[str, str]:
    """A version's tags of its runtimes: the one that devices run, and what each was found to be."""
    return {
        "holter.runtime": str(manifest["runtime"]),
        "holter.parameters": str(manifest["parameters"]),
        "holter.multiply_adds": str(manifest["multiply_adds"]),
        **{
            f"holter.runtime.{name}": json.dumps(facts, sort_keys=True)
            for name, facts in manifest["runtimes"].items()
        },
    }


def seal(
    version: ModelVersion,
    manifests: Sequence[Manifest],
    split: Mapping[str, Any],
    folder: Path,
    reason: str,
) -> ledger.Entry:
    """Seal a version's chain, enter it into the ledger, and move `candidate` to the version.

    Gives the entry of that move.
    The version is known to the ledger only with its chain: one that broke off before is not sealed.
    """
    sealed = chain.document(version.name, version.version, manifests, split, folder)
    sha256, files = chain.write_sealed(work_folder(version.run_id), sealed)
    for file in files:
        tracking.log_file(version.run_id, file, CHAIN_FOLDER)
    tracking.tag_version(version, {CHAIN_SHA256_TAG: sha256})
    tags = sealed["run"]["tags"]
    marks = {"teacher": TEACHER_TAG, "teacher_run_id": TEACHER_RUN_TAG}
    ledger.append(
        version.name,
        version.version,
        ledger.REGISTERED,
        reason,
        run_id=version.run_id,
        chain_sha256=sha256,
        split_sha256=str(split["sha256"]),
        datasets=" ".join(manifest.digest() for manifest in manifests),
        **{name: tags[tag] for name, tag in marks.items() if tag in tags},
    )
    return ledger.move_alias(version.name, version.version, "candidate", "the newest version")


def work_folder(run_id: str) -> Path:
    """Where a run's files are made before they go to MLflow."""
    return home() / "runs" / run_id
