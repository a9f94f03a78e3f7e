"""Cross-validate: every patient is answered by a network that never saw them, in all figures."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows.decide.fold_plan import SeedPlan, plan_seed, sources_of
from flows.decide.fold_settings import CrossValidationSettings
from flows.decide.fold_worker import FoldTraining, all_answers, run_folds
from flows.ingest.failures import naming_failed, reasons, telling
from flows.ingest.flow import IngestResult, ingest_data_sets
from flows.parameters import form_field, settings_of_run
from flows.reports.cross_validation import (
    FoldRow,
    figures_frame,
    folds_frame,
    mean_bounds,
    means_of,
    page,
    patient_counts,
)
from flows.reports.evaluation import by_dataset, figures_of, tables_of
from flows.reports.shown import write
from flows.reports.version_page import flow_link
from flows.services.alive import WATCHED
from flows.train.records import rule_for
from flows.train.training_run import log_dataset, work_folder
from storage.audit.provenance import environment_sha256, git_state
from storage.audit.reviews import sign_labels
from storage.errors import SplitError
from storage.files import write_bytes
from storage.places import Place
from storage.registry import tracking
from storage.registry.tags import ENVIRONMENT_TAG, EVALUATION_FOLDER, KIND_TAG, dataset_sha256_tag
from storage.tables.beats import BeatTable, read_beats
from storage.tables.content import Copy, copies_among, without_prints
from storage.tables.frames import as_csv
from storage.tables.labelled import read_rhythms
from tasks.features.rhythm import rhythm_record
from tasks.learning.splits import MOST_PAIRS
from tasks.networks.models import spec_of
from tasks.networks.strips import strips_of
from tasks.pages.document import Words
from tasks.pages.markup import paragraph
from tasks.scores.bootstrap import Counts
from tasks.scores.evaluation import ScoredRecord, score_table
from tasks.scores.rule import Rule, judge


@dataclass(frozen=True)
class CrossValidationResult:
    """What came out: figures by data set and seed, their means, the folds, the report, the run."""

    network: str
    run_id: str
    figures: dict[str, dict[int, dict[str, float]]]
    means: dict[str, dict[str, float]]
    folds: list[FoldRow]
    report: Path
    ingested: Sequence[IngestResult] = ()


def _name() -> str:
    settings: CrossValidationSettings = settings_of_run(CrossValidationSettings)
    return f"cross-validate-{settings.network}"


@flow(name="cross-validate", flow_run_name=_name, **WATCHED)
def cross_validate(
    settings: Annotated[CrossValidationSettings, form_field("Who is tested, and how it learns.")],
) -> CrossValidationResult:
    """Train a network for each fold of patients, and score all answers together.

    Answers are kept fold by fold: the same again goes on where a killed one was.
    """
    ingested = ingest_data_sets(settings.read(), settings.policy, settings.most_failed)
    sign_labels([result.manifest for result in ingested])
    pairs = copies_among([result.manifest for result in ingested])
    with naming_failed(ingested):
        plans = [plan_seed(settings, ingested, pairs, seed) for seed in settings.seed]
    notes = caveats(settings, ingested, pairs, plans)
    run_id = start_run(settings, ingested)
    try:
        for result in ingested:
            log_dataset(run_id, result.path, result.manifest, "cross-validation", {})
        train_folds(plans, settings.workers)
        validation = write_up(settings, ingested, plans, notes, run_id)
    except BaseException as error:
        tracking.finish_run(run_id, "FAILED", f"{type(error).__name__}: {error}")
        raise
    tracking.finish_run(run_id, "FINISHED")
    return telling(validation, ingested)


def caveats(
    settings: CrossValidationSettings,
    ingested: Sequence[IngestResult],
    pairs: Sequence[Copy],
    plans: Sequence[SeedPlan],
) -> list[str]:
    """What the figures cannot say."""
    manifests = [result.manifest for result in ingested]
    notes = [
        f"{manifest.dataset} is simulated: its figures say nothing about people."
        for manifest in manifests
        if manifest.simulated
    ]
    notes += [
        f"{first.name} and {second.name} are the same recording: it counts twice, on one side."
        for first, second in pairs[:MOST_PAIRS]
    ]
    for result in ingested:
        if result.failed:
            failures = {outcome.record: outcome.error or "" for outcome in result.failed}
            notes.append(
                f"{len(failures)} of {len(result.outcomes)} records of {result.manifest.dataset} "
                f"could not be used: {reasons(failures)}"
            )
    if unknown := without_prints(manifests):
        notes.append(
            f"Whether a recording has two names cannot be told of all: tables of "
            f"{', '.join(dict.fromkeys(unknown))} have no prints of their recordings."
        )
    if settings.patients:
        notes.append("Patients that were not named are learnt from, and not tested.")
    if any(plan.inner for plan in plans):
        notes.append(
            "Threshold, calibration and margin are fixed on out-of-fold answers of the patients "
            "learnt from."
        )
    else:
        notes.append(
            "Threshold, calibration and margin of a fold are fixed on the other folds' answers. "
            "The networks that gave these have learnt from the fold's patients: the estimate is "
            "not fully nested."
        )
    if len(settings.seed) == 1:
        notes.append("One seed: another may differ by more than its interval says.")
    return notes


def start_run(settings: CrossValidationSettings, ingested: Sequence[IngestResult]) -> str:
    """The MLflow run, with all that goes in."""
    manifests = [result.manifest for result in ingested]
    tested = "+".join(manifest.dataset for manifest in manifests[: len(settings.on)])
    words = f"{settings.network}, each patient of {tested} answered by networks that never saw them"
    return tracking.start_run(
        experiment=f"cross-validate/{tested}",
        run_name=f"{settings.network}-{settings.fold_rule}",
        params=params_of(settings),
        tags={
            **git_state(),
            KIND_TAG: "cross-validation",
            ENVIRONMENT_TAG: environment_sha256(),
            "mlflow.user": getpass.getuser(),
            "mlflow.note.content": paragraph(f"{words}.") + flow_link(),
            "prefect.flow_run_id": str(flow_run.get_id() or ""),
            **{dataset_sha256_tag(m.dataset): m.digest() for m in manifests},
        },
    )


def params_of(settings: CrossValidationSettings) -> dict[str, object]:
    """The run's parameters: the settings by their names, but for folders; a list with commas."""
    values = settings.model_dump(exclude={"data"}, exclude_none=True)
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else value
        for name, value in values.items()
    }


@task(cache_policy=NO_CACHE, persist_result=False)
def train_folds(plans: Sequence[SeedPlan], workers: int) -> None:
    """Train and answer the folds of all seeds that have no answers yet."""
    run_folds([t for plan in plans for t in (*plan.folds, *plan.inner)], workers)


def tables_by_name(
    ingested: Sequence[IngestResult], trainings: Sequence[FoldTraining]
) -> dict[str, tuple[BeatTable, bool]]:
    """Beat tables without waveforms of the subjects that trainings test, by DATASET/RECORD.

    Each with whether one label is of its whole record.
    """
    people = {name for training in trainings for name in training.fold.test}
    tables = {}
    for result in ingested:
        dataset = result.manifest.dataset
        if not any(name.startswith(f"{dataset}/") for name in people):
            continue
        entries = result.manifest.entries
        for entry, table in zip(entries, read_rhythms([result.path]), strict=True):
            if f"{dataset}/{entry.subject}" in people:
                tables[f"{dataset}/{entry.record}"] = table, entry.labelled_whole
    return tables


def fold_rules(
    settings: CrossValidationSettings,
    plan: SeedPlan,
    tables: Mapping[str, tuple[BeatTable, bool]],
) -> list[Rule]:
    """How each fold's answers are decided: fixed without any of its patients.

    Raises
    ------
    SplitError
        The other patients have beats of one class alone.
    """
    answers = all_answers(plan.inner or plan.folds)
    records = [
        replace(rhythm_record(table), labelled_whole=labelled_whole)
        for name, (table, labelled_whole) in tables.items()
        if name in answers and len(table)
    ]
    all_strips = strips_of(records, plan.seed)
    rules = []
    for training in plan.folds:
        people = {*training.fold.test}
        others = [record for record in records if record.subject not in people]
        strips = [strip for strip in all_strips if strip.subject not in people]
        label = np.concatenate([np.empty(0, np.int8), *(record.label for record in others)])
        if not (label == 1).any() or not (label == 0).any():
            raise SplitError(
                f"no threshold can be fixed: found {int((label == 1).sum())} AF beats and "
                f"{int((label == 0).sum())} others among patients that are not tested; "
                "expected both"
            )
        rule = rule_for(
            others,
            strips,
            [answers[record.name] for record in (*others, *strips)],
            causal=spec_of(settings.network).causal,
            people={record.subject for record in others},
            aim=settings.risk,
        )
        rules.append(rule)
    return rules


def score_seed(
    plan: SeedPlan,
    rules: Sequence[Rule],
    tables: Mapping[str, tuple[BeatTable, bool]],
) -> list[ScoredRecord]:
    """Every tested record with its out-of-fold answers and what is told of them."""
    answers = all_answers(plan.folds)
    rule_of_patient = {
        name: rule
        for training, rule in zip(plan.folds, rules, strict=True)
        for name in training.fold.test
    }
    scored = []
    for name, (table, labelled_whole) in tables.items():
        rule = rule_of_patient.get(f"{table.dataset}/{table.subject}")
        if rule is not None and len(table):
            judgement = judge(rule, table, answers[name])
            scored.append(score_table(table, judgement, labelled_whole=labelled_whole))
    return scored


@task(cache_policy=NO_CACHE, persist_result=False)
def write_up(
    settings: CrossValidationSettings,
    ingested: Sequence[IngestResult],
    plans: Sequence[SeedPlan],
    notes: Sequence[str],
    run_id: str,
) -> CrossValidationResult:
    """Score every seed; write tables and the report, and log them with the figures."""
    folder = work_folder(run_id) / "evaluation"
    trainings = [training for plan in plans for training in (*plan.folds, *plan.inner)]
    tables = tables_by_name(ingested, trainings)
    figures: dict[str, dict[int, dict[str, float]]] = {}
    counts: dict[str, list[dict[str, Counts]]] = {}
    rows: list[FoldRow] = []
    sample: list[ScoredRecord] = []
    frames = {}
    for plan in plans:
        rules = fold_rules(settings, plan, tables)
        rows += fold_rows(plan, rules)
        scored = score_seed(plan, rules, tables)
        for dataset, values in figures_of(scored).items():
            figures.setdefault(dataset, {})[plan.seed] = values
            tracking.log_metrics(run_id, mlflow_names(f"{dataset}_seed{plan.seed}", values))
        for dataset, records in by_dataset(scored).items():
            counts.setdefault(dataset, []).append(patient_counts(records))
            own = tables_of(records)
            for name, frame in own.items():
                write_bytes(folder / f"{dataset}_seed{plan.seed}_{name}.csv", as_csv(frame))
            if plan is plans[0]:
                frames[dataset] = own
        sample = sample or scored
    means = means_of(figures)
    for dataset, by_seed in counts.items():
        means[dataset] |= mean_bounds(by_seed)
    for dataset, values in means.items():
        tracking.log_metrics(run_id, mlflow_names(dataset, values))
    write_bytes(folder / "figures.csv", as_csv(figures_frame(figures, means)))
    write_bytes(folder / "folds.csv", as_csv(folds_frame(rows)))
    files: dict[tuple[str, str], Place] = {
        (result.manifest.dataset, entry.record): result.path.parent / entry.file
        for result in ingested
        for entry in result.manifest.entries
    }

    def beats_of(record: ScoredRecord) -> BeatTable:
        return read_beats(files[record.dataset, record.record])

    blocks = page(figures, means, rows, notes, (sample, frames), beats_of)
    path = folder / "report.html"
    title = f"{settings.network}: cross-validation on {' + '.join(by_dataset(sample))}"
    write(title, [*blocks, Words(description(settings, ingested))], path)
    tracking.log_folder(run_id, folder, EVALUATION_FOLDER)
    return CrossValidationResult(
        settings.network, run_id, figures, means, rows, path, tuple(ingested)
    )


def mlflow_names(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    """Figures by their names in MLflow; what is undefined is left out."""
    return {f"{prefix}_{key}": value for key, value in values.items() if np.isfinite(value)}


def fold_rows(plan: SeedPlan, rules: Sequence[Rule]) -> list[FoldRow]:
    """The folds of a seed, as they are told."""
    return [
        FoldRow(
            seed=plan.seed,
            fold=number,
            patients=list(training.fold.test),
            learnt_patients=len(training.fold.learn),
            threshold=rule.threshold,
            smoothing_change=rule.change,
            margin=rule.margin,
        )
        for number, (training, rule) in enumerate(zip(plan.folds, rules, strict=True), 1)
    ]


def description(settings: CrossValidationSettings, ingested: Sequence[IngestResult]) -> str:
    """How the networks learnt, in words."""
    config = settings.config(settings.seed[0])
    sets = [
        f"{source.dataset} ({result.manifest.version}, weight {source.weight:g}, "
        f"{'signals' if result.manifest.has_signal else 'annotations alone'})"
        for source, result in zip(sources_of(settings, ingested), ingested, strict=True)
    ]
    return (
        f"Learnt from {', '.join(sets)}: {config.epochs} epochs of {config.steps} steps of "
        f"{config.batch} windows, learning rate {config.learning_rate:g}, {config.simulated} "
        f"simulated records an epoch, balance by {settings.balance}."
    )
