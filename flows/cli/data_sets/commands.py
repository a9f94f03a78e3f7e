"""`holter data`: list, show, fetch, check and simulate data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from flows.cli.options import SOME_RECORDS_FAILED, Data, Dataset, Signal, number
from flows.services.progress import Progress, console

if TYPE_CHECKING:
    from storage.datasets.dataset import DatasetSpec
    from storage.recordings.check import RecordCheck

app = typer.Typer(
    no_args_is_help=True, help="Data sets: add, list, show, fetch, check, watch, simulate."
)


@app.command("list")
def data_list() -> None:
    """Every data set that has a TOML: shipped ones, and your own."""
    from storage.datasets.dataset import available_specs, load_spec

    table = Table("name", "title", "version", "licence", "TOML")
    for name, path in sorted(available_specs().items()):
        spec = load_spec(str(path))
        table.add_row(name, spec.title, spec.version, spec.licence, str(path))
    console.print(table)


@app.command("show")
def data_show(dataset: Dataset) -> None:
    """One data set's TOML, as it is understood."""
    from storage.datasets.dataset import load_spec

    console.print_json(load_spec(dataset).model_dump_json())


@app.command("fetch")
def data_fetch(
    dataset: Dataset,
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder to fetch into; data/NAME where not given.")
    ] = None,
    records: Annotated[
        list[str] | None,
        typer.Option("--records", help="Just these records: names with commas; repeatable."),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            envvar="HOLTER_PHYSIONET", help="Another server: MIRROR/SLUG/VERSION/FILE is asked for."
        ),
    ] = None,
) -> None:
    """Download a data set from PhysioNet, every file checked; goes on where it was cut off."""
    from storage.datasets.dataset import load_spec
    from storage.files import check_writable
    from storage.recordings.download import fetch_dataset

    spec = load_spec(dataset)
    folder = check_writable((to or Path("data") / spec.name).absolute(), "folder to fetch into")
    names = [name for value in records for name in value.split(",") if name] if records else None
    with Progress(f"Fetching {spec.name}", 0) as progress:
        files = fetch_dataset(
            spec,
            folder,
            records=names,
            mirror=mirror,
            on_file=lambda download, total: progress.step(
                f"{download.file} {download.state}", total=total
            ),
        )
    failed = [file for file in files if file.state == "failed"]
    kept_count = sum(file.state == "kept" for file in files)
    console.print(
        f"{spec.title} ({spec.licence}): {len(files)} files in {folder} "
        f"({kept_count} kept from before, {len(failed)} failed).",
        markup=False,
    )
    for file in failed:
        console.print(f"[red]failed[/red]  {escape(file.error or '')}", soft_wrap=True)
    if failed:
        raise typer.Exit(SOME_RECORDS_FAILED)
    console.print(f"Cite: {spec.citation}\nUse:  --data {folder}", soft_wrap=True, markup=False)


@app.command("check")
def data_check(
    dataset: Dataset,
    data: Data = None,
    signal: Signal = None,
) -> None:
    """Look at every record: readable, whole, checksums, lead, annotations, rhythm hours."""
    from storage.datasets.dataset import data_folder, load_spec

    spec = load_spec(dataset)
    read = spec.records.signal if signal is None else signal
    if any(check.problem for check in check_records(spec, data_folder(spec, data), signal=read)):
        raise typer.Exit(SOME_RECORDS_FAILED)


def check_records(spec: DatasetSpec, folder: Path, *, signal: bool) -> list[RecordCheck]:
    """Check every record, with progress, and print the table of what was found."""
    from storage.datasets.dataset import absent_records, excluded_records, record_names
    from storage.recordings.check import check_dataset

    with Progress(f"Checking {spec.name}", len(record_names(spec, folder))) as progress:
        checks = check_dataset(
            spec, folder, lambda check: progress.step(check.record), signal=signal
        )
    console.print(table_of(checks))
    for check in checks:
        for warning in check.warnings:
            text = escape(f"{check.record}: {warning}")
            console.print(f"[yellow]warning[/yellow]  {text}", soft_wrap=True)
    for record, reason in excluded_records(spec, folder).items():
        console.print(f"[dim]left out[/dim]  {escape(f'{record}: {reason}')}", soft_wrap=True)
    if absent := absent_records(spec, folder):
        console.print(f"[yellow]note[/yellow]    {escape(absent)}", soft_wrap=True)
    bad = [check for check in checks if check.problem is not None]
    for check in bad:
        console.print(f"[red]problem[/red]  {escape(check.problem or '')}", soft_wrap=True)
    fit = sum(check.checksums == "fit" for check in checks)
    sums = f" Checksums of {fit} fit." if fit else ""
    console.print(f"{len(checks)} records, {len(bad)} with a problem.{sums}")
    return checks


def table_of(checks: Sequence[RecordCheck]) -> Table:
    """The table of checked records: a column stands there where it tells something of one."""
    columns: dict[str, Callable[[RecordCheck], str]] = {
        "record": lambda check: check.record,
        "subject": lambda check: check.subject if check.subject != check.record else "",
        "Hz": lambda check: f"{check.fs_hz:g}" if check.fs_hz else "",
        "hours": lambda check: _unless("0", _hours_text(check.hours)),
        "recorded": lambda check: _unless(
            _hours_text(check.hours), _hours_text(check.recorded_hours)
        ),
        "lead": lambda check: check.lead or "",
        "beats": lambda check: str(check.beats) if check.beats else "",
        "uncovered": lambda check: _unless("0", _hours_text(check.uncovered_hours)),
        "hours of rhythm": lambda check: _rhythms(check.rhythm_hours),
        "labels by": lambda check: check.label_source,
    }
    telling = {name: cell for name, cell in columns.items() if any(map(cell, checks))}
    table = Table(*telling, box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for check in checks:
        cells = [escape(cell(check)) for cell in telling.values()]
        table.add_row(*cells, style="red" if check.problem else None)
    return table


def _hours_text(hours: float) -> str:
    return f"{hours:.2f}" if hours >= 0.005 or not hours else "<0.01"


def _unless(usual: str, text: str) -> str:
    return "" if float(text.strip("<")) == float(usual.strip("<")) else text


def _rhythms(hours: Mapping[str, float]) -> str:
    return ", ".join(f"{name or '?'} {_hours_text(h)}" for name, h in hours.items())


@app.command("simulate")
def data_simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write the recordings into.")],
    subjects: Annotated[int, number("subjects", "Subjects, one record each.")] = 10,
    hours: Annotated[float, number("hours", "Hours of each record.")] = 0.5,
    seed: Annotated[int, number("seed", "Seed of everything drawn.")] = 0,
) -> None:
    """Write a simulated Holter data set as WFDB, with its TOML; it says that it is simulated."""
    from flows.ingest.simulate import write_simulated
    from storage.files import check_writable

    toml = write_simulated(check_writable(out.absolute(), "folder"), subjects, hours, seed)
    console.print(f"{subjects} simulated records and {toml}", markup=False)
