"""Text of files that others wrote: its characters, its lines, its numbers and its file names."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import math
import re
from collections.abc import Iterable
from typing import Any

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: What pads the end of a text: NUL, and DOS's end of file.
PADDING = "\0\x1a"
_NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
#: 1,500 is one and a half to some, fifteen hundred to others.
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)


def decode_text(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 where its byte order mark begins it; what is neither is Latin-1.

    A byte order mark is no part of the text, wherever it stands, nor is what pads the end.
    """
    marked = data[:2] in UTF_16
    data = data if marked else data.replace(codecs.BOM_UTF8, b"")
    try:
        text = data.decode("utf-16" if marked else "utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.rstrip(PADDING)


def lines(data: bytes) -> list[str]:
    """The lines of a text, stripped; they end at LF or CR LF, at no other character."""
    return [line.strip() for line in decode_text(data).split("\n")]


def table_rows(data: bytes) -> list[list[str]]:
    """The rows of a CSV, their cells stripped, empty rows left out; commas, ";" or tabs between.

    Raises
    ------
    ValueError
        A quote is never closed, or a cell is far too large.
    """
    text = decode_text(data)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    stripped = [[cell.strip() for cell in row] for row in rows]
    return [row for row in stripped if any(row)]


#: What begins a formula where a spreadsheet opens a CSV; by OWASP's page on CSV injection.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_cell(value: Any) -> Any:
    """A cell for a CSV: a text that a spreadsheet would take for a formula has a ' before it.

    Names of files and records are anybody's; numbers stay as they are.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


def file_name(text: str) -> str:
    """A name of a list as a path: Windows parts it by backslashes, `find .` begins it with ./."""
    return text.strip().replace("\\", "/").removeprefix("./")


def decimal(text: str) -> float:
    """A finite decimal number, its point a comma in some countries.

    Raises
    ------
    ValueError
        It is none, or its comma may as well part thousands.
    """
    if not _NUMBER.fullmatch(text) or _THOUSANDS.fullmatch(text):
        raise ValueError(f"found {text!r}; expected a number")
    value = float(text.replace(",", "."))
    if not math.isfinite(value):
        raise ValueError(f"found {text!r}; expected a finite number")
    return value


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ' (did you mean ...?)' for the nearest of `choices`, or nothing where none is near."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
