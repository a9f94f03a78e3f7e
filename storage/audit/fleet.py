"""The fleet: every device that has an experiment, its group, its health, and its reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from storage.audit import ledger
from storage.audit.findings import MISMATCH, sentences
from storage.audit.outcomes import read_evaluation
from storage.audit.versions import read_version
from storage.errors import DeviceError, DigestMismatch
from storage.registry.answers import MOST_NUMBER, part, rows, text, texts
from storage.registry.client import pages, server_time_s
from storage.registry.evaluations import (
    RequestState,
    device_requests,
    make_device_experiment,
    read_presence,
)
from storage.registry.experiments import EDGE, tag_experiment
from storage.registry.models import ModelVersion
from storage.registry.signing import trusted_keys
from storage.registry.tags import GROUP_TAG


@dataclass(frozen=True)
class DeviceState:
    """A device: its name and group, what its agent last said, and how long ago by the server."""

    name: str
    group: str
    facts: dict[str, Any]
    seen_ago_s: float | None

    @property
    def health(self) -> str:
        """`stopped`, `working`, `silent` (no sign of life for a minute) or `never seen`."""
        if self.seen_ago_s is None:
            return "never seen"
        if self.facts.get("released"):
            return "stopped"
        return "working" if abs(self.seen_ago_s) < 60 else "silent"


def devices(group: str | None = None) -> list[DeviceState]:
    """Every device, by name; only those of a group, if one is given."""
    answers = pages("POST", "experiments/search", filter=f"name LIKE '{EDGE}%'", max_results=100)
    states = [
        _device(experiment) for answer in answers for experiment in rows(answer, "experiments")
    ]
    in_group = [state for state in states if group is None or state.group == group]
    return sorted(in_group, key=lambda state: state.name)


def _device(experiment: Any) -> DeviceState:
    tags, name = texts(experiment, "tags"), text(part(experiment, "name"), "experiment's name")
    facts = read_presence(tags)
    seen_s = facts.get("seen_s")
    ago = None
    if isinstance(seen_s, int | float) and abs(seen_s) < MOST_NUMBER:
        ago = server_time_s() - seen_s
    return DeviceState(name.removeprefix(EDGE), tags.get(GROUP_TAG, ""), facts, ago)


def set_group(device: str, group: str) -> None:
    """Put a device into a group; a device that has none yet is made known."""
    tag_experiment(make_device_experiment(device).id, GROUP_TAG, group)


def members(group: str) -> list[str]:
    """The devices of a group, by name; DeviceError if it has none."""
    names = [device.name for device in devices(group)]
    if not names:
        raise DeviceError(f"device group {group!r}: found no device; put one into it first")
    return names


def reports(names: Iterable[str]) -> tuple[list[RequestState], list[str]]:
    """The newest finished report of every device on every model version, its figures as signed.

    Returns
    -------
    list of RequestState
        Those that the ledgers hold, and that MLflow has as they were signed.
    list of str
        The others, and what is wrong with them, in sentences. Runs that cannot be read are left
        out: `holter edge status` tells of them.
    """
    newest: dict[tuple[str, str, int], RequestState] = {}
    for name in names:
        for state in device_requests(name, "FINISHED"):
            if not state.fault:
                newest.setdefault((name, state.model, state.version), state)
    good, wrong = [], []
    for key in sorted(newest):
        try:
            good.append(signed_report(newest[key]))
        except DigestMismatch as error:  # noqa: PERF203 - each report is a request
            wrong.append(str(error))
    return good, wrong


def signed_report(state: RequestState) -> RequestState:
    """A device's report, its figures as its model's ledger holds them.

    Raises
    ------
    DigestMismatch
        No trusted entry is about it, or MLflow has other figures than were signed.
    """
    reference, trusted = f"{state.model}/{state.version}", trusted_keys()
    entries = [
        entry
        for entry in ledger.entries(state.model)
        if entry.action == ledger.EVALUATED
        and entry.details["run_id"] == state.request_id
        and entry.key in trusted
    ]
    if not entries:
        raise DigestMismatch(
            f"{reference}: report of device {state.device}, run {state.request_id}: found no "
            "signed entry in the ledger; expected one"
        )
    report = read_evaluation(entries[-1])
    if report.state is None or sentences(report.findings, MISMATCH):
        raise DigestMismatch(f"{reference}: {'; '.join(sentences(report.findings, MISMATCH))}")
    return replace(report.state, model=entries[-1].model, version=entries[-1].version or 0)


def server_metrics(model: ModelVersion) -> dict[str, float]:
    """What the server scored on the model's test set, as sealed, by the names a device uses."""
    return {
        name.removeprefix("test_"): value
        for name, value in read_version(model.reference).metrics.items()
        if name.startswith("test_")
    }
