"""The JSON of an answer, for a program: what a command of server or device prints."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

#: Half of a character pair: a byte of a file's name that is no UTF-8, which no output takes.
_HALVES = re.compile("[\ud800-\udfff]")


def as_json(value: object, indent: int | None = 1) -> str:
    """An answer's JSON; a number that is not finite is null, as JSON has no word for it.

    Parameters
    ----------
    value : object
        Dataclasses, mappings, sequences, texts, numbers, times, None, in one another.
    indent : int, optional
        Spaces a level; all on one line where it is None.
    """
    text = json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return _HALVES.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def _plain(value: Any) -> Any:
    """A value in the types of JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else str(value)
