"""`holter data`: list, show, fetch, check and simulate data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows.cli.answer import Format, answer
from flows.cli.options import SOME_RECORDS_FAILED, Data, Dataset, Signal, number
from flows.reports.shown import say, show_table
from flows.services.progress import Progress, console
from storage.json_text import as_json

if TYPE_CHECKING:
    from flows.cli.answer import data_kinds
    from storage.datasets.dataset import DatasetSpec
    from storage.recordings.check import RecordCheck

app = typer.Typer(
    no_args_is_help=True, help="Data sets: add, list, show, fetch, check, watch, simulate."
)


@app.command("list")
def data_list(output: Format = "text") -> None:
    """Every data set that has a TOML: shipped ones, and your own."""
    from flows.cli.answer import data_kinds
    from storage.datasets.dataset import available_specs, load_spec

    specs = {name: (path, load_spec(str(path))) for name, path in available_specs().items()}
    value = data_kinds.DataSets(
        [
            data_kinds.DataSet(name, spec.title, spec.version, spec.licence, str(path))
            for name, (path, spec) in sorted(specs.items())
        ]
    )

    def show() -> None:
        rows = [(d.name, d.title, d.version, d.licence, d.toml) for d in value.data_sets]
        show_table(("name", "title", "version", "licence", "TOML"), rows)

    answer(value, output, show)


@app.command("show")
def data_show(dataset: Dataset, output: Format = "text") -> None:
    """One data set's TOML, as it is understood."""
    from storage.datasets.dataset import load_spec

    values = load_spec(dataset).model_dump(mode="json")
    answer(values, output, lambda: say(as_json(values)))


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
    output: Format = "text",
) -> None:
    """Download a data set from PhysioNet, every file checked; goes on where it was cut off."""
    from flows.cli.answer import data_kinds
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
    value = data_kinds.Download(
        data_set=spec.name,
        title=spec.title,
        licence=spec.licence,
        citation=spec.citation,
        folder=str(folder),
        files=len(files),
        kept_count=sum(file.state == "kept" for file in files),
        failed=[data_kinds.Remark(file.file, file.error or "") for file in failed],
    )

    def show() -> None:
        say(
            f"{value.title} ({value.licence}): {value.files} files in {folder} "
            f"({value.kept_count} kept from before, {len(failed)} failed)."
        )
        if not failed:
            say(f"Cite: {value.citation}")
            say(f"Use:  --data {folder}")

    for file in failed:
        console.print(f"[red]failed[/red]  {escape(file.error or '')}")
    answer(value, output, show)
    if failed:
        raise typer.Exit(SOME_RECORDS_FAILED)


#: Records up to which `holter data check` shows their table unasked.
MOST_ROWS = 20


@app.command("check")
def data_check(
    dataset: Dataset,
    data: Data = None,
    signal: Signal = None,
    table: Annotated[
        bool | None,
        typer.Option(
            "--table/--no-table",
            help=f"A row for each record. Default: where there are at most {MOST_ROWS}.",
            show_default=False,
        ),
    ] = None,
    output: Format = "text",
) -> None:
    """Look at every record: readable, whole, checksums, lead, annotations, rhythm hours."""
    from storage.datasets.dataset import data_folder, load_spec

    spec = load_spec(dataset)
    read = spec.records.signal if signal is None else signal
    folder = data_folder(spec, data)
    value = check_of(spec, folder, check_records(spec, folder, signal=read))
    answer(value, output, lambda: show_check(value, table=table))
    if value.problems:
        raise typer.Exit(SOME_RECORDS_FAILED)


def check_records(spec: DatasetSpec, folder: Path, *, signal: bool) -> list[RecordCheck]:
    """Check every record, with progress."""
    from storage.datasets.dataset import record_names
    from storage.recordings.check import check_dataset

    with Progress(f"Checking {spec.name}", len(record_names(spec, folder))) as progress:
        return check_dataset(spec, folder, lambda check: progress.step(check.record), signal=signal)


def check_of(
    spec: DatasetSpec, folder: Path, checks: Sequence[RecordCheck]
) -> data_kinds.DataCheck:
    """What was found of a data set's records, and which are left out of it."""
    from flows.cli.answer import data_kinds
    from flows.cli.answer.contents import record_of
    from storage.datasets.dataset import absent_records, excluded_records

    return data_kinds.DataCheck(
        data_set=spec.name,
        folder=str(folder),
        records=[record_of(check) for check in checks],
        problems=sum(check.problem is not None for check in checks),
        checksums_fit=sum(check.checksums == "fit" for check in checks),
        left_out=[data_kinds.Remark(*item) for item in excluded_records(spec, folder).items()],
        absent=absent_records(spec, folder),
    )


def show_check(check: data_kinds.DataCheck, *, table: bool | None = None) -> None:
    """The answer, then each problem by its record's name, then what else is to be told."""
    count, bad = len(check.records), check.problems
    problems = f"{bad:,} with a problem" if bad < 2 else f"{bad:,} with problems"
    sums = f" Checksums of {check.checksums_fit:,} fit." if check.checksums_fit else ""
    say(f"{count:,} {'record' if count == 1 else 'records'}, {problems}.{sums}", "bold")
    for record in check.records:
        if record.problem is not None:
            say(f"problem   {record.problem}", "red")
    for record in check.records:
        for warning in record.warnings:
            say(f"warning   {record.record}: {warning}", "yellow")
    for remark in check.left_out:
        say(f"left out  {remark.name}: {remark.text}", "dim")
    if check.absent:
        say(f"note      {check.absent}", "yellow")
    readable = any(cell(record) for cell in FACTS for record in check.records)
    if (count <= MOST_ROWS and readable) if table is None else table:
        say()
        show_records(check.records)
    elif table is None and readable:
        say("--table shows a row for each record.", "dim")


#: What the table of checked records shows: the columns' names and cells.
COLUMNS: dict[str, Callable[[data_kinds.RecordState], str]] = {
    "record": lambda check: check.record,
    "subject": lambda check: check.subject if check.subject != check.record else "",
    "Hz": lambda check: f"{check.fs_hz:g}" if check.fs_hz else "",
    "hours": lambda check: _unless("0", _hours_text(check.hours)),
    "recorded": lambda check: _unless(_hours_text(check.hours), _hours_text(check.recorded_hours)),
    "lead": lambda check: check.lead or "",
    "beats": lambda check: str(check.beats) if check.beats else "",
    "uncovered": lambda check: _unless("0", _hours_text(check.uncovered_hours)),
    "hours of rhythm": lambda check: _rhythms(check.rhythm_hours),
    "labels by": lambda check: check.label_source,
}

#: The cells that tell more than a record's name.
FACTS = [cell for name, cell in COLUMNS.items() if name not in ("record", "subject")]


def show_records(records: Sequence[data_kinds.RecordState]) -> None:
    """A row for each record, of what differs; what all have in common stands above once."""
    cells = {name: [cell(record) for record in records] for name, cell in COLUMNS.items()}
    telling = {name: texts for name, texts in cells.items() if any(texts)}
    common = [name for name, texts in telling.items() if len(records) > 1 and len({*texts}) == 1]
    if common:
        say("All: " + "; ".join(f"{name} {telling.pop(name)[0]}" for name in common))
    styles = ["red" if record.problem else "" for record in records]
    show_table([*telling], zip(*telling.values(), strict=True), styles=styles)


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
    output: Format = "text",
) -> None:
    """Write a simulated Holter data set as WFDB, with its TOML; it says that it is simulated."""
    from flows.cli.answer import data_kinds
    from flows.ingest.simulate import write_simulated
    from storage.files import check_writable

    folder = check_writable(out.absolute(), "folder")
    toml = write_simulated(folder, subjects, hours, seed)
    value = data_kinds.Simulation(str(folder), str(toml), subjects)
    answer(value, output, lambda: say(f"{subjects} simulated records and {toml}"))
