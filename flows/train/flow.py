"""Train: beat tables become a network, its scores, and a registered model version.

One flow for every network. What differs between kinds of networks is a `Recipe`, in the module that
the settings of the kind name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.exchange.account import Account, account_of, beat_tables_of, finite, version_of
from flows.exchange.facets import TrainingRunFacet
from flows.ingest.failures import naming_failed, telling
from flows.ingest.flow import IngestResult, ingest_data_sets
from flows.parameters import form_field, settings_of_run
from flows.services.alive import WATCHED
from flows.train.kept import kept_calibration, kept_training
from flows.train.release import export_network
from flows.train.settings import Training, TrainSettings
from flows.train.teacher import Teacher, distillation_of, teacher_of
from flows.train.training_run import (
    Release,
    TrainingRun,
    mlflow_run,
    register,
    step,
    work_folder,
)
from storage.audit.reviews import sign_labels
from storage.files import sha256_file, write_bytes
from storage.logs import log
from storage.registry import tracking
from storage.registry.models import ModelVersion
from storage.tables.checkpoint import Checkpoint
from storage.tables.content import Recording, copies_among, of_subjects
from storage.tables.results import ArrayFolder
from storage.tables.testset import TestSet, write_testset
from tasks.learning.distillation import Teaching
from tasks.learning.splits import MOST_PAIRS, Split, assert_no_copy
from tasks.runtimes.litert import LiteRT
from tasks.scores.metrics import beat_metrics
from tasks.scores.rule import CERTAINTY, Rule

Keep = Callable[[Checkpoint], None]
Answers = tuple[NDArray[np.int8], NDArray[np.float32]]


@dataclass(frozen=True)
class Decision:
    """How decisions are made of a network's answers, and in words what that was fixed on."""

    rule: Rule
    source: str = ""


class Recipe(Protocol):
    """A kind of training, its beats read and dealt to sides; no leak has passed."""

    @property
    def split(self) -> Split:
        """How the beats are dealt."""

    def sides(self) -> dict[str, Any]:
        """Subjects, beats and AF beats of each side, and what else is to be told of the split."""

    def fit(
        self, start: Checkpoint | None, keep: Keep, teaching: Teaching | None
    ) -> tuple[Any, Checkpoint]:
        """Train from a checkpoint, or from the start; gives the network and the last state."""

    def decide(self, network: Any, store: ArrayFolder) -> Decision:
        """How decisions are made of the network's answers; the test side is not looked at.

        What takes long on the way is kept, for a training that goes on.
        """

    def parity(self) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int8]]:
        """Rows of training patients, by the names of inputs, and their labels."""

    def testset(self) -> TestSet:
        """The test side, as a device runs it."""

    def answers(self, network: LiteRT, testset: Path) -> Answers:
        """Label and answer of every beat of the test side that counts."""

    def figures(self, answers: Answers, state: Checkpoint, title: str) -> dict[str, bytes]:
        """Pictures of the training, as PNG by name."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training made.

    Attributes
    ----------
    ingested : list of IngestResult
        The beat tables it learnt from, of each data set.
    run_id : str
        The MLflow run.
    version : ModelVersion
        The registered model version.
    metrics : dict of str to float
        Server-side metrics of the registered LiteRT file on the test side.
    testset_sha256 : str
        Digest of the test set that a device is to run.
    title, caveat : str
        What the metrics are of, and what they cannot say.
    """

    ingested: list[IngestResult]
    run_id: str
    version: ModelVersion
    metrics: dict[str, float]
    testset_sha256: str
    title: str
    caveat: str


@account_of.register
def _account(result: TrainingResult) -> Account:
    """Beat tables became a registered version."""
    facet = TrainingRunFacet(
        mlflow_run_id=result.run_id, split=result.title, figures=finite(result.metrics)
    )
    tables = [beat_tables_of(part.path, part.manifest) for part in result.ingested]
    return Account(tuple(tables), (version_of(result.version, tracking.address()),), (facet,))


def _name() -> str:
    settings: Training = settings_of_run(TrainSettings)
    return settings.run_name("train")


@flow(name="train", flow_run_name=_name, **WATCHED)
def train(
    settings: Annotated[TrainSettings, form_field("What is trained, on what, and how.")],
) -> TrainingResult:
    """Train, score and register a network on one or more data sets.

    A training that was killed goes on from its last epoch when the same is asked for again, and
    ends as it would have without the interruption.
    """
    datasets, teacher = settings.read(), teacher_of(settings.teacher, settings.model)
    ingested = ingest_data_sets(datasets, settings.policy, settings.most_failed)
    with naming_failed(ingested):
        recipe = split_sides(settings, ingested, readers_of(settings, teacher))
    inputs = {result.path: result.manifest for result in ingested}
    people = recipe.split.test_subjects
    run = TrainingRun(
        settings=settings,
        manifests=inputs,
        split=recipe.split,
        sides=recipe.sides(),
        title=title_of(ingested, recipe.split),
        caveat=caveat(ingested, recipe.split),
        distillation=distillation_of(
            teacher, settings, people, of_subjects(inputs.values(), people)
        ),
    )
    with mlflow_run(run) as run_id:
        sign_labels(run.data)
        network, state = fit_network(recipe, run, run_id)
        decision = fit_decision(recipe, network, run, run_id)
        rows, label = recipe.parity()
        metadata = manifest_of(recipe, state, decision)
        folder = export_network(network, rows, label, metadata, run_id, settings.runtime)
        testset = hand_over_testset(recipe, run_id)
        title = f"{run.title}, threshold {decision.rule.threshold:g}{decision.source}"
        exported = LiteRT((folder / "model.tflite").read_bytes())
        answers = recipe.answers(exported, testset)
        metrics = score(answers, decision, recipe.figures(answers, state, title), run_id)
        release = Release(
            folder=folder,
            title=title,
            metrics=metrics,
            testset_sha256=sha256_file(testset),
            rule=decision.rule,
        )
        version = register(run, release, run_id)
    trained = TrainingResult(
        ingested, run_id, version, metrics, release.testset_sha256, title, run.caveat
    )
    return telling(trained, ingested)


def readers_of(settings: Training, teacher: Teacher | None) -> tuple[str, ...]:
    """The networks that read the beats: the one that learns, and its teacher."""
    return (settings.model, teacher.network) if teacher else (settings.model,)


@task(cache_policy=NO_CACHE, persist_result=False)
def split_sides(
    settings: Training, ingested: Sequence[IngestResult], readers: Sequence[str]
) -> Recipe:
    """Read the labelled beats and deal them to train, validation and test; no leak passes."""
    read: Callable[..., Recipe] = import_module(settings.recipe).read
    recipe = read(settings, ingested, readers)
    for first, second in assert_no_copy(recipe.split, copies_of(ingested)):
        log.warning(f"{first.name} and {second.name} are the same recording: it counts twice")
    return recipe


def copies_of(ingested: Sequence[IngestResult]) -> list[tuple[Recording, Recording]]:
    """The recordings that are there by two names."""
    return copies_among([result.manifest for result in ingested])


@step
def fit_network(recipe: Recipe, run: TrainingRun, run_id: str) -> tuple[Any, Checkpoint]:
    """Train, from the checkpoint of the same training if there is one."""
    with kept_training(run, run_id) as (start, keep):
        return recipe.fit(start, keep, run.distillation.teaching)


@step
def fit_decision(recipe: Recipe, network: Any, run: TrainingRun, run_id: str) -> Decision:
    """How decisions are made of the network's answers."""
    with kept_calibration(run) as store:
        decision = recipe.decide(network, store)
    tracking.log_metrics(run_id, rule_metrics(decision.rule))
    return decision


def rule_metrics(rule: Rule) -> dict[str, float]:
    """The numbers of a rule, as metrics of a training's run."""
    figures = {"threshold": rule.threshold, "smoothing_change": rule.change, "margin": rule.margin}
    if rule.risk:
        numbers = {name: value for name, value in vars(rule.risk).items() if value is not None}
        figures |= {f"risk_{name}": float(value) for name, value in numbers.items()}
    return figures


def manifest_of(recipe: Recipe, state: Checkpoint, decision: Decision) -> dict[str, Any]:
    """What the release's manifest says of the training."""
    return {
        "classes": ["not AF", "AF"],
        "threshold": decision.rule.threshold,
        "smoothing_change": decision.rule.change,
        CERTAINTY: decision.rule.certainty(),
        "split_sha256": recipe.split.digest(),
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
    }


@step
def hand_over_testset(recipe: Recipe, run_id: str) -> Path:
    """Log the test side as one file that a device can run."""
    path = write_testset(work_folder(run_id) / "testset.npz", recipe.testset())
    tracking.log_file(run_id, path, "testset")
    return path


@step
def score(
    answers: Answers, decision: Decision, pictures: Mapping[str, bytes], run_id: str
) -> dict[str, float]:
    """Score the exported file's answers on the test side; metrics and figures go to MLflow."""
    metrics = beat_metrics(*answers, decision.rule.threshold)
    tracking.log_metrics(run_id, {f"test_{name}": value for name, value in metrics.items()})
    out = work_folder(run_id) / "figures"
    for name, picture in pictures.items():
        write_bytes(out / f"{name}.png", picture)
    if pictures:
        tracking.log_folder(run_id, out, "figures")
    return metrics


def title_of(ingested: Sequence[IngestResult], split: Split) -> str:
    """Data sets, split, level and seed in one line."""
    simulated = "SIMULATED data " if any(result.manifest.simulated for result in ingested) else ""
    names = " + ".join(result.manifest.dataset for result in ingested)
    return f"{simulated}{names}, {split.paradigm} 80:20, beat level, seed {split.seed}"


def caveat(ingested: Sequence[IngestResult], split: Split) -> str:
    """What the metrics cannot say."""
    words = []
    if any(result.manifest.simulated for result in ingested):
        words.append("The recordings are simulated: these figures say nothing about people.")
    if split.paradigm == "intrapatient":
        words.append("The same patients are in training and test: it says little about new ones.")
    words += [
        f"{first.name} and {second.name} are the same recording: it counts twice."
        for first, second in assert_no_copy(split, copies_of(ingested))[:MOST_PAIRS]
    ]
    words.append(
        f"One split with {len(split.test_subjects)} test subjects; no confidence interval, "
        "and no other data set was tested."
    )
    return " ".join(words)
