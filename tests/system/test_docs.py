"""The pages of docs/: they build without a warning, name real commands, and load nothing."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.pages import PAGES, TEXTS, commands, found_in, named, options_of, parse


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="no mkdocs-material: make docs installs it")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_pages_build(site: Path) -> None:
    """Every page is built; a link, anchor or picture that leads nowhere ends the build."""
    assert {page.stem for page in PAGES} <= {path.stem for path in site.glob("*.html")}


def test_the_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """A page opens offline: no script, style, font or picture comes from another server."""
    for path in site.glob("*.html"):
        text = path.read_text()
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*src=[\"']?(https?://[^\"'> ]+)", text)
        loaded += re.findall(
            r"<link[^>]*rel=[\"']?stylesheet[^>]*href=[\"']?(https?://[^\"'> ]+)", text
        )
        assert loaded == [], path.name
        assert "fonts.g" not in text, path.name


def test_the_contents_name_pages() -> None:
    """Every entry of the contents is a page that is there, and none twice."""
    nav: Any = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = re.findall(r"[\w-]+\.md", str(nav))
    assert len(named) == len(set(named))
    assert {f"{page.stem}.md" for page in PAGES} >= set(named)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_commands_are_understood(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A command that a page shows is parsed as it stands there, every word of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edge_agent.cli._runtime", str)  # whether it is installed is no matter
    for words in commands(page):
        parse(words)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_commands_in_sentences_are_there(page: Path) -> None:
    """A command that a sentence names is one that there is, with the options that it names."""
    for words in named(page):
        command, rest = found_in(words)
        used = {word.split("=")[0] for word in rest if re.match("--[a-z]", word)}
        assert used <= options_of(command), words


def test_commands_are_found() -> None:
    """The search for commands finds those of the pages; it does not pass by finding none."""
    found = [words for page in TEXTS for words in commands(page)]
    assert len(found) > 50
    assert ["holter", "data", "check", "ward7"] in found
    assert ["holter-edge", "live", "--fs", "250", "--format", "int16"] in [w[:6] for w in found]
    assert len([words for page in TEXTS for words in named(page)]) > 60


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["holter", "retrian", "mitdb"], "no command"),
        (["holter", "retrain"], "dataset"),
        (["holter", "retrain", "mitdb", "--epoch", "3"], "--epoch"),
        (["holter", "retrain", "mitdb", "--epochs", "many"], "valid integer"),
        (["holter", "retrain", "mitdb", "--epochs", "0"], "epochs: found 0"),
        (["holter-edge", "enrol", "--key", "a"], "no command"),
        (["holter-edge", "enroll", "release.pub"], "2"),
    ],
)
def test_commands_that_are_wrong_are_noticed(words: list[str], told: str) -> None:
    """The parsing of pages does not pass whatever stands there."""
    with pytest.raises((Exception, SystemExit), match=told):
        parse(words)


def test_a_device_enrols_as_its_page_says(tmp_path: Path) -> None:
    """The key that the server prints is the one that the device trusts, and the name is kept."""
    page = ROOT / "docs" / "adding-a-device.md"
    assert "`holter edge key > release.pub`" in page.read_text()
    (enroll,) = [words for words in commands(page) if words[:2] == ["holter-edge", "enroll"]]
    env = {**os.environ, "HOLTER_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    env["HOLTER_EDGE_HOME"] = str(tmp_path / "edge")
    line = f"{sys.executable} -m flows edge key > release.pub && {sys.executable} -m edge_agent "
    line += " ".join(f'"{word}"' for word in enroll[1:])
    done = subprocess.run(["bash", "-ec", line], cwd=tmp_path, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr
    (kept,) = (tmp_path / "edge" / "keys").glob("*.pub")
    assert kept.read_text() == (tmp_path / "release.pub").read_text()
    assert json.loads((tmp_path / "edge" / "device.json").read_text()) == {"device": "ward7-belt3"}


def test_the_picture_is_what_its_script_draws() -> None:
    """The picture of the way of the data is the one that its script draws."""
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_way.py"))["svg"]()
    assert (ROOT / "docs" / "images" / "way.svg").read_text() == drawn
