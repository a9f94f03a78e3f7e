"""`holter data watch`: take the records of a folder as they arrive."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows.cli.options import (
    Data,
    Dataset,
    Model,
    MostFailed,
    Policy,
    Signal,
    UsualEpochs,
    exit_for,
    folder_of,
    number,
    serving,
)
from flows.services.progress import console
from flows.train.kinds import fitting
from storage.bounds import MOST_FAILED

if TYPE_CHECKING:
    from flows.train.watch import Watched


def data_watch(
    dataset: Dataset,
    data: Data = None,
    every: Annotated[float, number("every_s", "Seconds between two looks.")] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    quiet: Annotated[
        float, number("quiet_s", "Take a record that has not changed for so many seconds.")
    ] = 60.0,
    retrain_after: Annotated[
        int, number("retrain_after", "Train once so many records have come; 0 never.")
    ] = 0,
    model: Model = "resnet21",
    epochs: UsualEpochs = None,
    policy: Policy = "consensus",
    signal: Signal = None,
    most_failed: MostFailed = MOST_FAILED,
) -> None:
    """Take new and changed records of a folder once they are whole; Ctrl-C ends it."""
    if retrain_after:
        fitting(model, signal=signal)
    folder = folder_of(dataset, data)
    with serving():
        from flows.train.watch import watch

        while True:
            done = watch(
                dataset,
                folder,
                policy,
                signal,
                quiet,
                retrain_after,
                model=model,
                epochs=epochs,
                most_failed=most_failed,
            )
            _say(done)
            if once:
                exit_for(done.ingested)
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
