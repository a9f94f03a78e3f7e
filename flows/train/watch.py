"""Watch: new and changed records of a folder become beat tables, and where due a new model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from prefect import flow
from prefect.events import emit_event

from flows.ingest.failures import telling
from flows.ingest.flow import IngestResult, Outcome, ingest
from flows.parameters import form_field, named_after, settings_of_run
from flows.services.alive import WATCHED
from flows.train.flow import TrainingResult, train
from flows.train.settings import WatchSettings
from storage.datasets.dataset import data_folder, load_spec
from storage.files import home, read_json, write_json
from storage.places import check_beats_place
from storage.recordings.arrivals import look, read_states, write_states
from storage.tables.beats_manifest import variant

#: The events that automations may act on.
ARRIVAL, DUE = "holter.records.arrived", "holter.retraining.due"


@dataclass(frozen=True)
class WatchResult:
    """What one look did: records taken, those still arriving, and the training if one was due."""

    ingested: list[IngestResult]
    waiting: dict[str, str]
    trained: TrainingResult | None

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of each record taken."""
        return tuple(outcome for result in self.ingested for outcome in result.outcomes)


def _dataset() -> str:
    settings: WatchSettings = settings_of_run(WatchSettings)
    return settings.training.datasets[0].dataset


@flow(name="watch", flow_run_name=named_after("watch", _dataset), **WATCHED)
def watch(
    settings: Annotated[
        WatchSettings, form_field("The data set, and when and how a training is due.")
    ],
) -> WatchResult:
    """Look once at a folder: ingest what is new or changed there, and retrain where that is due."""
    (dataset,), policy = settings.training.datasets, settings.training.policy
    spec = load_spec(dataset.dataset)
    folder = data_folder(spec, dataset.data)
    signal = spec.records.signal if dataset.signal is None else dataset.signal
    dataset = dataset.model_copy(update={"data": folder, "signal": signal})
    training = settings.training.model_copy(update={"datasets": (dataset,)})
    if settings.retrain_after:
        training.check_signals()
    tables = variant(spec.name, signal=signal, policy=policy)
    check_beats_place()
    arrivals = look(spec, folder, read_states(tables), settings.quiet_s, signal=signal)
    ingested: list[IngestResult] = []
    if arrivals.ready:
        resource = {"prefect.resource.id": f"holter.dataset.{spec.name}"}
        resource["prefect.resource.name"] = spec.title
        emit_event(ARRIVAL, resource=resource, payload={"records": list(arrivals.ready)})
        ingested = [ingest(dataset.dataset, folder, policy, signal, list(arrivals.ready))]
    result = WatchResult(ingested, arrivals.waiting, None)
    write_states(tables, arrivals.states)  # after the ingest: one that was killed is done again
    counter = home() / "watch" / f"{tables}.count.json"
    count = sum(outcome.state == "built" for outcome in result.outcomes)
    count += int(read_json(counter)) if counter.is_file() else 0
    write_json(counter, count)
    if not settings.retrain_after or count < settings.retrain_after:
        return telling(result, ingested)
    resource = {"prefect.resource.id": f"holter.dataset.{spec.name}"}
    emit_event(DUE, resource=resource, payload={"records": count, "model": training.model})
    trained = train(training)
    write_json(counter, 0)
    return telling(replace(result, trained=trained), trained.ingested)
