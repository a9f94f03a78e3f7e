"""What the commands share: option types, exit codes, and the servers they work with."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.reports.shown import say
from flows.services.progress import console
from storage.bounds import BOUNDS, all_within
from storage.files import check_home, check_writable, home
from storage.registry.reference import check_device, parse
from tasks.pages.document import ENDINGS, ENDINGS_TEXT
from tasks.signal import preprocessing

if TYPE_CHECKING:  # Prefect is not for `holter --help`
    from flows.cli.answer import data_kinds
    from flows.ingest.flow import IngestResult

#: Exit code of work that finished, but left out records that it names.
SOME_RECORDS_FAILED = 3
LOCAL_DEVICE = "this-machine"


def callback_of(check: Callable[[Any], object]) -> Callable[[Any], Any]:
    """The callback of an option whose value a check may refuse, before the command begins."""

    def callback(value: Any) -> Any:
        try:
            check(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        return value

    return callback


def number(name: str, description: str) -> Any:
    """The option of a number, or of several, in its bound."""
    callback = callback_of(lambda value: all_within(**{name: value}))
    return typer.Option(help=f"{description} ({BOUNDS[name].words})", callback=callback)


def _parse_references(value: Any) -> None:
    for reference in value if isinstance(value, list) else [value]:
        if reference is not None:
            parse(reference)


well_formed = callback_of(_parse_references)


Dataset = Annotated[str, typer.Argument(help="Name of a data set, or path of its TOML.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of its records; else the one that its TOML names."),
]
Model = Annotated[str, typer.Option(help="Network to train; a wrong name lists them all.")]
Epochs = Annotated[int, number("epochs", "Passes over the training beats.")]
Seed = Annotated[int, number("seed", "Seed of the split and of the training.")]
Policy = Annotated[
    preprocessing.Policy, typer.Option(help="Beats to keep where beats are annotated.")
]
Signal = Annotated[
    bool | None,
    typer.Option(
        "--signal/--no-signal",
        help="--no-signal reads annotations alone: no waveforms. Default: as the TOML says.",
    ),
]
Signals = Annotated[
    list[bool] | None,
    typer.Option(
        "--signal/--no-signal",
        help="Whole records: --no-signal reads annotations alone. Once for all data sets, or one "
        "of the two for each, in the same order. Default: as the TOMLs say.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        callback=callback_of(check_device),
        help=f"Device to evaluate on; {LOCAL_DEVICE} starts an agent here.",
    ),
]
Wait = Annotated[float, number("wait_s", "Seconds to wait for the device's report.")]


def version(description: str) -> Any:
    """The argument that names a registered version."""
    return typer.Argument(callback=well_formed, help=description)


def to_write(path: Path | None) -> Path | None:
    """For an option that names a file to write: its folder takes it, or the command ends here."""
    if path is not None:
        check_writable(path.absolute().parent, "folder")
    return path


def report_to_write(path: Path | None) -> Path | None:
    """The same for a report, whose file's ending says its form."""
    if path is not None and path.suffix not in ENDINGS:
        raise typer.BadParameter(f"{path}: found ending {path.suffix!r}; expected {ENDINGS_TEXT}")
    return to_write(path)


def folder_of(dataset: str, data: Path | None) -> Path:
    """The folder of a data set's records, given or of its TOML, once it is sure that it has any."""
    from storage.datasets.dataset import data_folder, load_spec, record_names

    spec = load_spec(dataset)
    folder = data_folder(spec, data)
    record_names(spec, folder)
    return folder


def exit_for(ingested: Iterable[IngestResult]) -> None:
    """Name the records of any data set that were left out, and end with the code that says so."""
    failed = [outcome for result in ingested for outcome in result.failed]
    for outcome in failed:
        console.print(f"[red]failed[/red]  {escape(outcome.error or '')}", soft_wrap=True)
    if failed:
        raise typer.Exit(SOME_RECORDS_FAILED)


def quiet() -> None:
    """No telemetry, and Prefect and TensorFlow quiet on the terminal.

    A log line that its handler could not deliver is not told of: what failed is, in one sentence.
    """
    from flows.services.servers import QUIET

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_HOME", str(home() / "prefect"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.raiseExceptions = bool(os.environ.get("HOLTER_DEBUG"))


@contextmanager
def serving(*versions: str | None) -> Iterator[None]:
    """The Prefect and MLflow servers to work with; Prefect is quiet on the terminal.

    The registered versions that the work needs are looked for first: before what is slow to load,
    and before any server starts where no registry has ever been.
    """
    from flows.services.servers import named_servers, running, servers
    from flows.services.up_state import answering

    check_home()
    quiet()
    references = [reference for reference in versions if reference is not None]
    look_up(references)
    if running() is None and len(named_servers()) < 2:
        console.print("Starting the local Prefect and MLflow servers ...")
    with servers() as running_servers, answering(running_servers.prefect_page):
        try:
            _resolve(references)
            yield
        finally:  # the last log lines reach Prefect before its server stops
            from prefect.logging.handlers import APILogHandler

            APILogHandler().flush()


def look_up(references: Sequence[str]) -> None:
    """Look for registered versions before any server starts, as far as that can be told.

    Raises
    ------
    ServerError
        No registry has ever been here.
    NotInRegistry
        The registry that answers, or the local database, has not the version.
    """
    from flows.services.servers import can_be_read, check_registry, readable_registry

    if not references:
        return
    check_registry()
    if can_be_read():
        with readable_registry():
            _resolve(references)


def _resolve(references: Sequence[str]) -> None:
    """Look for versions in the registry that is there; what is slow to load, for none, is not."""
    if references:
        from storage.audit.chain import resolve

        for reference in references:
            resolve(reference)


@contextmanager
def registry(*versions: str) -> Iterator[None]:
    """The MLflow server to read from, without Prefect: started and stopped where none is there.

    Versions that the work needs are looked for first, before what is slow to load.
    """
    from flows.services.servers import registry_server

    check_home()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    look_up(versions)
    with registry_server():
        _resolve(versions)
        yield


@contextmanager
def registry_to_read(*versions: str) -> Iterator[None]:
    """The same for a command that writes nothing: a local database needs no server."""
    from flows.services.servers import readable_registry

    check_home()
    with readable_registry():
        _resolve(versions)
        yield


def tell_records(ingest: data_kinds.Ingest) -> None:
    """What an ingest made: a line of totals."""
    say(
        f"{ingest.title}: {ingest.records} records, {ingest.hours:.1f} h, {ingest.beats:,} beats "
        f"({ingest.kept_count} kept from before, {len(ingest.failed)} failed). "
        f"Manifest: {ingest.manifest}"
    )
    if ingest.review:
        say(f"Labels reviewed: {ingest.review}.")


def warn_of_records(result: IngestResult) -> None:
    """Say what each record of an ingest warns of, and which are the same recording."""
    for entry in result.manifest.entries:
        for warning in entry.warnings:
            text = escape(f"{entry.record}: {warning}")
            console.print(f"[yellow]warning[/yellow]  {text}", soft_wrap=True)
    for record in result.withdrawn:
        text = escape(f"{record} is left out: its use was withdrawn")
        console.print(f"[yellow]withdrawn[/yellow]  {text}", soft_wrap=True)
    for record, names in result.manifest.duplicates.items():
        same = f"{record} is the same recording as {', '.join(names)}"
        console.print(f"[yellow]twice[/yellow]   {escape(same)}", soft_wrap=True)
