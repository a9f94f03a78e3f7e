"""Watch: new and changed records of a folder become beat tables, and where due a new model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from prefect import flow
from prefect.events import emit_event

from flows.ingest.failures import telling
from flows.ingest.flow import Ingested, Outcome, ingest
from flows.parameters import named_after, settings_of_run, told
from flows.services.alive import WATCHED
from flows.train.flow import Trained, train
from flows.train.settings import WatchSettings
from storage.datasets.dataset import data_folder, load_spec
from storage.files import home, read_json, write_json
from storage.places import check_beats_place
from storage.recordings.arrivals import look, read_states, write_states
from storage.tables.beats_manifest import variant

#: The events that automations may act on.
ARRIVED, DUE = "holter.records.arrived", "holter.retraining.due"


@dataclass(frozen=True)
class Watched:
    """What one look did: records taken, those still arriving, and the training if one was due."""

    ingested: list[Ingested]
    waiting: dict[str, str]
    trained: Trained | None

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of each record taken."""
        return tuple(outcome for one in self.ingested for outcome in one.outcomes)


def _dataset() -> str:
    settings: WatchSettings = settings_of_run(WatchSettings)
    return settings.training.datasets[0].dataset


@flow(name="watch", flow_run_name=named_after("watch", _dataset), **WATCHED)
def watch(
    settings: Annotated[WatchSettings, told("The data set, and when and how a training is due.")],
) -> Watched:
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
    found = look(spec, folder, read_states(tables), settings.quiet_s, signal=signal)
    ingested: list[Ingested] = []
    if found.ready:
        resource = {"prefect.resource.id": f"holter.dataset.{spec.name}"}
        resource["prefect.resource.name"] = spec.title
        emit_event(ARRIVED, resource=resource, payload={"records": list(found.ready)})
        ingested = [ingest(dataset.dataset, folder, policy, signal, list(found.ready))]
    done = Watched(ingested, found.waiting, None)
    write_states(tables, found.states)  # after the ingest: one that was killed is done again
    counter = home() / "watch" / f"{tables}.count.json"
    taken = sum(outcome.state == "built" for outcome in done.outcomes)
    taken += int(read_json(counter)) if counter.is_file() else 0
    write_json(counter, taken)
    if not settings.retrain_after or taken < settings.retrain_after:
        return telling(done, ingested)
    resource = {"prefect.resource.id": f"holter.dataset.{spec.name}"}
    emit_event(DUE, resource=resource, payload={"records": taken, "model": training.model})
    trained = train(training)
    write_json(counter, 0)
    return telling(replace(done, trained=trained), trained.ingested)
