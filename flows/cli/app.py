"""The `holter` command: thin words over the flows; every failure ends in one plain sentence."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from math import nan
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli import add as cli_add
from flows.cli import data as cli_data
from flows.cli import edge as cli_edge
from flows.cli import evaluate as cli_evaluate
from flows.cli import lineage as cli_lineage
from flows.cli import ops as cli_ops
from flows.cli import promote as cli_promote
from flows.cli import reproduce as cli_reproduce
from flows.cli import train as cli_train
from flows.cli import watch as cli_watch
from flows.cli.options import (
    LOCAL_DEVICE,
    Balance,
    Data,
    Dataset,
    Datasets,
    Device,
    Epochs,
    Folders,
    Model,
    MostFailed,
    Paradigm,
    Policy,
    Seed,
    Signal,
    Signals,
    TeacherVersion,
    TeacherWeight,
    Temperature,
    UsualEpochs,
    UsualRate,
    Wait,
    Weights,
    exit_for,
    folder_of,
    number,
    serving,
)
from flows.services.progress import console
from flows.train.kinds import fitting
from storage.addresses import without_credentials
from storage.bounds import MOST_FAILED
from storage.errors import HolterError
from storage.files import check_home
from storage.logs import as_json, log, to_stderr

if TYPE_CHECKING:
    from flows.ingest.flow import Ingested
    from flows.train.retrain import Retrained

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Atrial-fibrillation models on long-term ECG: records in, a measured device report out.",
    epilog="State lies in .holter (HOLTER_HOME). Exit code 3: done, but some records failed. "
    "HOLTER_LOG=json: log lines are JSON.",
)
app.add_typer(cli_data.app, name="data", rich_help_panel="Data sets and devices")
cli_data.app.command("add")(cli_add.data_add)
cli_data.app.command("watch")(cli_watch.data_watch)
app.add_typer(cli_edge.app, name="edge", rich_help_panel="Data sets and devices")


def show_version(show: bool) -> None:
    """Print the installed version, and end."""
    if show:
        typer.echo(f"holter {version('holter-af')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of a failure.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True),
    ] = False,
) -> None:
    """Set what holds for every command."""
    if os.environ.get("HOLTER_LOG"):
        to_stderr(logging.getLogger() if as_json() else log)
    if debug:
        os.environ["HOLTER_DEBUG"] = "1"


def run(
    epochs: Epochs = 4,
    seed: Seed = 0,
    model: Model = "resnet21",
    subjects: Annotated[int, number("subjects", "Simulated subjects.")] = 10,
    hours: Annotated[float, number("hours", "Hours of ECG of each.")] = 0.5,
) -> None:
    """The whole path on simulated recordings, from records to a device report in MLflow."""
    from flows.ingest.simulate import write_simulated

    fitting(model)
    toml = write_simulated(check_home() / "simulated", subjects, hours, seed)
    retrain(
        [str(toml)],
        data=[toml.parent],
        model=model,
        epochs=epochs,
        learning_rate=1e-3,
        seed=seed,
    )


def retrain(
    dataset: Datasets,
    data: Folders = None,
    model: Model = "resnet21",
    paradigm: Paradigm = "interpatient",
    epochs: UsualEpochs = None,
    learning_rate: UsualRate = None,
    seed: Seed = 0,
    policy: Policy = "consensus",
    weight: Weights = None,
    balance: Balance = "beats",
    signal: Signals = None,
    teacher: TeacherVersion = None,
    teacher_weight: TeacherWeight = 0.5,
    temperature: Temperature = 1.0,
    most_failed: MostFailed = MOST_FAILED,
    device: Device = LOCAL_DEVICE,
    wait_s: Wait = 600.0,
) -> None:
    """Ingest data sets, train and register a network, and have a device evaluate it."""
    fitting(model, paradigm=paradigm, weights=weight, balance=balance, signal=signal)
    from flows.ingest.folders import folders_of

    folders = folders_of(dataset, data, weight, signal)
    with serving(teacher):
        from flows.services.servers import local_agent
        from flows.train.retrain import retrain as flow

        with local_agent(device, start=device == LOCAL_DEVICE):
            done = flow(
                datasets=dataset,
                data=folders,
                model=model,
                paradigm=paradigm,
                epochs=epochs,
                learning_rate=learning_rate,
                seed=seed,
                policy=policy,
                weights=weight,
                balance=balance,
                signal=signal,
                teacher=teacher,
                teacher_weight=teacher_weight,
                temperature=temperature,
                most_failed=most_failed,
                device=device,
                wait_s=wait_s,
            )
        _summary(done)
    exit_for(done.trained.ingested)


def ingest(
    dataset: Dataset,
    data: Data = None,
    policy: Policy = "consensus",
    signal: Signal = None,
    record: Annotated[list[str] | None, typer.Option(help="Just this record; repeatable.")] = None,
) -> None:
    """Make the beat tables of a data set, one Parquet file a record."""
    from storage.datasets.dataset import chosen, load_spec, record_names

    folder = folder_of(dataset, data)
    if record:
        spec = load_spec(dataset)
        chosen(record_names(spec, folder), record, spec.name)
    with serving():
        from flows.ingest.flow import ingest as flow

        done = flow(dataset=dataset, data=folder, policy=policy, signal=signal, only=record)
    _report(done)
    exit_for([done])


def _report(done: Ingested) -> None:
    """A line of totals."""
    entries = done.manifest.entries
    hours = sum(entry.hours for entry in entries)
    beats = sum(entry.beats for entry in entries)
    kept = sum(outcome.state == "kept" for outcome in done.outcomes)
    console.print(
        f"{done.manifest.title}: {len(entries)} records, {hours:.1f} h, {beats:,} beats "
        f"({kept} kept from before, {len(done.failed)} failed). Manifest: {done.path}",
        markup=False,
    )
    for entry in entries:
        for warning in entry.warnings:
            told = escape(f"{entry.record}: {warning}")
            console.print(f"[yellow]warning[/yellow]  {told}", soft_wrap=True)
    for record, names in done.manifest.duplicates.items():
        same = f"{record} is the same recording as {', '.join(names)}"
        console.print(f"[yellow]twice[/yellow]   {escape(same)}", soft_wrap=True)


def _summary(done: Retrained) -> None:
    """What was made: server and device metrics side by side, and where to look."""
    trained, device = done.trained, done.device
    for made in trained.ingested:
        _report(made)
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
    console.print(f"Audit   holter lineage {trained.version.reference}, and holter verify")
    console.print("To look at them: `holter up` starts both pages again, on the same addresses.")


#: The commands as `holter --help` shows them.
PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Train and evaluate": (
        run,
        ingest,
        cli_train.train,
        retrain,
        cli_evaluate.evaluate,
        cli_reproduce.reproduce,
    ),
    "Audit and approve": (
        cli_lineage.lineage,
        cli_lineage.verify,
        cli_promote.card,
        cli_promote.compare,
        cli_promote.pareto,
        cli_promote.promote,
        cli_promote.rollback,
        cli_promote.rebuild,
        cli_promote.drift,
        cli_promote.sbom,
    ),
    "Servers": (
        cli_ops.up,
        cli_ops.down,
        cli_ops.status,
        cli_ops.env,
        cli_ops.notify,
        cli_ops.doctor,
    ),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)


def plainly(work: Callable[[], object]) -> int:
    """Run `work` and give its exit code; a failure of ours is one sentence, not a traceback."""
    try:
        work()
    except (HolterError, ValueError, OSError) as error:
        if os.environ.get("HOLTER_DEBUG"):
            raise
        message = without_credentials(str(error))
        if as_json():
            log.error(message)
        else:
            console.print(f"[bold red]error[/bold red]  {escape(message)}", soft_wrap=True)
        return 1 if isinstance(error, HolterError | OSError) else 2
    return 0


def main() -> None:
    """Entry point of the `holter` command; told to end, it first stops the servers it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(plainly(app))
