"""A report's blocks on the terminal, or in a file by its ending: Markdown or one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table as Grid

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


def deliver(title: str, blocks: Sequence[Block], to: Path | None) -> None:
    """Print the blocks, or write them where a file is named.

    Raises
    ------
    ValueError
        The file ends otherwise than in .md or .html.
    """
    if to is None:
        console.print(f"[bold]{escape(title)}[/bold]")
        for block in blocks:
            _show(block)
        return
    write(title, blocks, to)
    console.print(f"Written  {to}", soft_wrap=True)


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
            console.print(f"\n[bold]{escape(text)}[/bold]")
        case Summary(text, tiles):
            console.print(f"[bold]{escape(text)}[/bold]", soft_wrap=True)
            for tile in tiles:
                console.print(escape(f"  {' '.join(words_of(tile))}"), soft_wrap=True)
        case Table(columns, rows):
            grid = Grid(*map(escape, columns))
            for row in rows:
                grid.add_row(*map(escape, row))
            console.print(grid)
        case _:
            for text in _texts(block):
                console.print(escape(text), soft_wrap=True)


def _texts(block: Words | Code | Picture | Drawing | Branch) -> list[str]:
    match block:
        case Words(text) | Code(text):
            return [text]
        case Branch():
            return [f"{'  ' * depth}{text}" for depth, text in lines(block)]
        case Picture() | Drawing():
            return [f"{block.shows}; --out FILE.html shows it"]
