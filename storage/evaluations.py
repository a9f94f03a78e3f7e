"""Device evaluations: MLflow runs that a server asks for and a device's agent ends.

A device has one experiment, `edge/NAME`; a request is a run in it. What must happen once rests on
parameters, which MLflow's database lets nobody change: the first to log one has it.

- `holter.claim.N` names the agent that holds the request; N grows where a dead agent's request is
  taken up by another.
- `holter.report` decides which report is the request's only one, or that it was withdrawn.

No clock is compared across machines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from storage.errors import NotInRegistry, RegistryError
from storage.files import parsed, read_json, sha256_file
from storage.mlflow_rest import call, fetch_run_file, server_time_s, upload
from storage.model_files import LITERT, RegisteredModel

WAITING = ("SCHEDULED", "RUNNING")
CLAIM, REPORT, WITHDRAWN = "holter.claim.", "holter.report", "withdrawn"
PRESENCE = "holter.agent"
#: The file of an outcome that says what it is; the others are the report's.
OUTCOME = "outcome.json"


@dataclass(frozen=True)
class RequestState:
    """A device evaluation: what was asked, who took it, and what came of it."""

    request_id: str
    device: str
    model: str
    version: int
    status: str
    agent: str | None
    reason: str | None
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    params: Mapping[str, str]
    artifact_uri: str
    asked_ms: int

    @property
    def claims(self) -> int:
        """How many agents took it so far."""
        return sum(name.startswith(CLAIM) for name in self.params)

    @property
    def holder(self) -> str | None:
        """The agent that took it last."""
        return self.params.get(f"{CLAIM}{self.claims}")


def _state(run: Mapping[str, Any]) -> RequestState:
    info, data = run["info"], run["data"]
    tags = {tag["key"]: tag["value"] for tag in data.get("tags", ())}
    return RequestState(
        request_id=info["run_id"],
        device=tags.get("holter.device", ""),
        model=tags.get("holter.model", ""),
        version=int(tags.get("holter.version", "0")),
        status=info["status"],
        agent=tags.get("holter.agent"),
        reason=tags.get("holter.reason"),
        metrics={one["key"]: float(one["value"]) for one in data.get("metrics", ())},
        tags=tags,
        params={one["key"]: one["value"] for one in data.get("params", ())},
        artifact_uri=info["artifact_uri"],
        asked_ms=int(info["start_time"]),
    )


def request_evaluation(
    *,
    device: str,
    model: RegisteredModel,
    testset_run_id: str,
    testset_path: str,
    testset_sha256: str,
    tags: Mapping[str, str],
) -> str:
    """Ask a device to evaluate a model: a run in status SCHEDULED in its experiment."""
    marks = {
        **tags,
        "mlflow.runName": f"{model.name}-v{model.version}-on-{device}",
        "holter.kind": "edge-request",
        "holter.device": device,
        "holter.model": model.name,
        "holter.version": str(model.version),
        "holter.model_sha256": model.tags.get(f"holter.sha256.{LITERT}", ""),
        "holter.threshold": model.tags.get("holter.threshold", "0.5"),
        "holter.training_run_id": model.run_id,
        "holter.testset_run_id": testset_run_id,
        "holter.testset_path": testset_path,
        "holter.testset_sha256": testset_sha256,
    }
    run = call(
        "POST",
        "runs/create",
        experiment_id=device_experiment(device, make=True),
        start_time=int(server_time_s() * 1000),
        tags=[{"key": key, "value": value} for key, value in marks.items()],
    )["run"]
    request_id = str(run["info"]["run_id"])
    call("POST", "runs/update", run_id=request_id, status="SCHEDULED")
    return request_id


def device_experiment(device: str, *, make: bool = False) -> str | None:
    """Id of a device's experiment, made if need be and asked for."""
    name = f"edge/{device}"
    try:
        found = call("GET", "experiments/get-by-name", experiment_name=name)
        return str(found["experiment"]["experiment_id"])
    except NotInRegistry:
        if not make:
            return None
    try:
        return str(call("POST", "experiments/create", name=name)["experiment_id"])
    except RegistryError:  # another process made it meanwhile
        return device_experiment(device)


def request_state(request_id: str) -> RequestState:
    """The state of a device evaluation."""
    return _state(call("GET", "runs/get", run_id=request_id)["run"])


def device_requests(device: str, *statuses: str) -> list[RequestState]:
    """A device's evaluations, newest first; only those in the given statuses, if any are."""
    experiment = device_experiment(device)
    if experiment is None:
        return []
    found = []
    for status in statuses or ("",):
        wanted = f"attributes.status = '{status}'" if status else ""
        token = None
        while True:
            fields: dict[str, Any] = {
                "experiment_ids": [experiment],
                "filter": wanted,
                "max_results": 200,
            }
            fields |= {"page_token": token} if token else {}
            answer = call("POST", "runs/search", **fields)
            found += [_state(run) for run in answer.get("runs", ())]
            token = answer.get("next_page_token")
            if not token or not statuses:
                break
    return sorted(found, key=lambda state: (-state.asked_ms, state.request_id))


def claim(state: RequestState, agent_id: str) -> int | None:
    """Take a request for an agent; of all that try at once, one gets it.

    The caller makes sure that no other agent of the device is at work: a request that another
    agent holds is taken up from it.

    Returns
    -------
    int or None
        Number of the claim; None where the request has ended, or another agent was faster.
    """
    if state.status not in WAITING:
        return None
    if REPORT in state.params:
        _settle(state, state.params[REPORT])
        return None
    number = state.claims
    if state.holder != agent_id:
        number += 1
        if not _set_once(state.request_id, f"{CLAIM}{number}", agent_id):
            return None
    log_tags(state.request_id, {"holter.agent": agent_id})
    call("POST", "runs/update", run_id=state.request_id, status="RUNNING")
    return number


def _set_once(request_id: str, key: str, value: str) -> bool:
    """Log a parameter that may be logged once; whether it now has this value."""
    try:
        call("POST", "runs/log-parameter", run_id=request_id, key=key, value=value)
    except RegistryError:
        found = request_state(request_id).params.get(key)
        if found is None:
            raise
        return found == value
    return True


def withdraw(request_id: str, reason: str) -> bool:
    """End a request FAILED with a reason; False if a report was faster."""
    if not _set_once(request_id, REPORT, WITHDRAWN):
        return False
    log_tags(request_id, {"holter.reason": reason[:4000]})
    _end(request_id, "FAILED")
    return True


def deliver(request_id: str, folder: Path) -> str:
    """Bring an outcome to its request; safe to repeat, wherever it broke off before.

    Parameters
    ----------
    request_id : str
        The request.
    folder : Path
        `outcome.json` (claim, status, reason, metrics, time) and the report's files.

    Returns
    -------
    str
        What became of it: "reported", or why it is not the request's report.
    """
    outcome = read_json(folder / OUTCOME)
    state = request_state(request_id)
    mine = f"{outcome['claim']}:{sha256_file(folder / OUTCOME)}"
    if REPORT not in state.params:
        for file in sorted(folder.iterdir()):
            upload(state.artifact_uri, report_folder(outcome["claim"]), file)
        _set_once(request_id, REPORT, mine)
        state = request_state(request_id)
    decided = state.params[REPORT]
    _settle(state, decided)
    if decided == WITHDRAWN:
        return "withdrawn by the server meanwhile"
    return "reported" if decided == mine else f"claim {decided.partition(':')[0]} was faster"


def _settle(state: RequestState, decided: str) -> None:
    """End a request whose report is decided, from the report itself; safe to repeat."""
    if decided == WITHDRAWN:
        _end(state.request_id, "FAILED")
        return
    number, _, sha256 = decided.partition(":")
    file = f"{report_folder(int(number))}/{OUTCOME}"
    with TemporaryDirectory() as folder:
        outcome = read_json(fetch_run_file(state.request_id, file, sha256, Path(folder)))
    metrics = [
        {"key": key, "value": value, "timestamp": outcome["time_ms"], "step": 0}
        for key, value in outcome["metrics"].items()
        if value is not None
    ]
    tags = [{"key": key, "value": value} for key, value in outcome["tags"].items()]
    call("POST", "runs/log-batch", run_id=state.request_id, metrics=metrics, tags=tags)
    _end(state.request_id, outcome["status"])


def report_folder(number: int) -> str:
    """Where a claim's report lies among its request's artifacts."""
    return "report" if number == 1 else f"report-{number}"


def _end(request_id: str, status: str) -> None:
    end_time = int(server_time_s() * 1000)
    call("POST", "runs/update", run_id=request_id, status=status, end_time=end_time)


def log_tags(request_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a request."""
    marks = [{"key": key, "value": value} for key, value in tags.items()]
    call("POST", "runs/log-batch", run_id=request_id, tags=marks)


def presence(device: str) -> tuple[str, dict[str, Any]]:
    """The device's experiment, made if need be, and what its agent said of itself last."""
    try:
        found = call("GET", "experiments/get-by-name", experiment_name=f"edge/{device}")
    except NotInRegistry:
        experiment = device_experiment(device, make=True)
        found = call("GET", "experiments/get", experiment_id=experiment)
    tags = {tag["key"]: tag["value"] for tag in found["experiment"].get("tags", ())}
    return found["experiment"]["experiment_id"], said_in(tags)


def said_in(tags: Mapping[str, str]) -> dict[str, Any]:
    """What a device said of itself in its experiment's tags; nothing where that cannot be read."""
    try:
        said = parsed(tags.get(PRESENCE, "{}"))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def announce(experiment: str, said: Mapping[str, Any]) -> None:
    """Say of a device's agent what `presence` will read."""
    call(
        "POST",
        "experiments/set-experiment-tag",
        experiment_id=experiment,
        key=PRESENCE,
        value=json.dumps(said),
    )
