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

from bench.tables import BLOCK, RESULTS, page_of, read_result, write_result
from tests.conftest import ROOT
from tests.pages import PAGES, TEXTS, commands, found_in, named, options_of, parse

DOCS = ROOT / "docs"
MEASURED = sorted((DOCS / "measurements").glob("*.md"))
DATE = r"20\d\d-\d\d-\d\d( to 20\d\d-\d\d-\d\d)?"
#: Every test of the project, by name.
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in [path.stem, *re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)]
}
faults = runpy.run_path(str(ROOT / "scripts" / "prose.py"))["faults"]


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
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert {page.relative_to(DOCS).with_suffix("") for page in PAGES} <= built


def test_the_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """A page opens offline: no script, style, font or picture comes from another server."""
    for path in site.rglob("*.html"):
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
    entries = re.findall(r"[\w/-]+\.md", str(nav))
    assert len(entries) == len(set(entries))
    assert {page.relative_to(DOCS).as_posix() for page in PAGES} >= set(entries)


@pytest.mark.parametrize("package", ["flows", "tasks", "storage"])
def test_every_room_has_its_place_in_the_interface(package: str) -> None:
    """The page of a package's Python interface names each of its rooms."""
    rooms = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    page = (DOCS / "api" / f"{package}.md").read_text()
    assert rooms <= set(re.findall(rf"^::: {package}\.(\w+)$", page, re.MULTILINE))


@pytest.mark.parametrize("page", MEASURED, ids=lambda page: page.stem)
def test_the_tables_are_what_the_result_files_give(page: Path) -> None:
    """`python -m bench tables` changes nothing: no figure of a page was written by hand."""
    assert page_of(page.read_text()) == page.read_text()


def test_every_result_file_is_shown() -> None:
    """Each result file has its block in one page, and no block lacks its file."""
    blocks = [match[1] for page in MEASURED for match in BLOCK.finditer(page.read_text())]
    assert sorted(blocks) == sorted(path.stem for path in RESULTS.glob("*.json"))


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_result_file_says_when_where_and_how(path: Path, tmp_path: Path) -> None:
    """It is read and written without loss; it names a date or none, and no folder of a machine."""
    result = read_result(path)
    write_result(tmp_path / path.name, result)
    assert (tmp_path / path.name).read_text() == path.read_text()
    assert result.date is None or re.fullmatch(DATE, result.date)
    assert not re.search(r"/(home|root|tmp|work|mnt|srv)/", path.read_text())
    assert all(len(row) == len(table.columns) for table in result.tables for row in table.rows)


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    """A module or a test file that a page names is in the repository."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    folders = "flows|tasks|storage|edge_agent|bench|tests|mlflow|pools|scripts"
    files = re.findall(rf"`((?:{folders})/[\w/.-]+\.\w+)`", text)
    assert [f for f in files if "NAME" not in f and not (ROOT / f).is_file()] == []


def test_every_threat_names_a_test_that_there_is() -> None:
    """Each row of a table of threats ends with a test, or a file of tests, of this project."""
    tables = (DOCS / "security.md").read_text().split("| threat |")[1:]
    rows = [row for table in tables for row in table.split("\n\n")[0].splitlines()[2:]]
    assert len(rows) > 25
    for row in rows:
        tests = re.findall(r"`(?:[\w/]+/)?(test_\w+)(?:\.py)?`", row.split(" | ")[-1])
        assert tests, row
        assert set(tests) <= TESTS, row


def test_the_readme_fits_two_screens() -> None:
    """Who opens the README reads it whole."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 85


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_pages_keep_their_rules(page: Path) -> None:
    """A page starts with what its reader can do, its sentences are short, and it is no diary."""
    assert list(faults(page.relative_to(ROOT).as_posix(), page.read_text())) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("# A\n\nThis page is about beats.\n", "what you can do"),
        ("# A\n\nYou can read.\n\nIt was made on 2026-11-29.\n", "a day"),
        ("# A\n\nYou can read.\n\n- It no longer fails.\n", "a past"),
        ("# A\n\nYou can read " + "and read " * 12 + "it.\n", "28 words"),
    ],
)
def test_a_page_that_breaks_a_rule_is_noticed(text: str, fault: str) -> None:
    """The rules of pages do not pass whatever stands there."""
    assert any(fault in message for _, message in faults("docs/a.md", text))


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
