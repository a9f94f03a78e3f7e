"""The report of a record as HTML: what it says, shows, and never runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import tomllib
from numpy.typing import NDArray

from tasks.analysis.page import words
from tasks.analysis.page.charts import _quantiles, day_chart, timeline
from tasks.analysis.page.facts import Page, episodes_of
from tasks.analysis.page.shapes import Boxes, Curve, Shape, Strokes, Text
from tasks.analysis.page.strips import (
    ALPHABET,
    LEAD_IN_MM,
    MARKS_MM,
    draw_strip,
    episode_starts,
    pack,
    read_strip,
    thin,
)
from tasks.analysis.page.to_html import draw_html
from tests.conftest import ROOT
from tests.tasks.analysis.page_cases import FS_HZ, beat_like, page_with

HOSTILE = "</title><script>alert(1)</script> \"x\" onload='y' & \u202eשלום " + "long" * 40


class Tags(HTMLParser):
    """What a browser makes of a page: elements with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Text, within the element that began last."""
        self.texts.append((self.tags[-1][0] if self.tags else "", data))

    def text(self, tag: str) -> str:
        """The first text of an element of this name."""
        return next(text for name, text in self.texts if name == tag)


def unpacked(text: str) -> NDArray[np.float64]:
    """A trace as the page's script reads it."""
    digit = {letter: k for k, letter in enumerate(ALPHABET)}
    base, out, tenths, k = len(ALPHABET), [], 0, 0
    while k < len(text):
        step = digit[text[k]]
        k += 1
        if step == 0:
            out.append(np.nan)
            continue
        if step == base - 1:
            step = digit[text[k]] * base + digit[text[k + 1]] - base * base // 2
            k += 2
        else:
            step -= (base - 2) // 2 + 1
        tenths += step
        out.append(tenths / 10)
    return np.array(out)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (page_with(22, gaps_s=[(0, 3600)]), "No AF found in the 21 h analysed."),
        (
            page_with(24, [(100 * k, 100 * k + 9) for k in range(1, 4)]),
            "No AF episode of 30 s or more found. 3 runs of less than 30 s: 27 s in all, "
            "<0.1 % of the 24 h analysed.",
        ),
        (
            page_with(24, [(3600, 7200), (10_000, 10_060)]),
            "AF in 4.2 % of the 24 h analysed: 1 h 1 min in 2 episodes, the longest 59 min 59 s.",
        ),
        (
            page_with(10 / 3600, [(0, 10)]),
            "AF in 91.7 % of the 10 s analysed: too short a time for an episode of 30 s.",
        ),
        (page_with(1, cannot_tell="noise throughout"), "Cannot tell: noise throughout."),
        (page_with(0.0003), "Cannot tell: no two beats in a row could be analysed."),
    ],
    ids=["none", "short runs", "episodes", "short record", "cannot tell", "one beat"],
)
def test_the_first_line_is_how_much_af(page: Page, expected: str) -> None:
    """Of the analysed time, in words; what cannot be told is never a burden of 0 %."""
    assert words.headline(page) == expected
    assert ("AF burden" in draw_html(page)) == (page.burden is not None)


def test_what_was_not_analysed_is_told() -> None:
    """With its length and share, and that nothing is known of it."""
    page = page_with(24, gaps_s=[(3600, 3600 * 7)])
    told = words.unknown(page)
    assert told.startswith("6 h (25.0 % of the record) could not be analysed")
    assert "whether there was AF then is not known" in told
    assert words.unknown(page_with(1, flagged=np.zeros(1, bool))) == ""


def test_how_sure_names_the_worst_data_set() -> None:
    """Sensitivity and specificity where they were measured, and PPV at this record's burden."""
    told = words.sure(page_with(10, [(0, 3600)]))
    assert "of the AF beats this network finds 98.0 %" in told
    assert "97.0 % (worst, MIT-BIH Atrial Fibrillation Database) to 99.0 % not AF" in told
    assert "With 10.0 % of the beats AF, as found here, 78.4 % of its AF calls are right" in told
    assert "None was called AF here" in words.sure(page_with(10))
    assert "not known" in words.sure(page_with(10, network_figures=()))
    rare = words.sure(page_with(24, [(0, 60)]))
    assert "False alarms alone can make 3.0 % of a record without AF look so" in rare


def test_times_are_the_recorders_where_known() -> None:
    """Of the day, with the date where the record spans two; from the start where not known."""
    page = page_with(24)
    assert words.moment(page, 0) == "3 Mar 10:02:03"
    assert words.moment(page, 14 * 3600) == "4 Mar 00:02:03"
    assert words.moment(page_with(1), 60) == "10:03:03"
    assert words.moment(page_with(48, start=None), 100_000) == "27:46:40"
    assert "not known" in words.recording(page_with(1, start=None))
    labels = {shape.text for shape in timeline(page).shapes if isinstance(shape, Text)}
    assert {"12:00", "Wed 4 Mar", "10:00"} <= labels


def test_a_record_of_days_has_a_row_a_day() -> None:
    """From midnight to midnight where the date is known."""
    drawing = timeline(page_with(14 * 24, [(0, 86_400)]))
    labels = [shape.text for shape in drawing.shapes if isinstance(shape, Text)]
    assert [text for text in labels if "Mar" in text] == [
        f"{words.DAYS[(1 + k) % 7]} {3 + k} Mar" for k in range(15)
    ]
    numbered = timeline(page_with(72, start=None))
    assert "day 3" in [shape.text for shape in numbered.shapes if isinstance(shape, Text)]


def test_an_episodes_figures_are_of_its_beats() -> None:
    """Beats, mean heart rate, mean P(AF) and doubtful share, each counted one by one."""
    page = page_with(1, [(100, 130), (400, 402), (3590, 3600)], gaps_s=[(1000, 1200)])
    facts = episodes_of(page)
    for k, (start, end) in enumerate(page.runs.tolist()):
        inside = (page.time_s >= start) & (page.time_s < end)
        rr_s = page.rr_next_s[inside]
        assert facts.beats[k] == inside.sum()
        assert facts.rate_bpm[k] == pytest.approx(60 / np.nanmean(rr_s), rel=1e-6)
        assert facts.p_af[k] == pytest.approx(page.probability[inside].mean(), rel=1e-6)
        assert facts.flagged[k] == pytest.approx(page.flagged[inside].mean())


def test_a_trace_comes_back_from_its_text() -> None:
    """To half a tenth of a millimetre, with its gaps, whatever its steps."""
    rng = np.random.default_rng(0)
    level = np.cumsum(rng.standard_t(1.2, 3000)).clip(-150, 150)
    level[[0, 5, 6, 700, 2999]] = np.nan
    back = unpacked(pack(level))
    assert np.array_equal(np.isnan(back), np.isnan(level))
    np.testing.assert_allclose(back, level, atol=0.0501)
    assert unpacked(pack(np.full(4, np.nan))).size == 4
    assert not set(ALPHABET) & set('<&\\"')  # none that HTML or JSON reads as its own


def test_thinning_loses_no_peak() -> None:
    """The least and the greatest of every block stay, gaps too."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=1000).astype(np.float32)
    fewer, factor = thin(values, 1000.0, 250.0)
    assert (len(fewer), factor) == (250, 4)
    blocks, kept = values.reshape(-1, 8), fewer.reshape(-1, 2)
    np.testing.assert_array_equal(kept.max(axis=1), blocks.max(axis=1))
    np.testing.assert_array_equal(kept.min(axis=1), blocks.min(axis=1))
    assert np.isnan(thin(np.full(80, np.nan, np.float32), 1000.0, 250.0)[0]).all()


def test_a_strip_is_true_to_scale() -> None:
    """25 mm a second, 10 mm a millivolt, and a pulse of 1 mV for 0.2 s before it."""
    page = page_with(1)
    strip = read_strip(page, 100.0, "here")
    drawing = draw_strip(strip)
    pulse, trace = (shape.points for shape in drawing.shapes if isinstance(shape, Curve))
    assert np.ptp(pulse[:, 1]) == pytest.approx(10)
    assert pulse[3, 0] - pulse[2, 0] == pytest.approx(5)
    tops = LEAD_IN_MM + 25 * (0.4 + np.arange(10))
    at = np.round((tops - LEAD_IN_MM) * FS_HZ / 25).astype(int)
    np.testing.assert_allclose(trace[at, 0], tops)
    np.testing.assert_allclose(strip.zero_mm - trace[at, 1], 10, atol=0.2)
    text = draw_html(page)
    assert 'viewBox="0 0 260' in text
    assert f"width:260mm;height:{drawing.height:g}mm" in text


def test_a_trace_beyond_the_paper_is_cut_and_told() -> None:
    """It stays above the beats' marks."""
    page = page_with(1, read=lambda a, b: 20 * beat_like(a, b))
    strip = read_strip(page, 0.0, "here")
    curve = [shape for shape in draw_strip(strip).shapes if isinstance(shape, Curve)][-1]
    assert curve.points[:, 1].min() >= 0
    assert curve.points[:, 1].max() <= strip.height_mm - MARKS_MM
    assert strip.cut
    assert "cut at the paper's edge" in draw_html(page)


@pytest.mark.parametrize(
    ("length_s", "parts"),
    [
        (2.0, ["the whole of it"]),
        (15.0, ["onset", "end"]),
        (600.0, ["onset", "middle", "end"]),
    ],
)
def test_an_episode_is_shown_from_onset_to_end(length_s: float, parts: list[str]) -> None:
    """Its ends lie within the strips that say so."""
    page = page_with(1, runs=np.array([[1000.0, 1000.0 + length_s]]))
    starts = episode_starts(page, 0)
    assert [part for _, part in starts] == parts
    assert starts[0][0] < 1000 < starts[0][0] + 10
    assert starts[-1][0] < 1000 + length_s < starts[-1][0] + 10


def test_every_episode_is_a_row_and_opens_its_strips() -> None:
    """Row, button and data agree; a strip's beats are the record's."""
    page = page_with(2, [(100, 300), (1000, 1004), (5000, 5100)])
    text = draw_html(page)
    seen = Tags(text)
    rows = [tag for tag, attributes in seen.tags if tag == "tr" and "data-n" in attributes]
    assert len(rows) == len(page.runs) == 3
    buttons = [a for tag, a in seen.tags if tag == "button" and "aria-expanded" in a]
    assert len(buttons) == 3
    data = json.loads(text.split('id="strips">')[1].split("</script>")[0])
    assert [len(data["strips"][str(k)]) for k in (1, 2, 3)] == [3, 1, 3]
    caption, hz, height, zero, trace, beats, af_s, _ = data["strips"]["1"][0]
    assert caption == "Episode 1, onset, 10:03:40"
    strip = read_strip(page, page.runs[0, 0] - 3, "x")
    assert (hz, height) == (FS_HZ, strip.height_mm)
    assert zero == pytest.approx(strip.zero_mm, abs=0.01)
    np.testing.assert_allclose(unpacked(trace), strip.level_mm, atol=0.0501)
    np.testing.assert_allclose(beats[::2], 1000 * strip.beat_s, atol=0.51)
    assert af_s[0] == pytest.approx(3, abs=0.002)


def test_a_file_of_many_episodes_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day with 500 episodes is below 3 MB; where not all strips fit, the longest have them."""
    spans = [(172.0 * k, 172.0 * k + 30 + k / 10) for k in range(500)]
    page = page_with(24, spans)
    text = draw_html(page)
    assert len(text) < 3_000_000
    assert text.count('aria-expanded="false"') == 500
    assert "All 500" not in text
    monkeypatch.setattr("tasks.analysis.page.to_html.MOST_SAMPLES", 60_000)
    text = draw_html(page)
    assert text.count("<tr data-n=") == 500
    assert text.count('aria-expanded="false"') == 20
    assert "All 500 episodes are listed. To keep this file small, only the 20 longest" in text
    shown = [int(n) - 1 for n in re.findall(r'<tr data-n="(\d+)"><td><button', text)]
    lengths_s = page.runs[:, 1] - page.runs[:, 0]
    assert lengths_s[shown].min() >= np.delete(lengths_s, shown).max()


def test_no_name_is_markup() -> None:
    """What a header or a manifest holds is shown; it is no element, attribute or script."""
    plain, hostile = (
        Tags(
            draw_html(
                page_with(
                    1,
                    [(100, 300)],
                    record=name,
                    lead=name,
                    reason=name,
                    registered=name,
                    caveats=(name,),
                    network_figures=[{"title": name, "side": name, "sensitivity": 0.5}],
                )
            )
        )
        for name in ("plain", HOSTILE)
    )
    assert [tag for tag, _ in plain.tags] == [tag for tag, _ in hostile.tags]
    assert [set(a) for _, a in plain.tags] == [set(a) for _, a in hostile.tags]
    shown = HOSTILE.replace("\u202e", "\ufffd")
    assert hostile.text("title") == hostile.text("h1") == f"AF report: {shown.strip()}"


def test_nothing_is_loaded() -> None:
    """The page works from a file, without network: a browser is told to refuse anything else."""
    text = draw_html(page_with(1, [(100, 300)]))
    seen = Tags(text)
    assert not [a for _, a in seen.tags if set(a) & {"src", "href", "xlink:href", "srcset"}]
    assert {tag for tag, _ in seen.tags}.isdisjoint({"link", "img", "iframe", "object", "form"})
    assert not re.search(r"@import|url\(", text)
    assert {a["content"] for _, a in seen.tags if "http-equiv" in a} == {
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    }


def test_pictures_have_words() -> None:
    """A drawing says what it shows, or is beside the word that does."""
    seen = Tags(draw_html(page_with(1, [(100, 300)])))
    drawings = [a for tag, a in seen.tags if tag == "svg" and a.get("viewbox") != "0 0 15 8"]
    assert len(drawings) >= 6
    assert all(a.get("role") == "img" and a.get("aria-label") for a in drawings)
    assert "AF: 10:03:4" in timeline(page_with(1, [(100, 300)])).shows


def corners(shape: Shape) -> NDArray[np.float64]:
    if isinstance(shape, Text):
        return np.array([[shape.x, shape.y]])
    if isinstance(shape, Strokes):
        return np.asarray(shape.ends.reshape(-1, 2))
    if isinstance(shape, Boxes):
        return np.concatenate([shape.boxes[:, :2], shape.boxes[:, :2] + shape.boxes[:, 2:]])
    return np.asarray(shape.points)


@pytest.mark.parametrize(
    "page",
    [
        page_with(0.0003),
        page_with(10 / 3600, [(0, 10)], start=None),
        page_with(14 * 24, [(k * 9000, k * 9000 + 900) for k in range(100)]),
        page_with(24, [(0, 86_400)], [(k * 2700, k * 2700 + 700) for k in range(1, 31)]),
        page_with(1, read=lambda a, b: np.full(b - a, np.nan, np.float32)),
        page_with(1, [(0, 3600)], [(0, 1800)]),
        page_with(1, cannot_tell="noise"),
    ],
    ids=["one beat", "ten seconds", "14 days", "30 gaps", "no signal", "a hole first", "noise"],
)
def test_no_shape_leaves_its_sheet(page: Page) -> None:
    """Whatever the record, nothing is drawn outside its drawing, and no number is NaN."""
    drawings = [timeline(page), timeline(page, 92.0), draw_strip(read_strip(page, 0.0, "x"))]
    chart = day_chart(page)
    for drawing in [*drawings, *([chart] if chart else [])]:
        for shape in drawing.shapes:
            points = corners(shape)
            points = points[np.isfinite(points).all(axis=1)]
            assert (points >= -0.01).all()
            assert (points <= np.array([drawing.width, drawing.height]) + 0.01).all()
    text = draw_html(page)
    assert not re.search(r"\bnan\b|\binf\b", text.split("<script")[0])


def test_a_record_that_tells_nothing_has_no_decisions() -> None:
    """No beat of it is marked AF or not, nor is there a legend or an error rate for them."""
    text = draw_html(replace(page_with(1, [(100, 300)]), cannot_tell="noise"))
    assert "Cannot tell: noise." in text
    for absent in ("decided AF<", "not AF", "P(AF)", "How sure", ">A</text>", 'k-af"'):
        assert absent not in text.split("</style>")[1].split("What was analysed")[0], absent


def test_its_style_and_script_are_installed_with_it() -> None:
    """What pages read beside their code is package data: a wheel has it."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["tasks"]
    installed = {path for pattern in patterns for path in (ROOT / "tasks").glob(pattern)}
    read = {path for kind in ("css", "js", "j2") for path in (ROOT / "tasks").rglob(f"*.{kind}")}
    assert read
    assert read <= installed


def test_quantiles_of_parts_are_numpys() -> None:
    """Of parts of any length, one beat included, as numpy gives them one by one."""
    random = np.random.default_rng(0)
    values = random.normal(75, 12, 3000)
    edges = np.sort(random.choice(np.arange(1, 3000), 400, replace=False))
    first, last = np.concatenate([[0], edges]), np.concatenate([edges, [3000]])
    shares = (0.05, 0.5, 0.95)
    expected = [np.quantile(values[a:b], shares) for a, b in zip(first, last, strict=True)]
    assert np.diff(edges).min() == 1
    np.testing.assert_allclose(_quantiles(values, first, last, shares), expected, rtol=1e-12)
