"""What a device installs: exact versions that there are wheels of, for each JetPack's Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomllib
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@dataclass(frozen=True)
class Lane:
    """A system of devices: its Python, and the newest glibc 2.N that wheels may ask for."""

    python: str
    glibc: int


LANES = {
    "JetPack 6 (Ubuntu 22.04)": Lane("3.10", 35),
    "Debian 12": Lane("3.11", 36),
    "JetPack 7 (Ubuntu 24.04)": Lane("3.12", 39),
    "Debian 13": Lane("3.13", 41),
}


def environment(lane: Lane) -> dict[str, str]:
    """The markers' values on such a device; pip takes those of the Python that runs it."""
    values = {"python_version": lane.python, "python_full_version": f"{lane.python}.0"}
    return {**default_environment(), **values, "platform_machine": "aarch64"}  # type: ignore[dict-item]


def constraints(lane: Lane) -> dict[str, str]:
    """The pins that hold on such a device, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    needs = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {
        canonicalize_name(need.name): str(need.specifier)
        for need in needs
        if need.marker is None or need.marker.evaluate(environment(lane))
    }


def needs_of(lane: Lane) -> list[str]:
    """What `holter-af[edge,onnx]` asks for on such a device."""
    extras = PROJECT["optional-dependencies"]
    words = [*PROJECT["dependencies"], *extras["edge"], *extras["onnx"]]
    return [str(need) for need in there(words, lane)]


def there(words: list[str], lane: Lane) -> Iterator[Requirement]:
    """Requirements that count on such a device, without their markers."""
    for need in map(Requirement, words):
        if need.marker is None or need.marker.evaluate({**environment(lane), "extra": ""}):
            need.marker = None
            yield need


@pytest.mark.parametrize("name", LANES)
def test_each_lane_has_one_exact_version_of_what_it_needs(name: str) -> None:
    """What the device's extras ask for is pinned, once for each Python, within its bounds."""
    pins = constraints(LANES[name])
    for need in map(Requirement, needs_of(LANES[name])):
        version = pins[canonicalize_name(need.name)]
        assert version.startswith("==")
        assert need.specifier.contains(version.removeprefix("=="))


@pytest.mark.slow
@pytest.mark.skipif(
    "HOLTER_EDGE_RESOLVE" not in os.environ,
    reason="resolving for aarch64 asks the package index: set HOLTER_EDGE_RESOLVE",
)
@pytest.mark.parametrize("name", LANES)
def test_each_lane_resolves_to_wheels_for_aarch64(name: str, tmp_path: Path) -> None:
    """A dry run of pip finds a wheel of every package, dependencies' own included, as pinned."""
    lane = LANES[name]
    pins, needs = constraints(lane), needs_of(lane)
    (tmp_path / "pins").write_text("".join(f"{n}{v}\n" for n, v in pins.items()))
    while True:
        items = resolve(needs, lane, tmp_path)
        lacking = [
            str(need)
            for item in items.values()
            for need in there(item.get("requires_dist", []), lane)
            if canonicalize_name(need.name) not in items
        ]
        if not lacking:  # of markers that this Python does not fulfil, and the device's does
            break
        needs = [*needs, *dict.fromkeys(lacking)]
    for item in items.values():
        assert SpecifierSet(item.get("requires_python", "")).contains(f"{lane.python}.12"), item
    versions = {n: item["version"] for n, item in items.items()}
    wrong = {n: v for n, v in versions.items() if pins.get(n) != f"=={v}"}
    assert not wrong
    print(name, versions)


def resolve(needs: list[str], lane: Lane, folder: Path) -> dict[str, Any]:
    """The packages' metadata by canonical name, as pip resolves them for such a device."""
    words = ["install", "--dry-run", "--ignore-installed", "--quiet", "--only-binary=:all:"]
    words += ["--ignore-requires-python"]  # pip holds it to its own; checked below
    words += ["--target", str(folder / "none"), "--report", str(folder / "report.json")]
    words += ["--python-version", lane.python, "-c", str(folder / "pins")]
    for minor in range(17, lane.glibc + 1):
        words += ["--platform", f"manylinux_2_{minor}_aarch64"]
    words += ["--platform", "manylinux2014_aarch64", *needs]
    process = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    items = [
        entry["metadata"] for entry in json.loads((folder / "report.json").read_text())["install"]
    ]
    return {canonicalize_name(item["name"]): item for item in items}
