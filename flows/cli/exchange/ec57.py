"""`holter ec57`: a registered network tested by ANSI/AAMI EC57, in the standard's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.answer import Format, answer
from flows.cli.options import (
    Data,
    Signal,
    exit_for,
    folder_of,
    number,
    serving,
    version,
    warn_of_records,
)
from flows.reports.shown import say
from storage.files import check_writable, write_bytes


def ec57(
    model: Annotated[str, version("NAME@alias, NAME/version or NAME.")],
    on: Annotated[str, typer.Option(help="Data set, by name or TOML.")],
    data: Data = None,
    signal: Signal = None,
    least_beats: Annotated[
        int, number("least_beats", "Shorter runs of decisions become what surrounds them.")
    ] = 1,
    unseen: Annotated[
        bool, typer.Option("--unseen", help="Leave out the patients that it learnt from.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write the tables and the page to as well.")
    ] = None,
    output: Format = "text",
) -> None:
    """Test a network by EC57 and IEC 60601-2-47: beats and AF, by record, gross and average."""
    folder = folder_of(on, data)
    if out is not None:
        check_writable(out, "folder (--out)")
    with serving(model):
        from flows.cli.answer.contents import ingest_of
        from flows.cli.answer.training_kinds import Ec57, RecordLeftOut
        from flows.decide.ec57 import ec57 as flow
        from flows.reports.ec57 import gross, left_out_table
        from flows.reports.shown import deliver
        from storage.registry.tracking import run_page

        result = flow(
            model=model,
            dataset=on,
            data=folder,
            signal=signal,
            least_beats=least_beats,
            unseen=unseen,
        )
        links = {"Run": run_page(result.run_id)}
    warn_of_records(result.ingested)
    place = out or result.folder
    if out is not None:
        for name in result.files:
            write_bytes(out / name, (result.folder / name).read_bytes())
    value = Ec57(
        model=result.model,
        data_set=result.dataset,
        run_id=result.run_id,
        figures=dict(result.figures),
        left_out=[RecordLeftOut(**vars(row)) for row in result.left_out],
        notes=[*result.notes],
        files=[str(place / name) for name in result.files],
        links=links,
        ingest=ingest_of(result.ingested),
    )

    def show() -> None:
        figures = {name.removeprefix("ec57_"): share for name, share in result.figures.items()}
        blocks = [gross(figures), left_out_table(result.left_out)]
        deliver(f"{result.model} on {result.dataset} by EC57", blocks, None)
        for note in result.notes:
            say(f"Note    {note}")
        for file in value.files:
            say(f"File    {file}")
        for name, link in links.items():
            say(f"{name:<8}{link}")

    answer(value, output, show)
    exit_for([result.ingested])
