"""`holter train`, `retrain`, `run` and `data watch`: any network, on any number of data sets."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import JSON, Format, answer
from flows.cli.options import (
    LOCAL_DEVICE,
    Epochs,
    Model,
    Seed,
    exit_for,
    number,
    serving,
    tell_records,
    warn_of_records,
)
from flows.reports.shown import say, show_table
from storage.files import check_home
from storage.json_text import as_json

if TYPE_CHECKING:  # pydantic and NumPy are not for `holter --help`
    from flows.cli.answer import training_kinds
    from flows.train.flow import TrainingResult
    from flows.train.retrain import RetrainResult
    from flows.train.settings import RetrainSettings, TrainSettings, WatchSettings
    from flows.train.watch import WatchResult


#: The figures that a training ends with.
FIGURES = ("f1", "sensitivity", "specificity", "ppv", "accuracy", "auc", "f1_weighted")
#: How the names of a device's costs begin.
COSTS = ("latency", "throughput", "peak", "cold", "energy")


def train(settings: TrainSettings, output: Format = "text") -> None:
    """Train and register a network; beat tables that are unchanged are used as they are."""
    settings.read()
    with serving(settings.teacher):
        from flows.cli.answer.contents import training_of
        from flows.train.flow import train as flow

        result = flow(settings)
        value = training_of(result, _links(result))
    for ingested in result.ingested:
        warn_of_records(ingested)
    answer(value, output, lambda: _show_training(result, value))
    exit_for(result.ingested)


def _links(result: TrainingResult) -> dict[str, str]:
    """The pages of a training: its MLflow run, and the version that it registered."""
    from storage.registry import tracking

    run, version = tracking.run_page(result.run_id), tracking.model_page(result.version)
    return {"Run": run, "Version": version}


def retrain(settings: RetrainSettings, output: Format = "text") -> None:
    """Ingest data sets, train and register a network, and have a device evaluate it."""
    settings.training.read()
    with serving(settings.training.teacher):
        from flows.cli.answer.contents import training_of
        from flows.cli.answer.training_kinds import Retraining
        from flows.services.servers import local_agent
        from flows.train.retrain import retrain as flow

        with local_agent(settings.device, start=settings.device == LOCAL_DEVICE):
            result = flow(settings)
    training = training_of(result.trained, result.links)
    for ingested in result.trained.ingested:
        warn_of_records(ingested)
    value = Retraining(training, result.device_name, {**result.device.metrics})
    answer(value, output, lambda: _show_training(result.trained, training, result))
    exit_for(result.trained.ingested)


def run(
    epochs: Epochs = 4,
    seed: Seed = 0,
    model: Model = "resnet21",
    subjects: Annotated[int, number("subjects", "Simulated subjects.")] = 10,
    hours: Annotated[float, number("hours", "Hours of ECG of each.")] = 0.5,
    output: Format = "text",
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
    retrain(RetrainSettings(training=training), output)


def watch(
    settings: WatchSettings,
    every: Annotated[float, number("every_s", "Seconds between two looks.")] = 60.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    output: Format = "text",
) -> None:
    """Take new and changed records of a folder once they are whole; Ctrl-C ends it.

    With --format json each look is one line of JSON.
    """
    from flows.ingest.folders import resolve_folders

    resolve_folders(settings.training.datasets)
    if settings.retrain_after:
        settings.training.check_signals()
    with serving(settings.training.teacher):
        from flows.train.watch import watch as flow

        while True:
            result = flow(settings)
            if output == JSON:
                print(as_json(_look(result), indent=None), flush=True)
            else:
                _say(result)
            if once:
                exit_for(result.ingested)
                return
            time.sleep(every)


def _look(result: WatchResult) -> training_kinds.Look:
    """What one look did."""
    from flows.cli.answer.contents import ingest_of, training_of
    from flows.cli.answer.data_kinds import Remark
    from flows.cli.answer.training_kinds import Look

    return Look(
        ingests=[ingest_of(ingested) for ingested in result.ingested],
        tables=[outcome.record for outcome in result.outcomes if outcome.state == "built"],
        waiting=[Remark(name, reason) for name, reason in result.waiting.items()],
        training=training_of(result.trained, _links(result.trained)) if result.trained else None,
    )


def _say(result: WatchResult) -> None:
    for outcome in result.outcomes:
        texts = [outcome.error or "", *(outcome.entry.warnings if outcome.entry else [])]
        say(f"{outcome.record}  {outcome.state}  {'; '.join(filter(None, texts))}".rstrip())
    for name, reason in result.waiting.items():
        say(f"waiting  {name}: {reason}")
    if result.trained:
        version = result.trained.version
        say(f"Registered {version.name} version {version.version} (candidate).")
    if not (result.outcomes or result.waiting or result.trained):
        say("Nothing new.")


def _show_training(
    result: TrainingResult, value: training_kinds.Training, retraining: RetrainResult | None = None
) -> None:
    """What was made: the figures of server and device side by side, and where to look."""
    from flows.services.up_state import running
    from tasks.pages.numbers import label_of, text_of

    for ingest in value.ingests:
        tell_records(ingest)
    device = retraining.device.metrics if retraining else {}
    names = [*FIGURES, *(n for n in sorted(device) if n.startswith(COSTS))]
    columns = ["beat level, test side", "server"]
    rows = [[label_of(name), text_of(result.metrics.get(name), name)] for name in names]
    if retraining:
        columns.append(retraining.device_name)
        rows = [
            [label, figure if name in result.metrics else "", text_of(device.get(name), name)]
            for name, (label, figure) in zip(names, rows, strict=True)
        ]
    say()
    show_table(columns, rows, result.title)
    say()
    say(result.caveat)
    say(f"Model   {value.model} version {value.version} (@candidate)")
    for name, link in value.links.items():
        say(f"{name:<8}{link}")
    lineage, verify = value.commands
    say(f"Audit   {lineage}")
    say(f"        {verify}")
    if not (os.environ.get("MLFLOW_TRACKING_URI") or running()):
        say("Pages   `holter up` starts them")
