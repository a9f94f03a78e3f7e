"""Commands of a version's way into use: compare, promote, roll back, and its card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.options import serving

Version = Annotated[str, typer.Argument(help="NAME@alias, NAME/version or NAME (its newest).")]
Out = Annotated[
    Path | None, typer.Option(help="Write it to this .md or .html file instead of printing it.")
]


def compare(
    before: Annotated[str, typer.Argument(help="The older: NAME@alias, NAME/version or NAME.")],
    after: Annotated[str, typer.Argument(help="The newer, in the same words.")],
    out: Out = None,
) -> None:
    """Two versions side by side: data, parameters, code, figures on shared patients, devices."""
    with serving():
        from flows.compare import compare as work
        from flows.shown import deliver
        from storage.versions import recorded

        done = work(recorded(before), recorded(after))
        deliver(done.title, done.blocks, out)
