"""Values of small text files of the kernel and of a system's settings; None where there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

#: Characters of a file that are read at the most: these files are small.
MOST_CHARACTERS = 1 << 20


def read_text(path: Path) -> str | None:
    """A file's text without blanks and NULs at its ends."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(MOST_CHARACTERS).strip("\0 \n\t\r")
    except (OSError, ValueError):
        return None


def read_number(path: Path) -> float | None:
    """A file's number, where it is finite."""
    try:
        value = float(read_text(path) or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def complete(values: Mapping[str | None, float | None]) -> dict[str, float]:
    """Readings by name that have both, in order of their names."""
    return {k: v for k, v in sorted(values.items(), key=str) if k is not None and v is not None}
