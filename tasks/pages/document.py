"""A report as blocks, written as Markdown or as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import quote

from tasks.pages.colours import stylesheet
from tasks.pages.markup import inline, line, paragraph, show
from tasks.pages.numbers import label_of, text_of

if TYPE_CHECKING:
    from jinja2 import Template

#: The endings of a report's file: Markdown, and one HTML page.
ENDINGS = (".md", ".html")
ENDINGS_TEXT = " or ".join(ENDINGS)
#: A cell that is a number, with its unit or interval; and one that says that there is none.
_NUMBER = re.compile(r"([-+]?\d[\d,.]*(e[-+]?\d+)?( ?%)?( / |$| (?=\()))+(\(.*\))?")
_NO_NUMBER = ("", "-", "not measured", "undefined")


@dataclass(frozen=True)
class Heading:
    """A section's heading."""

    text: str


@dataclass(frozen=True)
class Words:
    """A paragraph; a caveat stands out from the others."""

    text: str
    caveat: bool = False


@dataclass(frozen=True)
class Code:
    """A command or digest, as it is typed."""

    text: str


@dataclass(frozen=True)
class Tile:
    """A number of the answer: its name, its value, and what stands under it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Summary:
    """A page's answer: a sentence, whether it is good news, and the numbers behind it."""

    text: str
    tiles: Sequence[Tile] = ()
    state: Literal["good", "bad", "plain"] = "plain"


@dataclass(frozen=True)
class Table:
    """A table: its columns' names and its rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def numeric(self) -> list[int]:
        """Which columns, counted from 1, hold numbers alone."""
        cells = [[row[k] for row in self.rows] for k in range(len(self.columns))]
        return [
            k
            for k, column in enumerate(cells, 1)
            if any(map(_NUMBER.fullmatch, column))
            and all(cell in _NO_NUMBER or _NUMBER.fullmatch(cell) for cell in column)
        ]


@dataclass(frozen=True)
class Picture:
    """A PNG by the name of its file, with what it shows in words."""

    name: str
    png: bytes
    shows: str

    @property
    def base64(self) -> str:
        """The PNG as an address of data holds it."""
        return base64.b64encode(self.png).decode()

    @property
    def broad(self) -> bool:
        """Whether it is broader than a phone can show in one piece (PNG 1.2, 11.2.2)."""
        return int.from_bytes(self.png[16:20], "big") > 900


@dataclass(frozen=True)
class Drawing:
    """An SVG of our own, its texts escaped, with what it shows in words."""

    svg: str
    shows: str


@dataclass(frozen=True)
class Link:
    """Words that lead to another page, whose address this project made."""

    text: str
    address: str


@dataclass(frozen=True)
class Branch:
    """A line of an outline, and what hangs below it."""

    text: str
    below: tuple[Branch, ...] = ()


Block: TypeAlias = Heading | Words | Code | Summary | Table | Picture | Drawing | Link | Branch


def table_of(rows: Sequence[Mapping[str, object]]) -> Block:
    """A table of rows that share their keys, which are figures or names of columns."""
    if not rows:
        return Words("None.")
    cells = [tuple(text_of(value, key) for key, value in row.items()) for row in rows]
    return Table(tuple(map(label_of, rows[0])), cells)


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Markdown; pictures are files beside it, in `figures/`."""
    return "\n\n".join([f"# {inline(title)}", *map(_markdown, blocks)]) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {inline(text)}"
        case Words(text) | Drawing(_, text):
            return paragraph(text)
        case Code(text):
            return f"    {line(text)}"
        case Link(text, address):
            return f"[{inline(text)}](<{line(address)}>)"
        case Picture(name, _, shows):
            return f"![{inline(shows)}](figures/{quote(name)})"
        case Branch():
            return "\n".join(f"{'  ' * depth}- {paragraph(text)}" for depth, text in lines(block))
        case Summary(text, tiles):
            items = [f"- {paragraph(' '.join(words_of(tile)))}" for tile in tiles]
            return "\n".join([f"**{inline(text)}**", *([""] if items else []), *items])
        case Table(columns, rows):
            head, *body = ([inline(cell) for cell in cells] for cells in (columns, *rows))
            return "\n".join(
                "| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(columns), *body)
            )


def lines(branch: Branch, depth: int = 0) -> Iterator[tuple[int, str]]:
    """Every line of an outline with how deep it hangs."""
    yield depth, branch.text
    for below in branch.below:
        yield from lines(below, depth + 1)


def words_of(tile: Tile) -> list[str]:
    """A tile in a line of text."""
    return [f"{tile.name}:", tile.value, *([f"({tile.note})"] if tile.note else [])]


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """One HTML file with its pictures inside; it loads nothing from anywhere."""
    kinds = [(type(block).__name__, block) for block in blocks]
    return _template().render(title=title, blocks=kinds, style=stylesheet())


@cache
def _template() -> Template:
    """The one template; Jinja2 is on the server alone, and loaded where a page is written."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=show,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("page.html.j2")
