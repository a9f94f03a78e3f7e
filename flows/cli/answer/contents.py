"""From what flows and reports give to the kinds of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.answer import data_kinds, report_kinds, training_kinds
from storage.tables.beats_manifest import review_words
from tasks.pages.document import (
    Block,
    Branch,
    Code,
    Drawing,
    Heading,
    Link,
    Picture,
    Summary,
    Table,
    Words,
    lines,
)

if TYPE_CHECKING:
    from flows.decide.cross_validate import CrossValidationResult
    from flows.ingest.flow import IngestResult
    from flows.train.flow import TrainingResult
    from storage.recordings.check import RecordCheck


def part_of(block: Block) -> report_kinds.Part:
    """A report's block; a picture by what it shows."""
    match block:
        case Heading(text):
            return report_kinds.TextPart("heading", text)
        case Words(text, caveat):
            return report_kinds.TextPart("caveat" if caveat else "words", text)
        case Code(text):
            return report_kinds.TextPart("code", text)
        case Link(text, address):
            return report_kinds.TextPart("link", f"{text}: {address}")
        case Summary(text, tiles, state):
            numbers = [report_kinds.TilePart(tile.name, tile.value, tile.note) for tile in tiles]
            return report_kinds.SummaryPart("summary", text, state, numbers)
        case Table(columns, rows):
            return report_kinds.TablePart("table", [*columns], [[*row] for row in rows])
        case Branch():
            return report_kinds.OutlinePart(
                "outline", [report_kinds.OutlineLine(*line) for line in lines(block)]
            )
        case Picture() | Drawing():
            return report_kinds.PicturePart("picture", block.shows)


def report_of(title: str, blocks: Sequence[Block], file: Path | None = None) -> report_kinds.Report:
    """A report, and where it was written."""
    return report_kinds.Report(title, [*map(part_of, blocks)], str(file) if file else None)


def ingest_of(result: IngestResult) -> data_kinds.Ingest:
    """What an ingest made: totals, what failed, and what each record warns of."""
    entries, manifest = result.manifest.entries, result.manifest
    return data_kinds.Ingest(
        data_set=manifest.dataset,
        title=manifest.title,
        records=len(entries),
        hours=sum(entry.hours for entry in entries),
        beats=sum(entry.beats for entry in entries),
        kept_count=sum(outcome.state == "kept" for outcome in result.outcomes),
        failed=[
            data_kinds.Remark(outcome.record, outcome.error or "") for outcome in result.failed
        ],
        warnings=[data_kinds.Remark(e.record, text) for e in entries for text in e.warnings],
        twice={record: [*names] for record, names in manifest.duplicates.items()},
        review=review_words(entries),
        withdrawn=[*result.withdrawn],
        manifest=str(result.path),
    )


def training_of(result: TrainingResult, links: Mapping[str, str]) -> training_kinds.Training:
    """A training: its version, its figures, and where to look at it."""
    version = result.version
    return training_kinds.Training(
        model=version.name,
        version=version.version,
        run_id=result.run_id,
        title=result.title,
        caveat=result.caveat,
        figures={**result.metrics},
        links={**links},
        commands=[f"holter lineage {version.reference}", f"holter verify {version.reference}"],
        ingests=[ingest_of(ingested) for ingested in result.ingested],
    )


def cross_validation_of(
    result: CrossValidationResult, report: str, links: Mapping[str, str]
) -> training_kinds.CrossValidation:
    """A cross-validation: its figures, its folds, and where to look at it."""
    return training_kinds.CrossValidation(
        network=result.network,
        run_id=result.run_id,
        figures={
            dataset: {seed: {**figures} for seed, figures in by_seed.items()}
            for dataset, by_seed in result.figures.items()
        },
        means={dataset: {**figures} for dataset, figures in result.means.items()},
        folds=[training_kinds.FoldState(**vars(row)) for row in result.folds],
        report=report,
        links={**links},
        ingests=[ingest_of(ingested) for ingested in result.ingested],
    )


def record_of(check: RecordCheck) -> data_kinds.RecordState:
    """A record as it was found."""
    return data_kinds.RecordState(
        record=check.record,
        subject=check.subject,
        fs_hz=check.fs_hz,
        hours=check.hours,
        recorded_hours=check.recorded_hours,
        uncovered_hours=check.uncovered_hours,
        lead=check.lead,
        beats=check.beats,
        rhythm_hours=check.rhythm_hours,
        label_source=check.label_source,
        checksums=check.checksums,
        problem=check.problem,
        warnings=[*check.warnings],
    )
