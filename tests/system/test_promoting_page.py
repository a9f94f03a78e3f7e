"""docs/promoting.md tells the truth: its commands run in their order, its policy is one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli.app import app, plainly
from storage.audit import ledger
from storage.registry.policy import read_policy
from tests import made_up
from tests.conftest import ROOT
from tests.emptied import Emptied

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import

PAGE = (ROOT / "docs" / "promoting.md").read_text()
#: These need recordings of a reader's own; the end-to-end tests do what they do.
THEIRS = ("/data/ward7", "belt-3")


def commands() -> Iterator[tuple[list[str], int]]:
    """Each command of the page, and the exit code that it is to have."""
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line.removeprefix("$ ").split("  #")[0])
            if not any(theirs in word for word in words for theirs in THEIRS):
                yield words, 1 if "refused: exit code 1" in line else 0


def test_the_commands_run(
    empty_mlflow: Emptied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From comparison to roll-back every command does what the page says."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_mlflow.address)
    for number, threshold in ((1, made_up.THRESHOLD), (2, 0.51)):
        folder = tmp_path / str(number)
        version = made_up.register(folder, name="holter-resnet21", threshold=threshold)
        made_up.on_device(version, "belt", energy_j_per_24_h=900.0)
        made_up.on_data_set(version, nsrdb_beat_specificity=0.97)
    found = list(commands())
    assert len(found) == 10
    for words, code in found:
        assert words[0] == "holter"
        done = plainly(lambda words=words: app(words[1:], standalone_mode=False))  # type: ignore[misc]
        assert done == code, words
    assert ledger.aliases(ledger.entries("holter-resnet21"))["champion"] == 1
    for file in ("compare.html", "pareto.html", "card.html", "sbom-edge.cdx.json"):
        assert (tmp_path / file).stat().st_size > 1_000


def test_the_policy_is_one(tmp_path: Path) -> None:
    """The policy that the page shows is one that is read."""
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "ward7.toml"
    path.write_text(example)
    assert read_policy(path).use == "product"


def test_pictures_and_files_are_there() -> None:
    """What the page shows and links to is in the repository."""
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).is_file(), link
