"""`holter cross-validate`: figures of patients that a network never saw, fold by fold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import Format, answer
from flows.cli.options import exit_for, serving, warn_of_records
from flows.cli.training.evaluate import html_to_write
from flows.reports.shown import say
from storage.files import write_bytes

if TYPE_CHECKING:  # pydantic and NumPy are not for `holter --help`
    from flows.decide.fold_settings import CrossValidationSettings


def cross_validate(
    settings: CrossValidationSettings,
    out: Annotated[
        Path | None,
        typer.Option(callback=html_to_write, help="Write the report to this .html file too."),
    ] = None,
    output: Format = "text",
) -> None:
    """Score a network on patients left out of its training; killed, it goes on where it was.

    Every patient of the data sets of --on is answered once for each seed, by a network that learnt
    from all the others and from the data sets of --beside. Nothing is registered.
    """
    settings.read()
    with serving():
        from flows.cli.answer.contents import cross_validation_of
        from flows.decide.cross_validate import cross_validate as flow
        from flows.reports.cross_validation import figures_table
        from flows.reports.shown import deliver
        from storage.registry.tracking import run_page

        result = flow(settings)
        links = {"Run": run_page(result.run_id)}
    for ingested in result.ingested:
        warn_of_records(ingested)
    if out:
        write_bytes(out, result.report.read_bytes())
    value = cross_validation_of(result, str(out or result.report), links)

    def show() -> None:
        for dataset, by_seed in result.figures.items():
            deliver(
                f"{result.network} on {dataset}",
                [figures_table(by_seed, result.means[dataset])],
                None,
            )
            say()
        say(f"Report  {value.report}")
        for name, link in links.items():
            say(f"{name:<8}{link}")

    answer(value, output, show)
    exit_for(result.ingested)
