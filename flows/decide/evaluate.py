"""Evaluate: a registered network on whole data sets, at every level, as one HTML report."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.decide.evaluation_run import (
    enter_evaluation,
    evaluation_run,
    log_evaluation,
    registered_network,
)
from flows.exchange.account import (
    Account,
    account_of,
    beat_tables_of,
    report_of,
    version_named,
)
from flows.ingest.failures import telling
from flows.ingest.flow import IngestResult, ingest_data_sets
from flows.ingest.folders import data_sets, resolve_folders
from flows.parameters import Folders, LeastBeats, Signals, Unseen
from flows.reports.evaluation import by_dataset, figures_of, page, tables_of
from flows.reports.shown import write
from flows.reports.version_page import renew_pages
from flows.services.alive import WATCHED
from flows.services.progress import Progress
from flows.train.teacher import learnt_recordings, learnt_subjects, teachers_of
from flows.train.training_run import work_folder
from storage.audit.chain import resolve
from storage.audit.reviews import sign_labels
from storage.audit.versions import read_version
from storage.errors import DigestMismatch, NotInRegistry, SignatureError, SplitError, TableError
from storage.files import sha256_file, write_bytes
from storage.places import Place
from storage.registry import tracking
from storage.registry.models import ModelVersion
from storage.registry.tags import UNSEEN_PARAM
from storage.tables.beats import BeatTable, read_beats
from storage.tables.beats_manifest import Manifest
from storage.tables.content import copies, recordings, without_prints
from storage.tables.frames import as_csv
from tasks.learning.splits import MOST_PAIRS
from tasks.networks.sequence import reads_records, reads_waveforms
from tasks.pages.decision import decision_words
from tasks.pages.document import Words
from tasks.runtimes.inference import probabilities
from tasks.scores.episodes import episodes, rhythm_annotations
from tasks.scores.evaluation import ScoredRecord, score_table
from tasks.scores.rule import judge, rule_of_tags
from tasks.signal.preprocessing import Policy


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation made: its run, its figures by data set, the report, and of what."""

    model: str
    run_id: str
    figures: dict[str, dict[str, float]]
    report: Path
    ingested: Sequence[IngestResult] = ()


@account_of.register
def _account(result: EvaluationResult) -> Account:
    """A version and beat tables became an evaluation's figures."""
    address, (name, _, number) = tracking.address(), result.model.partition("/")
    figures = {f"{data}_{k}": v for data, own in result.figures.items() for k, v in own.items()}
    tables = [beat_tables_of(part.path, part.manifest) for part in result.ingested]
    return Account(
        (version_named(name, int(number), address), *tables),
        (report_of(f"{name}/evaluations", result.run_id, address, figures),),
    )


@flow(name="evaluate", flow_run_name="evaluate-{model}", **WATCHED)
def evaluate(
    model: str,
    datasets: list[str],
    data: Folders = None,
    policy: Policy = "consensus",
    signal: Signals = None,
    least_beats: LeastBeats = 1,
    unseen: Unseen = False,
) -> EvaluationResult:
    """Score a registered network on data sets; figures, tables and the report go to MLflow.

    Parameters
    ----------
    model : str
        NAME@alias, NAME/version or NAME.
    datasets, data : list of str, list of Path, optional
        Data sets, and the folder of each, else those of the TOMLs.
    policy : {"consensus", "reference", "detected"}
        Which beats the tables hold where beats are annotated.
    signal : bool or list of bool, optional
        False reads annotations alone, for rhythm networks; as `flows.ingest.folders.data_sets`.
    least_beats : int
        Runs of fewer equal decisions become what surrounds them.
    unseen : bool
        Leave out the patients that the version was trained or validated on.

    Raises
    ------
    ValueError
        A data set is named twice, or there is not one folder for each.
    SplitError
        The version learnt from a recording of them that has another name there, or, where only
        unseen patients count, from all of a data set.
    """
    sets = resolve_folders(data_sets(datasets, data=data, signal=signal))
    version = resolve(model)
    single = not reads_records(version.network)
    if single and not all(dataset.signal for dataset in sets):
        raise ValueError(f"{version.reference} reads waveforms: it needs the signal")
    ingested = ingest_data_sets(sets, policy)
    manifests = [result.manifest for result in ingested]
    sign_labels(manifests)
    notes = [
        f"{manifest.dataset} is simulated: its figures say nothing about people."
        for manifest in manifests
        if manifest.simulated
    ]
    people = unseen_people(version.reference, manifests) if unseen else None
    notes += known_records(version.reference, manifests, people)
    params = {"least_beats": least_beats, **({UNSEEN_PARAM: True} if unseen else {})}
    with evaluation_run(version, ingested, f"on {'+'.join(datasets)}", params) as run_id:
        scored = [
            record
            for result in ingested
            for record in score_dataset(version, result, least_beats, people)
        ]
        tables = {
            (result.manifest.dataset, entry.record): result.path.parent / entry.file
            for result in ingested
            for entry in result.manifest.entries
        }
        evaluation = write_up(version, scored, tables, notes, run_id)
        reason = f"on {', '.join(result.manifest.dataset for result in ingested)}"
        folder = evaluation.report.parent
        entry = enter_evaluation(version, ingested, run_id, folder, reason)
    renew_pages(entry)
    return telling(replace(evaluation, ingested=ingested), ingested)


def unseen_people(reference: str, manifests: Sequence[Manifest]) -> set[str]:
    """The patients of data sets that a version was neither trained nor validated on.

    Raises
    ------
    NotInRegistry, SignatureError, DigestMismatch
        Whom it learnt from is not known: it has no sealed chain that is believed.
    SplitError
        It learnt from every patient of a data set.
    """
    subjects, people = learnt_subjects(read_version(reference)), set()
    for manifest in manifests:
        strangers = {f"{manifest.dataset}/{entry.subject}" for entry in manifest.entries} - subjects
        if not strangers:
            raise SplitError(
                f"{reference} was trained or validated on every patient of {manifest.dataset}; "
                "expected some that it does not know"
            )
        people |= strangers
    return people


def known_records(
    reference: str, manifests: Sequence[Manifest], people: Container[str] | None = None
) -> list[str]:
    """What the report is to say of records that a version learnt from.

    Those of other people than `people`, where they are named, are not scored.

    Raises
    ------
    SplitError
        It learnt from some under another name: the figures would seem to be of new patients.
    """
    try:
        version = read_version(reference)
        training_recordings = learnt_recordings(version)
        behind = [data for source in (version, *teachers_of(version)) for data in source.manifests]
    except (NotInRegistry, SignatureError, DigestMismatch) as error:
        return [f"Whether it learnt from these records cannot be told: {error}."]
    names = {recording.name for recording in training_recordings}
    fresh, notes = [], []
    for manifest in manifests:
        new = [recording for recording in recordings(manifest) if recording.name not in names]
        if known_count := len(manifest.entries) - len(new):
            consequence = (
                "the figures of these are not of new patients"
                if people is None
                else "their patients are left out, and the figures are of the others"
            )
            notes.append(
                f"It was trained or validated on {known_count} of the {len(manifest.entries)} "
                f"records of {manifest.dataset}: {consequence}."
            )
        fresh += new
    if pairs := copies(fresh, training_recordings):
        copied = "; ".join(
            f"{copy.name} as {original.name}" for copy, original in pairs[:MOST_PAIRS]
        )
        more = f"; and {len(pairs) - MOST_PAIRS} more" if len(pairs) > MOST_PAIRS else ""
        raise SplitError(
            f"{reference} was trained or validated on the same recordings under another name: "
            f"{copied}{more}; expected recordings that it does not know ([records] exclude)"
        )
    if unknown := without_prints([*behind, *manifests]):
        notes.append(
            "Whether it learnt from a record under another name cannot be told of all: tables of "
            f"{', '.join(dict.fromkeys(unknown))} have no prints of their recordings."
        )
    return notes


@task(cache_policy=NO_CACHE, persist_result=False)
def score_dataset(
    version: ModelVersion,
    ingest_result: IngestResult,
    least_beats: int,
    people: Container[str] | None = None,
) -> list[ScoredRecord]:
    """Decide every beat of a data set by the registered LiteRT file; of some people, if named."""
    network = registered_network(version)
    name = version.network
    rule = rule_of_tags(version.tags)
    out = []
    dataset = ingest_result.manifest.dataset
    entries = [
        entry
        for entry in ingest_result.manifest.entries
        if people is None or f"{dataset}/{entry.subject}" in people
    ]
    with Progress(f"Scoring {dataset}", len(entries)) as progress:
        for entry in entries:
            path = ingest_result.path.parent / entry.file
            if sha256_file(path) != entry.sha256:
                raise TableError(f"beat table {path}: found altered bytes; expected {entry.sha256}")
            table = read_beats(path, waveform=reads_waveforms(name))
            answers, mask = probabilities(network, name, table)
            judgement = judge(rule, table, answers, least_beats=least_beats, mask=mask)
            out.append(score_table(table, judgement, mask, entry.labelled_whole))
            progress.step(table.record)
    return out


@task(cache_policy=NO_CACHE, persist_result=False)
def write_up(
    version: ModelVersion,
    scored: Sequence[ScoredRecord],
    files: Mapping[tuple[str, str], Place],
    notes: Sequence[str],
    run_id: str,
) -> EvaluationResult:
    """Write tables, annotations and the report, with notes; log them and the figures."""
    folder = work_folder(run_id) / "evaluation"
    figures, tables = figures_of(scored), {}
    for dataset, records in by_dataset(scored).items():
        tables[dataset] = tables_of(records)
        for name, frame in tables[dataset].items():
            write_bytes(folder / f"{dataset}_{name}.csv", as_csv(frame))
            tracking.log_table(run_id, f"{dataset}_{name}", frame)
        for record in records:
            runs = episodes(record.decided, record.time_s, record.stretches_s)
            path = folder / "annotations" / dataset / f"{record.record}.haf"
            write_bytes(path, rhythm_annotations(runs, record.stretches_s))
        clean = {f"{dataset}_{k}": v for k, v in figures[dataset].items() if np.isfinite(v)}
        tracking.log_metrics(run_id, clean)

    def beats_of(record: ScoredRecord) -> BeatTable:
        return read_beats(files[record.dataset, record.record])

    blocks = page(scored, figures, tables, notes, beats_of)
    decision = decision_words(rule_of_tags(version.tags))
    path = folder / "report.html"
    title = f"{version.reference}: evaluation"
    write(title, [*blocks, *map(Words, decision)], path)
    log_evaluation(run_id, folder)
    return EvaluationResult(version.reference, run_id, figures, path)
