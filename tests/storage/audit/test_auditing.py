"""The page on auditing tells the truth: its commands run as they stand there."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.emptied import Emptied
from tests.sealed import made_up_manifest, made_up_report, made_up_version, sides_of
from tests.system.test_readme import commands

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import
PAGE = "docs/auditing.md"


@pytest.fixture(scope="module")
def place(empty_mlflow: Emptied, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `make run` leaves behind, as far as an audit goes: a version, its report, its ledger."""
    folder = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", empty_mlflow.address)
        patch.setenv("HOLTER_HOME", str(folder / "home"))
        patch.setenv("PYTHONPATH", str(ROOT))
        path, manifest = made_up_manifest(folder / "records")
        split = sides_of(manifest)
        version = made_up_version("holter-resnet21", folder / "work", path, manifest, split)
        made_up_report(version, "this-machine", folder / "report")
        yield folder


def test_the_commands_run(place: Path) -> None:
    """Each ends with 0 and tells something, in the order of the page; files are written."""
    found = commands(PAGE)
    assert len(found) == 7
    for command in found:
        words = [sys.executable, "-m", "flows", *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=place, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout or done.stderr, command
    assert (place / "lineage.html").stat().st_size > 10_000
    assert "wasGeneratedBy" in json.loads((place / "lineage.json").read_text())


def test_the_picture_is_there() -> None:
    """The page's picture is in the repository."""
    assert "(images/lineage.png)" in (ROOT / PAGE).read_text()
    assert (ROOT / "docs" / "images" / "lineage.png").stat().st_size > 10_000
