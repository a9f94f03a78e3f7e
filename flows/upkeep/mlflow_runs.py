"""MLflow's runs that ended long ago and that no version, evaluation, chain or ledger names.

A run goes by MLflow's own API: it is marked as deleted, and can be restored, until `mlflow gc`
removes it for good.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.upkeep.needs import Needs, reasons
from storage.errors import NotInRegistry
from storage.files import home
from storage.registry.answers import part, rows, text, texts
from storage.registry.client import address, call, pages
from storage.registry.experiments import EDGE, LEDGER
from storage.registry.tags import KIND_TAG

#: Runs that ended well and are evidence though no version names them, and of what.
EVIDENCE = {
    "drift": "a look for drift: evidence of a version in use",
    "cross-validation": "a cross-validation: evidence of a network",
    "reproduction": "a reproduction: evidence of the published method",
}
#: How MLflow calls runs that have ended, and those that ended well.
FINAL_STATES, SUCCESS = ("FINISHED", "FAILED", "KILLED"), "FINISHED"
PAGE = 1000


@dataclass(frozen=True)
class MlflowRun:
    """A run that ended before a day.

    Attributes
    ----------
    run_id, name : str
        The run, and its experiment and name.
    bytes : int or None
        Of its artifacts; None where they are not on this machine.
    reason : str
        Why it stays, "" where it goes.
    """

    run_id: str
    name: str
    bytes: int | None
    reason: str


def look(needs: Needs, since_s: float) -> list[MlflowRun]:
    """Runs that ended before a time, in seconds since 1970, each with why it stays.

    Raises
    ------
    RegistryError
        MLflow is out of reach.
    """
    doubt = f"nobody can tell who needs it ({needs.unreadable[0]})" if needs.unreadable else ""
    ended_runs = []
    for experiment, run in _ended(since_s):
        info, tags = part(run, "info"), texts(part(run, "data"), "tags")
        run_id = text(part(info, "run_id"), "run id")
        needed = needs.mlflow_runs.get(run_id)
        reason = doubt or (reasons([needed]) if needed else _evidence(experiment, info, tags))
        name = f"{experiment}: {text(info.get('run_name', ''), 'run name')} {run_id[:8]}"
        ended_runs.append(MlflowRun(run_id, name, _bytes(info), reason))
    return ended_runs


def _evidence(experiment: str, info: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """Why a run that nobody names stays all the same; "" where it goes."""
    if experiment.startswith(LEDGER):
        return "a ledger"
    if info.get("status") != SUCCESS:
        return ""
    if experiment.startswith(EDGE):
        return "a device's report"
    return EVIDENCE.get(tags.get(KIND_TAG, ""), "")


def _ended(since_s: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Runs that ended before a time, each after its experiment's name."""
    for answer in pages("POST", "experiments/search", view_type="ALL", max_results=PAGE):
        for experiment in rows(answer, "experiments"):
            name = text(part(experiment, "name"), "experiment's name")
            fields: dict[str, Any] = {
                "experiment_ids": [text(part(experiment, "experiment_id"), "experiment id")],
                "run_view_type": "ACTIVE_ONLY",
                "max_results": PAGE,
            }
            for runs in pages("POST", "runs/search", **fields):
                for run in rows(runs, "runs"):
                    info = part(run, "info")
                    if info.get("status") in FINAL_STATES and _end_s(info) < since_s:
                        yield name, run


def _end_s(info: Mapping[str, Any]) -> float:
    """When a run ended; the end of time where MLflow does not say."""
    end = info.get("end_time")
    return float(end) / 1000 if end else float("inf")


def _bytes(info: Mapping[str, Any]) -> int | None:
    """The bytes of a run's artifacts, where they lie in this state folder."""
    root = home() / "mlflow" / "artifacts"
    folder = root / str(info.get("experiment_id", "")) / str(info.get("run_id", ""))
    if not root.is_dir():
        return None
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def remove(runs: Sequence[MlflowRun]) -> None:
    """Mark runs as deleted in MLflow; one that is gone is no matter."""
    for run in runs:
        with suppress(NotInRegistry):
            call("POST", "runs/delete", run_id=run.run_id)


def for_good(runs: Sequence[MlflowRun]) -> str:
    """The command that removes just these runs, and no other, for good; "" where there are none."""
    if not runs:
        return ""
    database = home() / "mlflow" / "mlflow.db"
    store = f"sqlite:///{database}" if database.is_file() else "DATABASE"
    words = ["mlflow", "gc", "--backend-store-uri", store]
    if (artifacts := home() / "mlflow" / "artifacts").is_dir():
        words += ["--artifacts-destination", str(Path(artifacts))]
    words += ["--tracking-uri", address(), "--run-ids", ",".join(run.run_id for run in runs)]
    return shlex.join(words)
