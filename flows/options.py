"""What the commands share: option types, exit codes, and the servers they work with."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.progress import console
from storage.errors import HolterError, ServerError
from storage.files import check_home, check_writable, home
from tasks import preprocessing

if TYPE_CHECKING:  # Prefect is not for `holter --help`
    from flows.ingest import Ingested

#: Exit code of work that finished, but left out records that it names.
SOME_RECORDS_FAILED = 3
LOCAL_DEVICE = "this-machine"

Dataset = Annotated[str, typer.Argument(help="Name of a data set, or path of its TOML.")]
Datasets = Annotated[list[str], typer.Argument(help="Data sets: names, or paths of TOMLs.")]
Folders = Annotated[
    list[Path] | None,
    typer.Option(
        "--data", help="Folder of each data set, in the same order; else those of the TOMLs."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of its records; else the one that its TOML names."),
]
Model = Annotated[str, typer.Option(help="Network to train; a wrong name lists them all.")]
Paradigm = Annotated[str, typer.Option(help="interpatient or intrapatient.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training beats.")]
Rate = Annotated[float, typer.Option(help="Adam's learning rate.")]
UsualEpochs = Annotated[
    int | None, typer.Option(min=1, help="Default: 100 for single beats, 20 for whole records.")
]
UsualRate = Annotated[
    float | None,
    typer.Option(help="Default: 1e-4 for single beats, 1.2e-2 for the rhythm, 6e-3 for fused."),
]
Seed = Annotated[int, typer.Option(help="Seed of the split and of the training.")]
Policy = Annotated[
    preprocessing.Policy, typer.Option(help="Beats to keep where beats are annotated.")
]
Weights = Annotated[
    list[float] | None, typer.Option(help="How often each data set is drawn, in the same order.")
]
Balance = Annotated[
    str, typer.Option(help="What is drawn evenly in training: beats, patient or class.")
]
Signal = Annotated[bool, typer.Option(help="Whole records: --no-signal reads annotations alone.")]
TeacherVersion = Annotated[
    str | None, typer.Option(help="Learn from its answers too: NAME@alias, NAME/version or NAME.")
]
TeacherWeight = Annotated[
    float, typer.Option(min=0.01, max=1, help="Share of the teacher in the loss.")
]
Temperature = Annotated[
    float, typer.Option(min=1, help="Softens the teacher's and the student's answers.")
]
Device = Annotated[
    str, typer.Option(help=f"Device to evaluate on; {LOCAL_DEVICE} starts an agent here.")
]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the device's report.")]


def to_write(path: Path | None) -> Path | None:
    """For an option that names a file to write: its folder takes it, or the command ends here."""
    if path is not None:
        check_writable(path.absolute().parent, "folder")
    return path


def folder_of(dataset: str, given: Path | None) -> Path:
    """The folder of a data set's records: the one given, else the one that its TOML names."""
    from storage.dataset import data_folder, load_spec

    return data_folder(load_spec(dataset), given)


def folders_of(datasets: list[str], given: list[Path] | None) -> list[Path]:
    """The folder of each data set; misuse where some are given, but not one for each."""
    if given and len(given) != len(datasets):
        raise ValueError(f"{len(datasets)} data sets need as many --data; found {len(given)}")
    folders: list[Path | None] = [*given] if given else [None] * len(datasets)
    return [folder_of(name, folder) for name, folder in zip(datasets, folders, strict=True)]


def exit_for(made: Iterable[Ingested]) -> None:
    """End with the code that says so where records of any data set were left out."""
    if any(one.failed for one in made):
        raise typer.Exit(SOME_RECORDS_FAILED)


def quiet() -> None:
    """No telemetry, and Prefect and TensorFlow quiet on the terminal.

    A log line that its handler could not deliver is not told of: what failed is, in one sentence.
    """
    from flows.servers import QUIET

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_HOME", str(home() / "prefect"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.raiseExceptions = bool(os.environ.get("HOLTER_DEBUG"))


@contextmanager
def serving() -> Iterator[None]:
    """The Prefect and MLflow servers to work with; Prefect is quiet on the terminal."""
    from flows.servers import named_servers, running, servers

    check_home()
    quiet()
    if running() is None and len(named_servers()) < 2:
        console.print("Starting the local Prefect and MLflow servers ...")
    with servers() as here, answering(here.prefect_page):
        try:
            yield
        finally:  # the last log lines reach Prefect before its server stops
            from prefect.logging.handlers import APILogHandler

            APILogHandler().flush()


@contextmanager
def answering(prefect: str) -> Iterator[None]:
    """A Prefect server that does not answer, or fails, becomes one sentence with its address.

    An answer is not quoted: in it the server repeats what it was sent, secrets too.
    """
    try:
        yield
    except HolterError:
        raise
    except Exception as error:
        import httpx  # Prefect's client; MLflow's is another

        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, httpx.HTTPError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        said = (str(cause) or type(cause).__name__).splitlines()[0]
        if isinstance(cause, httpx.HTTPStatusError):
            said = (
                f"{cause.response.status_code} to {cause.request.method} {cause.request.url.path}"
            )
        raise ServerError(
            f"Prefect at {prefect}: {said}; the same command again, when it answers, does the rest"
        ) from error


@contextmanager
def registry() -> Iterator[None]:
    """The MLflow server to read from, without Prefect: started and stopped where none is there."""
    from flows.servers import registry_server

    check_home()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with registry_server():
        yield
