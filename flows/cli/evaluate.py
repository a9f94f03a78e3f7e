"""`holter evaluate`: a registered network on whole data sets, in figures and in one HTML report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Policy, Signals, exit_for, number, serving, version
from flows.services.progress import console


def evaluate(
    model: Annotated[str, version("NAME@alias, NAME/version or NAME.")],
    on: Annotated[list[str], typer.Option(help="Data set, by name or TOML; repeatable.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of each data set, in the same order; else those of the TOMLs."),
    ] = None,
    policy: Policy = "consensus",
    signal: Signals = None,
    least_beats: Annotated[
        int, number("least_beats", "Shorter runs of decisions become what surrounds them.")
    ] = 1,
    unseen: Annotated[
        bool, typer.Option("--unseen", help="Leave out the patients that it learnt from.")
    ] = False,
) -> None:
    """Score a network by beat, segment, episode and burden; the report opens offline."""
    from flows.ingest.folders import data_sets, resolve_folders

    resolve_folders(data_sets(on, data=data, signal=signal))
    with serving(model):
        from flows.decide.evaluate import evaluate as flow
        from flows.reports.evaluation import wide
        from flows.reports.shown import deliver

        result = flow(
            model=model,
            datasets=on,
            data=data,
            policy=policy,
            signal=signal,
            least_beats=least_beats,
            unseen=unseen,
        )
    deliver(model, [wide(result.figures)], None)
    console.print(f"Report  {result.report}", soft_wrap=True)
    exit_for(result.ingested)
