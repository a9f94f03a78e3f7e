"""A report of `holter analyse` leads to the record in the review page, where there is one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.services.ports import review_page
from tests.review import fill


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recordings of a state folder whose tables are made."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HOLTER_BEATS", raising=False)
    return fill(tmp_path / "home") / "data"


def links(recording: Path, out: Path) -> list[str]:
    """The addresses in the report of a recording."""
    done = CliRunner().invoke(app, ["analyse", str(recording), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return re.findall(r'href="([^"]+)"', (out / f"{recording.stem}.html").read_text())


def test_each_episode_leads_to_its_moment(recordings: Path, tmp_path: Path) -> None:
    """Wherever a recording lies, if its files are those that the table was made of."""
    copies = tmp_path / "copies"
    shutil.copytree(recordings, copies)
    first, *episodes = links(copies / "sim001.hea", tmp_path / "out")
    assert first == review_page("simulated", "sim001")
    assert episodes
    assert all(re.fullmatch(re.escape(first) + r"\?at=\d+\.\d\d", link) for link in episodes)


def test_another_recording_of_the_same_name_leads_nowhere(recordings: Path, tmp_path: Path) -> None:
    """One sample differs: what the page would show is another recording."""
    copies = tmp_path / "copies"
    shutil.copytree(recordings, copies)
    data = bytearray((copies / "sim001.dat").read_bytes())
    data[1000] ^= 1
    (copies / "sim001.dat").write_bytes(data)
    assert links(copies / "sim001.hea", tmp_path / "out") == []
