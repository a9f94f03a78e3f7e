"""Reproduce: the reference method's six trainings, two at a time, beside what was published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.ingest.failures import telling
from flows.ingest.flow import IngestResult, ingest
from flows.ingest.folders import INSTEAD, PUBLISHED_ON, folder_in
from flows.reports.shown import FORMS, write
from flows.services.alive import WATCHED
from flows.train.reproduce_worker import run_missing
from flows.train.settings import ReproduceSettings
from storage.audit.provenance import code_of, environment_sha256, git_state
from storage.errors import RecordError, SpecError, TableError
from storage.files import home, sha256_file, sha256_json
from storage.registry import tracking
from tasks.learning.reproduction import (
    NETWORKS,
    PUBLISHED,
    Result,
    Training,
    describe,
    intervals,
    summary,
)
from tasks.pages.document import Block, Code, Words

CODE = ("tasks.learning.training", "tasks.learning.reproduction")


@dataclass(frozen=True)
class ReproductionResult:
    """What came out for one data set: its beat tables, the report's folder, and the MLflow run."""

    ingested: IngestResult
    dataset: str
    folder: Path
    run_id: str


@flow(name="reproduce", **WATCHED)
def reproduce(
    datasets: list[str], data: Path, settings: ReproduceSettings, command: str = ""
) -> list[ReproductionResult]:
    """Train, score and report on each data set.

    Parameters
    ----------
    datasets : list of str
        Names of data sets; none means AFDB, or mitdb and cpsc2021 where its signals are missing.
    data : Path
        Folder that holds a folder of each, or the records of the only one.
    settings : ReproduceSettings
        How.
    command : str
        The command as it was given, for the report.
    """
    notes: list[str] = []
    if not datasets:
        try:
            results = [ingest_signal(PUBLISHED_ON, data)]
        except (RecordError, SpecError, TableError) as error:
            notes.append(
                f"AFDB's signals are not there ({str(error)[:160]} ...), so this is no "
                "reproduction of the published figures: other data stand in."
            )
            results = [ingest_signal(name, data) for name in INSTEAD]
    else:
        results = [ingest_signal(name, data) for name in datasets]
    return telling([reproduce_on(result, settings, notes, command) for result in results], results)


def ingest_signal(name: str, data: Path) -> IngestResult:
    """The beat tables of a data set; one without any signal is a TableError."""
    folder = folder_in(data, name)
    result = ingest(name, folder)
    if not any(entry.lead for entry in result.manifest.entries):
        reasons = next(iter(result.manifest.failures.values()), "annotations alone")
        raise TableError(f"{name}: no record in {folder} has a signal: {reasons}")
    return result


def reproduce_on(
    ingest_result: IngestResult, settings: ReproduceSettings, notes: Sequence[str], command: str
) -> ReproductionResult:
    """Train what is missing on one data set and write the report."""
    trainings = plan_trainings(ingest_result, settings)
    results = run_missing(trainings, ingest_result.path, settings.workers)
    caveats = limits(ingest_result, settings)
    title = f"The reference method on {ingest_result.manifest.title}"
    blocks: list[Block] = [
        *summary(results),
        *(Words(text, caveat=True) for text in notes),
        Words(
            f"{datetime.now(timezone.utc):%Y-%m-%d}, {ingest_result.manifest.version}, beat tables"
        ),
        Code(ingest_result.manifest.digest()),
        *([Code(command)] if command else []),
        *describe(ingest_result.manifest.dataset, results, caveats),
    ]
    return publish(ingest_result, settings, results, title, blocks)


def plan_trainings(ingest_result: IngestResult, settings: ReproduceSettings) -> list[Training]:
    """Every training of the experiment on one data set."""
    code = sha256_json({name: sha256_file(path) for name, path in code_of(*CODE).items()})

    def training(model: str, paradigm: str, fold: int = 0, folds: int = 0) -> Training:
        return Training(
            dataset_sha256=ingest_result.manifest.digest(),
            code_sha256=code,
            model=model,
            paradigm=paradigm,
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            most_beats=settings.most_beats,
            seed=settings.seed,
            fold=fold,
            folds=folds,
            repeats=settings.repeats if folds else 0,
        )

    rounds = range(settings.folds * settings.repeats)
    return [training(model, paradigm) for paradigm, model in PUBLISHED] + [
        training(model, "interpatient", fold, settings.folds)
        for model in NETWORKS
        for fold in rounds
    ]


def limits(ingest_result: IngestResult, settings: ReproduceSettings) -> list[str]:
    """What the figures cannot say, from what was and was not done."""
    texts = []
    if ingest_result.manifest.dataset != "afdb":
        texts.append(
            "The published figures are of AFDB and these of "
            f"{ingest_result.manifest.dataset}: they stand side by side "
            "for orientation, and neither confirms nor contradicts the other."
        )
    if settings.epochs < 100 or settings.most_beats or settings.learning_rate != 1e-4:
        beats = f", at most {settings.most_beats:,} training beats" if settings.most_beats else ""
        texts.append(
            f"Trained for {settings.epochs} epochs at a learning rate of "
            f"{settings.learning_rate:g}{beats}; the method's are 100 epochs at 1e-4 on all beats."
        )
    if ingest_result.failed:
        reason = (ingest_result.failed[0].error or "")[:200]
        texts.append(
            f"{len(ingest_result.failed)} records could not be used, the first because: {reason}"
        )
    texts.append("One seed. An interval over few patients is wide and itself uncertain.")
    texts.append("Intra-patient figures say nothing about a person the network has not seen.")
    return texts


@task(cache_policy=NO_CACHE, persist_result=False)
def publish(
    ingest_result: IngestResult,
    settings: ReproduceSettings,
    results: dict[Training, Result],
    title: str,
    blocks: list[Block],
) -> ReproductionResult:
    """Write the report as Markdown and HTML, and log both with the metrics to MLflow."""
    manifest = ingest_result.manifest
    folder = home() / "reproduce" / manifest.dataset
    for form in FORMS:
        write(title, blocks, folder / f"report{form}")
    run_id = tracking.start_run(
        experiment=f"reproduce/{manifest.dataset}",
        run_name=f"reproduce-{manifest.dataset}",
        params={"dataset": manifest.dataset, **settings.model_dump()},
        tags={
            **git_state(),
            "holter.kind": "reproduction",
            "holter.dataset_sha256": manifest.digest(),
            "holter.environment_sha256": environment_sha256(),
        },
    )
    for training, result in results.items():
        fold = f"_fold{training.fold + 1}" if training.folds else ""
        name = f"{training.paradigm}_{training.model}{fold}"
        values = zip(("precision", "recall", "f1"), intervals([result]), strict=True)
        tracking.log_metrics(run_id, {f"{name}_{figure}": v.value for figure, v in values})
    tracking.log_folder(run_id, folder, "report")
    tracking.finish_run(run_id, "FINISHED")
    return ReproductionResult(ingest_result, manifest.dataset, folder, run_id)
