"""Tables of decorated functions: what a name means, and a hint where it means nothing."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

Entry = TypeVar("Entry")


def find(table: Mapping[str, Entry], kind: str, name: str) -> Entry:
    """Look `name` up.

    Raises
    ------
    ValueError
        There is no such name; the message offers the nearest one and lists the others.
    """
    if name in table:
        return table[name]
    near = get_close_matches(name, table, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"no {kind} named {name!r}: {hint}there are {', '.join(sorted(table))}")
