"""`holter reproduce`: the reference method's experiment, beside what was published."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import exit_for, folder_of, serving
from flows.services.progress import console

if TYPE_CHECKING:
    from flows.train.settings import ReproduceSettings


def reproduce(
    settings: ReproduceSettings,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Data set; repeatable. None: afdb, else mitdb and cpsc2021."),
    ] = None,
    data: Annotated[
        Path, typer.Option(help="Folder with a folder of each data set, or with its records.")
    ] = Path("data"),
) -> None:
    """Train the three networks in both paradigms; killed, it goes on where it was."""
    from flows.ingest.folders import folder_in, reproduced_on

    for name in dataset or reproduced_on(data):
        folder_of(name, folder_in(data, name))
    ingested = []
    with serving():
        from flows.train.reproduce import reproduce as flow
        from storage.registry.tracking import run_page

        command = " ".join(["holter", *sys.argv[1:]])
        for result in flow(dataset or [], data.absolute(), settings, command):
            console.print(f"{result.dataset}: {result.folder / 'report.html'}", soft_wrap=True)
            console.print(f"MLflow  {run_page(result.run_id)}", soft_wrap=True)
            ingested.append(result.ingested)
    exit_for(ingested)
