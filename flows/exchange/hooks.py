"""When events are sent: as a flow changes its state, as a decision is taken, as a death is found.

What a run tells names data sets, folders, counts and digests: no record, no patient, and of a
failure its kind alone, as its reason may name a record.
"""

from __future__ import annotations

import getpass
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from flows.exchange.account import Account, Kind, Moment, Run, account_of
from flows.exchange.emitter import emitter, is_on
from storage.errors import HolterError

#: Flows whose outputs are the inputs of the flow that runs them.
SOURCES = ("ingest",)
#: Parameters that are not told: they name records and patients.
PRIVATE = ("record", "patients", "analyses")
#: A parameter longer than this is cut.
MOST_CHARACTERS = 200
#: The event of a state, by the state's type.
EVENTS: dict[str, Kind] = {
    "RUNNING": "START",
    "COMPLETED": "COMPLETE",
    "FAILED": "FAIL",
    "CRASHED": "FAIL",
    "CANCELLING": "ABORT",
    "CANCELLED": "ABORT",
}


#: An account that is made by the emitter's thread: what goes wrong with it is a lost event.
Telling = Callable[[], Account]


@dataclass
class OpenRun:
    """A run that has begun: how it is told of, and accounts of what its parts made for it."""

    run: Run
    sources: list[Telling] = field(default_factory=list)


#: The runs of this process that have begun and not ended, by id.
_open: dict[str, OpenRun] = {}


def follow(flow: Any, flow_run: Any, state: Any) -> None:
    """A hook of Prefect for each state of a flow: sends the event of it; nothing where it is off.

    It never raises, and never waits for a receiver but for some seconds a process.
    """
    if not is_on():
        return
    run_id, kind = str(flow_run.id), EVENTS[state.type.value]
    if kind == "START":
        _start(flow, flow_run)
        return
    result = _result(state)
    if kind == "COMPLETE":
        _end(run_id, flow.name, kind, partial(account_of, result))
    else:
        _end(run_id, flow.name, kind, Account, _failure(result, state.name, run_id))


def _start(flow: Any, flow_run: Any) -> None:
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    parent = str(context.flow_run.id) if context and context.flow_run else ""
    parameters = _flat(flow_run.parameters)
    run = Run(
        run_id=str(flow_run.id),
        job=job_name(flow.name, parameters),
        description=(flow.description or "").split("\n\n")[0],
        owner=_owner(),
        parameters=_public(parameters),
        parent=_open[parent].run if parent in _open else None,
    )
    _open[run.run_id] = OpenRun(run)
    _send(run, Moment("START", datetime.now(timezone.utc)), Account)


def _owner() -> str:
    """The account that runs this; "" where the system has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _end(run_id: str, job: str, kind: Kind, telling: Telling, error: str = "") -> None:
    entry = _open.pop(run_id, None) or OpenRun(Run(run_id, job))
    parent = entry.run.parent
    if parent and parent.run_id in _open and job in SOURCES:
        _open[parent.run_id].sources.append(telling)

    def whole() -> Account:
        account = telling()
        outputs = [data for part in entry.sources for data in part().outputs]
        return account if account.inputs else replace(account, inputs=tuple(outputs))

    _send(entry.run, Moment(kind, datetime.now(timezone.utc), error), whole)
    if parent is None:
        emitter().settle()


def _send(run: Run, moment: Moment, telling: Telling) -> None:
    """Have the event made and sent by the emitter's thread."""

    def build() -> Any:
        from flows.exchange.wording import event

        return event(run, moment, telling())

    emitter().put(build)


def bury(run_id: str, flow: str, parameters: Mapping[str, Any]) -> None:
    """Tell of a run whose process is gone that it failed."""
    if is_on():
        job = job_name(flow, _flat(parameters))
        _end(run_id, job, "FAIL", Account, "the process that ran it is gone")


@contextmanager
def decision(action: str, model: str) -> Iterator[list[Telling]]:
    """Tell of a decision, which no flow of Prefect takes, as of a run: it begins, ends or fails.

    Gives a list, for what tells of the decision.
    """
    tellings: list[Telling] = []
    if not is_on():
        yield tellings
        return
    run = Run(str(uuid.uuid4()), f"{action}.{model}", owner=_owner())
    _open[run.run_id] = OpenRun(run)
    _send(run, Moment("START", datetime.now(timezone.utc)), Account)
    try:
        yield tellings
    except BaseException as error:
        _end(run.run_id, action, "FAIL", Account, type(error).__name__)
        raise
    _end(run.run_id, action, "COMPLETE", tellings[0] if tellings else Account)


def complaint() -> str:
    """What went wrong with events, once a process; "" where nothing did."""
    return emitter().complaint() if is_on() else ""


def _result(state: Any) -> Any:
    """What a flow gave back, or the error that ended it, as far as it is in this process."""
    return getattr(state.data, "result", state.data)  # Prefect's record of a result has it inside


def _failure(result: Any, state: str, run_id: str) -> str:
    kind = type(result).__name__ if isinstance(result, BaseException) else state
    return f"{kind}; the reason is in Prefect, flow run {run_id}"


def _flat(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters by name, those within settings beside the others."""
    flat: dict[str, Any] = {}
    for name, value in parameters.items():
        content = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        inner = name in ("settings", "training") and isinstance(content, Mapping)
        flat |= _flat(content) if inner else {name: content}
    return flat


def _public(parameters: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that may leave this machine, as texts."""
    return {
        name: str(value)[:MOST_CHARACTERS]
        for name, value in parameters.items()
        if name not in PRIVATE and value is not None
    }


def job_name(flow: str, parameters: Mapping[str, Any]) -> str:
    """A job's name: the flow, and the data set or registered model that it is about."""
    sets = parameters.get("datasets") or ()
    first = sets[0].get("dataset") if sets and isinstance(sets[0], Mapping) else None
    if dataset := parameters.get("dataset") or (first if flow == "watch" else None):
        subject = _dataset_name(str(dataset))
    elif flow in ("train", "retrain") and "model" in parameters:
        subject = str(parameters.get("name") or f"holter-{parameters['model']}")
    else:
        subject = _model_name(str(parameters.get("model") or ""))
    return f"{flow}.{subject}" if subject else flow


def _dataset_name(text: str) -> str:
    from storage.datasets.dataset import load_spec

    try:
        return load_spec(text).name
    except (HolterError, OSError):  # the flow itself says what is wrong
        return Path(text).stem


def _model_name(text: str) -> str:
    from storage.registry.reference import parse

    try:
        return parse(text).name
    except ValueError:
        return ""
