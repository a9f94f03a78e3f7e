"""What `holter analyse` and `holter-edge analyse` do: a recording, or a folder of them, answered.

The two commands differ in how they find a release, how they show progress, and in what they hand
the answer to: a value of `tasks.analysis.answers`, and the same content as text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from storage.bounds import from_environment
from storage.errors import PlaceError
from storage.files import check_writable, whole
from storage.logs import log
from storage.registry.answers import plain
from tasks.analysis.analyse import summary, write_files
from tasks.analysis.answers import FolderAnswer, NoRhythm, RecordAnswer, TableRow
from tasks.analysis.many import (
    COLUMNS,
    NOTHING_TO_TELL,
    SUMMARY,
    Order,
    recordings_in,
    rows_of,
    summary_csv,
)
from tasks.analysis.page.to_pdf import NO_PDF
from tasks.analysis.words import ANALYSED, answer, table

#: Exit codes: of recordings some have no answer, or all.
SOME_UNANSWERED, ALL_UNANSWERED = 3, 1
#: How many recordings are analysed at a time.
WORKERS = 2

#: Is told of each recording that is done, and how many there are.
Progress = Callable[[str, int], None]
#: Is given the answer, and the same as text.
Tell = Callable[[object, str], None]


def analyse_recording(path: Path, order: Order, tell: Tell) -> int:
    """Analyse a recording, write its files and tell the answer; gives the exit code.

    Raises
    ------
    HolterError
        It cannot be read, or its files cannot be written.
    """
    check_writable(order.out, "folder (--out)")
    try:
        analysis = order.analyse(path)
    except NOTHING_TO_TELL as error:
        reason = f"found {error.actual}"
        value = NoRhythm(str(error.record), reason, None, [])
        tell(value, plain(f"{error.record}: cannot tell: {reason}"))
        raise
    for warning in analysis.record.warnings:
        log.warning("warning  %s: %s", analysis.record.name, warning)
    files = order.files_of(path, analysis)
    write_files(order.out, files)
    if not any(name.endswith(".pdf") for name in files):
        log.info("%s", NO_PDF)
    figures, paths = summary(analysis), [str(order.out / name) for name in files]
    tell(RecordAnswer(**figures, files=paths), answer(figures, paths))
    return ALL_UNANSWERED if figures["cannot_tell"] else 0


def analyse_folder(path: Path, order: Order, tell: Tell, progress: Progress) -> int:
    """Analyse every recording of a folder, write the table and tell it; gives the exit code.

    Raises
    ------
    SpecError, PlaceError
        The folder holds no recording; nothing can be written, or another `summary.csv` is there.
    """
    check_writable(order.out, "folder (--out)")
    target = order.out / SUMMARY
    if target.exists() and not _is_table(target):
        raise PlaceError(
            f"file {target}: found another table; expected another folder for the files (--out)"
        )
    recordings = recordings_in(path)
    workers = min(int(from_environment("workers", "HOLTER_WORKERS", WORKERS)), len(recordings))
    rows = rows_of(
        recordings, order, workers, lambda row: progress(str(row["record"]), len(recordings))
    )
    with whole(target) as partial:
        partial.write_bytes(summary_csv(rows))
    unanswered = sum(row["state"] != ANALYSED for row in rows)
    value = FolderAnswer([TableRow(**row) for row in rows], unanswered, str(target))
    tell(value, f"{table(rows)}\n{plain(f'Table: {target}')}")
    return 0 if not unanswered else ALL_UNANSWERED if unanswered == len(rows) else SOME_UNANSWERED


def _is_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            names = file.readline(1000).rstrip("\n").split(",")
            # A version before may have left out a column, and never had another.
            return names[:2] == list(COLUMNS[:2]) and set(names) <= set(COLUMNS)
    except OSError:
        return False
