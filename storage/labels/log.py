"""A log that only grows: a JSON object a line, each with the SHA-256 of the line before.

A line is on the disk before `append_line` ends. Two writers wait for one another. What a killed
writer left of its last line is set aside in a file of its own, and told.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.errors import DecisionError
from storage.files import make_folder, parse_text, sha256_bytes, sync_folder, write_bytes
from storage.logs import log

#: What the first line names as the one before it.
NO_PREVIOUS = "0" * 64
PREVIOUS = "previous"
#: What a killed writer left lies beside the log, by a part of its digest.
TORN = "torn-*.txt"


@dataclass
class Log:
    """A log as far as this process has read it.

    Attributes
    ----------
    path : Path
        The file; it may not be there yet.
    take : callable
        What becomes of each line's object, in their order; ValueError where it is none.
    digests : list of str
        SHA-256 of each line.
    size : int
        Bytes that were read, up to the end of a line.
    state : tuple of int
        The file's number, size and time of change when it was last looked at.
    """

    path: Path
    take: Callable[[dict[str, Any]], None]
    digests: list[str] = field(default_factory=list)
    size: int = 0
    state: tuple[int, int, int] = (0, 0, 0)

    @property
    def head(self) -> str:
        """SHA-256 of the newest line."""
        return self.digests[-1] if self.digests else NO_PREVIOUS


def is_continued(log_: Log) -> bool:
    """Whether the file is the one that was read, with nothing or something after it."""
    file, size, changed = log_.state
    now = _state(log_.path)
    return not log_.size or (now[0] == file and (now[1] > size or now == (file, size, changed)))


def _state(path: Path) -> tuple[int, int, int]:
    try:
        state = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (state.st_ino, state.st_size, state.st_mtime_ns)


def read_lines(log_: Log) -> bytes:
    """Take the lines that were appended since the last look; gives what follows the last of them.

    Raises
    ------
    DecisionError
        A line is damaged, or does not follow the one before it.
    """
    state = _state(log_.path)
    if state == log_.state or not state[0]:
        return b""
    with log_.path.open("rb") as file:
        file.seek(log_.size)
        data = file.read()
    rows, newline, rest = data.rpartition(b"\n")
    for row in rows.split(b"\n") if newline else ():
        try:
            value = parse_text(row)
            if not isinstance(value, dict) or value.pop(PREVIOUS, None) != log_.head:
                raise ValueError("it does not follow the line before it")
            log_.take(value)
        except ValueError as error:
            raise DecisionError(
                f"{log_.path}: found line {len(log_.digests) + 1} damaged ({error}); expected "
                "lines as they were written. Bring the file back from a copy"
            ) from error
        log_.digests.append(sha256_bytes(row))
        log_.size += len(row) + 1
    log_.state = state if not rest else (state[0], log_.size, 0)
    return rest


def set_aside(log_: Log) -> None:
    """Read to the end; what follows the last whole line goes into a file of its own, and is told.

    Whoever calls holds the lock: what is there is not being written.
    """
    rest = read_lines(log_)
    if not rest:
        return
    path = log_.path.with_name(TORN.replace("*", sha256_bytes(rest)[:12]))
    write_bytes(path, rest)
    sync_folder(path.parent)
    os.truncate(log_.path, log_.size)
    log_.state = _state(log_.path)
    log.warning(
        "%s: the last line is torn, its writer was ended and had not said that it is saved. It is "
        "set aside in %s",
        log_.path,
        path.name,
    )


def append_line(log_: Log, value: dict[str, Any]) -> None:
    """Write an object's line; it is on the disk when this ends.

    Whoever calls holds the lock, and has set aside what is torn.

    Raises
    ------
    DecisionError
        As `read_lines`.
    OSError
        The line cannot be written: nothing of it is left.
    """
    is_new = not log_.path.exists()
    make_folder(log_.path.parent)
    row = json.dumps({**value, PREVIOUS: log_.head}, sort_keys=True).encode()
    with log_.path.open("ab", buffering=0) as file:
        try:
            rest = memoryview(row + b"\n")
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(log_.size)
            raise
    if is_new:
        sync_folder(log_.path.parent)
    read_lines(log_)
