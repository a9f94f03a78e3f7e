"""`holter reproduce`: the reference method's experiment, beside what was published."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import Format, answer
from flows.cli.options import exit_for, folder_of, serving, warn_of_records
from flows.reports.shown import say

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
    output: Format = "text",
) -> None:
    """Train the three networks in both paradigms; killed, it goes on where it was."""
    from flows.ingest.folders import folder_in, reproduced_on

    for name in dataset or reproduced_on(data):
        folder_of(name, folder_in(data, name))
    ingested, reproductions = [], []
    with serving():
        from flows.cli.answer.contents import ingest_of
        from flows.cli.answer.training_kinds import Reproduction, Reproductions
        from flows.train.reproduce import reproduce as flow
        from storage.registry.tracking import run_page

        command = " ".join(["holter", *sys.argv[1:]])
        for result in flow(dataset or [], data.absolute(), settings, command):
            ingested.append(result.ingested)
            reproductions.append(
                Reproduction(
                    data_set=result.dataset,
                    report=str(result.folder / "report.html"),
                    run_id=result.run_id,
                    run=run_page(result.run_id),
                    ingest=ingest_of(result.ingested),
                )
            )

    def show() -> None:
        for reproduction in reproductions:
            say(f"{reproduction.data_set}: {reproduction.report}")
            say(f"MLflow  {reproduction.run}")

    for ingest in ingested:
        warn_of_records(ingest)
    answer(Reproductions(reproductions), output, show)
    exit_for(ingested)
