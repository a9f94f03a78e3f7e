"""Watch: new and changed records of a folder become beat tables, and where due a new model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from prefect import flow
from prefect.events import emit_event

from flows.ingest.failures import telling
from flows.ingest.flow import Ingested, Outcome, ingest
from flows.parameters import (
    AnyModel,
    Data,
    Dataset,
    Due,
    MostFailed,
    Policy,
    Quiet,
    Signal,
    UsualEpochs,
    named_after,
)
from flows.services.alive import WATCHED
from flows.train.beats import Trained
from flows.train.flow import train_network
from flows.train.kinds import fitting
from storage.bounds import MOST_FAILED
from storage.datasets.dataset import data_folder, load_spec
from storage.files import home, read_json, write_json
from storage.places import check_beats_place
from storage.recordings.arrivals import look, read_seen, write_seen
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


@flow(name="watch", flow_run_name=named_after("watch"), **WATCHED)
def watch(
    dataset: Dataset,
    data: Data = None,
    policy: Policy = "consensus",
    signal: Signal = None,
    quiet_s: Quiet = 60.0,
    retrain_after: Due = 0,
    model: AnyModel = "resnet21",
    epochs: UsualEpochs = None,
    most_failed: MostFailed = MOST_FAILED,
) -> Watched:
    """Look once at a folder: ingest what is new or changed there, and retrain where that is due.

    Parameters
    ----------
    dataset, data, policy, signal
        As `flows.ingest.flow.ingest`.
    quiet_s : float
        How long a record's files must not have changed, in seconds.
    retrain_after : int
        Train once so many records were taken since the last training; 0 never.
    model, epochs, most_failed
        As `flows.train.retrain.retrain`.
    """
    spec = load_spec(dataset)
    signal = spec.records.signal if signal is None else signal
    if retrain_after:
        fitting(model, signal=signal)
    tables = variant(spec.name, signal=signal, policy=policy)
    folder = data_folder(spec, data)
    check_beats_place()
    found = look(spec, folder, read_seen(tables), quiet_s, signal=signal)
    ingested: list[Ingested] = []
    if found.ready:
        resource = {"prefect.resource.id": f"holter.dataset.{spec.name}"}
        resource["prefect.resource.name"] = spec.title
        emit_event(ARRIVED, resource=resource, payload={"records": list(found.ready)})
        ingested = [ingest(dataset, folder, policy, signal, list(found.ready))]
    done = Watched(ingested, found.waiting, None)
    write_seen(tables, found.seen)  # after the ingest: one that was killed is done again
    counter = home() / "watch" / f"{tables}.count.json"
    taken = sum(outcome.state == "built" for outcome in done.outcomes)
    taken += int(read_json(counter)) if counter.is_file() else 0
    write_json(counter, taken)
    if not retrain_after or taken < retrain_after:
        return telling(done, ingested)
    resource = {"prefect.resource.id": f"holter.dataset.{spec.name}"}
    emit_event(DUE, resource=resource, payload={"records": taken, "model": model})
    trained = train_network(
        [dataset],
        [folder],
        model,
        epochs=epochs,
        policy=policy,
        signal=signal,
        most_failed=most_failed,
    )
    write_json(counter, 0)
    return telling(replace(done, trained=trained), trained.ingested)
