"""The agent's cycle: find a request, claim it, check every digest, run it, report it."""

from __future__ import annotations

import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.facts import facts
from edge_agent.measure import measure
from storage import tracking
from storage.errors import HolterError, RegistryError
from storage.files import write_json
from storage.model_files import LITERT
from storage.testset import TestSet, read_testset
from tasks.metrics import beat_metrics

POLL_S = 2.0


@dataclass(frozen=True)
class Agent:
    """A device's name, its kind, and the folder it works in."""

    device: str
    kind: dict[str, Any]
    home: Path


def edge_home() -> Path:
    """The agent's state folder: HOLTER_EDGE_HOME, or ~/.local/state/holter-edge."""
    default = Path.home() / ".local" / "state" / "holter-edge"
    return Path(os.environ.get("HOLTER_EDGE_HOME") or default)


def once(agent: Agent, say: Callable[[str], None]) -> int:
    """Work through the requests that wait for this device, oldest first; gives how many failed."""
    failed = 0
    for request in reversed(tracking.device_requests(agent.device, "SCHEDULED")):
        failed += not serve(agent, request, say)
    return failed


def forever(agent: Agent, say: Callable[[str], None]) -> None:
    """Ask for requests every two seconds; a server out of reach is waited for."""
    silent = False
    while True:
        try:
            once(agent, say)
            silent = False
        except RegistryError as error:
            if not silent:
                say(f"waiting: {error}")
            silent = True
        time.sleep(POLL_S)


def serve(agent: Agent, request: tracking.RequestState, say: Callable[[str], None]) -> bool:
    """Claim a request and end it FINISHED or FAILED; True unless it failed."""
    agent_id = f"{agent.device}/{socket.gethostname()}/{uuid.uuid4().hex[:12]}"
    if not tracking.claim(request.request_id, agent_id):
        return True
    say(f"request {request.request_id}: {request.model} version {request.version}")
    work = agent.home / "work" / uuid.uuid4().hex
    work.mkdir(parents=True, mode=0o700)
    try:
        metrics = evaluate(agent, request, work)
        tracking.finish_request(request.request_id, metrics, work / "report")
        say(f"request {request.request_id}: reported, F1 {metrics['f1']:.4f}")
    except Exception as error:
        reason = (
            str(error) if isinstance(error, HolterError) else f"{type(error).__name__}: {error}"
        )
        say(f"request {request.request_id}: failed: {reason}")
        tracking.fail_request(request.request_id, reason)
        return False
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return True


def evaluate(agent: Agent, request: tracking.RequestState, work: Path) -> dict[str, float]:
    """Fetch, check and run what a request names; leaves the report's files in `work`/report."""
    tags = request.tags
    model = tracking.download_model_file(
        request.model, request.version, LITERT, tags["holter.model_sha256"], work / "model"
    ).read_bytes()
    path = tracking.download_run_file(
        tags["holter.testset_run_id"],
        tags["holter.testset_path"],
        tags["holter.testset_sha256"],
        work / "testset",
    )
    testset = read_testset(path)
    threshold = float(tags["holter.threshold"])
    measured = measure(model, testset)
    scores = beat_metrics(testset.label, measured.probability, threshold)
    metrics = {**scores, **measured.costs}
    write_json(
        work / "report" / "report.json",
        {
            "request": request.request_id,
            "device": agent.device,
            "model": {"name": request.model, "version": request.version},
            "digests": {k: v for k, v in tags.items() if k.endswith("_sha256")},
            "threshold": threshold,
            "metrics": {k: v if np.isfinite(v) else None for k, v in metrics.items()},
            "per_record": per_record(testset, measured.probability, threshold),
            "facts": facts(agent.kind),
        },
    )
    np.save(work / "report" / "probability.npy", measured.probability, allow_pickle=False)
    tracking.log_tags(request.request_id, {"holter.device_kind": str(agent.kind["name"])})
    return metrics


def per_record(
    testset: TestSet, probability: np.ndarray[Any, np.dtype[np.float32]], threshold: float
) -> dict[str, dict[str, float | None]]:
    """Metrics of every record of the test set."""
    out = {}
    for name in np.unique(testset.record):
        mine = testset.record == name
        scores = beat_metrics(testset.label[mine], probability[mine], threshold)
        out[str(name)] = {k: v if np.isfinite(v) else None for k, v in scores.items()}
    return out
