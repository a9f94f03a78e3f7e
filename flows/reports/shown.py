"""Answers on standard output, and a report's blocks there or in a file: Markdown or one HTML page.

On a terminal a table is fitted to its width. Elsewhere a row is one line, whole, without colour.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from flows.services.progress import console
from storage.files import write_bytes
from tasks.pages.document import (
    ENDINGS,
    ENDINGS_TEXT,
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
    to_html,
    to_markdown,
    words_of,
)

FORMS = dict(zip(ENDINGS, (to_markdown, to_html), strict=True))
#: Where answers go.
stdout = Console(highlight=False)
#: Broader than any row, where there is no terminal to fit it to.
UNLIMITED = 100_000


def say(text: str = "", style: str = "") -> None:
    """A line of an answer, whole; what stands in it is text, and no markup."""
    stdout.print(Text(text, style), soft_wrap=True)


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    title: str = "",
    styles: Sequence[str] = (),
) -> None:
    """A table of an answer; `styles` are those of its rows, in their order."""
    grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        grid.add_column(Text(column), overflow="fold")
    for number, row in enumerate(rows):
        style = styles[number] if number < len(styles) else ""
        grid.add_row(*map(Text, row), style=style or None)
    if title:
        say(title, "bold")
    if stdout.is_terminal:
        stdout.print(grid)
        return
    text = io.StringIO()
    Console(file=text, width=UNLIMITED).print(grid)
    for line in text.getvalue().splitlines():
        say(line.rstrip())


def deliver(title: str, blocks: Sequence[Block], to: Path | None) -> None:
    """Print the blocks, or write them where a file is named.

    Raises
    ------
    ValueError
        The file ends otherwise than in .md or .html.
    """
    if to is None:
        say(title, "bold")
        for block in blocks:
            _show(block)
        return
    write(title, blocks, to)
    console.print(f"Written  {to}", soft_wrap=True, markup=False)


def write(title: str, blocks: Sequence[Block], to: Path) -> None:
    """Write the blocks as the file's ending says; pictures of Markdown lie beside it.

    Raises
    ------
    ValueError
        The file ends otherwise than in .md or .html.
    """
    if to.suffix not in FORMS:
        raise ValueError(f"{to}: found ending {to.suffix!r}; expected {ENDINGS_TEXT}")
    write_bytes(to, FORMS[to.suffix](title, blocks).encode())
    for block in blocks:
        if isinstance(block, Picture) and to.suffix == ".md":
            write_bytes(to.parent / "figures" / block.name, block.png)


def _show(block: Block) -> None:
    match block:
        case Heading(text):
            say()
            say(text, "bold")
        case Summary(text, tiles):
            say(text, "bold")
            for tile in tiles:
                say(f"  {' '.join(words_of(tile))}")
        case Table(columns, rows):
            show_table(columns, rows)
        case _:
            for text in _texts(block):
                say(text)


def _texts(block: Words | Code | Picture | Drawing | Link | Branch) -> list[str]:
    match block:
        case Words(text) | Code(text):
            return [text]
        case Link(text, address):
            return [f"{text}: {address}"]
        case Branch():
            return [f"{'  ' * depth}{text}" for depth, text in lines(block)]
        case Picture() | Drawing():
            return [f"{block.shows}; --out FILE.html shows it"]
