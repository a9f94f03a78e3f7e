"""`holter data watch`: take the records of a folder as they arrive."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows.options import Data, Dataset, Model, Policy, Signal, UsualEpochs, serving
from flows.progress import console

if TYPE_CHECKING:
    from flows.watch import Watched


def data_watch(
    dataset: Dataset,
    data: Data = None,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    quiet: Annotated[
        float, typer.Option(min=0, help="Take a record that has not changed for so many seconds.")
    ] = 60.0,
    retrain_after: Annotated[
        int, typer.Option(min=0, help="Train once so many records have come; 0 never.")
    ] = 0,
    model: Model = "resnet21",
    epochs: UsualEpochs = None,
    policy: Policy = "consensus",
    signal: Signal = True,
) -> None:
    """Take new and changed records of a folder once they are whole; Ctrl-C ends it."""
    with serving():
        from flows.watch import watch

        while True:
            done = watch(
                dataset, data, policy, signal, quiet, retrain_after, model=model, epochs=epochs
            )
            _say(done)
            if once:
                return
            time.sleep(every)


def _say(done: Watched) -> None:
    for outcome in done.outcomes:
        told = [outcome.error or "", *(outcome.entry.warnings if outcome.entry else [])]
        console.print(escape(f"{outcome.record}  {outcome.state}  {'; '.join(filter(None, told))}"))
    for name, reason in done.waiting.items():
        console.print(f"[yellow]waiting[/yellow]  {escape(f'{name}: {reason}')}", soft_wrap=True)
    if done.trained:
        version = done.trained.version
        console.print(f"Registered {version.name} version {version.version} (candidate).")
    if not (done.outcomes or done.waiting or done.trained):
        console.print("Nothing new.")
