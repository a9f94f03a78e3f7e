"""`holter train`, `retrain`, `run` and `data watch`: any network, on any number of data sets."""

from __future__ import annotations

import time
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
    from flows.train.retrain import RetrainResult
    from flows.train.settings import RetrainSettings, TrainSettings, WatchSettings
    from flows.train.watch import WatchResult


def train(settings: TrainSettings) -> None:
    """Train and register a network; beat tables that are unchanged are used as they are."""
    settings.read()
    with serving(settings.teacher):
        from flows.train.flow import train as flow

        result = flow(settings)
    console.print(f"Registered {result.version.name} version {result.version.version} (candidate).")
    exit_for(result.ingested)


def retrain(settings: RetrainSettings) -> None:
    """Ingest data sets, train and register a network, and have a device evaluate it."""
    settings.training.read()
    with serving(settings.training.teacher):
        from flows.services.servers import local_agent
        from flows.train.retrain import retrain as flow

        with local_agent(settings.device, start=settings.device == LOCAL_DEVICE):
            result = flow(settings)
        _summary(result)
    exit_for(result.trained.ingested)


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
    from flows.ingest.folders import resolve_folders

    resolve_folders(settings.training.datasets)
    if settings.retrain_after:
        settings.training.check_signals()
    with serving(settings.training.teacher):
        from flows.train.watch import watch as flow

        while True:
            result = flow(settings)
            _say(result)
            if once:
                exit_for(result.ingested)
                return
            time.sleep(every)


def _say(result: WatchResult) -> None:
    for outcome in result.outcomes:
        texts = [outcome.error or "", *(outcome.entry.warnings if outcome.entry else [])]
        console.print(
            escape(f"{outcome.record}  {outcome.state}  {'; '.join(filter(None, texts))}")
        )
    for name, reason in result.waiting.items():
        console.print(f"[yellow]waiting[/yellow]  {escape(f'{name}: {reason}')}", soft_wrap=True)
    if result.trained:
        version = result.trained.version
        console.print(f"Registered {version.name} version {version.version} (candidate).")
    if not (result.outcomes or result.waiting or result.trained):
        console.print("Nothing new.")


def _summary(result: RetrainResult) -> None:
    """What was made: server and device metrics side by side, and where to look."""
    from tasks.pages.numbers import label_of, text_of

    trained, device = result.trained, result.device
    for ingest_result in trained.ingested:
        tell_records(ingest_result)
    names = ("f1", "sensitivity", "specificity", "ppv", "accuracy", "auc", "f1_weighted")
    table = Table(
        "beat level, test side",
        "server",
        result.device_name,
        title=f"{trained.title}",
        title_style="bold",
    )
    for name in names:
        values = (text_of(metrics.get(name), name) for metrics in (trained.metrics, device.metrics))
        table.add_row(label_of(name), *values)
    table.add_section()
    for name, value in sorted(device.metrics.items()):
        if name.startswith(("latency", "throughput", "peak", "cold")):
            table.add_row(label_of(name), "", text_of(value, name))
    console.print(table)
    console.print(trained.caveat)
    console.print(f"Model   {trained.version.name} version {trained.version.version} (@candidate)")
    for name, link in result.links.items():
        console.print(f"{name:<8}{link}", soft_wrap=True)
    console.print(f"Audit   holter lineage {trained.version.reference}, and holter verify")
    console.print("To look at them: `holter up` starts both pages again, on the same addresses.")
