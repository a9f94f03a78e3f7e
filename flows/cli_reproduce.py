"""`holter reproduce`: the reference method's experiment, beside what was published."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.options import Epochs, Rate, Seed, serving
from flows.progress import console


def reproduce(
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Data set; repeatable. None: afdb, else mitdb and cpsc2021."),
    ] = None,
    data: Annotated[
        Path, typer.Option(help="Folder with a folder of each data set, or with its records.")
    ] = Path("data"),
    epochs: Epochs = 100,
    learning_rate: Rate = 1e-4,
    seed: Seed = 0,
    folds: Annotated[int, typer.Option(min=2, help="Patient folds of a repeat.")] = 5,
    repeats: Annotated[
        int, typer.Option(min=0, help="Repeats of the patient folds beside the single split.")
    ] = 0,
    most_beats: Annotated[
        int, typer.Option(min=0, help="At most this many training beats; 0: all.")
    ] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Trainings at a time, one thread each.")] = 2,
) -> None:
    """Train the three networks in both paradigms; killed, it goes on where it was."""
    with serving():
        from flows.reproduce import Settings
        from flows.reproduce import reproduce as flow
        from storage.tracking import run_page

        settings = Settings(epochs, most_beats, learning_rate, seed, folds, repeats, workers)
        command = " ".join(["holter", *sys.argv[1:]])
        for done in flow(dataset or [], data.absolute(), settings, command):
            console.print(f"{done.dataset}: {done.folder / 'report.html'}", soft_wrap=True)
            console.print(f"MLflow  {run_page(done.run_id)}", soft_wrap=True)
