"""`holter train`, `retrain`, `run` and `data watch`: any network, on any number of data sets."""

from __future__ import annotations

import time
from math import nan
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli.options import (
    LOCAL_DEVICE,
    Epochs,
    Model,
    Seed,
    exit_for,
    number,
    serving,
    tell_records,
)
from flows.services.progress import console
from storage.files import check_home

if TYPE_CHECKING:  # pydantic and NumPy are not for `holter --help`
    from flows.train.retrain import Retrained
    from flows.train.settings import RetrainSettings, TrainSettings, WatchSettings
    from flows.train.watch import Watched


def train(settings: TrainSettings) -> None:
    """Train and register a network; beat tables that are unchanged are used as they are."""
    settings.read()
    with serving(settings.teacher):
        from flows.train.flow import train as flow

        done = flow(settings)
    console.print(f"Registered {done.version.name} version {done.version.version} (candidate).")
    exit_for(done.ingested)


def retrain(settings: RetrainSettings) -> None:
    """Ingest data sets, train and register a network, and have a device evaluate it."""
    settings.training.read()
    with serving(settings.training.teacher):
        from flows.services.servers import local_agent
        from flows.train.retrain import retrain as flow

        with local_agent(settings.device, start=settings.device == LOCAL_DEVICE):
            done = flow(settings)
        _summary(done)
    exit_for(done.trained.ingested)


def run(
    epochs: Epochs = 4,
    seed: Seed = 0,
    model: Model = "resnet21",
    subjects: Annotated[int, number("subjects", "Simulated subjects.")] = 10,
    hours: Annotated[float, number("hours", "Hours of ECG of each.")] = 0.5,
) -> None:
    """The whole path on simulated recordings, from records to a device report in MLflow."""
    from flows.ingest.folders import data_sets
    from flows.ingest.simulate import write_simulated
    from flows.train.settings import RetrainSettings, train_settings

    folder = check_home() / "simulated"
    training = train_settings(
        datasets=data_sets([str(folder / "dataset.toml")], data=[folder]),
        model=model,
        epochs=epochs,
        learning_rate=1e-3,
        seed=seed,
    )
    write_simulated(folder, subjects, hours, seed)
    retrain(RetrainSettings(training=training))


def watch(
    settings: WatchSettings,
    every: Annotated[float, number("every_s", "Seconds between two looks.")] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
) -> None:
    """Take new and changed records of a folder once they are whole; Ctrl-C ends it."""
    from flows.ingest.folders import resolved

    resolved(settings.training.datasets)
    if settings.retrain_after:
        settings.training.check_signals()
    with serving(settings.training.teacher):
        from flows.train.watch import watch as flow

        while True:
            done = flow(settings)
            _say(done)
            if once:
                exit_for(done.ingested)
                return
            time.sleep(every)


def _say(done: Watched) -> None:
    for outcome in done.outcomes:
        told = [outcome.error or "", *(outcome.entry.warnings if outcome.entry else [])]
        console.print(escape(f"{outcome.record}  {outcome.state}  {'; '.join(filter(None, told))}"))
    for name, reason in done.waiting.items():
        console.print(f"[yellow]waiting[/yellow]  {escape(f'{name}: {reason}')}", soft_wrap=True)
    if done.trained:
        version = done.trained.version
        console.print(f"Registered {version.name} version {version.version} (candidate).")
    if not (done.outcomes or done.waiting or done.trained):
        console.print("Nothing new.")


def _summary(done: Retrained) -> None:
    """What was made: server and device metrics side by side, and where to look."""
    trained, device = done.trained, done.device
    for made in trained.ingested:
        tell_records(made)
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
