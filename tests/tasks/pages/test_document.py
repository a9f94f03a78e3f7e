"""The one look of every page: offline, printable, readable by night; figures have their names."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from flows.reports.compare import DEVICE
from flows.reports.evaluation import FIRST
from storage.registry.policy import DRIFT, read_checks
from tasks.pages.colours import DARK, LIGHT
from tasks.pages.document import (
    Block,
    Branch,
    Drawing,
    Heading,
    Picture,
    Summary,
    Table,
    Tile,
    Words,
    to_html,
    to_markdown,
)
from tasks.pages.numbers import NUMBERS, bounds_of, label_of, name_of, phrase_of, with_bounds
from tasks.scores.evaluation import per_patient, summary
from tasks.scores.metrics import beat_metrics
from tests.conftest import ROOT
from tests.tasks.pages.test_mistakes import scored

BLOCKS: list[Block] = [
    Summary("All is well", [Tile("Beat F1", "0.9", "0.8 to 1.0")], "good"),
    Words("of one patient", caveat=True),
    Heading("Part"),
    Table(("name", "beats", "F1"), [("a", "1,200", "0.9 (0.8 to 1.0)"), ("b", "-", "0.8")]),
    Picture("p.png", b"\x89PNG", "a curve"),
    Drawing('<svg><text class="af">a</text></svg>', "a strip"),
    Branch("data", (Branch("records", (Branch("one"),)), Branch("tables"))),
]


def test_a_page_is_whole_by_itself() -> None:
    """No address in it; a phone, a printer and a dark screen have their rules."""
    page = to_html("T", BLOCKS)
    assert page.startswith("<!doctype html>")
    assert "http" not in page
    assert not re.search(r"url\(|@import|<script|<link", page)
    for rule in ('name="viewport"', "prefers-color-scheme: dark", "@media print", "overflow-x"):
        assert rule in page
    assert page.index("All is well") < page.index("<h2")


def test_a_page_shows_every_block() -> None:
    """Tiles, caveats, drawings and outlines are in it, as they are in Markdown in words."""
    page, text = to_html("T", BLOCKS), to_markdown("T", BLOCKS)
    assert '<svg><text class="af">a</text></svg>' in page
    assert page.count("<li>") == 4
    assert 'class="caveat"' in page
    assert "**All is well**\n\n- Beat F1: 0.9 (0.8 to 1.0)" in text
    assert "- data\n  - records\n    - one\n  - tables" in text
    assert "a strip" in text


def test_numbers_stand_right_and_words_left() -> None:
    """A column of numbers, with units, intervals or nothing, is one; any word makes it text."""
    cells = [("a", "1,200", "0.9 (0.8 to 1.0)", "5 %", ""), ("1", "-", "-0.8", "2e-7", "")]
    assert Table("abcde", cells).numeric == [2, 3, 4]
    assert 'class="n2 n3 "' in to_html("T", BLOCKS)


def test_a_long_page_has_contents() -> None:
    """Each heading of a page of five is linked to where it stands."""
    page = to_html("T", [Heading(f"part {k}") for k in range(5)])
    assert re.findall(r'href="#(s\d)"', page) == re.findall(r'<h2 id="(s\d)"', page)
    assert "<nav" not in to_html("T", [Heading("one")])


def test_every_figure_has_a_name() -> None:
    """What is measured of beats, segments, episodes, devices and drift is in the one table."""
    keys = {*FIRST, *DEVICE, *summary([scored()], draws=20), *per_patient([scored()]).columns}
    keys |= {*beat_metrics(np.array([0, 1]), np.array([0.1, 0.9]))}
    keys |= {check.figure for check in read_checks(DRIFT)}
    plain = {key for key in keys if not key.endswith(("_low", "_high"))} - {"patient"}
    assert plain <= NUMBERS.keys()
    assert not [number.name for number in NUMBERS.values() if "_" in number.name]


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("beat_f1", "Beat F1"),
        ("test_f1", "Beat F1, test set"),
        ("burden_error_pp", "AF burden error, percentage points"),
        ("test_of_ours", "of ours, test set"),
        ("my_own", "my own"),
    ],
)
def test_names_have_their_unit_and_place(key: str, label: str) -> None:
    """A figure's unit follows its name, and so does where it is of; others keep their words."""
    assert label_of(key) == label


def test_values_have_their_form() -> None:
    """A phrase has the unit; bounds stand only beside a value that has both."""
    assert phrase_of("latency_p99_ms", 1.5) == f"{name_of('latency_p99_ms')} 1.5 ms"
    figures = {"f1": 0.5, "f1_low": 0.25, "f1_high": 0.75, "ppv": float("nan")}
    assert with_bounds(figures, "f1") == "0.5000 (0.2500 to 0.7500)"
    assert with_bounds(figures, "ppv") == "-"
    assert with_bounds(figures, "auc") == "not measured"
    assert bounds_of({"f1": 0.5, "f1_low": float("nan"), "f1_high": 0.75}, "f1") == ""


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2, 1.4.3)."""
    lights = []
    for colour in (one, other):
        parts = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ (0.2126, 0.7152, 0.0722)))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK])
@pytest.mark.parametrize("ground", ["paper", "panel"])
def test_text_can_be_read(colours: dict[str, str], ground: str) -> None:
    """Whatever is written in a colour has the contrast that small text needs, 4.5."""
    for name in ("ink", "faint", "af", "other", "doubt", "good"):
        assert contrast(colours[name], colours[ground]) >= 4.5, name


def test_the_template_is_loaded_late() -> None:
    """A device and `holter --help` load no Jinja2: only a page that is written does."""
    code = (
        "import sys, edge_agent.agent, tasks.analysis.analyse, edge_agent.cli, flows.cli.app, "
        "tasks.pages.document; print('jinja2' in sys.modules)"
    )
    words = [sys.executable, "-c", code]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
