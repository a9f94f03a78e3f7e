"""Ingest: the records of a data set become beat tables; small records share a Prefect task."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run, task_run
from prefect.states import Completed

from flows.exchange.account import Account, account_of, beat_tables_of, recordings_of
from flows.ingest.build import Plan, build_table
from flows.ingest.failures import reasons, refuse_beyond, tally, telling
from flows.ingest.folders import DatasetSettings
from flows.ingest.withdrawn import WITHDRAWN, leave_out
from flows.parameters import Data, Dataset, Policy, Records, Signal, named_after
from flows.services.alive import WATCHED
from flows.services.ports import review_page
from flows.services.progress import Progress
from flows.services.runners import RUNNER, batches, run_batches
from storage.audit.provenance import beat_code_sha256
from storage.datasets.dataset import (
    DatasetSpec,
    absent_records,
    data_folder,
    excluded_records,
    load_spec,
    record_names,
    select_records,
)
from storage.errors import HolterError, RecordError, TableError, Withdrawn, WorkersGone
from storage.files import alone, sweep
from storage.labels.decisions import log_heads
from storage.logs import bound, log
from storage.places import Place, check_beats_place
from storage.registry.signing import trusted_keys
from storage.tables.beats_manifest import (
    Entry,
    Manifest,
    earlier_failures,
    is_signed,
    known_entries,
    manifest_path,
    note_entry,
    noted_entry,
    write_manifest,
)
from storage.tables.content import duplicates
from tasks.learning.splits import SIDES
from tasks.pages.markup import inline
from tasks.signal.preprocessing import Preprocessing

#: Records in Prefect's table of them: it is one request, and a page.
MOST_ROWS = 1000


@dataclass(frozen=True)
class Outcome:
    """What became of one record: built, kept from an earlier run, withdrawn, or failed and why."""

    record: str
    state: Literal["built", "kept", "withdrawn", "failed"]
    seconds: float
    entry: Entry | None = None
    error: str | None = None


class RecordFailedError(HolterError):
    """What ends the task of one record that failed: its outcome."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super().__init__(outcome.error)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.outcome,)


@dataclass(frozen=True)
class IngestResult:
    """What an ingest made: the manifest's place and value, and each record's outcome."""

    path: Place
    manifest: Manifest
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The records that could not be used."""
        return tuple(outcome for outcome in self.outcomes if outcome.state == "failed")

    @property
    def withdrawn(self) -> tuple[str, ...]:
        """The records that were left out as their use was withdrawn."""
        return tuple(outcome.record for outcome in self.outcomes if outcome.state == WITHDRAWN)


@account_of.register
def _account(result: IngestResult) -> Account:
    """Recordings became beat tables."""
    tables = beat_tables_of(result.path, result.manifest)
    return Account((recordings_of(result.manifest),), (tables,))


def _task_name() -> str:
    """A record's name where the task has one record, else how many it has."""
    names = task_run.get_parameters()["names"]
    return f"beats-{names[0]}" if len(names) == 1 else f"beats of {len(names)} records"


@task(task_run_name=_task_name, persist_result=False, cache_policy=NO_CACHE)
def ingest_records(
    plan: Plan, names: list[str], earlier: dict[str, Entry]
) -> list[Outcome] | State[list[Outcome]]:
    """Each record to one Parquet file; one that fails has a failed task run of its own name."""
    outcomes = []
    for name in names:
        with bound(dataset=plan.spec.name, record=name):
            attempt = _build(plan, name, earlier.get(name))
            level = logging.ERROR if attempt.error else logging.INFO
            log.log(level, attempt.error or f"{attempt.state} in {attempt.seconds:.2f} s")
            for warning in attempt.entry.warnings if attempt.entry else []:
                log.warning(warning)
            outcomes.append(attempt)
    failed = [outcome for outcome in outcomes if outcome.error]
    if failed and len(names) == 1:
        raise RecordFailedError(failed[0])
    for outcome in failed:
        fail_record(outcome.record, outcome, return_state=True)
    if failed:
        return Completed(data=outcomes, name=tally(len(failed), len(outcomes)))
    return outcomes


@task(task_run_name="beats-{record}", persist_result=False, cache_policy=NO_CACHE)
def fail_record(record: str, outcome: Outcome) -> None:  # noqa: ARG001 - the run's name has it
    """The task run of a record that failed among others: red, and with the reason."""
    raise RecordFailedError(outcome)


def _build(plan: Plan, name: str, earlier: Entry | None) -> Outcome:
    """One record; whatever breaks in it stays with it."""
    start = time.monotonic()
    try:
        earlier = noted_entry(plan.out, name) or earlier
        state, entry = build_table(plan, name, earlier)
        if state == "built":
            entry = replace(entry, task_run_id=str(task_run.get_id() or ""))
            note_entry(plan.out, entry)
    except Withdrawn:
        return Outcome(name, WITHDRAWN, 0.0)
    except Exception as error:
        return _failure(name, error)
    return Outcome(name, state, time.monotonic() - start, entry)


def _failure(name: str, error: BaseException) -> Outcome:
    if isinstance(error, WorkersGone):
        error = RecordError(name, str(error), "one that comes back: the next run does the rest")
    elif not isinstance(error, HolterError):
        text = f"{type(error).__name__}: {error}"
        error = RecordError(name, text, "a record that can be read and a table that can be kept")
    return Outcome(name, "failed", 0.0, error=str(error))


def _outcomes(names: list[str], result: Any) -> list[Outcome]:
    """A task's outcomes; of one that was killed, every record has failed."""
    if isinstance(result, RecordFailedError):
        return [result.outcome]
    if isinstance(result, BaseException):
        return [_failure(name, result) for name in names]
    outcomes: list[Outcome] = result
    return outcomes


@flow(
    name="ingest",
    flow_run_name=named_after("ingest"),
    task_runner=RUNNER,
    **WATCHED,
)
def ingest(
    dataset: Dataset,
    data: Data = None,
    policy: Policy = "consensus",
    signal: Signal = None,
    record: Records = None,
) -> IngestResult:
    """Make the beat tables of a data set, record by record.

    Parameters
    ----------
    dataset : str
        Name of a data set, or path of its TOML.
    data : Path, optional
        Folder that holds its records; the one that its TOML names where not given.
    policy : {"consensus", "reference", "detected"}
        Which beats the tables hold where beats are annotated.
    signal : bool, optional
        False reads annotations alone and leaves the waveforms null; as the TOML says where not
        given.
    record : list of str, optional
        Just these records.
    """
    spec = load_spec(dataset)
    signal = spec.records.signal if signal is None else signal
    with alone(f"ingest-{slug(spec.name)}"):
        result = _ingest(
            spec, data_folder(spec, data), Preprocessing(policy=policy), signal, record
        )
    return telling(result, [result])


def _ingest(
    spec: DatasetSpec,
    folder: Path,
    config: Preprocessing,
    signal: bool,
    only: list[str] | None,
) -> IngestResult:
    """What the flow does, alone with the data set's tables on this machine."""
    beats = check_beats_place()
    path = manifest_path(beats, spec.name, signal=signal, policy=config.policy)
    names = record_names(spec, folder)
    if only is not None:
        names = select_records(names, only, spec.name)
    earlier = known_entries(path)
    if isinstance(path, Path):
        sweep(path.parent)
    code = beat_code_sha256()
    heads = log_heads(spec.name) if spec.annotations.has_review else ()
    plan = Plan(spec, folder, path.parent, config, signal, heads[-1] if heads else "")
    outcomes: dict[str, Outcome] = {}
    with Progress(f"Beats of {spec.name}", len(names)) as progress:

        def submit(batch: list[str]) -> Any:
            before = {name: earlier[name] for name in batch if name in earlier}
            return ingest_records.submit(plan, batch, before)

        for batch, result in run_batches(submit, batches(folder, names)):
            for outcome in _outcomes(batch, result):
                outcomes[outcome.record] = outcome
                progress.step(f"{outcome.record} {outcome.state}")
    if isinstance(path, Path):
        sweep(path.parent)  # what a killed worker was writing
    ordered = tuple(outcomes[name] for name in names)
    entries = {outcome.record: outcome.entry for outcome in ordered if outcome.entry}
    failures = {o.record: o.error for o in ordered if o.error is not None}
    if only is not None:  # the others stay as they were
        entries = {**{k: v for k, v in earlier.items() if k not in failures}, **entries}
        failures = {
            **{k: v for k, v in earlier_failures(path).items() if k not in outcomes},
            **failures,
        }
    manifest = Manifest(
        dataset=spec.name,
        title=spec.title,
        version=spec.version,
        licence=spec.licence,
        citation=spec.citation,
        origin=str(folder),
        spec_sha256=spec.digest(),
        preprocessing_sha256=config.digest(),
        code_sha256=code,
        simulated=spec.source.simulated,
        entries=tuple(entries[name] for name in sorted(entries)),
        failures=failures,
        excluded=excluded_records(spec, folder),
        spec=spec.model_dump(mode="json"),
        preprocessing=asdict(config),
        flow_run_id=str(flow_run.get_id() or ""),
        signal=signal,
    )
    manifest, ordered = leave_out(manifest, ordered, path.parent)
    manifest = replace(manifest, duplicates=duplicates(manifest, beats))
    # The entries of the others are of the earlier manifest: who signed these is not known anew.
    own = only is None or not path.is_file() or is_signed(path, trusted_keys())
    write_manifest(path, manifest, signed=own)
    create_table_artifact(
        key=f"ingest-{slug(spec.name)}",
        table=report(ordered, manifest.duplicates),
        description=table_description(manifest, ordered, absent_records(spec, folder)),
    )
    if not manifest.entries:
        withdrawn = "every record is withdrawn" if manifest.withdrawn else "no records at all"
        reason = reasons(manifest.failures) or withdrawn
        raise TableError(f"data set {spec.name} in {folder}: no record could be used: {reason}")
    return IngestResult(path, manifest, ordered)


def table_description(manifest: Manifest, ordered: Sequence[Outcome], absent: str) -> str:
    """What the table of records says above it."""
    text = f"Records of {inline(manifest.title)}: {len(manifest.entries)} tables, digest "
    text += f"`{manifest.digest()}`"
    text += f"; [review page]({review_page(manifest.dataset)})"
    if len(ordered) > MOST_ROWS:
        text += f"; {MOST_ROWS} of {len(ordered)}, failed ones first"
    if absent:
        log.warning(absent)
        text += f"; {absent}"
    return text


def ingest_data_sets(
    datasets: Sequence[DatasetSettings], policy: Policy, most_failed: str = "100%"
) -> list[IngestResult]:
    """Make the beat tables of every data set by turns.

    Raises
    ------
    TooManyFailed
        More records of a data set failed than a training takes; the next ones are not begun.
    """
    results = []
    for dataset in datasets:
        results.append(ingest(dataset.dataset, dataset.data, policy, dataset.signal))
        refuse_beyond(most_failed, results[-1])
    return results


def report(outcomes: Sequence[Outcome], twice: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """The rows of the report; of many records those that failed, and the first of the others."""
    if len(outcomes) > MOST_ROWS:
        outcomes = sorted(outcomes, key=lambda outcome: outcome.state != "failed")[:MOST_ROWS]
    return [report_row(outcome, twice.get(outcome.record, ())) for outcome in outcomes]


def report_row(outcome: Outcome, copies: Sequence[str]) -> dict[str, Any]:
    """A record's row of the report; `copies` are the names that its recording has elsewhere."""
    row = {
        "record": outcome.record,
        "state": outcome.state,
        "seconds": round(outcome.seconds, 2),
    }
    return {
        **row,
        **figures_of(outcome.entry),
        "same recording as": ", ".join(copies),
        "error": outcome.error or "",
    }


def figures_of(entry: Entry | None) -> dict[str, Any]:
    """What a table of records tells of a beat table."""
    return {
        "hours": round(entry.hours, 2) if entry else None,
        "beats": entry.beats if entry else None,
        "AF beats": entry.af_beats if entry else None,
        "labels by": entry.label_source if entry else None,
        "flagged": entry.flagged_beats if entry else None,
        **({key: entry.counts.get(key) for key in ("matched", "missed", "extra")} if entry else {}),
        "uncovered h": round(entry.uncovered_hours, 2) if entry else None,
        "warnings": "; ".join(entry.warnings) if entry else "",
        "analysable h": (
            round(entry.analysable_hours, 2)
            if entry and entry.analysable_hours is not None
            else None
        ),
    }


def used_by(manifest: Manifest, sides: Mapping[str, Any], page: str) -> None:
    """The table of records once more, now that a training uses them: their sides, and its page."""
    rows = [
        {
            "record": entry.record,
            "side": ", ".join(
                side
                for side in SIDES
                if f"{manifest.dataset}/{entry.subject}" in sides[side]["subjects"]
            ),
            **figures_of(entry),
        }
        for entry in manifest.entries[:MOST_ROWS]
    ]
    create_table_artifact(
        key=f"ingest-{slug(manifest.dataset)}",
        table=rows,
        description=f"Records of {inline(manifest.title)}, digest `{manifest.digest()}`, in "
        f"[the training's run in MLflow]({page})",
    )


def slug(text: str) -> str:
    """Letters, digits and dashes only, as Prefect's artifact keys want it."""
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-")
