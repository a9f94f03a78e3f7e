"""What the device is: kind, processor, memory, versions, temperature. A missing sensor is said."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

if sys.version_info >= (3, 11):
    import tomllib
else:  # JetPack 6 ships Python 3.10
    import tomli as tomllib

from edge_agent.sensors import sensors
from storage.errors import DeviceError

KINDS = Path(__file__).parent / "devices"
PACKAGES = ("holter-af", "ai-edge-litert", "cryptography", "numpy", "onnxruntime", "psutil")


def device_kind(name: str) -> dict[str, Any]:
    """A device kind's TOML by name.

    Raises
    ------
    DeviceError
        No such kind; the message lists those there are.
    """
    known = {path.stem: path for path in KINDS.glob("*.toml")}
    if name not in known:
        raise DeviceError(f"device kind {name!r}: found none; there are {', '.join(sorted(known))}")
    return tomllib.loads(known[name].read_text())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _memory_mb() -> float | None:
    try:
        return float(psutil.virtual_memory().total) / 2**20
    except OSError:
        return None


def facts(kind: dict[str, Any]) -> dict[str, Any]:
    """The device's facts, as they go into its report."""
    packages = {name: _version(name) for name in PACKAGES}
    return {
        "kind": kind["name"],
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": psutil.cpu_count(),
        "memory_mb": _memory_mb() or "missing",
        "packages": packages,
        "sensors": sensors(kind),
    }
