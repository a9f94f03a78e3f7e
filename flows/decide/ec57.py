"""A test by ANSI/AAMI EC57: a registered network on a data set, blind, in the standard's tables."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.decide.evaluate import known_records, unseen_people
from flows.decide.evaluation_run import (
    enter_evaluation,
    evaluation_run,
    log_evaluation,
    registered_network,
)
from flows.ingest.failures import telling
from flows.ingest.flow import IngestResult, ingest_data_sets
from flows.ingest.folders import DatasetSettings, resolve_folders
from flows.parameters import Data, Dataset, LeastBeats, Signal, Unseen, Version
from flows.reports.ec57 import NO_SIGNAL, LeftOut, figures_of, files_of, page
from flows.reports.shown import write
from flows.reports.version_page import renew_pages
from flows.services.alive import WATCHED
from flows.services.progress import Progress
from flows.train.training_run import work_folder
from storage.audit.chain import resolve
from storage.audit.reviews import sign_labels
from storage.datasets.dataset import load_spec
from storage.errors import TableError
from storage.files import write_bytes
from storage.registry import tracking
from storage.registry.models import ModelVersion
from storage.registry.tags import UNSEEN_PARAM
from tasks.analysis.ec57_record import AF, QRS, Analyser, analyser, record_test
from tasks.networks.sequence import reads_records
from tasks.scores.levels.ec57 import CountsByRecord, RecordTest, af_counts, beat_counts, untold_s
from tasks.scores.rule import rule_of_tags

#: What a left-out record is left out of: both tests.
EVERY_TEST = f"{QRS}, {AF}"


@dataclass(frozen=True)
class Ec57Result:
    """What a test made: its run, figures, what it left out, and its files."""

    model: str
    dataset: str
    run_id: str
    figures: dict[str, float]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    folder: Path
    files: tuple[str, ...]
    ingested: IngestResult


@flow(name="ec57", flow_run_name="ec57-{model}", **WATCHED)
def ec57(
    model: Version,
    dataset: Dataset,
    data: Data = None,
    signal: Signal = None,
    least_beats: LeastBeats = 1,
    unseen: Unseen = False,
) -> Ec57Result:
    """Test a registered network by EC57; tables and page go to MLflow, the entry to the ledger.

    Parameters
    ----------
    model : str
        NAME@alias, NAME/version or NAME.
    dataset, data : str, Path, optional
        The data set, and its folder, else that of its TOML.
    signal : bool, optional
        False gives annotated beats to a rhythm network, and tests no detector.
    least_beats : int
        Runs of fewer equal decisions become what surrounds them.
    unseen : bool
        Leave out the patients that the version was trained or validated on.

    Raises
    ------
    ValueError
        The network reads waveforms, and signals are not read.
    SplitError
        The version learnt from a recording that has another name here, or, where only unseen
        patients count, from all of the data set.
    TableError
        No record is part of the test.
    """
    (settings,) = resolve_folders([DatasetSettings(dataset=dataset, data=data, signal=signal)])
    version = resolve(model)
    if not reads_records(version.network) and not settings.signal:
        raise ValueError(f"{version.reference} reads waveforms: it needs the signal")
    ingested = ingest_data_sets([settings], "consensus")
    sign_labels([result.manifest for result in ingested])
    (result,) = ingested
    manifest = result.manifest
    people = unseen_people(version.reference, [manifest]) if unseen else None
    notes = [] if settings.signal else [NO_SIGNAL]
    if manifest.simulated:
        notes.append(f"{manifest.dataset} is simulated: its figures say nothing about people.")
    notes += known_records(version.reference, [manifest], people)
    params = {
        "standard": "ANSI/AAMI EC57",
        "least_beats": least_beats,
        **({UNSEEN_PARAM: True} if unseen else {}),
    }
    title = f"by EC57 on {manifest.dataset}"
    with evaluation_run(version, ingested, title, params) as run_id:
        network = registered_network(version)
        rule = rule_of_tags(version.tags)
        analyse = analyser(network, version.network, rule, least_beats)
        counts, left_out = examine_records(settings, result, analyse, people)
        outcome = write_up(version, result, counts, left_out, notes, run_id)
        entry = enter_evaluation(version, ingested, run_id, outcome.folder, title)
    renew_pages(entry)
    return telling(outcome, ingested)


@task(cache_policy=NO_CACHE, persist_result=False)
def examine_records(
    settings: DatasetSettings,
    ingested: IngestResult,
    analyse: Analyser,
    people: Container[str] | None,
) -> tuple[CountsByRecord, list[LeftOut]]:
    """Count every record, analysed blind, of some people where named; and tell what is left out."""
    spec, manifest = load_spec(settings.dataset), ingested.manifest
    folder = settings.data
    if folder is None:
        raise ValueError("the folder of the records is resolved before")
    left_out = [LeftOut(name, EVERY_TEST, reason) for name, reason in manifest.excluded.items()]
    left_out += [LeftOut(name, EVERY_TEST, reason) for name, reason in manifest.failures.items()]
    counts = CountsByRecord({}, {}, {})
    with Progress(f"EC57 on {manifest.dataset}", len(manifest.entries)) as progress:
        for entry in manifest.entries:
            progress.step(entry.record)
            if people is not None and f"{manifest.dataset}/{entry.subject}" not in people:
                left_out.append(
                    LeftOut(entry.record, EVERY_TEST, "the version learnt from its patient")
                )
                continue
            test, reasons = record_test(
                spec, folder, entry.record, analyse, signal=bool(settings.signal)
            )
            left_out += _rows_of(entry.record, reasons)
            if test is not None:
                counts |= count(test, reasons)
    if not counts.untold_s:
        examples = "; ".join(f"{out.record}: {out.reason}" for out in left_out[:3])
        raise TableError(f"data set {manifest.dataset}: no record can be tested ({examples})")
    return counts, left_out


def _rows_of(record: str, reasons: dict[str, str]) -> list[LeftOut]:
    """A row a reason: one for both tests where it is the same."""
    if len(reasons) == 2 and len(set(reasons.values())) == 1:
        return [LeftOut(record, EVERY_TEST, next(iter(reasons.values())))]
    return [LeftOut(record, test, reason) for test, reason in reasons.items()]


def count(test: RecordTest, left_out: Container[str] = ()) -> CountsByRecord:
    """The counts of one record, but of what it is left out of."""
    return CountsByRecord(
        beats={} if QRS in left_out else {test.record: beat_counts(test)},
        af={} if AF in left_out else {test.record: af_counts(test)},
        untold_s={test.record: untold_s(test)},
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def write_up(
    version: ModelVersion,
    ingested: IngestResult,
    totals: CountsByRecord,
    left_out: Sequence[LeftOut],
    notes: Sequence[str],
    run_id: str,
) -> Ec57Result:
    """Write the tables and the page; log them and the figures."""
    dataset = ingested.manifest.dataset
    folder = work_folder(run_id) / "evaluation"
    for name, content in files_of(dataset, totals, left_out).items():
        write_bytes(folder / name, content)
    blocks = page(dataset, totals, left_out, notes)
    write(f"{version.reference}: {dataset} by EC57", blocks, folder / "report.html")
    names = tuple(sorted(path.name for path in folder.iterdir()))
    figures = figures_of(totals)
    tracking.log_metrics(run_id, {f"{dataset}_{name}": value for name, value in figures.items()})
    log_evaluation(run_id, folder)
    return Ec57Result(
        version.reference,
        dataset,
        run_id,
        figures,
        tuple(left_out),
        tuple(notes),
        folder,
        names,
        ingested,
    )
