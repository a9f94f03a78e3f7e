"""Kinds of devices: one TOML each says what a kind is, and where its sensors lie if elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # JetPack 6 ships Python 3.10
    import tomli as tomllib

from storage.errors import DeviceError
from storage.files import parse_text

#: Where each reading lies, where a kind's TOML says nothing else.
ROOTS = {
    "thermal": "/sys/class/thermal",
    "hwmon": "/sys/class/hwmon",
    "powercap": "/sys/class/powercap",
    "cpu": "/sys/devices/system/cpu",
    "devfreq": "/sys/class/devfreq",
    "model": "/proc/device-tree/model",
    "nvpmodel": "/var/lib/nvpmodel/status",
    "modes": "/etc/nvpmodel.conf",
    "fan": "/etc/nvfancontrol.conf",
    "l4t": "/etc/nv_tegra_release",
    "packages": "/var/lib/dpkg/status",
}
#: Members of a kind's TOML beside its roots.
TEXTS = ("name", "title", "total_rail")
FOLDER = Path(__file__).parents[1] / "devices"


def device_kind(name: str) -> dict[str, Any]:
    """A device kind's TOML by name.

    Raises
    ------
    DeviceError
        No such kind; the message lists those there are.
    """
    paths = {path.stem: path for path in FOLDER.glob("*.toml")}
    if name not in paths:
        raise DeviceError(f"device kind {name!r}: found none; there are {', '.join(sorted(paths))}")
    return read_kind(paths[name])


def read_kind(path: Path) -> dict[str, Any]:
    """A device kind's TOML: name, title, the rail of the whole board, release, sensors' roots.

    Raises
    ------
    DeviceError
        It is no TOML, or a member is unknown, missing or of another type.
    """
    try:
        fields = parse_text(path.read_text(encoding="utf-8"), tomllib.loads)
    except (OSError, ValueError) as error:
        raise DeviceError(f"device kind {path.name}: cannot be read: {error}") from error
    kind = {"total_rail": "", "l4t_major": 0, "roots": {}, **fields}
    if unknown := kind.keys() - {*TEXTS, "l4t_major", "roots"}:
        raise DeviceError(f"device kind {path.name}: found unknown {sorted(unknown)}")
    roots, major = kind["roots"], kind["l4t_major"]
    texts = [kind.get(name) for name in TEXTS] + list(roots.values() if _is_roots(roots) else [0])
    if not all(isinstance(value, str) for value in texts) or type(major) is not int:
        raise DeviceError(
            f"device kind {path.name}: expected texts name and title; where they are given, text "
            f"total_rail, whole number l4t_major, and in [roots] texts of {', '.join(ROOTS)}"
        )
    return {**kind, "roots": {**ROOTS, **roots}}


def _is_roots(roots: Any) -> bool:
    return isinstance(roots, dict) and roots.keys() <= ROOTS.keys()


def usual_kind(machine: str, l4t: str | None) -> str | None:
    """The name of the kind of a machine of this processor and Jetson Linux release, if any."""
    if machine == "x86_64":
        return "x86-64"
    if machine != "aarch64":
        return None
    majors = {device_kind(path.stem)["l4t_major"]: path.stem for path in FOLDER.glob("*.toml")}
    return majors.get(int(l4t.partition(".")[0]), "aarch64") if l4t else "aarch64"


def refuse_other_release(kind: dict[str, Any], l4t: str | None) -> None:
    """Raise DeviceError where a kind is of another Jetson Linux release than the board runs.

    A report names its kind: it may not name one that the board is not of.
    """
    expected = kind["l4t_major"]
    if expected and l4t and int(l4t.partition(".")[0]) != expected:
        raise DeviceError(
            f"device kind {kind['name']}: is of Jetson Linux {expected}; this board runs {l4t}; "
            f"name another with --kind"
        )
