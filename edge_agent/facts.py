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
from storage.files import parse_text

#: Where sensors lie, by what they measure.
ROOTS = ("thermal", "hwmon", "powercap", "cpu", "nvpmodel")
KINDS = Path(__file__).parent / "devices"
PACKAGES = ("holter-af", "ai-edge-litert", "cryptography", "numpy", "onnxruntime", "psutil")


def device_kind(name: str) -> dict[str, Any]:
    """A device kind's TOML by name.

    Raises
    ------
    DeviceError
        No such kind; the message lists those there are.
    """
    paths = {path.stem: path for path in KINDS.glob("*.toml")}
    if name not in paths:
        raise DeviceError(f"device kind {name!r}: found none; there are {', '.join(sorted(paths))}")
    return read_kind(paths[name])


def read_kind(path: Path) -> dict[str, Any]:
    """A device kind's TOML: name, title, the sensors' roots, and the rail of the whole board.

    Raises
    ------
    DeviceError
        It is no TOML, or a member is unknown, missing or of another type.
    """
    try:
        fields = parse_text(path.read_text(encoding="utf-8"), tomllib.loads)
    except (OSError, ValueError) as error:
        raise DeviceError(f"device kind {path.name}: cannot be read: {error}") from error
    roots = fields.get("roots")
    texts = (fields.get("name"), fields.get("title"), fields.get("total_rail", ""))
    good = isinstance(roots, dict) and set(roots) == set(ROOTS)
    if not good or not all(isinstance(value, str) for value in (*texts, *roots.values())):
        raise DeviceError(
            f"device kind {path.name}: expected texts name and title, and [roots] with "
            f"{', '.join(ROOTS)}"
        )
    if unknown := fields.keys() - {"name", "title", "total_rail", "roots"}:
        raise DeviceError(f"device kind {path.name}: found unknown {sorted(unknown)}")
    return dict(fields)


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
