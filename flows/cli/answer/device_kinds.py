"""What the commands of devices answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flows.cli.answer.training_kinds import Figures


@dataclass(frozen=True)
class DeviceReports:
    """`holter edge request`: each device's figures of a version."""

    model: str
    reports: dict[str, Figures]


@dataclass(frozen=True)
class DeviceState:
    """A device: its group, its health, when it was seen, and what it told last."""

    name: str
    group: str
    health: str
    seen_ago_s: float | None
    kind: str
    model: str
    state: str


@dataclass(frozen=True)
class Devices:
    """`holter edge devices`: every device."""

    devices: list[DeviceState]


@dataclass(frozen=True)
class DeviceFigures:
    """A device's newest figures of a version."""

    device: str
    model: str
    figures: Figures


@dataclass(frozen=True)
class DeviceComparison:
    """`holter edge compare`: newest reports; `left_out` are those that cannot be used."""

    reports: list[DeviceFigures]
    left_out: list[str]


@dataclass(frozen=True)
class DeviceRelease:
    """`holter edge release`: the alias that was set, after whose report, and where it is."""

    model: str
    group: str
    alias: str
    canary: str
    devices: list[str]


@dataclass(frozen=True)
class Deed:
    """What a command did that has no figures: `holter edge group`, `account`, `maker`, `sign`."""

    action: str
    of: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Key:
    """`holter edge key`: the public key that a device enrols."""

    public_key: str


@dataclass(frozen=True)
class Export:
    """`holter edge export`, `check-export`: a release as C; `signed_by` is None without a key."""

    model: str
    target: str
    arithmetic: str
    detector_hz: int | None
    folder: str
    files: list[str]
    release: str
    release_manifest_sha256: str
    manifest_sha256: str
    signed_by: str | None


@dataclass(frozen=True)
class DeviceRequest:
    """An evaluation asked of a device, and what came of it."""

    request: str
    model: str
    version: int
    status: str
    agent: str
    reason: str


@dataclass(frozen=True)
class DeviceRequests:
    """`holter edge status`: the evaluations asked of a device, newest first."""

    device: str
    requests: list[DeviceRequest]


@dataclass(frozen=True)
class DeviceContents:
    """`holter-edge status`: the models on the device by slot, and its evaluations."""

    device: str
    slots: dict[str, str]
    requests: list[DeviceRequest]


@dataclass(frozen=True)
class RuntimeCosts:
    """What a release's runtime costs with so many threads; energy only where it is measured."""

    runtime: str
    threads: int
    latency_p50_ms: float
    latency_p99_ms: float
    throughput_rows_per_cpu_s: float
    cold_start_ms: float
    peak_memory_mb: float
    bytes: int
    providers: list[str]
    energy_mj_per_row: float | None = None


@dataclass(frozen=True)
class DeviceFacts:
    """What a device is: a sensor or package that is not there is told as missing."""

    kind: str
    machine: str
    system: str
    python: str
    cores: int | None
    memory_mb: float | str
    packages: dict[str, str]
    board: dict[str, str]
    sensors: dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """`holter-edge bench`: costs by name, beats a CPU second by threads and batch, runtimes.

    A runtime that cannot be compared has the reason in its place. `choice` is what an agent would
    run of them; empty for a file that is no release.
    """

    costs: Figures
    throughput_beats_per_cpu_s: dict[str, Figures]
    runtimes: dict[str, RuntimeCosts | str]
    choice: str
    facts: DeviceFacts
