"""The `holter` command: thin words over the flows; every failure ends in one plain sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.progress import Progress, console
from storage.errors import HolterError
from storage.files import home
from tasks import preprocessing

if TYPE_CHECKING:
    from flows.ingest import Ingested
    from flows.retrain import Retrained

#: Exit code of work that finished, but left out records that it names.
SOME_RECORDS_FAILED = 3
LOCAL_DEVICE = "this-machine"

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Atrial-fibrillation models on long-term ECG: records in, a measured device report out.",
    epilog="State lies in .holter (HOLTER_HOME). Exit code 3: done, but some records failed.",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: list, show, check, simulate.")
edge_app = typer.Typer(no_args_is_help=True, help="Devices: ask for an evaluation, see its state.")
app.add_typer(data_app, name="data")
app.add_typer(edge_app, name="edge")

Dataset = Annotated[str, typer.Argument(help="Name of a data set, or path of its TOML.")]
Data = Annotated[Path, typer.Option("--data", help="Folder that holds its records.")]
Model = Annotated[str, typer.Option(help="Network to train: resnet15, resnet21, resnet25.")]
Paradigm = Annotated[str, typer.Option(help="interpatient or intrapatient.")]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training beats.")]
Rate = Annotated[float, typer.Option(help="Adam's learning rate.")]
Seed = Annotated[int, typer.Option(help="Seed of the split and of the training.")]
Policy = Annotated[
    preprocessing.Policy, typer.Option(help="Beats to keep where beats are annotated.")
]
Device = Annotated[
    str, typer.Option(help=f"Device to evaluate on; {LOCAL_DEVICE} starts an agent here.")
]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the device's report.")]


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of a failure.")
    ] = False,
) -> None:
    """Set what holds for every command."""
    if debug:
        os.environ["HOLTER_DEBUG"] = "1"


@contextmanager
def _servers() -> Iterator[None]:
    """The Prefect and MLflow servers to work with; Prefect is quiet on the terminal."""
    from flows.servers import QUIET, running, servers

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_HOME", str(home() / "prefect"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if running() is None:
        console.print("Starting the local Prefect and MLflow servers ...")
    with servers():
        yield


@app.command()
def run(
    epochs: Epochs = 4,
    seed: Seed = 0,
    model: Model = "resnet21",
    subjects: Annotated[int, typer.Option(help="Simulated subjects.")] = 10,
    hours: Annotated[float, typer.Option(help="Hours of ECG of each.")] = 0.5,
) -> None:
    """The whole path on simulated recordings, from records to a device report in MLflow."""
    from flows.simulate import write_simulated

    toml = write_simulated(home() / "simulated", subjects, hours, seed)
    retrain(
        str(toml),
        data=toml.parent,
        model=model,
        epochs=epochs,
        learning_rate=1e-3,
        seed=seed,
    )


@app.command()
def retrain(
    dataset: Dataset,
    data: Data,
    model: Model = "resnet21",
    paradigm: Paradigm = "interpatient",
    epochs: Epochs = 100,
    learning_rate: Rate = 1e-4,
    seed: Seed = 0,
    policy: Policy = "consensus",
    device: Device = LOCAL_DEVICE,
    wait_s: Wait = 600.0,
) -> None:
    """Ingest a data set, train and register a network, and have a device evaluate it."""
    with _servers():
        from flows.retrain import retrain as flow
        from flows.servers import local_agent

        with local_agent(device, start=device == LOCAL_DEVICE):
            done = flow(
                dataset=dataset,
                data=data,
                model=model,
                paradigm=paradigm,
                epochs=epochs,
                learning_rate=learning_rate,
                seed=seed,
                policy=policy,
                device=device,
                wait_s=wait_s,
            )
        _summary(done)
    _exit_for(done.trained.ingested)


@app.command()
def ingest(
    dataset: Dataset,
    data: Data,
    policy: Policy = "consensus",
    signal: Annotated[
        bool, typer.Option(help="--no-signal reads annotations alone: null waveforms.")
    ] = True,
    record: Annotated[list[str] | None, typer.Option(help="Just this record; repeatable.")] = None,
) -> None:
    """Make the beat tables of a data set, one Parquet file a record."""
    with _servers():
        from flows.ingest import ingest as flow

        done = flow(dataset=dataset, data=data, policy=policy, signal=signal, only=record)
    _report(done)
    _exit_for(done)


@app.command()
def train(
    dataset: Dataset,
    data: Data,
    model: Model = "resnet21",
    paradigm: Paradigm = "interpatient",
    epochs: Epochs = 100,
    learning_rate: Rate = 1e-4,
    seed: Seed = 0,
    policy: Policy = "consensus",
) -> None:
    """Train and register a network; beat tables that are unchanged are used as they are."""
    with _servers():
        from flows.train import train as flow

        done = flow(
            dataset=dataset,
            data=data,
            model=model,
            paradigm=paradigm,
            epochs=epochs,
            learning_rate=learning_rate,
            seed=seed,
            policy=policy,
        )
    console.print(f"Registered {done.version.name} version {done.version.version} (candidate).")
    _exit_for(done.ingested)


@app.command()
def up() -> None:
    """Start the Prefect and MLflow servers on loopback and keep them until Ctrl-C."""
    import signal
    import threading

    from flows.servers import announced, running, servers

    if there := running():
        console.print(f"Already up.\n  Prefect  {there.prefect_page}\n  MLflow   {there.mlflow}")
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    console.print("Starting ...")
    with servers() as here, announced(here):
        console.print(f"  Prefect  {here.prefect_page}\n  MLflow   {here.mlflow}")
        console.print("Ctrl-C stops both.")
        stop.wait()
        console.print("Stopping ...")


@data_app.command("list")
def data_list() -> None:
    """Every data set that has a TOML: shipped ones, and those of HOLTER_DATASETS."""
    from storage.dataset import available_specs, load_spec

    table = Table("name", "title", "version", "licence", "TOML")
    for name, path in sorted(available_specs().items()):
        spec = load_spec(str(path))
        table.add_row(name, spec.title, spec.version, spec.licence, str(path))
    console.print(table)


@data_app.command("show")
def data_show(dataset: Dataset) -> None:
    """One data set's TOML, as it is understood."""
    from storage.dataset import load_spec

    console.print_json(load_spec(dataset).model_dump_json())


@data_app.command("check")
def data_check(
    dataset: Dataset,
    data: Data,
    signal: Annotated[
        bool, typer.Option(help="--no-signal checks headers and annotations alone.")
    ] = True,
) -> None:
    """Look at every record: readable, whole, checksums, lead, annotations, rhythm hours."""
    from storage.check import check_dataset
    from storage.dataset import load_spec, record_names

    spec = load_spec(dataset)
    folder = data.absolute()
    with Progress(f"Checking {spec.name}", len(record_names(spec, folder))) as progress:
        checks = check_dataset(
            spec, folder, lambda check: progress.step(check.record), signal=signal
        )
    table = Table(
        "record", "subject", "Hz", "hours", "lead", "beats", "rhythm hours", "sums", "problem"
    )
    for check in checks:
        rhythms = "  ".join(f"{name or '?'} {h:.2f}" for name, h in check.rhythm_hours.items())
        table.add_row(
            check.record,
            check.subject,
            f"{check.fs_hz:g}",
            f"{check.hours:.2f}",
            check.lead or "-",
            str(check.beats),
            rhythms,
            check.checksums,
            check.problem or "",
            style="red" if check.problem else None,
        )
    console.print(table)
    bad = sum(check.problem is not None for check in checks)
    console.print(f"{len(checks)} records, {bad} with a problem.")
    if bad:
        raise typer.Exit(SOME_RECORDS_FAILED)


@data_app.command("simulate")
def data_simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write the recordings into.")],
    subjects: Annotated[int, typer.Option(min=1, help="Subjects, one record each.")] = 10,
    hours: Annotated[float, typer.Option(min=0.01, help="Hours of each record.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of everything drawn.")] = 0,
) -> None:
    """Write a simulated Holter data set as WFDB, with its TOML; it says that it is simulated."""
    from flows.simulate import write_simulated

    toml = write_simulated(out.absolute(), subjects, hours, seed)
    console.print(f"{subjects} simulated records and {toml}")


@edge_app.command("request")
def edge_request(
    model: Annotated[str, typer.Argument(help="NAME@alias, NAME/version, or NAME.")],
    device: Device = LOCAL_DEVICE,
    wait_s: Wait = 600.0,
) -> None:
    """Ask a device to evaluate a registered model on its test set, and wait for the report."""
    with _servers():
        from flows.evaluate_device import evaluate_on_device
        from flows.servers import local_agent

        with local_agent(device, start=device == LOCAL_DEVICE):
            report = evaluate_on_device(model, device, wait_s)
    console.print_json(data=report.metrics)


@edge_app.command("status")
def edge_status(
    device: Annotated[str, typer.Option(help="Device to ask about.")] = LOCAL_DEVICE,
) -> None:
    """The evaluations asked of a device, newest first."""
    with _servers():
        from storage.tracking import device_requests

        table = Table("request", "model", "version", "state", "agent", "reason")
        for state in device_requests(device):
            table.add_row(
                state.request_id,
                state.model,
                str(state.version),
                state.status,
                state.agent or "",
                state.reason or "",
            )
        console.print(table)


def _report(done: Ingested) -> None:
    """A line of totals, and every record that failed with its reason."""
    entries = done.manifest.entries
    hours = sum(entry.hours for entry in entries)
    beats = sum(entry.beats for entry in entries)
    kept = sum(outcome.state == "kept" for outcome in done.outcomes)
    console.print(
        f"{done.manifest.title}: {len(entries)} records, {hours:.1f} h, {beats:,} beats "
        f"({kept} kept from before, {len(done.failed)} failed). Manifest: {done.path}"
    )
    for outcome in done.failed:
        console.print(f"[red]failed[/red]  {escape(outcome.error or '')}", soft_wrap=True)


def _summary(done: Retrained) -> None:
    """What was made: server and device metrics side by side, and where to look."""
    trained, device = done.trained, done.device
    _report(trained.ingested)
    names = ("f1", "sensitivity", "specificity", "ppv", "accuracy", "auc", "f1_weighted")
    table = Table(
        "beat level, test side",
        "server",
        done.device_name,
        title=f"{trained.title}",
        title_style="bold",
    )
    for name in names:
        table.add_row(name, f"{trained.metrics[name]:.4f}", f"{device.metrics.get(name, nan):.4f}")
    table.add_section()
    for name, value in sorted(device.metrics.items()):
        if name.startswith(("latency", "throughput", "peak", "cold")):
            table.add_row(name, "", f"{value:,.3f}")
    console.print(table)
    console.print(trained.caveat)
    console.print(f"Model   {trained.version.name} version {trained.version.version} (@candidate)")
    for name, link in done.links.items():
        console.print(f"{name:<8}{link}", soft_wrap=True)
    console.print("To look at them: `holter up` starts both pages again, on the same addresses.")


def _exit_for(done: Ingested) -> None:
    if done.failed:
        raise typer.Exit(SOME_RECORDS_FAILED)


def plainly(work: Callable[[], object]) -> int:
    """Run `work` and give its exit code; a failure of ours is one sentence, not a traceback."""
    try:
        work()
    except (HolterError, ValueError) as error:
        if os.environ.get("HOLTER_DEBUG"):
            raise
        console.print(f"[bold red]error[/bold red]  {escape(str(error))}", soft_wrap=True)
        return 1 if isinstance(error, HolterError) else 2
    return 0


def main() -> None:
    """Entry point of the `holter` command."""
    sys.exit(plainly(app))
