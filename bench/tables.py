"""Tables of docs/measurements from result files: `python -m bench tables`.

A result file is one JSON of `bench/results`: when, by which commit, on which machine and by which
command something was measured, and its tables. A page holds marked blocks, one a result file;
everything between their marks is written here.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.harness import ROOT

RESULTS = ROOT / "bench" / "results"
PAGES = ROOT / "docs" / "measurements"
BLOCK = re.compile(r"<!-- begin ([\w-]+) -->\n.*?<!-- end \1 -->", re.DOTALL)
UNKNOWN = "not recorded"

#: A text, a number, or a number with the ends of its interval.
Cell = str | float | list[float] | None


@dataclass(frozen=True)
class Table:
    """Figures in rows.

    Attributes
    ----------
    title : str
        What the rows are.
    columns : list of (str, int or None)
        A column's name, and the digits after the point of its numbers.
    rows : list of list of Cell
        Cells in the order of the columns.
    """

    title: str
    columns: list[tuple[str, int | None]]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Result:
    """What one command measured.

    Attributes
    ----------
    date : str or None
        Day of the measurement, YYYY-MM-DD; None where it was not recorded, as for the next three.
    commit : str or None
        The code's commit.
    machine : dict of str to str or int, or None
        Kind of processor, cores, system and Python; no host name.
    command : str or None
        What was run.
    conditions : dict of str to str or float
        Data set, split, level, threshold, seeds, interval, rounds, load: what the figures hang on.
    tables : list of Table
        The figures.
    """

    date: str | None
    commit: str | None
    machine: dict[str, str | int] | None
    command: str | None
    conditions: dict[str, str | float] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)


def read_result(path: Path) -> Result:
    """Read a result file.

    Raises
    ------
    TypeError
        A field is missing or unknown.
    """
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    tables = [Table(**table) for table in document.pop("tables")]
    return Result(**document, tables=tables)


def write_result(path: Path, result: Result) -> None:
    """Write a result file, a row of a table on one line."""
    document = asdict(result)
    tables = document.pop("tables")
    head = json.dumps(document, indent=1, ensure_ascii=False).removesuffix("\n}")
    path.parent.mkdir(parents=True, exist_ok=True)
    body = ",\n".join(_table(table) for table in tables)
    path.write_text(f'{head},\n "tables": [\n{body}\n ]\n}}\n', encoding="utf-8")


def _table(table: dict[str, Any]) -> str:
    line = partial(json.dumps, ensure_ascii=False)
    rows = ",\n".join(f"    {line(row)}" for row in table["rows"])
    head = f'   "title": {line(table["title"])},\n   "columns": {line(table["columns"])}'
    return f'  {{\n{head},\n   "rows": [\n{rows}\n   ]\n  }}'


def cell_text(cell: Cell, digits: int | None) -> str:
    """A cell's text; an interval stands in brackets."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell.replace("|", "\\|")
    if isinstance(cell, list):
        value, low, high = (f"{number:,.{digits or 0}f}" for number in cell)
        return f"{value} ({low} to {high})"
    return f"{cell:,.{digits or 0}f}"


def markdown(header: list[str], rows: list[list[str]], numeric: list[bool]) -> str:
    """A Markdown table; columns of numbers are set right."""
    lines = [header, ["---:" if right else "---" for right in numeric], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def origin(result: Result) -> dict[str, str]:
    """When, where and how a result was measured, in words."""
    machine = result.machine or {}
    facts = {
        "date": result.date,
        "commit": result.commit,
        "machine": ", ".join(str(value) for value in machine.values()) or None,
        "command": f"`{result.command}`" if result.command else None,
    }
    conditions = {key: str(value) for key, value in result.conditions.items()}
    return {key: value or UNKNOWN for key, value in facts.items()} | conditions


def block(name: str) -> str:
    """The marked block of a result file."""
    result = read_result(RESULTS / f"{name}.json")
    parts = [
        f"**{table.title}**\n\n"
        + markdown(
            [title for title, _ in table.columns],
            [
                [
                    cell_text(cell, digits)
                    for cell, (_, digits) in zip(row, table.columns, strict=True)
                ]
                for row in table.rows
            ],
            [digits is not None for _, digits in table.columns],
        )
        for table in result.tables
    ]
    rows = [list(pair) for pair in origin(result).items()]
    parts.append(markdown(["measured", ""], rows, [False, False]))
    return "\n\n".join([f"<!-- begin {name} -->", *parts, f"<!-- end {name} -->"])


def page_of(text: str) -> str:
    """A page with its blocks as the result files give them, formatted as `make lint` wants it."""
    import mdformat

    page = BLOCK.sub(lambda match: block(match[1]), text)
    options = {"wrap": 120, "plugin": {"tables": {"compact_tables": True}}}
    return mdformat.text(page, options=options, extensions={"gfm", "tables"})


def write_pages() -> None:
    """Fill the blocks of every page from the result files."""
    for page in sorted(PAGES.glob("*.md")):
        page.write_text(page_of(page.read_text(encoding="utf-8")), encoding="utf-8")
