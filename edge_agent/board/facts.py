"""What the device is: kind, board, releases, memory, versions, sensors. What is missing is said."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from edge_agent.board.jetson import board_facts
from edge_agent.board.sensors import sensors

#: What runs networks, and what measures: their versions are told.
PACKAGES = (
    "holter-af",
    "ai-edge-litert",
    "cryptography",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "psutil",
)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def package_versions() -> dict[str, str]:
    """Versions of what runs networks and measures, by package."""
    return {name: _version(name) for name in PACKAGES}


def _memory_mb() -> float | None:
    try:
        return float(psutil.virtual_memory().total) / 2**20
    except OSError:
        return None


def facts(kind: dict[str, Any]) -> dict[str, Any]:
    """The device's facts, as they go into its report."""
    return {
        "kind": kind["name"],
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": psutil.cpu_count(),
        "memory_mb": _memory_mb() or "missing",
        "packages": package_versions(),
        "board": board_facts(kind["roots"]),
        "sensors": sensors(kind),
    }
