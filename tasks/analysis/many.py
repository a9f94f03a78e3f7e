"""Many recordings at a time, by processes: a row for each, whatever befalls it.

A worker gives back a row of figures, never an array: memory is what the workers need, 0.3 GB for a
day each. A process that dies takes its own recording with it and no other.
"""

from __future__ import annotations

import csv
import io
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from storage.errors import HolterError, RecordError, SpecError, TooFewBeats, UnusableSignal
from storage.formats.leads import SUFFIX
from storage.formats.wfdb_record import describe_wfdb
from storage.recordings.records import Record
from storage.text import csv_cell
from tasks.analysis.analyse import Release, analyse_by, files_of, summary, write_files
from tasks.analysis.finding import Analysis
from tasks.analysis.words import ANALYSED, CANNOT_TELL, FAILED

#: What a recording of which nothing can be told raises: it was read, and no rhythm is in it.
NOTHING_TO_TELL = (UnusableSignal, TooFewBeats)
#: A recording's row; figures that are not known are None.
COLUMNS: tuple[str, ...] = ("record", "file", "start", "hours", "analysable_hours")
COLUMNS += ("af_burden", "af_burden_low", "af_burden_high", "cannot_tell_s", "episodes_of_30_s")
COLUMNS += ("longest_af_s", "network", "registered", "state", "note")
SUMMARY = "summary.csv"
#: How a report ends that is a DICOM object, and no recording.
REPORT = ".report.dcm"
#: The name whose files would be the table's.
RESERVED = "summary"


@dataclass(frozen=True, eq=False)
class Order:
    """How recordings are analysed: see `tasks.analysis.analyse.analyse_by`, and where files go.

    `exports` are files for hospitals' systems beside the others (`tasks.analysis.exports`), which
    name the patient that the recording's header names where `identity` says so. `look` gives the
    address at which a person looks at a record, "" where nowhere.
    """

    out: Path
    release: Release | None = None
    leads: tuple[str, ...] = ()
    least_beats: int = 1
    runtime: str | None = None
    af_share: float | None = None
    exports: tuple[str, ...] = ()
    identity: bool = False
    look: Callable[[Record], str] | None = None

    def analyse(self, path: Path) -> Analysis:
        """One recording, analysed."""
        analysis = analyse_by(
            path, self.release, self.leads, self.least_beats, self.runtime, self.af_share
        )
        return replace(analysis, look=self.look(analysis.record)) if self.look else analysis

    def files_of(self, path: Path, analysis: Analysis, name: str | None = None) -> dict[str, bytes]:
        """Every file that an analysis leaves, by name, with those for hospitals' systems.

        Raises
        ------
        RecordError
            An identity is wanted, and the recording's header names no patient.
        """
        files, name = files_of(analysis, name), name or analysis.record.name
        if not self.exports:
            return files
        from tasks.analysis.exports import export  # what a device need not have

        source = path if self.identity else None
        pdf = files.get(f"{name}.pdf")
        parts = export(analysis, summary(analysis), pdf, self.exports, source)
        return files | {f"{name}{ending}": data for ending, data in parts.items()}


@dataclass(frozen=True)
class Recording:
    """A recording of a folder: its path, and the name that its row and its files get."""

    path: Path
    name: str


def recordings_in(folder: Path) -> list[Recording]:
    """Every recording of a folder and those below, by name; parts of another one are left out.

    Its name is its path in the folder without the suffix. Where two would be the same, whatever the
    case of their letters, the format is added, and then a number.

    Raises
    ------
    SpecError
        There is none.
    """
    ends = {end: form for form, end in SUFFIX.items()}
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ends and not path.name.endswith(REPORT) and path.is_file()
    )
    parts = {
        part for path in files if path.suffix.lower() == SUFFIX["wfdb"] for part in _parts(path)
    }
    wholes = [path for path in files if path.with_suffix("") not in parts]
    if not wholes:
        kinds = ", ".join(f"{end} ({form})" for form, end in SUFFIX.items())
        raise SpecError(f"{folder}: found no recording; expected some: {kinds}")
    plain = [path.relative_to(folder).as_posix()[: -len(path.suffix)] for path in wholes]
    counts = Counter(name.lower() for name in plain)
    reserved = {*counts, RESERVED}
    recordings = []
    for path, stem in zip(wholes, plain, strict=True):
        name = stem
        if counts[stem.lower()] > 1 or stem.lower() == RESERVED:
            base = f"{stem}_{ends[path.suffix.lower()]}"
            candidates = chain([base], (f"{base}_{number}" for number in count(2)))
            name = next(name for name in candidates if name.lower() not in reserved)
            reserved.add(name.lower())
        recordings.append(Recording(path, name))
    return recordings


def _parts(path: Path) -> Iterator[Path]:
    """The segments that a WFDB header names."""
    try:
        header = describe_wfdb(path.parent, path.name[: -len(path.suffix)])
    except (RecordError, OSError):
        return  # told when it is analysed
    for part in header.segments:
        yield path.parent / part


def row_of(recording: Recording, order: Order) -> dict[str, Any]:
    """Analyse a recording, write its files, and give its row; what went wrong is in the row."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"record": recording.name, "file": str(recording.path), "state": FAILED, "note": ""}
    folder, _, stem = recording.name.rpartition("/")
    try:
        analysis = order.analyse(recording.path)
        write_files(order.out / folder, order.files_of(recording.path, analysis, stem))
        figures = summary(analysis)
    except NOTHING_TO_TELL as error:
        return row | {"state": CANNOT_TELL, "note": f"found {error.actual}"}
    except (HolterError, OSError, MemoryError) as error:
        return row | {"note": str(error) or type(error).__name__}
    except Exception as error:  # a fault of ours stops no other recording
        return row | {"note": f"a fault of this program: {type(error).__name__}: {error}"}
    row |= {name: figures[name] for name in COLUMNS if name in figures and name != "record"}
    row |= {"network": figures["model"]["name"], "registered": figures["model"]["registered"]}
    if figures["cannot_tell"]:
        row |= {"state": CANNOT_TELL, "note": figures["cannot_tell"]}
        return row | dict.fromkeys(("episodes_of_30_s", "longest_af_s"))
    return row | {"state": ANALYSED, "note": " ".join([*figures["caveats"], *figures["warnings"]])}


def rows_of(
    recordings: Sequence[Recording],
    order: Order,
    workers: int,
    on_row: Callable[[dict[str, Any]], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """The row of every recording, in their order; as many at a time as there are workers.

    Interrupted, it ends the workers, which leave no half file.
    """
    rows: dict[str, dict[str, Any]] = {}

    def keep(row: dict[str, Any]) -> None:
        rows[row["record"]] = row
        on_row(row)

    waiting = iter(recordings)
    while unsure := _through_pool(waiting, order, workers, keep):
        for recording in unsure:  # which of them ended the pool is told by each alone
            if _through_pool(iter([recording]), order, 1, keep):
                row = dict.fromkeys(COLUMNS) | {"record": recording.name, "state": FAILED}
                words = "its process ended, by a lack of memory or a fault of a library"
                keep(row | {"file": str(recording.path), "note": words})
    return [rows[recording.name] for recording in recordings]


def _through_pool(
    waiting: Iterator[Recording],
    order: Order,
    workers: int,
    keep: Callable[[dict[str, Any]], None],
) -> list[Recording]:
    """Work through what waits; gives those that were at work when a worker died."""
    first = list(islice(waiting, workers))
    if not first:
        return []
    # Started anew, not forked: a fork of a process with threads may wait for ever.
    pool = ProcessPoolExecutor(
        len(first), mp_context=get_context("spawn"), initializer=_begin_worker
    )
    at_work: dict[str, Recording] = {}

    def submit(recording: Recording) -> Future[dict[str, Any]]:
        at_work[recording.name] = recording
        return pool.submit(row_of, recording, order)

    try:
        futures = {submit(recording) for recording in first}
        while futures:
            ended, futures = wait(futures, return_when=FIRST_COMPLETED)
            for future in ended:
                row = future.result()
                del at_work[row["record"]]
                keep(row)
                futures |= {submit(recording) for recording in islice(waiting, 1)}
    except BrokenProcessPool:
        return list(at_work.values())
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return []


def _begin_worker() -> None:
    """An interrupt is the parent's to handle; told to end, a worker first removes what is half."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def summary_csv(rows: Iterable[dict[str, Any]]) -> bytes:
    """The rows as CSV; a figure that is not known is an empty cell, no text is a formula."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(cell) for name, cell in row.items()} for row in rows)
    return text.getvalue().encode(errors="backslashreplace")
