"""The README and CONTRIBUTING tell the truth: their commands run, their files are there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

from storage.datasets.dataset import DatasetSpec
from tests.conftest import ROOT

TEXTS = ("README.md", "CONTRIBUTING.md", "docs/scheduling.md", "docs/operating.md")
#: Run elsewhere: whole paths by the end-to-end tests, the suite by itself, servers by their tests.
SLOW = (
    "make run",
    "make test",
    "make lint",
    "make bench",
    "holter data fetch",
    "holter retrain",
    ".venv/bin/holter up",
    "holter up",
    "holter data watch",
    "prefect ",
    "eval ",
    "export ",
)
#: Placeholders of a reader's own: what they name is not here.
THEIRS = ("ward7", "ward7-belt3", "edge/bin")


def commands(text: str) -> list[str]:
    """The commands of a page's console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / text).read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line[2:].split("  #")[0].strip() for line in lines]


def quick() -> list[str]:
    every = [command for text in TEXTS for command in commands(text)]
    return [c for c in every if not c.startswith(SLOW) and not any(t in c for t in THEIRS)]


@pytest.mark.parametrize("command", quick())
def test_quick_commands_run(command: str, real_data: Path, tmp_path: Path) -> None:
    """A command of the pages that takes seconds runs as it stands there and ends with 0."""
    line, _, file = command.partition(" > ")
    words = shlex.split(line.replace("../shared/data", str(real_data)))
    if "--out" in words:
        words[words.index("--out") + 1] = str(tmp_path / "out")
    if words[0] == "holter":
        words = [sys.executable, "-m", "flows", *words[1:]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout or not file  # what a shell writes into it is on standard output


@pytest.mark.parametrize("text", TEXTS)
def test_make_targets_exist(text: str) -> None:
    """A make target that a page names is one that there is; `test_docs.py` parses our commands."""
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [shlex.split(command) for command in commands(text)]
    assert {words[1] for words in named if words[0] == "make"} <= targets


@pytest.mark.parametrize("text", TEXTS)
def test_links_lead_somewhere(text: str) -> None:
    """Every file and picture that a page links to is in the repository."""
    for link in re.findall(r"\]\(([^)#]+)", (ROOT / text).read_text()):
        target = (ROOT / text).parent / link
        assert link.startswith("http") or target.is_file(), link


def test_the_example_data_set_is_valid() -> None:
    """The TOML that CONTRIBUTING shows is one that the project reads."""
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert DatasetSpec.model_validate(tomllib.loads(example)).subject_of("a/rec_12_3") == "12"


@pytest.mark.timeout(900)
def test_a_new_user_s_first_day() -> None:
    """From an empty Debian 12 to the report of a recording, by the commands of the README."""
    steps = [line for line in (ROOT / ".ci/walk").read_text().splitlines() if "walk " in line]
    assert any("walk make run" in step for step in steps)
    assert any("walk .venv/bin/holter analyse " in step for step in steps)
    folder = os.environ.get("HOLTER_WALK")
    if not folder:
        pytest.skip("it takes five minutes and needs root: make walk, or HOLTER_WALK=FOLDER")
    done = subprocess.run([ROOT / ".ci/walk", folder], capture_output=True, text=True)
    if done.returncode == 75:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    report = Path(folder) / "report"
    assert {path.suffix for path in report.iterdir()} == {".html", ".pdf", ".csv", ".json", ".haf"}
