"""`holter evaluate`: a registered network on whole data sets, in figures and in one HTML report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.answer import Format, answer
from flows.cli.options import (
    Policy,
    Signals,
    exit_for,
    number,
    serving,
    to_write,
    version,
    warn_of_records,
)
from flows.reports.shown import say
from storage.files import write_bytes


def html_to_write(path: Path | None) -> Path | None:
    """For an option that names a page to write."""
    if path is not None and path.suffix != ".html":
        raise typer.BadParameter(f"{path}: found ending {path.suffix!r}; expected .html")
    return to_write(path)


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
    out: Annotated[
        Path | None,
        typer.Option(callback=html_to_write, help="Write the report to this .html file too."),
    ] = None,
    output: Format = "text",
) -> None:
    """Score a network by beat, segment, episode and burden; the report opens offline."""
    from flows.ingest.folders import data_sets, resolve_folders

    resolve_folders(data_sets(on, data=data, signal=signal))
    with serving(model):
        from flows.cli.answer.contents import ingest_of
        from flows.cli.answer.training_kinds import Evaluation
        from flows.decide.evaluate import evaluate as flow
        from flows.reports.evaluation import wide
        from flows.reports.shown import deliver
        from storage.registry.tracking import run_page

        result = flow(
            model=model,
            datasets=on,
            data=data,
            policy=policy,
            signal=signal,
            least_beats=least_beats,
            unseen=unseen,
        )
        links = {"Run": run_page(result.run_id)}
    for ingested in result.ingested:
        warn_of_records(ingested)
    if out:
        write_bytes(out, result.report.read_bytes())
    value = Evaluation(
        model=result.model,
        run_id=result.run_id,
        figures={dataset: {**figures} for dataset, figures in result.figures.items()},
        report=str(out or result.report),
        links=links,
        ingests=[ingest_of(ingested) for ingested in result.ingested],
    )

    def show() -> None:
        deliver(result.model, [wide(result.figures)], None)
        say(f"Report  {value.report}")
        for name, link in links.items():
            say(f"{name:<8}{link}")

    answer(value, output, show)
    exit_for(result.ingested)
