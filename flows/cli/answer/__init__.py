"""A command's answer: text for people, or the same content as JSON, on standard output.

Progress, warnings and errors go to standard error: `flows.services.progress.console`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, get_args

import typer

from storage.json_text import as_json

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
        The content: one of the kinds of `flows.cli.answer`, or a list of them.
    form : {"text", "json"}
        What `--format` says.
    show : callable
        Writes the same for people, by `flows.reports.shown`.
    """
    if form == JSON:
        print(as_json(value), flush=True)
    else:
        show()
