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
    ENDINGS_TOLD,
    Block,
    Code,
    Heading,
    Picture,
    Table,
    Words,
    to_html,
    to_markdown,
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
        raise ValueError(f"{to}: found ending {to.suffix!r}; expected {ENDINGS_TOLD}")
    write_bytes(to, FORMS[to.suffix](title, blocks).encode())
    for block in blocks:
        if isinstance(block, Picture) and to.suffix == ".md":
            write_bytes(to.parent / "figures" / block.name, block.png)


def _show(block: Block) -> None:
    match block:
        case Heading(text):
            console.print(f"\n[bold]{escape(text)}[/bold]")
        case Words(text) | Code(text):
            console.print(escape(text), soft_wrap=True)
        case Picture(name, _, shows):
            console.print(escape(f"{name}: {shows}; --out FILE.html shows it"))
        case Table(columns, rows):
            grid = Grid(*columns)
            for row in rows:
                grid.add_row(*map(escape, row))
            console.print(grid)
