"""The `holter` command: thin words over the flows; every failure ends in one plain sentence."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.markup import escape

from flows.cli import analyse as cli_analyse
from flows.cli import edge as cli_edge
from flows.cli import labels as cli_labels
from flows.cli import lineage as cli_lineage
from flows.cli import ops as cli_ops
from flows.cli import promote as cli_promote
from flows.cli import review as cli_review
from flows.cli import upkeep as cli_upkeep
from flows.cli.answer import Format, answer
from flows.cli.data_sets import add as cli_add
from flows.cli.data_sets import commands as cli_data
from flows.cli.data_sets import remove as cli_remove
from flows.cli.exchange import descriptions as cli_descriptions
from flows.cli.exchange import ec57 as cli_ec57
from flows.cli.exchange import forget as cli_forget
from flows.cli.exchange import pccp as cli_pccp
from flows.cli.exchange import signing as cli_signing
from flows.cli.from_settings import enter
from flows.cli.options import (
    Data,
    Dataset,
    Policy,
    Signal,
    exit_for,
    folder_of,
    serving,
    tell_records,
    warn_of_records,
)
from flows.cli.training import cross_validate as cli_cross_validate
from flows.cli.training import evaluate as cli_evaluate
from flows.cli.training import reproduce as cli_reproduce
from flows.cli.training import train as cli_train
from flows.services.progress import console
from storage.addresses import without_credentials
from storage.errors import HolterError
from storage.logs import as_json, log, to_stderr

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Atrial-fibrillation models on long-term ECG: records in, a measured device report out.",
    epilog="State lies in .holter (HOLTER_HOME). Exit code 3: done, but some records failed. "
    "HOLTER_LOG=json: log lines are JSON.",
)
app.add_typer(cli_data.app, name="data", rich_help_panel="Data sets and devices")
enter(cli_data.app, cli_add.add)
enter(cli_data.app, cli_train.watch)
enter(cli_data.app, cli_remove.remove)
enter(cli_data.app, cli_descriptions.croissant)
enter(cli_data.app, cli_descriptions.datasheet)
app.add_typer(cli_edge.app, name="edge", rich_help_panel="Data sets and devices")


app.add_typer(cli_signing.app, name="exchange", rich_help_panel="Audit and approve")


def show_version(show: bool) -> None:
    """Print the installed version, and end."""
    if show:
        from importlib.metadata import version  # quicker for every other command

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


def ingest(
    dataset: Dataset,
    data: Data = None,
    policy: Policy = "consensus",
    signal: Signal = None,
    record: Annotated[list[str] | None, typer.Option(help="Just this record; repeatable.")] = None,
    output: Format = "text",
) -> None:
    """Make the beat tables of a data set, one Parquet file a record."""
    from storage.datasets.dataset import load_spec, record_names, select_records

    folder = folder_of(dataset, data)
    if record:
        spec = load_spec(dataset)
        select_records(record_names(spec, folder), record, spec.name)
    with serving():
        from flows.ingest.flow import ingest as flow

        result = flow(dataset=dataset, data=folder, policy=policy, signal=signal, record=record)
    from flows.cli.answer.contents import ingest_of

    warn_of_records(result)
    value = ingest_of(result)
    answer(value, output, lambda: tell_records(value))
    exit_for([result])


#: The commands as `holter --help` shows them.
PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "An answer": (cli_analyse.analyse, cli_review.review),
    "Train and evaluate": (
        cli_train.run,
        ingest,
        cli_train.train,
        cli_train.retrain,
        cli_evaluate.evaluate,
        cli_ec57.ec57,
        cli_cross_validate.cross_validate,
        cli_reproduce.reproduce,
    ),
    "Data sets and devices": (cli_labels.labels,),
    "Audit and approve": (
        cli_lineage.lineage,
        cli_lineage.verify,
        cli_promote.card,
        cli_promote.compare,
        cli_promote.pareto,
        cli_promote.promote,
        cli_promote.rollback,
        cli_pccp.pccp,
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
    "Upkeep": (
        cli_upkeep.backup,
        cli_upkeep.restore,
        cli_upkeep.gc,
        cli_forget.forget,
    ),
}
for panel, commands in PANELS.items():
    for command in commands:
        enter(app, command, panel)


def plainly(work: Callable[[], object]) -> int:
    """Run `work` and give its exit code; a failure of ours is one sentence, not a traceback."""
    try:
        work()
        sys.stdout.flush()
    except BrokenPipeError:  # who read the answer wants no more of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
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
