"""Train: beat tables become a network, its scores and figures, and a registered model version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.ingest.failures import naming_failed, telling
from flows.ingest.flow import Ingested, ingest_each
from flows.ingest.folders import one_each
from flows.parameters import (
    Balance,
    Datasets,
    Epochs,
    Folders,
    Model,
    MostBeats,
    MostFailed,
    Paradigm,
    Patience,
    Policy,
    Quantised,
    Rate,
    Seed,
    Sparsity,
    TeacherVersion,
    TeacherWeight,
    Temperature,
    Weights,
)
from flows.services.alive import WATCHED
from flows.train.release import export_network
from flows.train.teacher import Taught, taught_by, teacher_of
from flows.train.training_run import drawing, kept_training, recorded, register, step, work_folder
from storage.bounds import MOST_FAILED
from storage.files import sha256_file, write_bytes
from storage.logs import log
from storage.places import Place
from storage.registry import tracking
from storage.tables.beats_manifest import Manifest, read_manifest
from storage.tables.checkpoint import Checkpoint
from storage.tables.content import copies_among, of_subjects
from storage.tables.labelled import LabelledBeats, read_labelled
from storage.tables.testset import TestSet, write_testset
from tasks.learning.balance import Weigh, often, refuse_unless_balance
from tasks.learning.splits import (
    MOST_PAIRS,
    SIDES,
    Split,
    assert_no_copy,
    assert_no_leak,
    refuse_unless_paradigm,
    split_beats,
)
from tasks.learning.training import TrainingConfig, fit
from tasks.networks.models import refuse_unless_of_one_beat
from tasks.pages import figures
from tasks.runtimes.inference import answers
from tasks.runtimes.litert import LiteRT
from tasks.scores.metrics import beat_metrics
from tasks.scores.smoothing import UNSMOOTHED

THRESHOLD = 0.5
PARITY_BEATS = 2_000


@dataclass(frozen=True)
class Trained:
    """What a training made.

    Attributes
    ----------
    ingested : list of Ingested
        The beat tables it learnt from, of each data set.
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

    ingested: list[Ingested]
    run_id: str
    version: tracking.RegisteredModel
    metrics: dict[str, float]
    testset_sha256: str
    title: str
    caveat: str


@flow(
    name="train",
    flow_run_name="train-{model}-{paradigm}-seed{seed}",
    **WATCHED,
)
def train(
    datasets: Datasets,
    data: Folders = None,
    model: Model = "resnet21",
    paradigm: Paradigm = "interpatient",
    weights: Weights = None,
    balance: Balance = "beats",
    epochs: Epochs = 100,
    learning_rate: Rate = 1e-4,
    seed: Seed = 0,
    policy: Policy = "consensus",
    patience: Patience = 0,
    sparsity: Sparsity = 0.0,
    quantised: Quantised = False,
    most_beats: MostBeats = 0,
    teacher: TeacherVersion = None,
    teacher_weight: TeacherWeight = 0.5,
    temperature: Temperature = 1.0,
    most_failed: MostFailed = MOST_FAILED,
) -> Trained:
    """Train, score and register a network on single beats of one or more data sets.

    See `flows.train.retrain` for the first parameters, `tasks.learning.training.TrainingConfig` for
    the others; `flows.train.teacher` for the teacher, `tasks.learning.distillation.Teaching` for
    its weight and temperature; `most_failed` is as `storage.bounds.most_allowed`.
    """
    refuse_unless_of_one_beat(model)
    refuse_unless_balance(balance)
    refuse_unless_paradigm(paradigm)
    config = TrainingConfig(
        epochs=epochs,
        learning_rate=learning_rate,
        most_beats=most_beats,
        patience=patience,
        sparsity=sparsity,
        quantised=quantised,
        seed=seed,
    )
    folders, who = one_each(datasets, data, weights), teacher_of(teacher, model)
    ingested = ingest_each(datasets, folders, policy, True, most_failed)
    with naming_failed(ingested):
        beats, split = split_sides([made.path for made in ingested], paradigm, seed)
    inputs = {made.path: made.manifest for made in ingested}
    tested = of_subjects(inputs.values(), split.test_subjects)
    taught = taught_by(who, model, split.test_subjects, tested, teacher_weight, temperature)
    title = f"{described(ingested, split)}, threshold {THRESHOLD:g}"
    sides = sides_of(beats, split)
    drawn = drawing(balance, weights)
    params = {"model": model, **drawn, **asdict(config), **taught.params}
    few = caveat(ingested, split)
    said = f"{title}. {few}"
    with recorded(
        inputs, split, sides, params, "flows/train/beats.py", said, taught.tags
    ) as run_id:
        weighed = weigher(ingested, beats, weights, balance)
        about = [made.manifest.digest() for made in ingested], split.digest(), drawn
        network, state = fit_network(beats, split, model, config, run_id, taught, weighed, about)
        chosen = np.random.default_rng(seed).permutation(split.train)[:PARITY_BEATS]
        folder = export_network(
            network,
            {"waveform": beats.chosen(chosen)[:]},
            beats.label[chosen],
            {
                "classes": ["not AF", "AF"],
                "threshold": THRESHOLD,
                "split_sha256": split.digest(),
                "best_epoch": state.best_epoch,
            },
            run_id,
        )
        metrics = score(folder, beats, split, state, title, run_id)
        testset_sha256 = hand_over_testset(beats, split, run_id)
        version = register(
            folder,
            list(inputs.values()),
            split,
            sides,
            metrics,
            testset_sha256,
            run_id,
            title,
            model,
            THRESHOLD,
            UNSMOOTHED,
            taught.tags,
        )
    done = Trained(ingested, run_id, version, metrics, testset_sha256, title, few)
    return telling(done, ingested)


@task(cache_policy=NO_CACHE, persist_result=False)
def split_sides(
    manifests: Sequence[Place], paradigm: str, seed: int
) -> tuple[LabelledBeats, Split]:
    """Read the labelled beats and deal them to train, validation and test; no leak passes."""
    beats = read_labelled(manifests)
    split = split_beats(paradigm, beats.subject, beats.label, seed)
    assert_no_leak(split, beats.subject)
    refuse_copies(split, [read_manifest(path) for path in manifests])
    return beats, split


def refuse_copies(split: Split, manifests: Sequence[Manifest]) -> None:
    """Refuse a recording that is on two sides by two names; one that is on one side is logged."""
    for first, second in assert_no_copy(split, copies_among(manifests)):
        log.warning(f"{first.name} and {second.name} are the same recording: it counts twice")


def sides_of(beats: LabelledBeats, split: Split) -> dict[str, Any]:
    """Subjects, beats and AF beats of each side, and the beats that are on none."""
    return {
        "left_out": beats.left_out,
        **{
            name: {
                "subjects": list(getattr(split, f"{name}_subjects")),
                "beats": len(getattr(split, name)),
                "af_beats": int(beats.label[getattr(split, name)].sum()),
            }
            for name in SIDES
        },
    }


def weigher(
    ingested: Sequence[Ingested],
    beats: LabelledBeats,
    weights: list[float] | None,
    balance: str,
) -> Weigh | None:
    """How often beats are drawn; None where each comes once an epoch."""
    if balance == "beats" and not weights:
        return None
    names = [made.manifest.dataset for made in ingested]
    given = dict(zip(names, weights or [1.0] * len(names), strict=True))
    return partial(often, beats, given, balance)


@step
def fit_network(
    beats: LabelledBeats,
    split: Split,
    model: str,
    config: TrainingConfig,
    run_id: str,
    taught: Taught,
    weigh: Weigh | None,
    drawn: Sequence[object],
) -> tuple[Any, Checkpoint]:
    """Train, from the checkpoint of the same training if there is one."""
    about = [model, asdict(config), *drawn, *taught.about]
    sides = (split.train, split.validation)
    with kept_training(about, model, config.epochs, run_id) as (start, keep):
        return fit(model, beats, *sides, config, start, keep, taught.teaching, weigh)


@step
def score(
    folder: Path,
    beats: LabelledBeats,
    split: Split,
    state: Checkpoint,
    title: str,
    run_id: str,
) -> dict[str, float]:
    """Score the exported file on the test side, as the device will; figures go to MLflow."""
    network = LiteRT((folder / "model.tflite").read_bytes())
    probability = answers(network, {"waveform": beats.chosen(split.test)})
    label = beats.label[split.test]
    metrics = beat_metrics(label, probability, THRESHOLD)
    tracking.log_metrics(run_id, {f"test_{name}": value for name, value in metrics.items()})
    pictures = draw(label, probability, beats.subject[split.test], state, title)
    out = work_folder(run_id) / "figures"
    for name, picture in pictures.items():
        write_bytes(out / f"{name}.png", picture)
    tracking.log_folder(run_id, out, "figures")
    return metrics


def draw(
    label: NDArray[np.int8],
    probability: NDArray[np.float32],
    subject: NDArray[np.str_],
    state: Checkpoint,
    title: str,
) -> dict[str, bytes]:
    """The figures of a training, as PNG by name."""
    return {
        "confusion_matrix": figures.confusion_matrix(label, probability, THRESHOLD, title),
        "roc": figures.roc(label, probability, title),
        "training": figures.training_curves(state.history, title),
        "per_patient": figures.per_patient(label, probability, subject, THRESHOLD, title),
    }


@step
def hand_over_testset(beats: LabelledBeats, split: Split, run_id: str) -> str:
    """Log the test side as one file that a device can run; gives its digest."""
    path = work_folder(run_id) / "testset.npz"
    write_testset(
        path,
        TestSet(
            inputs={"waveform": beats.chosen(split.test)},
            label=beats.label[split.test],
            record=beats.record[split.test],
            subject=beats.subject[split.test],
            sample=beats.sample[split.test],
        ),
    )
    tracking.log_file(run_id, path, "testset")
    return sha256_file(path)


def described(ingested: Sequence[Ingested], split: Split) -> str:
    """Data sets, split, level and seed in one line."""
    simulated = "SIMULATED data " if any(made.manifest.simulated for made in ingested) else ""
    names = " + ".join(made.manifest.dataset for made in ingested)
    return f"{simulated}{names}, {split.paradigm} 80:20, beat level, seed {split.seed}"


def caveat(ingested: Sequence[Ingested], split: Split) -> str:
    """What the metrics cannot say."""
    words = []
    if any(made.manifest.simulated for made in ingested):
        words.append("The recordings are simulated: these figures say nothing about people.")
    if split.paradigm == "intrapatient":
        words.append("The same patients are in training and test: it says little about new ones.")
    manifests = [made.manifest for made in ingested]
    words += [
        f"{first.name} and {second.name} are the same recording: it counts twice."
        for first, second in assert_no_copy(split, copies_among(manifests))[:MOST_PAIRS]
    ]
    words.append(
        f"One split with {len(split.test_subjects)} test subjects; no confidence interval, "
        "and no other data set was tested."
    )
    return " ".join(words)
