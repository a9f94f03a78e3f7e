"""Reports as they are answered: their parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TextPart:
    """A heading, a paragraph, a caveat, a command, or a link and its address, of a report."""

    kind: Literal["heading", "words", "caveat", "code", "link"]
    text: str


@dataclass(frozen=True)
class TilePart:
    """A number of a report's summary."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class SummaryPart:
    """The answer of a report in a sentence, with its numbers; its state is good, bad or plain."""

    kind: Literal["summary"]
    text: str
    state: str
    tiles: list[TilePart]


@dataclass(frozen=True)
class TablePart:
    """A table of a report."""

    kind: Literal["table"]
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class PicturePart:
    """A picture of a report, in words: `--out FILE.html` shows it."""

    kind: Literal["picture"]
    shows: str


@dataclass(frozen=True)
class OutlineLine:
    """A line of an outline, and how deep it hangs."""

    depth: int
    text: str


@dataclass(frozen=True)
class OutlinePart:
    """An outline of a report."""

    kind: Literal["outline"]
    lines: list[OutlineLine]


Part = TextPart | SummaryPart | TablePart | PicturePart | OutlinePart


@dataclass(frozen=True)
class Report:
    """`holter card`, `compare`: a report's title and its parts; where it was written, if it was."""

    title: str
    parts: list[Part]
    file: str | None = None
