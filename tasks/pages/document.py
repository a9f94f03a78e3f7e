"""A report as blocks, written as Markdown or as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from tasks.pages.markup import escape, inline, line, paragraph

#: The endings of a report's file: Markdown, and one HTML page.
ENDINGS = (".md", ".html")
ENDINGS_TOLD = " or ".join(ENDINGS)

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th { border-bottom: 2px solid #555; } th:first-child, td:first-child { text-align: left; }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; max-width: 100%; }
img { max-width: 26rem; width: 100%; height: auto; } figcaption { font-size: .85rem; }
code { background: #f2f2f2; padding: .1rem .3rem; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Heading:
    """A section's heading."""

    text: str


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """A command or digest, as it is typed."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table: its columns' names and its rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG by the name of its file, with what it shows in words."""

    name: str
    png: bytes
    shows: str


Block = Heading | Words | Code | Table | Picture


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Markdown; pictures are files beside it, in `figures/`."""
    return "\n\n".join([f"# {inline(title)}", *map(_markdown, blocks)]) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {inline(text)}"
        case Words(text):
            return paragraph(text)
        case Code(text):
            return f"    {line(text)}"
        case Picture(name, _, shows):
            return f"![{inline(shows)}](figures/{quote(name)})"
        case Table(columns, rows):
            head, *body = ([inline(cell) for cell in cells] for cells in (columns, *rows))
            lines = [head, ["---"] * len(columns), *body]
            return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """One HTML file with its pictures inside; it loads nothing from anywhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n" + "\n".join(map(_html, blocks)) + "\n</body></html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Words(text):
            return f"<p>{escape(text)}</p>"
        case Code(text):
            return f"<p><code>{escape(text)}</code></p>"
        case Picture(_, png, shows):
            data, said = base64.b64encode(png).decode(), escape(shows)
            image = f'<img alt="{said}" src="data:image/png;base64,{data}">'
            return f"<figure>{image}<figcaption>{said}</figcaption></figure>"
        case Table(columns, rows):
            head = "".join(f"<th>{escape(name)}</th>" for name in columns)
            body = "\n".join(
                "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
                for row in rows
            )
            return (
                f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
                f"<tbody>{body}</tbody></table></div>"
            )
