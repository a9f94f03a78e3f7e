"""The count of names that are pronouns or participles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

MODULE = '''
"""A module."""
import numpy as np
from os import path as found

KNOWN_MODELS = {}
one: int = 1


def joined(what: str, *, seed: int) -> str:
    told = what
    for _ in ():
        pass
    return told


def write_simulated(folder):
    def inner(it):
        return it


class Described:
    who: str

    def __init__(self, given):
        self.seen = given

    def __eq__(self, other):
        return True

    @property
    def simulated(self):
        return True

    def _search(self, these):
        return [other for other in these]


class WorkersGone(Exception):
    pass
'''
PUBLIC = ["found", "one", "joined", "what", "Described", "who", "given", "seen"]
PRIVATE = ["told", "it", "these", "other"]


def count(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(ROOT / "scripts" / "names.py"), *words, str(folder)]
    return subprocess.run(script, capture_output=True, text=True)


def test_names_are_found_with_file_and_line(tmp_path: Path) -> None:
    """Each kind of name is seen once a scope, public or not; what Python names is left out."""
    module = tmp_path / "module.py"
    module.write_text(MODULE)
    process = count(tmp_path, "--list")
    assert process.returncode == 0, process.stderr
    lines = [line for line in process.stdout.splitlines() if line.startswith(f"{module}:")]
    assert [line.split()[-1] for line in lines if ": public " in line] == PUBLIC
    assert sorted(line.split()[-1] for line in lines if ": public " not in line) == sorted(PRIVATE)
    assert f"{module}:7: public value one" in lines
    assert f"{module}:10: public function joined" in lines
    assert f"{module}:22: public class Described" in lines


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        ((), 0),
        (("--most-public", "0.9", "--most-all", "0.9"), 0),
        (("--most-public", "0"), 1),
        (("--most-all", "0.02"), 1),
    ],
)
def test_a_share_above_its_bound_fails(tmp_path: Path, bounds: tuple[str, ...], code: int) -> None:
    """With a bound the names at fault are listed, and the exit code is 1."""
    (tmp_path / "module.py").write_text(MODULE)
    process = count(tmp_path, *bounds)
    assert process.returncode == code
    assert ("public value one" in process.stdout) == (code == 1)
    assert ("above its bound" in process.stderr) == (code == 1)


def test_a_folder_without_names_is_refused(tmp_path: Path) -> None:
    """A mistyped folder does not pass as one without faults."""
    assert count(tmp_path / "nowhere", "--most-all", "0.02").returncode == 2


def test_a_name_stays_in_its_module_alone(tmp_path: Path) -> None:
    """What is exempt in one module, as a signed field, is at fault in any other."""
    for name in ("ledger.py", "other.py"):
        (tmp_path / name).write_text("who: str\n")
    process = count(tmp_path, "--list")
    assert f"{tmp_path / 'other.py'}:1: public value who" in process.stdout
    assert f"{tmp_path / 'ledger.py'}:1" not in process.stdout
