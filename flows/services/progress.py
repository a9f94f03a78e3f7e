"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import io
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from storage.logs import as_json, log


class LogLines(io.StringIO):
    """Text whose lines are log lines: standard error is the log's where that is JSON."""

    def write(self, text: str) -> int:
        """Log each line that is not empty."""
        for line in text.splitlines():
            if line.strip():
                log.info(line.strip())
        return len(text)


#: Progress and warnings, on standard error; answers are those of `flows.reports.shown`.
console = Console(
    file=LogLines() if as_json() else None, stderr=not as_json(), highlight=False, soft_wrap=True
)

#: Seconds between the lines that stand in for a bar.
LINE_EVERY_S = 5.0


class Progress:
    """Counts `total` steps under a title, as a context manager.

    On a terminal it is a bar with the time left; in a log, one line every few seconds and one at
    the end.
    """

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.count = title, total, 0
        self._line_time = self._start = time.monotonic()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            disable=as_json() or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(title, total=total, note="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def step(self, note: str = "", by: int = 1, total: int | None = None) -> None:
        """One step more is done, of `total` where it has become another."""
        self.count += by
        self.total = self.total if total is None else total
        self._bar.update(self._task, advance=by, note=note, total=self.total)
        now = time.monotonic()
        if self._bar.disable and (now - self._line_time > LINE_EVERY_S or self.count == self.total):
            self._line_time = now
            elapsed = now - self._start
            line = f"{self.title}: {self.count}/{self.total} in {elapsed:.0f} s  {note}"
            log.info(line) if as_json() else console.print(line, markup=False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
