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
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import DeviceError, RegistryError
from storage.files import parse_text, sha256_bytes
from storage.registry.answers import (
    SHA256,
    excerpt,
    numbers,
    part,
    plain,
    rows,
    run_id,
    text,
    texts,
    whole_number,
)
from storage.registry.client import call, pages, read_run_file, server_time_s, upload
from storage.registry.experiments import (
    EDGE,
    Experiment,
    find_experiment,
    get_or_make_experiment,
    tag_experiment,
)
from storage.registry.model_files import LITERT
from storage.registry.models import MOST_VERSION, ModelVersion
from storage.registry.tags import (
    AGENT_TAG,
    CLAIM_PARAM,
    DEVICE_TAG,
    KIND_TAG,
    MODEL_SHA256_TAG,
    MODEL_TAG,
    REASON_TAG,
    REPORT_PARAM,
    TESTSET_PATH_TAG,
    TESTSET_RUN_TAG,
    TESTSET_SHA256_TAG,
    THRESHOLD_TAG,
    TRAINING_RUN_TAG,
    VERSION_TAG,
    artifact_tag,
    claim_param,
    report_folder,
)

WAITING = ("SCHEDULED", "RUNNING")
STATUSES = (*WAITING, "FINISHED", "FAILED", "KILLED")
#: What it is of a request that was withdrawn.
WITHDRAWN = "withdrawn"
#: The file of an outcome that says what it is; the others are the report's.
OUTCOME = "outcome.json"
#: No outcome is larger, none has a number of a claim beyond it, and no more requests wait at once.
MOST_OUTCOME, MOST_CLAIMS, MOST_WAITING = 1 << 20, 100_000, 1_000
#: A model's name.
NAME = re.compile(r"[^/:\x00-\x1f\x7f-\x9f]{0,250}")


@dataclass(frozen=True)
class RequestState:
    """A device evaluation: what was asked, who took it, and what came of it.

    `fault` says why a run cannot be read, where it cannot; only its id is known then, at best.
    """

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
    fault: str = ""

    @property
    def claims(self) -> int:
        """How many agents took it so far."""
        return sum(name.startswith(CLAIM_PARAM) for name in self.params)

    @property
    def holder(self) -> str | None:
        """The agent that took it last."""
        return self.params.get(claim_param(self.claims))


@dataclass(frozen=True)
class Outcome:
    """How an evaluation on a device ended, as `outcome.json` has it beside the report's files.

    Attributes
    ----------
    claim : int
        The number of the claim under which it was made.
    status : {"FINISHED", "FAILED"}
        How it ended.
    metrics : mapping of str to float or None
        Its figures; None where one is undefined.
    tags : mapping of str to str
        What its request's run is tagged with.
    time_ms : int
        When, ms since 1970, by the server's clock.
    """

    claim: int
    status: str
    metrics: Mapping[str, float | None]
    tags: Mapping[str, str]
    time_ms: int


def _state(run: Any) -> RequestState:
    """A run as a device evaluation; RegistryError where a field of it is not of its form."""
    info, data = part(run, "info"), part(run, "data")
    tags, status = texts(data, "tags"), text(part(info, "status"), "status")
    if status not in STATUSES:
        raise RegistryError(
            f"MLflow's answer: status: found {excerpt(status)}; expected {STATUSES}"
        )
    return RequestState(
        request_id=run_id(part(info, "run_id")),
        device=tags.get(DEVICE_TAG, ""),
        model=text(tags.get(MODEL_TAG, ""), f"tag {MODEL_TAG}", NAME),
        version=whole_number(tags.get(VERSION_TAG, "0"), f"tag {VERSION_TAG}", MOST_VERSION),
        status=status,
        agent=tags.get(AGENT_TAG),
        reason=tags.get(REASON_TAG),
        metrics=numbers(data, "metrics"),
        tags=tags,
        params=texts(data, "params"),
        artifact_uri=text(part(info, "artifact_uri"), "artifact_uri"),
        asked_ms=whole_number(part(info, "start_time"), "start_time"),
    )


def _state_or_fault(run: Any) -> RequestState:
    """A run of a list: one that cannot be read is there with its fault, and spoils no other."""
    try:
        return _state(run)
    except RegistryError as error:
        fault = plain(error)
    try:
        name = run_id(part(run, "info", "run_id"))
    except RegistryError:
        name = ""
    return RequestState(name, "", "", 0, "", None, None, {}, {}, {}, "", 0, fault)


def request_evaluation(
    *,
    device: str,
    model: ModelVersion,
    testset_run_id: str,
    testset_path: str,
    testset_sha256: str,
    tags: Mapping[str, str],
) -> str:
    """Ask a device to evaluate a model: a run in status SCHEDULED in its experiment."""
    marks = {
        **tags,
        "mlflow.runName": f"{model.name}-v{model.version}-on-{device}",
        KIND_TAG: "edge-request",
        DEVICE_TAG: device,
        MODEL_TAG: model.name,
        VERSION_TAG: str(model.version),
        MODEL_SHA256_TAG: model.tags.get(artifact_tag(LITERT), ""),
        THRESHOLD_TAG: model.tags.get(THRESHOLD_TAG, "0.5"),
        TRAINING_RUN_TAG: model.run_id,
        TESTSET_RUN_TAG: testset_run_id,
        TESTSET_PATH_TAG: testset_path,
        TESTSET_SHA256_TAG: testset_sha256,
    }
    answer = call(
        "POST",
        "runs/create",
        experiment_id=make_device_experiment(device).id,
        start_time=int(server_time_s() * 1000),
        tags=[{"key": key, "value": value} for key, value in marks.items()],
    )
    request_id = run_id(part(answer, "run", "info", "run_id"))
    call("POST", "runs/update", run_id=request_id, status="SCHEDULED")
    return request_id


def device_experiment(device: str) -> Experiment | None:
    """A device's experiment, or None where it has none."""
    return find_experiment(f"{EDGE}{device}")


def make_device_experiment(device: str) -> Experiment:
    """A device's experiment, made if need be."""
    return get_or_make_experiment(f"{EDGE}{device}")


def request_state(request_id: str) -> RequestState:
    """The state of a device evaluation."""
    return _state(part(call("GET", "runs/get", run_id=request_id), "run"))


def _of_statuses(statuses: Sequence[str]) -> str:
    """MLflow's filter for runs of these statuses, of every one where there is none."""
    others = [f"attributes.status != '{name}'" for name in STATUSES if name not in statuses]
    one, several = f"attributes.status = '{''.join(statuses)}'", " and ".join(others)
    return ("", one, several)[min(len(statuses), 2)]


def device_requests(device: str, *statuses: str) -> list[RequestState]:
    """A device's evaluations, newest first; only those in the given statuses, if any are.

    A run that cannot be read is among them, with its `fault`.
    """
    if (experiment := device_experiment(device)) is None:
        return []
    states: list[RequestState] = []
    fields = {"experiment_ids": [experiment.id], "max_results": 200}
    for answer in pages("POST", "runs/search", filter=_of_statuses(statuses), **fields):
        states += [_state_or_fault(run) for run in rows(answer, "runs")]
        if not statuses or len(states) > MOST_WAITING * len(statuses):
            break
    return sorted(states, key=lambda state: (-state.asked_ms, state.request_id))


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
    if REPORT_PARAM in state.params:
        _settle(state, state.params[REPORT_PARAM])
        return None
    number = state.claims
    if state.holder != agent_id:
        number += 1
        if not _set_once(state.request_id, claim_param(number), agent_id):
            return None
    log_tags(state.request_id, {AGENT_TAG: agent_id})
    call("POST", "runs/update", run_id=state.request_id, status="RUNNING")
    return number


def _set_once(request_id: str, key: str, value: str) -> bool:
    """Log a parameter that may be logged once; whether it now has this value."""
    try:
        call("POST", "runs/log-parameter", run_id=request_id, key=key, value=value)
    except RegistryError:
        current = request_state(request_id).params.get(key)
        if current is None:
            raise
        return current == value
    return True


def withdraw(request_id: str, reason: str) -> bool:
    """End a request FAILED with a reason; False if a report was faster."""
    if not _set_once(request_id, REPORT_PARAM, WITHDRAWN):
        return False
    log_tags(request_id, {REASON_TAG: reason[:4000]})
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

    Raises
    ------
    DeviceError
        The outcome is damaged on this disk.
    RegistryError
        The server refused, or its answer cannot be read.
    """
    try:
        data = (folder / OUTCOME).read_bytes()
        outcome = read_outcome(data)
    except (FileNotFoundError, NotADirectoryError, RegistryError) as error:
        raise DeviceError(f"request {request_id}, on this disk: {error}") from error
    state = request_state(request_id)
    own_report = f"{outcome.claim}:{sha256_bytes(data)}"
    if REPORT_PARAM not in state.params:
        for file in sorted(folder.iterdir()):
            upload(state.artifact_uri, report_folder(outcome.claim), file)
        _set_once(request_id, REPORT_PARAM, own_report)
        state = request_state(request_id)
    decided = part(state.params, REPORT_PARAM)
    _settle(state, decided)
    if decided == WITHDRAWN:
        return "withdrawn by the server meanwhile"
    return "reported" if decided == own_report else f"claim {decided.partition(':')[0]} was faster"


def read_outcome(data: bytes) -> Outcome:
    """An outcome from its file; RegistryError where it is none."""
    try:
        value = parse_text(data)
        metrics, tags = part(value, "metrics"), part(value, "tags")
        if not (isinstance(metrics, dict) and isinstance(tags, dict)):
            raise RegistryError("found no metrics and tags by name; expected them")
        figures = [{"key": k, "value": v} for k, v in metrics.items() if v is not None]
        return Outcome(
            claim=whole_number(part(value, "claim"), "claim", MOST_CLAIMS),
            status=text(part(value, "status"), "status", re.compile("FINISHED|FAILED")),
            metrics=numbers({"metrics": figures}, "metrics"),
            tags={key: text(tag, f"tag {key[:80]}") for key, tag in tags.items()},
            time_ms=whole_number(part(value, "time_ms"), "time_ms"),
        )
    except (ValueError, RegistryError) as error:
        raise RegistryError(f"{OUTCOME}: found a damaged file ({plain(error)})") from error


def _settle(state: RequestState, decided: str) -> None:
    """End a request whose report is decided, from the report itself; safe to repeat."""
    if decided == WITHDRAWN:
        _end(state.request_id, "FAILED")
        return
    number, _, sha256 = decided.partition(":")
    claim = whole_number(number, f"parameter {REPORT_PARAM}", MOST_CLAIMS)
    file = f"{report_folder(claim)}/{OUTCOME}"
    digest = text(sha256, f"parameter {REPORT_PARAM}", SHA256)
    outcome = read_outcome(read_run_file(state.request_id, file, digest, MOST_OUTCOME))
    metrics = [
        {"key": key, "value": value, "timestamp": outcome.time_ms, "step": 0}
        for key, value in outcome.metrics.items()
    ]
    tags = [{"key": key, "value": value} for key, value in outcome.tags.items()]
    call("POST", "runs/log-batch", run_id=state.request_id, metrics=metrics, tags=tags)
    _end(state.request_id, outcome.status)


def _end(request_id: str, status: str) -> None:
    end_time = int(server_time_s() * 1000)
    call("POST", "runs/update", run_id=request_id, status=status, end_time=end_time)


def log_tags(request_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a request."""
    marks = [{"key": key, "value": value} for key, value in tags.items()]
    call("POST", "runs/log-batch", run_id=request_id, tags=marks)


def presence(device: str) -> tuple[str, dict[str, Any]]:
    """The id of a device's experiment, made if need be, and what its agent said of itself last."""
    experiment = make_device_experiment(device)
    return experiment.id, read_presence(experiment.tags)


def read_presence(tags: Mapping[str, str]) -> dict[str, Any]:
    """What a device said of itself in its experiment's tags; nothing where that cannot be read."""
    try:
        facts = parse_text(tags.get(AGENT_TAG, "{}"))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def announce(experiment_id: str, facts: Mapping[str, Any]) -> None:
    """Say of a device's agent what `presence` will read."""
    tag_experiment(experiment_id, AGENT_TAG, json.dumps(facts))
