"""Train: beat tables become a network, its scores and figures, and a registered model version."""

from __future__ import annotations

import getpass
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from prefect import flow, task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.ingest import Ingested, ingest
from flows.progress import Progress
from flows.release import seal
from storage import tracking
from storage.beats_manifest import Manifest
from storage.files import home, sha256_file, sha256_json, write_bytes, write_json
from storage.labelled import LabelledBeats, read_labelled
from storage.model_files import write_model_files
from storage.places import Place, here
from storage.provenance import environment_sha256, git_state
from storage.testset import TestSet, write_testset
from tasks import figures
from tasks.convert import check_parity, to_litert
from tasks.litert import LiteRT, af_probability
from tasks.metrics import beat_metrics
from tasks.models import refuse_unless_of_one_beat
from tasks.preprocessing import Policy
from tasks.smoothing import UNSMOOTHED
from tasks.splits import Split, assert_no_leak, split_beats
from tasks.training import TrainedModel, TrainingConfig, fit

THRESHOLD = 0.5
PARITY_BEATS = 2_000


@dataclass(frozen=True)
class Trained:
    """What a training made.

    Attributes
    ----------
    ingested : Ingested
        The beat tables it learnt from.
    run_id : str
        The MLflow run.
    version : RegisteredModel
        The registered model version.
    metrics : dict of str to float
        Server-side metrics of the registered LiteRT file on the test side.
    testset_sha256 : str
        Digest of the test set that a device is to run.
    title, caveat : str
        What the metrics are of, and what they cannot say.
    """

    ingested: Ingested
    run_id: str
    version: tracking.RegisteredModel
    metrics: dict[str, float]
    testset_sha256: str
    title: str
    caveat: str


@flow(name="train", flow_run_name="train-{model}-{paradigm}-seed{seed}", persist_result=False)
def train(
    dataset: str,
    data: Path,
    model: str = "resnet21",
    paradigm: str = "interpatient",
    epochs: int = 100,
    learning_rate: float = 1e-4,
    seed: int = 0,
    policy: Policy = "consensus",
) -> Trained:
    """Train, score and register a network on a data set; see `flows.retrain` for the parameters."""
    refuse_unless_of_one_beat(model)
    ingested = ingest(dataset, data, policy)
    beats, split = split_sides(ingested.path, paradigm, seed)
    config = TrainingConfig(epochs=epochs, learning_rate=learning_rate, seed=seed)
    title = describe(ingested, split)
    with recorded(ingested, beats, split, model, config) as run_id:
        trained = fit_network(beats, split, model, config, run_id)
        folder = export_network(trained, beats, split, run_id)
        metrics = score(folder, beats, split, trained, title, run_id)
        testset_sha256 = hand_over_testset(beats, split, run_id)
        version = register(
            folder, model, [ingested.manifest], split, metrics, testset_sha256, run_id, title
        )
    return Trained(
        ingested, run_id, version, metrics, testset_sha256, title, caveat(ingested, split)
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def split_sides(manifest: Place, paradigm: str, seed: int) -> tuple[LabelledBeats, Split]:
    """Read the labelled beats and deal them to train, validation and test; no leak passes."""
    beats = read_labelled([manifest])
    split = split_beats(paradigm, beats.subject, beats.label, seed)
    assert_no_leak(split, beats.subject)
    return beats, split


@contextmanager
def recorded(
    ingested: Ingested, beats: LabelledBeats, split: Split, model: str, config: TrainingConfig
) -> Iterator[str]:
    """The MLflow run of a training: what went in is recorded first, a failure with its reason."""
    manifest = ingested.manifest
    run_id = tracking.start_run(
        experiment=f"train/{manifest.dataset}",
        run_name=f"{model}-{split.paradigm}-seed{split.seed}",
        params={
            "model": model,
            "paradigm": split.paradigm,
            "dataset": manifest.dataset,
            **asdict(config),
        },
        tags={
            **git_state(),
            "mlflow.user": getpass.getuser(),
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": "flows/train.py",
            "mlflow.source.git.commit": git_state()["git.commit"],
            "mlflow.note.content": note(ingested, split),
            "holter.kind": "training",
            "holter.simulated": str(manifest.simulated).lower(),
            "holter.dataset_sha256": manifest.digest(),
            "holter.spec_sha256": manifest.spec_sha256,
            "holter.preprocessing_sha256": manifest.preprocessing_sha256,
            "holter.beat_code_sha256": manifest.code_sha256,
            "holter.split_sha256": split.digest(),
            "holter.split_seed": str(split.seed),
            "holter.environment_sha256": environment_sha256(),
            "holter.python": platform.python_version(),
            "prefect.flow_run_id": str(flow_run.get_id() or ""),
            "prefect.flow_run_url": str(flow_run.get_flow_run_ui_url() or ""),
        },
    )
    try:
        sides = {
            name: {
                "subjects": list(getattr(split, f"{name}_subjects")),
                "beats": len(getattr(split, name)),
                "af_beats": int(beats.label[getattr(split, name)].sum()),
            }
            for name in ("train", "validation", "test")
        }
        tracking.log_input(
            run_id,
            name=manifest.dataset,
            digest=manifest.digest(),
            source=manifest.origin,
            context="training",
            profile={"records": len(manifest.entries), "beats": len(beats), **sides},
            tags={
                "title": manifest.title,
                "version": manifest.version,
                "licence": manifest.licence,
            },
        )
        folder = work_folder(run_id)
        write_json(
            folder / "split.json",
            {
                "paradigm": split.paradigm,
                "seed": split.seed,
                "sha256": split.digest(),
                "left_out": beats.left_out,
                **sides,
            },
        )
        tracking.log_file(run_id, folder / "split.json", "inputs")
        with here(ingested.path) as file:
            tracking.log_file(run_id, file, "inputs")
        yield run_id
    except BaseException as error:
        tracking.finish_run(run_id, "FAILED", f"{type(error).__name__}: {error}")
        raise
    tracking.finish_run(run_id, "FINISHED")


@task(cache_policy=NO_CACHE, persist_result=False)
def fit_network(
    beats: LabelledBeats, split: Split, model: str, config: TrainingConfig, run_id: str
) -> TrainedModel:
    """Train; every epoch's loss and accuracy go to MLflow as they come."""
    with Progress(f"Training {model}", config.epochs) as progress:

        def on_epoch(epoch: int, values: dict[str, float]) -> None:
            tracking.log_metrics(run_id, values, step=epoch)
            progress.step(f"validation loss {values.get('val_loss', float('nan')):.4f}")

        return fit(
            model,
            beats.waveform[split.train],
            beats.label[split.train],
            beats.waveform[split.validation],
            beats.label[split.validation],
            config,
            on_epoch,
        )


@task(cache_policy=NO_CACHE, persist_result=False)
def export_network(trained: TrainedModel, beats: LabelledBeats, split: Split, run_id: str) -> Path:
    """Write the Keras model, its HDF5 weights and the LiteRT file, which must answer the same."""
    exported = to_litert(trained.model)
    chosen = np.random.default_rng(split.seed).permutation(split.train)[:PARITY_BEATS]
    parity = check_parity(trained.model, exported, beats.waveform[chosen])
    tracking.log_metrics(run_id, {"parity_max_abs_error": parity.max_abs_error})
    folder = work_folder(run_id) / "model"
    tracking.save_keras_flavor(trained.model, folder)
    about = {
        "classes": ["not AF", "AF"],
        "threshold": THRESHOLD,
        "split_sha256": split.digest(),
        "best_epoch": trained.best_epoch,
        "run_id": run_id,
    }
    write_model_files(folder, trained.model, exported, about)
    seal(folder, {trained.model.inputs[0].name: beats.waveform[chosen][..., None]})
    return folder


@task(cache_policy=NO_CACHE, persist_result=False)
def score(
    folder: Path,
    beats: LabelledBeats,
    split: Split,
    trained: TrainedModel,
    title: str,
    run_id: str,
) -> dict[str, float]:
    """Score the exported file on the test side, as the device will; figures go to MLflow."""
    network = LiteRT((folder / "model.tflite").read_bytes())
    probability = af_probability(
        network.predict(np.ascontiguousarray(beats.waveform[split.test][..., None]))
    )
    label = beats.label[split.test]
    metrics = beat_metrics(label, probability, THRESHOLD)
    tracking.log_metrics(run_id, {f"test_{name}": value for name, value in metrics.items()})
    pictures = draw(label, probability, beats.subject[split.test], trained, title)
    out = work_folder(run_id) / "figures"
    for name, picture in pictures.items():
        write_bytes(out / f"{name}.png", picture)
    tracking.log_folder(run_id, out, "figures")
    return metrics


def draw(
    label: NDArray[np.int8],
    probability: NDArray[np.float32],
    subject: NDArray[np.str_],
    trained: TrainedModel,
    title: str,
) -> dict[str, bytes]:
    """The figures of a training, as PNG by name."""
    return {
        "confusion_matrix": figures.confusion_matrix(label, probability, THRESHOLD, title),
        "roc": figures.roc(label, probability, title),
        "training": figures.training_curves(trained.history, title),
        "per_patient": figures.per_patient(label, probability, subject, THRESHOLD, title),
    }


@task(cache_policy=NO_CACHE, persist_result=False)
def hand_over_testset(beats: LabelledBeats, split: Split, run_id: str) -> str:
    """Log the test side as one file that a device can run; gives its digest."""
    path = work_folder(run_id) / "testset.npz"
    write_testset(
        path,
        TestSet(
            inputs={"waveform": beats.waveform[split.test][..., None]},
            label=beats.label[split.test],
            record=beats.record[split.test],
            subject=beats.subject[split.test],
            sample=beats.sample[split.test],
        ),
    )
    tracking.log_file(run_id, path, "testset")
    return sha256_file(path)


@task(cache_policy=NO_CACHE, persist_result=False)
def register(
    folder: Path,
    model: str,
    manifests: Sequence[Manifest],
    split: Split,
    metrics: dict[str, float],
    testset_sha256: str,
    run_id: str,
    title: str,
    threshold: float = THRESHOLD,
    smoothing_change: float = UNSMOOTHED,
) -> tracking.RegisteredModel:
    """Register the folder as a version, alias `candidate`, and link it from the Prefect page."""
    digests = [manifest.digest() for manifest in manifests]
    version = tracking.register_model(
        run_id,
        name=f"holter-{model}",
        folder=folder,
        tags={
            "holter.dataset": "+".join(manifest.dataset for manifest in manifests),
            "holter.dataset_sha256": digests[0] if len(digests) == 1 else sha256_json(digests),
            "holter.preprocessing_sha256": manifests[0].preprocessing_sha256,
            "holter.split_sha256": split.digest(),
            "holter.split_seed": str(split.seed),
            "holter.paradigm": split.paradigm,
            "holter.simulated": str(any(manifest.simulated for manifest in manifests)).lower(),
            "holter.threshold": str(threshold),
            "holter.smoothing_change": str(smoothing_change),
            "holter.testset_sha256": testset_sha256,
            "holter.testset": "testset/testset.npz",
        },
        description=f"{title}. F1 {metrics['f1']:.4f} on the test side.",
        alias="candidate",
    )
    create_link_artifact(
        key="model-version",
        link=tracking.model_page(version),
        link_text=f"{version.name} version {version.version} in MLflow",
    )
    return version


def note(ingested: Ingested, split: Split) -> str:
    """The run's description on its page: of what, what it cannot say, and the flow that made it."""
    page = flow_run.get_flow_run_ui_url()
    link = f" [The flow run in Prefect]({page})." if page else ""
    return f"{describe(ingested, split)}. {caveat(ingested, split)}{link}"


def work_folder(run_id: str) -> Path:
    """Where a run's files are made before they go to MLflow."""
    return home() / "runs" / run_id


def describe(ingested: Ingested, split: Split) -> str:
    """Data set, split, level, threshold and seed in one line."""
    simulated = "SIMULATED data " if ingested.manifest.simulated else ""
    return (
        f"{simulated}{ingested.manifest.dataset}, {split.paradigm} 80:20, beat level, "
        f"threshold {THRESHOLD:g}, seed {split.seed}"
    )


def caveat(ingested: Ingested, split: Split) -> str:
    """What the metrics cannot say."""
    words = []
    if ingested.manifest.simulated:
        words.append("The recordings are simulated: these figures say nothing about people.")
    if split.paradigm == "intrapatient":
        words.append("The same patients are in training and test: it says little about new ones.")
    words.append(
        f"One split with {len(split.test_subjects)} test subjects; no confidence interval, "
        "and no other data set was tested."
    )
    return " ".join(words)
