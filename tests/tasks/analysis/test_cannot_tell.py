"""The third answer about a recording: what cannot be told is neither AF nor not AF, everywhere."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import slots
from edge_agent.cli import main as edge
from flows.ingest.simulate import write_simulated
from storage.errors import ModelError
from storage.registry.signing import public_key
from storage.tables.beats import Quality
from tasks.analysis.analyse import Release, analyse_by, files_of, from_the_box, summary
from tasks.analysis.finding import Analysis
from tasks.analysis.page import words
from tasks.analysis.page.charts import day_chart, timeline
from tasks.analysis.page.facts import Page
from tasks.analysis.page.shapes import Boxes, Strokes, Text
from tasks.analysis.page.strips import draw_strip, read_strip
from tasks.analysis.page.to_html import draw_html
from tasks.analysis.page.to_pdf import draw_pdf
from tasks.analysis.words import headline
from tasks.scores.drift import profile
from tasks.scores.episodes import durations_s
from tasks.scores.rule import STRIP_AF_SHARE, expit, judge, rule_of
from tests.certain import CERTAINTY, certain_release
from tests.tasks.analysis.page_cases import page_with
from tests.tasks.analysis.test_page_pdf import drawn, texts


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated quarter of an hour with AF."""
    folder = tmp_path_factory.mktemp("record")
    write_simulated(folder, 2, 0.25, seed=6)
    return folder / "sim001"


def certain(**changes: Any) -> Release:
    """The usual release of the box, with a margin."""
    release = from_the_box("rhythm")
    return replace(release, manifest={**release.manifest, "certainty": CERTAINTY | changes})


def plain_release() -> Release:
    """The usual release of the box, from before there was a margin."""
    release = from_the_box("rhythm")
    return replace(release, manifest={**release.manifest, "certainty": {}})


@pytest.fixture(scope="module")
def analysis(record: Path) -> Analysis:
    """The record, a beat in fifty on poor signal, by a release with a margin."""
    plain = analyse_by(record, certain())
    plain.beats.quality[::50] = Quality.NOISY
    rule = rule_of(certain().manifest)
    noise = np.random.default_rng(3).normal(0, 0.1, len(plain.beats))
    levels = np.repeat([-3.0, 3.0, -3.0, 0.2], [150, 150, 150, 70])
    walk = np.resize(levels, len(noise)) + noise
    judgement = judge(rule, plain.beats, expit(2 * walk))
    runs = plain._spans(judgement.decided)
    return replace(plain, judgement=judgement, runs=runs)


def test_a_record_s_time_is_af_or_not_or_cannot_be_told(analysis: Analysis) -> None:
    """The burden lies between its limits, which lie as far apart as what cannot be told."""
    figures = summary(analysis)
    analysed_s = 3600 * figures["analysable_hours"]
    low, high = figures["af_burden_low"], figures["af_burden_high"]
    assert 0 < low < figures["af_burden"] < high < 1
    assert (high - low) * analysed_s == pytest.approx(figures["cannot_tell_s"])
    told = analysis.judgement.sure & analysis.judgement.decided
    rr_s = np.where(np.isfinite(analysis.beats.rr_next_s), analysis.beats.rr_next_s, 0)
    assert low * analysed_s == pytest.approx(rr_s[told].sum(), abs=2)
    for span in figures["cannot_tell_stretches"]:
        assert span["end_s"] - span["start_s"] >= 30
        inside = (analysis.beats.time_s >= span["start_s"]) & (
            analysis.beats.time_s < span["end_s"]
        )
        assert not analysis.judgement.sure[inside].any()
    assert figures["cannot_tell_stretches"]


def test_the_limits_hold_the_burden_to_the_last_digit(analysis: Analysis) -> None:
    """Where all of it is AF, sums of its pieces differ from the sum of the whole."""
    everywhere = np.ones(len(analysis.beats), bool)
    runs = analysis._spans(everywhere)
    for seed in range(200):
        sure = np.random.default_rng(seed).random(len(everywhere)) > 0.1
        judgement = replace(analysis.judgement, decided=everywhere, sure=sure)
        part = replace(analysis, judgement=judgement, runs=runs)
        low, high = part.limits
        shares = [share for share in (low, part.burden, high, 1.0) if share is not None]
        assert len(shares) == 4
        assert shares == sorted(shares)


def test_an_episode_is_told_by_half_of_its_beats(analysis: Analysis) -> None:
    """Share and state in JSON and CSV, by counting."""
    figures = summary(analysis)
    rows = list(csv.DictReader(io.StringIO(files_of(analysis)["sim001.csv"].decode())))
    assert {row["state"] for row in rows} == {"AF", "cannot tell"}
    time_s, sure = analysis.beats.time_s, analysis.judgement.sure
    for episode, row in zip(figures["episodes"], rows, strict=True):
        share = sure[(time_s >= episode["start_s"]) & (time_s < episode["end_s"])].mean()
        assert episode["told"] == pytest.approx(share)
        assert row["told_share"] == f"{share:.3f}"
        assert episode["state"] == row["state"] == ("AF" if share >= 0.5 else "cannot tell")


def test_a_release_without_a_margin_tells_everything(record: Path) -> None:
    figures = summary(analyse_by(record, plain_release()))
    assert figures["cannot_tell_s"] == 0
    assert figures["af_burden_low"] == figures["af_burden"] == figures["af_burden_high"]
    assert figures["model"]["af_share"] is None
    assert "not calibrated" in figures["model"]["af_share_reason"]
    with pytest.raises(ModelError, match="not calibrated, so --af-share has no effect"):
        analyse_by(record, plain_release(), af_share=0.2)


def test_where_half_of_the_time_cannot_be_told_nothing_is(record: Path) -> None:
    """The whole answer is `cannot tell`, with the share of the time, and no burden."""
    figures = summary(analyse_by(record, certain(margin=13.0)))
    assert "of the analysed time where the rhythm cannot be told" in figures["cannot_tell"]
    assert figures["af_burden"] is figures["af_burden_low"] is figures["af_burden_high"] is None


def test_af_that_is_told_is_not_hidden_by_what_cannot_be(analysis: Analysis) -> None:
    """Three quarters cannot be told: an episode that is told is there, and the burden's limits."""
    (start_s, end_s) = max(analysis.runs.tolist(), key=lambda run: run[1] - run[0])
    inside = (analysis.beats.time_s >= start_s) & (analysis.beats.time_s < end_s)
    judgement = replace(analysis.judgement, sure=inside & (analysis.judgement.decided))
    beside = replace(analysis, judgement=judgement)
    assert end_s - start_s >= 30
    assert beside.untold_share > 0.5
    assert beside.doubt == ""
    figures = summary(beside)
    assert figures["cannot_tell"] is None
    assert figures["af_burden_low"] <= figures["af_burden"] <= figures["af_burden_high"]
    assert any("how much more there is cannot be told" in text for text in figures["caveats"])
    none = replace(beside, judgement=replace(judgement, sure=np.zeros(len(inside), bool)))
    assert "of the analysed time where the rhythm cannot be told" in none.doubt


def test_how_common_af_is_is_stated_or_known_from_the_length(record: Path) -> None:
    """JSON says which share was used, and why; the look for drift sees the usual decisions."""
    usual, stated = (analyse_by(record, certain(), af_share=share) for share in (None, 0.01))
    assert usual.model["af_share"] == 0.45
    assert "calibrated on" in usual.model["af_share_reason"]
    assert (stated.model["af_share"], stated.model["af_share_reason"]) == (
        *(0.01, "stated by --af-share"),
    )
    assert (stated.probability <= usual.probability).all()
    assert stated.profile == usual.profile
    assert usual.profile == profile(usual.beats, usual.probability, usual.decided)


def test_a_strip_s_share_is_told(record: Path, tmp_path: Path) -> None:
    header = record.with_suffix(".hea").read_text().replace("250 225000", "250 15000")
    (tmp_path / "sim001.hea").write_text(header)
    data = record.with_suffix(".dat").read_bytes()
    (tmp_path / "sim001.dat").write_bytes(data[: 15000 * 3])
    strip = analyse_by(tmp_path / "sim001", certain())
    assert strip.model["af_share"] == STRIP_AF_SHARE
    assert "less than 120 s" in strip.model["af_share_reason"]
    (caveat,) = [text for text in strip.caveats if "short" in text]
    assert "calibrated for so few beats, and takes 12.0 % of such recordings to be AF" in caveat


def test_the_command_tells_it_too(
    record: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Text, JSON and files of `holter-edge analyse`; a stated share is in all of them."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "server"))
    monkeypatch.setenv("HOLTER_EDGE_HOME", str(tmp_path / "edge"))
    slots.enrol(tmp_path / "edge", public_key())
    release = certain_release(tmp_path / "release")
    command = ["analyse", str(record), "--model", str(release), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ended:
        edge([*command, "--af-share", "0.3"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / "sim001.json").read_text())
    assert "AF taken   30.0 %, stated by --af-share" in text
    assert "cannot be told where the mean P(AF) of 31 beats" in text
    assert "In 56 patients" in text
    assert f"{headline(figures)}\n" in text
    page = (tmp_path / "out" / "sim001.html").read_text()
    assert "30.0 %, stated by --af-share" in page
    assert "In 56 patients" in page


def untold_page(*spans: tuple[float, float], hours: float = 10, **fields: Any) -> Page:
    """Ten hours with two of AF; what lies in the spans cannot be told."""
    page = page_with(hours, [(3600, 7200), (20_000, 23_600)], **fields)
    inside = np.zeros(len(page.time_s), bool)
    for start, end in spans:
        inside |= (page.time_s >= start) & (page.time_s < end)
    return replace(page, sure=~inside)


def test_the_first_screen_says_how_much_cannot_be_told() -> None:
    """Burden with its limits in a sentence and a tile; AF that is told nowhere is but possible."""
    page = untold_page((7000, 7200), (30_000, 31_528))
    low, high = 100 * page.limits[0], 100 * page.limits[1]
    said = f"AF in 20.0 % of the 10 h analysed ({low:.1f} % to {high:.1f} %: 4.8 % of the time "
    assert words.headline(page).startswith(said + "cannot be told): 2 h in 2 episodes")
    tiles = {name: (value, note) for name, value, note in words.tiles(page)}
    assert tiles["AF burden"] == ("20.0 %", f"{low:.1f} % to {high:.1f} %")
    assert tiles["Cannot be told"] == ("28 min 48 s", "4.8 %")
    nowhere = untold_page((3600, 7200), (20_000, 23_600))
    assert words.headline(nowhere).startswith("Possible AF in 20.0 % of the 10 h analysed (0 % to")
    assert 'class="summary plain"' in draw_html(nowhere)
    assert words.tiles(nowhere)[2][2] == "2 cannot be told"
    none = replace(untold_page((100, 200)), runs=np.empty((0, 2)), decided=page.time_s < 0)
    assert words.headline(none).startswith("No AF found in the 10 h analysed (0 % to 0.3 %")


def test_the_day_has_it_in_its_own_colour_and_hatch() -> None:
    """Crossed lines where it lies, over what was decided; beats of their own colour; a legend."""
    page = untold_page((7000, 7200), (30_000, 31_528))
    drawing = timeline(page)
    (boxes,) = [s.boxes for s in drawing.shapes if isinstance(s, Boxes) and s.kind == "bare"]
    widths_s = boxes[:, 2] * page.duration_s / (drawing.width - 2)
    assert widths_s == pytest.approx(durations_s(page.long_untold), rel=0.02)
    crossing = [s for s in drawing.shapes if isinstance(s, Strokes) and s.kind == "untold"]
    slopes = {
        np.sign((s.ends[0, 2] - s.ends[0, 0]) * (s.ends[0, 3] - s.ends[0, 1])) for s in crossing
    }
    assert slopes == {-1, 1}
    assert "Cannot be told: 2 stretches" in drawing.shows
    chart = day_chart(page)
    assert chart is not None
    assert any(shape.kind.startswith("untold") for shape in chart.shapes)
    assert "cannot tell</li>" in draw_html(page)
    assert "untold" not in str([s.kind for s in timeline(page_with(10, [(0, 99)])).shapes])


def test_each_stretch_is_listed_with_the_strips_of_the_longest() -> None:
    """On the page and in the PDF; beats that cannot be told have a sign of their own."""
    spans = [(1000.0 * k, 1000.0 * k + 40 + k) for k in range(1, 10)]
    page = untold_page(*spans)
    text = draw_html(page)
    assert "Cannot tell (9)" in text
    assert text.count("Cannot tell (number") == 6
    assert "Cannot tell (number 9), middle" in text
    assert [row[0] for row in words.untold_rows(page)] == [str(k) for k in range(1, 10)]
    pdf = " ".join(texts(drawn(page)))
    assert words.headline(page).replace("(", "\\(").replace(")", "\\)") in pdf
    assert "Cannot tell \\(9\\)" in pdf
    assert "Cannot tell \\(number 9\\), middle" in pdf
    strip = draw_strip(read_strip(replace(page, flagged=page.decided & False), 9005.0, "x"))
    signs = {shape.text for shape in strip.shapes if isinstance(shape, Text) and shape.bold}
    assert signs == {"?"}
    assert "Cannot tell" not in draw_html(page_with(1, [(100, 300)]))


def test_an_episode_that_cannot_be_told_says_so_in_its_row() -> None:
    page = untold_page((3600, 7200))
    told = [cells[5] for cells in words.episode_cells(page)]
    assert told == ["cannot tell", "AF"]
    assert draw_html(page).count("<td>cannot tell") == 1
    longer = untold_page((20_000, 23_600))
    assert "Longest episode (number 1), onset" in draw_html(longer)
    neither = untold_page((3600, 7200), (20_000, 23_600))
    assert ", cannot tell, onset" in draw_html(neither)
    assert draw_pdf(page)


def test_a_record_of_which_nothing_is_told_is_crossed_out() -> None:
    """What was analysed is no hole: it has the lines of what cannot be told, and no AF behind."""
    page = replace(page_with(1, [(100, 900)], [(1000, 1100)]), cannot_tell="found little")
    drawing = timeline(page)
    kinds = [shape.kind for shape in drawing.shapes]
    assert {"bare", "untold", "gap"} <= set(kinds)
    assert drawing.shows == "Timeline of the record. Cannot tell. Not analysed: 1 stretches."
    text = draw_html(page).split("</style>")[1]
    assert "cannot tell</li>" in text
    assert "not analysed</li>" in text
    assert "k-af" not in text
    assert "Crossed lines: cannot tell." in " ".join(texts(drawn(page)))
    assert len(read_strip(page, 200.0, "x").af_s) == 0
