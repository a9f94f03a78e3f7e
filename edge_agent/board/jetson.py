"""What a Jetson says of itself in files: release, power mode by name, fan, module.

Formats, as public repositories hold them from boards of JetPack 5 to 7:
`/etc/nv_tegra_release` begins `# R36 (release), REVISION: 4.3, ...`; `/var/lib/nvpmodel/status` is
`pmode:0002 fmode:fanNull`; `/etc/nvpmodel.conf` has lines `< POWER_MODEL ID=0 NAME=15W >`, whose
numbers differ by board and release; `/etc/nvfancontrol.conf` has `FAN_DEFAULT_PROFILE quiet`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from edge_agent.board.readings import read_text

#: The metapackage whose version is JetPack's, and the package whose version is Jetson Linux's.
JETPACK, L4T_CORE = "nvidia-jetpack", "nvidia-l4t-core"
#: Lines of dpkg's status that are read at the most.
MOST_LINES = 2_000_000
#: What nvpmodel writes for a fan mode that it did not set.
NO_FAN_MODE = "fanNull"
_RELEASE = re.compile(r"#\s*R(\d{1,4})\s*\(release\),\s*REVISION:\s*(\d{1,4}(?:\.\d{1,4})*)", re.A)
_STATUS = re.compile(r"\b([pf]mode):(\S{1,64})", re.A)
_MODE = re.compile(r"^<\s*POWER_MODEL\b([^>\n]{0,200})>", re.A | re.M)
_MEMBER = re.compile(r"\b(ID|NAME)\s*=\s*([^\s=]{1,64})", re.A)
_FAN = re.compile(r"^\s*FAN_DEFAULT_PROFILE\s+(\S{1,64})", re.A | re.M)


def l4t_release(root: Path) -> str | None:
    """Jetson Linux's release, 36.4.3, from `/etc/nv_tegra_release`."""
    match = _RELEASE.match(read_text(root) or "")
    return f"{match[1]}.{match[2]}" if match else None


def package_versions(status: Path, *names: str) -> dict[str, str]:
    """Versions of installed packages from dpkg's own file, without starting dpkg."""
    try:
        changed_ns = status.stat().st_mtime_ns
    except OSError:
        return {}
    return dict(_versions(status, names, changed_ns))


@lru_cache(8)
def _versions(status: Path, names: tuple[str, ...], _changed_ns: int) -> dict[str, str]:
    """The same of a file as it stood at a time: it has megabytes."""
    return {
        entry["Package"]: entry.get("Version", "")
        for entry in _entries(status)
        if entry.get("Package") in names and entry.get("Status", "").endswith(" installed")
    }


def _entries(status: Path) -> Iterator[Mapping[str, str]]:
    """Package, Status and Version of every entry of dpkg's status."""
    entry: dict[str, str] = {}
    try:
        with status.open(encoding="utf-8", errors="replace") as file:
            for _, line in zip(range(MOST_LINES), file, strict=False):
                field, _, value = line.partition(": ")
                if field in ("Package", "Status", "Version"):
                    entry[field] = value.strip()[:200]
                elif line == "\n":
                    yield entry
                    entry = {}
    except OSError:
        return
    if entry:
        yield entry


def power_modes(conf: Path) -> dict[int, str]:
    """Names of nvpmodel's power modes by number, from `/etc/nvpmodel.conf`."""
    modes = {}
    for match in _MODE.finditer(read_text(conf) or ""):
        members = dict(_MEMBER.findall(match[1]))
        if members.get("ID", "").isdecimal() and "NAME" in members:
            modes[int(members["ID"])] = members["NAME"]
    return modes


def power_mode(status: Path, conf: Path) -> dict[str, Any] | None:
    """The power mode that is set: its number, and its name where the configuration has one."""
    word = dict(_STATUS.findall(read_text(status) or "")).get("pmode", "")
    if not word.isdecimal():
        return None
    return {"id": int(word), "name": power_modes(conf).get(int(word), "missing")}


def fan_mode(status: Path, fan: Path) -> str | None:
    """The fan's mode: what nvpmodel set, or else the profile that nvfancontrol begins with."""
    word = dict(_STATUS.findall(read_text(status) or "")).get("fmode", NO_FAN_MODE)
    if word != NO_FAN_MODE:
        return str(word)
    profile = _FAN.search(read_text(fan) or "")
    return str(profile[1]) if profile else None


def board_facts(roots: Mapping[str, str]) -> dict[str, str]:
    """The module's name, Jetson Linux's release and JetPack's version; "missing" where none."""
    paths = {name: Path(path) for name, path in roots.items()}
    versions = package_versions(paths["packages"], JETPACK, L4T_CORE)
    core = versions.get(L4T_CORE, "").partition("-")[0]
    return {
        "model": read_text(paths["model"]) or "missing",
        "l4t": l4t_release(paths["l4t"]) or core or "missing",
        "jetpack": versions.get(JETPACK) or "missing",
    }
