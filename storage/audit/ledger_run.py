"""The MLflow run that holds a model's ledger, one parameter an entry."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Mapping
from typing import Any

from storage.audit.ledger_entry import read_pages
from storage.registry.client import call, pages, server_time_s
from storage.registry.experiments import LEDGER, find_experiment, get_or_make_experiment
from storage.registry.tags import KIND_TAG

#: The experiment's description in MLflow.
NOTE = "The ledger: an append-only, signed, hash-chained log of what was decided about a model."
#: How long the one who made the experiment may take to make its run.
WAIT_S = 10.0


def user() -> str:
    """Who is at work: MLflow's user name, else the account on this machine."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()


def ledger_run(model: str, *, make: bool) -> dict[str, Any]:
    """The run that holds a model's ledger, made if need be; {} where there is none."""
    name, note = f"{LEDGER}{model}", {"mlflow.note.content": NOTE}
    experiment = get_or_make_experiment(name, note) if make else find_experiment(name)
    if experiment is None:
        return {}
    until = time.monotonic() + (0 if experiment.is_new or not make else WAIT_S)
    while True:
        fields: dict[str, Any] = {"experiment_ids": [experiment.id], "run_view_type": "ALL"}
        answers = pages("POST", "runs/search", max_results=100, **fields)
        runs = [run for answer in answers for run in answer.get("runs", ())]
        if first := min(runs, key=lambda run: _order(model, run), default=None):
            return _end_run(first) if make else first
        if time.monotonic() >= until:
            break
        time.sleep(0.1)
    if not make:
        return {}
    tags = [
        {"key": "mlflow.runName", "value": f"ledger of {model}"},
        {"key": KIND_TAG, "value": "ledger"},
    ]
    new_run: dict[str, Any] = call(
        "POST",
        "runs/create",
        experiment_id=experiment.id,
        start_time=int(server_time_s() * 1000),
        tags=tags,
    )["run"]
    return _end_run(new_run)


def _end_run(run: dict[str, Any]) -> dict[str, Any]:
    """A ledger's run, FINISHED: MLflow takes parameters all the same, and nothing seems to run."""
    info = run["info"]
    if info["status"] == "RUNNING":
        end = max(int(server_time_s() * 1000), info["start_time"])
        call("POST", "runs/update", run_id=info["run_id"], status="FINISHED", end_time=end)
    return run


def _order(model: str, run: Mapping[str, Any]) -> tuple[int, int, str]:
    """The run with most signed entries comes first, then the oldest: others may be put beside."""
    params = {param["key"]: param["value"] for param in run.get("data", {}).get("params", ())}
    info = run["info"]
    return -len(read_pages(model, params).entries), int(info.get("start_time", 0)), info["run_id"]
