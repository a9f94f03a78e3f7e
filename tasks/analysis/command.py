"""What `holter analyse` and `holter-edge analyse` do: a recording, or a folder of them, answered.

The answer goes to standard output, as text or as JSON of the same content; the two commands differ
in how they find a release, and in how they show progress.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.bounds import from_environment
from storage.errors import PlaceError
from storage.files import check_writable, whole
from storage.logs import log
from tasks.analysis.analyse import files_of, summary, write_files
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

FORMS = ("text", "json")
#: Exit codes: of recordings some have no answer, or all.
SOME_UNANSWERED, ALL_UNANSWERED = 3, 1
#: How many recordings are analysed at a time.
WORKERS = 2

#: Is told of each recording that is done, and how many there are.
Progress = Callable[[str, int], None]


def analyse_one(path: Path, order: Order, form: str, say: Callable[[str], None]) -> int:
    """Analyse a recording, write its files and say the answer; gives the exit code.

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
        document: dict[str, Any] = {
            "record": error.record,
            "cannot_tell": reason,
            "af_burden": None,
            "files": [],
        }
        say(_json(document) if form == "json" else f"{error.record}: cannot tell: {reason}")
        raise
    for warning in analysis.record.warnings:
        log.warning("warning  %s: %s", analysis.record.name, warning)
    files = files_of(analysis)
    write_files(order.out, files)
    if not any(name.endswith(".pdf") for name in files):
        log.info("%s", NO_PDF)
    figures, paths = summary(analysis), [str(order.out / name) for name in files]
    say(_json(figures | {"files": paths}) if form == "json" else answer(figures, paths))
    return ALL_UNANSWERED if figures["cannot_tell"] else 0


def analyse_folder(
    path: Path, order: Order, form: str, say: Callable[[str], None], progress: Progress
) -> int:
    """Analyse every recording of a folder, write the table and say it; gives the exit code.

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
    document = {"records": rows, "unanswered": unanswered, "table": str(target)}
    say(_json(document) if form == "json" else f"{table(rows)}\nTable: {target}")
    return 0 if not unanswered else ALL_UNANSWERED if unanswered == len(rows) else SOME_UNANSWERED


def _is_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline(1000).rstrip("\n") == ",".join(COLUMNS)
    except OSError:
        return False


def _json(document: Any) -> str:
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False)
