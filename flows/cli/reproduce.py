"""`holter reproduce`: the reference method's experiment, beside what was published."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import (
    Epochs,
    Rate,
    Seed,
    exit_for,
    folder_of,
    number,
    serving,
)
from flows.services.progress import console


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
    folds: Annotated[int, number("folds", "Patient folds of a repeat.")] = 5,
    repeats: Annotated[
        int, number("repeats", "Repeats of the patient folds beside the single split.")
    ] = 0,
    most_beats: Annotated[
        int, number("most_beats", "At most this many training beats; 0: all.")
    ] = 0,
    workers: Annotated[int, number("workers", "Trainings at a time, one thread each.")] = 2,
) -> None:
    """Train the three networks in both paradigms; killed, it goes on where it was."""
    from flows.ingest.folders import folder_in, reproduced_on

    for name in dataset or reproduced_on(data):
        folder_of(name, folder_in(data, name))
    made = []
    with serving():
        from flows.train.reproduce import Settings
        from flows.train.reproduce import reproduce as flow
        from storage.registry.tracking import run_page

        settings = Settings(epochs, most_beats, learning_rate, seed, folds, repeats, workers)
        command = " ".join(["holter", *sys.argv[1:]])
        for done in flow(dataset or [], data.absolute(), settings, command):
            console.print(f"{done.dataset}: {done.folder / 'report.html'}", soft_wrap=True)
            console.print(f"MLflow  {run_page(done.run_id)}", soft_wrap=True)
            made.append(done.ingested)
    exit_for(made)
