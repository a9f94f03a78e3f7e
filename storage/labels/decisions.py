"""What a person decided about a passage of a recording: values, and the log that keeps them.

A data set has one log, `labels/DATASET/decisions.jsonl` of the state folder; see
`storage.labels.log`. Nothing in it is changed or taken out: who changes their mind decides anew.
The recordings' own folder is never written.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from threading import RLock
from typing import Any

from storage.errors import DecisionError, PlaceError, UnsafeName
from storage.files import alone, check_name, home
from storage.labels.log import Log, append_line, is_continued, read_lines, set_aside

#: What may be decided of a passage.
VERDICTS = ("accept", "reject", "correct", "flutter", "cannot tell")
CANNOT_TELL = "cannot tell"
MOST_REMARK, MOST_REVIEWER, MOST_VERSION = 1_000, 100, 300
#: A year at 100,000 samples a second.
MOST_SAMPLES = 1 << 42
#: Characters of what was found that an error shows.
QUOTE_LENGTH = 60
FILE = "decisions.jsonl"
#: Characters that a text holds none of: controls, half pairs, private ones, ends of lines. Marks
#: that turn the direction of writing could show a text as another one.
_CONTROLS = ("Cc", "Cs", "Co", "Zl", "Zp")
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FORMS = {
    "id": re.compile(r"[0-9a-f]{32}"),
    "dataset": re.compile(r"[a-z0-9][a-z0-9_-]{0,99}"),
    "rhythm": re.compile(r"|[A-Za-z0-9_.+-]{1,30}"),
    "time": re.compile(r"[0-9TZ:.+-]{16,40}"),
    "version": re.compile(r"|[^/:@'\"\x00-\x1f\x7f]{1,255}/[1-9][0-9]{0,8}"),
}


@dataclass(frozen=True)
class Decision:
    """One decision about one passage.

    Attributes
    ----------
    id : str
        32 hexadecimal digits, made by whoever asks: the same one twice is stored once.
    dataset, record : str
        The recording.
    start, end : int
        The passage in samples of the recording, [start, end).
    verdict : str
        One of `VERDICTS`.
    rhythm : str
        What the passage is after it: a rhythm of the data set's TOML, "AFIB", "AFL" or "N"; "" for
        "cannot tell", and for that alone.
    remark : str
        Plain text of up to 1,000 characters; lines end at a newline.
    reviewer : str
        Who decided; up to 100 characters.
    time : str
        When, ISO 8601 in UTC.
    version : str
        MODEL/VERSION whose answers were looked at, or "".
    """

    id: str
    dataset: str
    record: str
    start: int
    end: int
    verdict: str
    rhythm: str
    remark: str
    reviewer: str
    time: str
    version: str = ""


class _Book:
    """A data set's decisions, as far as this process has read them."""

    def __init__(self, path: Path) -> None:
        self.log = Log(path, self.take)
        self.by_id: dict[str, Decision] = {}
        self.by_record: defaultdict[str, list[Decision]] = defaultdict(list)

    def take(self, value: Mapping[str, Any]) -> None:
        """Put a line's decision in; ValueError where it is none. The first of an id counts."""
        try:
            decision = check_decision(Decision(**value))
        except (TypeError, DecisionError) as error:
            raise ValueError(str(error)) from error
        if self.by_id.setdefault(decision.id, decision) is decision:
            self.by_record[decision.record].append(decision)


_BOOKS: dict[Path, _Book] = {}
_THREADS = RLock()
_NAMES = tuple(f.name for f in fields(Decision))


def labels_folder() -> Path:
    """Where the logs lie: `labels` of the state folder."""
    return home() / "labels"


def reviewed_datasets(folder: Path | None = None) -> list[str]:
    """The data sets that somebody decided anything about, by name."""
    logs = (folder or labels_folder()).glob(f"*/{FILE}")
    return sorted(
        path.parent.name for path in logs if _FORMS["dataset"].fullmatch(path.parent.name)
    )


def log_path(dataset: str, folder: Path | None = None) -> Path:
    """The log of a data set; it may not be there.

    Raises
    ------
    DecisionError
        The name is none of a data set.
    """
    _check_form("dataset", dataset)
    return (folder or labels_folder()) / dataset / FILE


def check_decision(decision: Decision) -> Decision:
    """A decision as it is, where it can be kept.

    Raises
    ------
    DecisionError
        A field is of another kind, too long, or holds what a name or plain text does not.
    """
    for name in _NAMES:
        kind = int if name in ("start", "end") else str
        if type(getattr(decision, name)) is not kind:
            raise _wrong(name, getattr(decision, name), f"of the kind {kind.__name__}")
    for name in _FORMS:
        _check_form(name, getattr(decision, name))
    try:
        check_name(decision.record, decision.record)
    except UnsafeName as error:
        raise _wrong("record", decision.record, error.expected) from error
    if not 0 <= decision.start < decision.end <= MOST_SAMPLES:
        raise _wrong("passage", [decision.start, decision.end], "samples that ascend, from 0")
    if decision.verdict not in VERDICTS:
        raise _wrong("verdict", decision.verdict, f"one of {', '.join(VERDICTS)}")
    if (decision.verdict == CANNOT_TELL) != (not decision.rhythm):
        expected = "no rhythm with 'cannot tell', and one with every other verdict"
        raise _wrong("rhythm", decision.rhythm, expected)
    _check_text("remark", decision.remark, MOST_REMARK, also="\n")
    _check_text("reviewer", decision.reviewer, MOST_REVIEWER)
    _check_text("version", decision.version, MOST_VERSION)
    if not decision.reviewer or decision.reviewer != decision.reviewer.strip():
        raise _wrong("reviewer", decision.reviewer, "a name, without spaces around it")
    if not _is_utc(decision.time):
        raise _wrong("time", decision.time, "ISO 8601 in UTC, as 2026-01-31T08:15:00+00:00")
    return decision


def _is_utc(text: str) -> bool:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).utcoffset() == timedelta(0)
    except ValueError:
        return False


def append_decision(decision: Decision, folder: Path | None = None) -> bool:
    """Keep a decision; it is on the disk when this ends. False: it was there already.

    Raises
    ------
    DecisionError
        It cannot be kept (`check_decision`), another decision has its id, or the log is damaged.
    PlaceError, OSError
        The log cannot be written; nothing of the decision is left in it.
    """
    path = log_path(check_decision(decision).dataset, folder)
    with _THREADS, alone(_lock(path)):
        book = _book(path, set_aside)
        twin = book.by_id.get(decision.id)
        if twin is None:
            append_line(book.log, asdict(decision))
    if twin not in (None, decision):
        raise _wrong("id", decision.id, "one that no other decision has")
    return twin is None


def read_decisions(
    dataset: str, record: str | None = None, folder: Path | None = None
) -> tuple[Decision, ...]:
    """The decisions about a data set, or about one of its records, as they were made.

    Raises
    ------
    DecisionError
        The log is damaged.
    """
    with _THREADS:
        book = _read(log_path(dataset, folder))
        return tuple(book.by_id.values() if record is None else book.by_record.get(record, ()))


def log_heads(dataset: str, folder: Path | None = None) -> tuple[str, ...]:
    """The SHA-256 of each line of a data set's log, first to last; errors as `read_decisions`."""
    with _THREADS:
        return tuple(_read(log_path(dataset, folder)).log.digests)


def is_in_log(dataset: str, head: str) -> bool:
    """Whether a line of that SHA-256 is in a data set's log here; errors as `read_decisions`."""
    with _THREADS:
        return head in _read(log_path(dataset)).log.digests


def _read(path: Path) -> _Book:
    """A log as it is now."""

    def settle(log: Log) -> None:
        if read_lines(log):
            with suppress(PlaceError), alone(_lock(path)):  # a state folder that is only read
                set_aside(log)

    return _book(path, settle)


def _book(path: Path, settle: Callable[[Log], None]) -> _Book:
    """A log's decisions, of which those that were read before are not read again.

    Where its new lines do not follow, it is read from its start: a copy may have come back.
    """
    book = _BOOKS.get(path)
    if book is not None and is_continued(book.log):
        with suppress(DecisionError):
            settle(book.log)
            return book
    book = _Book(path)
    settle(book.log)
    _BOOKS[path] = book
    return book


def _lock(path: Path) -> str:
    return f"labels-{path.parent.name}"


def _wrong(name: str, value: object, expected: str) -> DecisionError:
    text = repr(value)
    short = text if len(text) <= QUOTE_LENGTH else f"{text[:QUOTE_LENGTH]}..., {len(text)} long"
    return DecisionError(f"decision, {name}: found {short}; expected {expected}")


def _check_form(name: str, text: str) -> None:
    if not _FORMS[name].fullmatch(text):
        raise _wrong(name, text, f"the form {_FORMS[name].pattern}")


def _check_text(name: str, text: str, most: int, also: str = "") -> None:
    """Refuse a text that is too long, or that a screen would not show as it is."""
    if len(text) > most:
        raise _wrong(name, text, f"at most {most} characters")
    for character in text:
        hidden = unicodedata.category(character) in _CONTROLS or character in _DIRECTIONS
        if hidden and character not in also:
            raise _wrong(name, character, "plain text without control characters")
