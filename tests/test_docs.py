"""The pages of docs/: they build without a warning, name real commands, and load nothing."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from edge_agent.cli import parser
from flows.cli import app
from tests.conftest import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\S*/)?(holter(?:-edge)?) (.*)$")


def commands(page: Path) -> list[list[str]]:
    """The words of every holter command in a page's blocks, lines that go on joined."""
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"```(?:console)?\n(.*?)```", text, re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(f"{m[1]} {m[2]}") for line in lines if (m := COMMAND.match(line))]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_are_real(page: Path) -> None:
    """A command that a page shows is one that there is, with the options that it has."""
    for words in commands(page):
        if words[0] == "holter-edge":
            assert words[1] in parser().format_help(), words
            continue
        node: Any = get_command(app)
        while words[1:] and words[1] in getattr(node, "commands", {}):
            node, words = node.commands[words[1]], words[1:]
        assert not hasattr(node, "commands"), words
        options = {name for one in node.params for name in [*one.opts, *one.secondary_opts]}
        assert {word for word in words[1:] if word.startswith("--")} <= options, words


def test_commands_are_found() -> None:
    """The search for commands finds those of the pages; it does not pass by finding none."""
    found = [words for page in PAGES for words in commands(page)]
    assert len(found) > 10
    assert ["holter", "data", "check", "ward7"] in found


def test_the_picture_is_what_its_script_draws() -> None:
    """The picture of the way of the data is the one that its script draws."""
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_way.py"))["svg"]()
    assert (ROOT / "docs" / "images" / "way.svg").read_text() == drawn
