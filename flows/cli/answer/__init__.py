"""A command's answer: text for people, or the same content as JSON, on standard output.

Progress, warnings and errors go to standard error: `flows.services.progress.console`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

import typer

Form = Literal["text", "json"]
TEXT, JSON = get_args(Form)
Format = Annotated[
    Form, typer.Option("--format", help="text, or json: the same content, for a program.")
]


def answer(value: object, form: str, show: Callable[[], None]) -> None:
    """Give a command's answer in the form that was asked for.

    Parameters
    ----------
    value : object
        The content: one of the kinds of `flows.cli.answer.kinds`, or a list of them.
    form : {"text", "json"}
        What `--format` says.
    show : callable
        Writes the same for people, by `flows.reports.shown`.
    """
    if form == JSON:
        print(as_json(value))
    else:
        show()


def as_json(value: object, indent: int | None = 1) -> str:
    """An answer's JSON; a number that is not finite is null, as JSON has no word for it."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


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
