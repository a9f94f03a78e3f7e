"""The overview: data sets, versions, evaluations and devices, and what needs a person first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from urllib.parse import quote

from flows.review.library import Library, Shelf
from storage.errors import HolterError
from storage.labels.decisions import read_decisions

#: Seconds for which what servers said is shown again.
FRESH_S = 10.0
#: Evaluations, runs and needs that are listed.
MOST_ROWS = 12
#: What stands in the ledger of a version that may not be promoted, and what settles it.
REFUSED, SETTLED = "refused", ("approved", "overridden")
FAILED = {"type": {"any_": ["FAILED", "CRASHED"]}}


@dataclass(frozen=True)
class Need:
    """Something that needs a person: what, where it is seen, and whether it is a fault."""

    words: str
    address: str = ""
    is_fault: bool = False


@dataclass
class Registry:
    """What the servers tell, or why they do not.

    Attributes
    ----------
    versions, evaluations, devices : list of dict
        Rows of the overview.
    needs : list of Need
        What of it needs a person.
    fault : str
        Why something is missing.
    """

    versions: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    fault: str = ""


_LOCK = Lock()
_LAST: list[tuple[float, Registry]] = []


def overview(library: Library) -> dict[str, Any]:
    """What there is, for the page's template; servers that do not answer are told of."""
    shelves = list(library.shelves().values())
    registry = _fresh(read_registry)
    needs = [*registry.needs, *(need for shelf in shelves for need in shelf_needs(library, shelf))]
    return {
        "datasets": [dataset_row(shelf) for shelf in shelves],
        "registry": registry,
        "needs": sorted(needs, key=lambda need: not need.is_fault)[:MOST_ROWS],
    }


def _fresh(read: Callable[[], Registry]) -> Registry:
    """What the servers told within the last seconds."""
    with _LOCK:
        if not _LAST or time.monotonic() - _LAST[0][0] > FRESH_S:
            _LAST[:] = [(time.monotonic(), read())]
        return _LAST[0][1]


def dataset_row(shelf: Shelf) -> dict[str, Any]:
    """A data set: its state in a word, and the shares of its beats."""
    manifest = shelf.manifest
    beats = sum(entry.beats for entry in manifest.entries)
    af = sum(entry.af_beats for entry in manifest.entries)
    unknown = sum(entry.unknown_beats for entry in manifest.entries)
    failed = len(manifest.failures)
    return {
        "name": shelf.name,
        "title": manifest.title,
        "simulated": manifest.simulated,
        "state": f"{failed} failed" if failed else "ready",
        "records": len(manifest.entries),
        "hours": round(sum(entry.hours for entry in manifest.entries), 1),
        "af": af / beats if beats else 0.0,
        "unknown": unknown / beats if beats else 0.0,
        "decisions": len(read_decisions(manifest.dataset)),
    }


def shelf_needs(library: Library, shelf: Shelf) -> Iterator[Need]:
    """What of a data set needs a person: records that failed, and disagreements that are known."""
    address = f"/queue/{quote(shelf.name)}"
    for record, reason in list(shelf.manifest.failures.items())[:3]:
        yield Need(f"{shelf.name}: record {record} failed: {reason[:200]}", address, is_fault=True)
    cases = library.known_cases(shelf.name)
    if cases:
        differing = sum(case["kind"] == "disagreement" for case in cases)
        words = f"{shelf.name}: {len(cases)} passages to look at, {differing} of them disagreements"
        yield Need(words, address)


def read_registry() -> Registry:
    """What MLflow and Prefect tell, where they are; nothing is started."""
    from flows.services.servers import can_be_read, readable_registry

    registry = Registry()
    try:
        if can_be_read():
            with readable_registry():
                _read_versions(registry)
                _read_devices(registry)
        else:
            registry.fault = "No registry is here yet: a training makes one."
        _read_runs(registry)
    except HolterError as error:
        registry.fault = str(error)
    return registry


def _read_versions(registry: Registry) -> None:
    from storage.audit.ledger import trusted_entries
    from storage.audit.ledger_entry import EVALUATED
    from storage.audit.outcomes import newest_drift, read_evaluation
    from storage.registry.client import address
    from storage.registry.models import newest_versions, resolve, run_state
    from storage.registry.signing import trusted_keys

    keys, mlflow = set(trusted_keys()), address()
    pages = mlflow if mlflow.startswith("http") else ""
    for name, newest, aliases in newest_versions():
        entries = trusted_entries(name, keys)
        for number in sorted({newest, *aliases.values()} - {0}, reverse=True):
            version = resolve(f"{name}/{number}")
            metrics = run_state(version.run_id).metrics if version.run_id else {}
            own = [entry for entry in entries if entry.version == number]
            decisions = [e for e in own if e.action in (REFUSED, *SETTLED)]
            state = decisions[-1].action if decisions else "registered"
            page = f"{pages}/#/models/{quote(name)}/versions/{number}" if pages else ""
            registry.versions.append(
                {
                    "reference": f"{name}/{number}",
                    "aliases": [alias for alias, at in aliases.items() if at == number],
                    "state": state,
                    "f1": _share(metrics.get("test_f1")),
                    "page": page,
                    "run": (run := _run_address(pages, version.run_id)),
                    "files": _files(run, version.run_id),
                }
            )
            if state == REFUSED:
                words = f"{name}/{number} was refused: {decisions[-1].reason[:200]}"
                registry.needs.append(Need(words, page, is_fault=True))
            drift = newest_drift(name, number)
            if drift and drift[2].startswith("beyond"):
                words = f"{name}/{number} drifts, {drift[2][:200]}"
                registry.needs.append(Need(words, _run_address(pages, drift[0]), is_fault=True))
        evaluated = [entry for entry in entries if entry.action == EVALUATED]
        for entry in reversed(evaluated[-MOST_ROWS:]):
            evaluation = read_evaluation(entry)
            figures = evaluation.state.metrics if evaluation.state else {}
            registry.evaluations.append(
                {
                    "reference": f"{name}/{entry.version}",
                    "words": entry.reason,
                    "time": entry.time_utc[:16].replace("T", " "),
                    "f1": _share(
                        next((figures[k] for k in sorted(figures) if k.endswith("f1")), None)
                    ),
                    "run": _run_address(pages, entry.details.get("run_id", "")),
                }
            )
    registry.evaluations.sort(key=lambda row: row["time"], reverse=True)
    del registry.evaluations[MOST_ROWS:]


def _files(run: str, run_id: str) -> dict[str, str]:
    """The card and the lineage page of a version, where they were logged, by their names."""
    from storage.registry.client import call
    from storage.registry.tags import CARD_FOLDER, LINEAGE_FOLDER

    files = {"card": f"{CARD_FOLDER}/card.html", "lineage": f"{LINEAGE_FOLDER}/lineage.html"}
    folders = {name: file.partition("/")[0] for name, file in files.items()}
    return {
        name: f"{run}/artifacts/{file}"
        for name, file in files.items()
        if run and call("GET", "artifacts/list", run_id=run_id, path=folders[name]).get("files")
    }


def _share(value: object) -> float | None:
    """A figure that a bar shows; MLflow gives NaN as a text."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def _run_address(pages: str, run_id: str) -> str:
    """A run's page in MLflow, whose experiment MLflow itself looks up; "" where it is not up."""
    from storage.registry.models import run_state

    if not pages or not run_id:
        return ""
    experiment = run_state(run_id).experiment_id
    return f"{pages}/#/experiments/{quote(experiment)}/runs/{quote(run_id)}"


def _read_devices(registry: Registry) -> None:
    from storage.audit.fleet import devices

    for device in devices():
        row = {"name": device.name, "group": device.group, "state": device.health}
        registry.devices.append(row)
        if device.health == "silent":
            registry.needs.append(Need(f"device {device.name} is silent"))


def _read_runs(registry: Registry) -> None:
    from flows.services.servers import prefect_server
    from flows.services.up_state import ask_prefect

    with prefect_server() as api:
        if api is None:
            return
        body = {"flow_runs": {"state": FAILED}, "sort": "START_TIME_DESC", "limit": 5}
        for run in ask_prefect("flow_runs/filter", body) or []:
            page = f"{api.removesuffix('/api')}/runs/flow-run/{run['id']}"
            message = " ".join(str((run["state"] or {}).get("message") or "").split())
            words = f"run {run['name']} failed: {message[:200]}"
            registry.needs.append(Need(words, page, is_fault=True))
