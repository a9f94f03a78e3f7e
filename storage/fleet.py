"""The fleet: every device that has an experiment, its group, its health, and its reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from storage.errors import DeviceError
from storage.evaluations import RequestState, device_experiment, device_requests, said_in
from storage.mlflow_rest import call, server_time_s
from storage.model_files import RegisteredModel

GROUP = "holter.group"


@dataclass(frozen=True)
class DeviceState:
    """A device: its name and group, what its agent last said, and how long ago by the server."""

    name: str
    group: str
    said: dict[str, Any]
    seen_ago_s: float | None

    @property
    def health(self) -> str:
        """`stopped`, `working`, `silent` (no sign of life for a minute) or `never seen`."""
        if self.seen_ago_s is None:
            return "never seen"
        if self.said.get("released"):
            return "stopped"
        return "working" if abs(self.seen_ago_s) < 60 else "silent"


def devices(group: str | None = None) -> list[DeviceState]:
    """Every device, by name; only those of a group, if one is given."""
    fields: dict[str, Any] = {"filter": "name LIKE 'edge/%'", "max_results": 1000}
    found = []
    while True:
        answer = call("POST", "experiments/search", **fields)
        found += [_device(experiment) for experiment in answer.get("experiments", ())]
        if not answer.get("next_page_token"):
            break
        fields["page_token"] = answer["next_page_token"]
    wanted = [one for one in found if group is None or one.group == group]
    return sorted(wanted, key=lambda one: one.name)


def _device(experiment: dict[str, Any]) -> DeviceState:
    tags = {tag["key"]: tag["value"] for tag in experiment.get("tags", ())}
    said = said_in(tags)
    seen = said.get("seen_s")
    ago = server_time_s() - seen if isinstance(seen, int | float) else None
    return DeviceState(experiment["name"].removeprefix("edge/"), tags.get(GROUP, ""), said, ago)


def set_group(device: str, group: str) -> None:
    """Put a device into a group; a device that has none yet is made known."""
    experiment = device_experiment(device, make=True)
    call("POST", "experiments/set-experiment-tag", experiment_id=experiment, key=GROUP, value=group)


def members(group: str) -> list[str]:
    """The devices of a group, by name; DeviceError if it has none."""
    found = [device.name for device in devices(group)]
    if not found:
        raise DeviceError(f"device group {group!r}: found no device; put one into it first")
    return found


def reports(names: Iterable[str]) -> list[RequestState]:
    """The newest finished report of every device on every model version."""
    newest: dict[tuple[str, str, int], RequestState] = {}
    for name in names:
        for state in device_requests(name, "FINISHED"):
            newest.setdefault((name, state.model, state.version), state)
    return [newest[key] for key in sorted(newest)]


def server_metrics(model: RegisteredModel) -> dict[str, float]:
    """What the server scored on the model's test set, by the names a device uses."""
    data = call("GET", "runs/get", run_id=model.run_id)["run"]["data"]
    return {
        one["key"].removeprefix("test_"): float(one["value"])
        for one in data.get("metrics", ())
        if one["key"].startswith("test_")
    }
