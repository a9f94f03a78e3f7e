"""The evaluation's report and its annotation files."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from flows.reports.evaluation import wide
from storage.formats.wfdb_annotation import SYMBOL, parse_annotations
from storage.tables.beats import BeatTable
from tasks.pages import mistakes
from tasks.pages.document import Block, Drawing, Heading, table_of, to_html
from tasks.pages.figures import curves
from tasks.pages.numbers import text_of
from tasks.scores.calibration import calibration
from tasks.scores.curves import precision_recall, roc
from tasks.scores.episodes import episodes, rhythm_annotations
from tasks.scores.evaluation import ScoredRecord, per_patient, summary


def scored() -> ScoredRecord:
    """Ten minutes of a beat a second: AF in the second to fourth minute, decided a minute late."""
    n = 600
    second = np.arange(n)
    label = ((second >= 60) & (second < 240)).astype(np.int8)
    decided = (second >= 120) & (second < 300)
    return ScoredRecord(
        dataset="made",
        record="a<b",
        subject="a",
        time_s=second.astype(np.float64),
        stretches_s=np.array([[0.0, n]]),
        label=label,
        rhythm=np.where(label == 1, "AFIB", "N"),
        symbol=np.full(n, "N"),
        quality=np.zeros(n, np.uint16),
        probability=np.where(decided, 0.8, 0.1).astype(np.float32),
        decided=decided,
        sure=np.ones(n, bool),
        distance=np.ones(n, np.float32),
    )


def svg_of(mistake: mistakes.Mistake, beats: BeatTable) -> str:
    strip = mistakes.ecg_strip(mistake, beats)
    assert isinstance(strip, Drawing)
    return strip.svg


class Strict(HTMLParser):
    """Notes what a page would load from elsewhere, and tags left open."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and what it names."""
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag opened last."""
        assert self.open.pop() == tag


def test_the_longest_mistakes_come_first() -> None:
    """A missed minute at the start and a false one at the end, each with its times."""
    worst = mistakes.worst_mistakes([scored()])
    assert [(m.start_s, m.end_s, m.missed) for m in worst] == [(60, 120, True), (240, 300, False)]
    picture = mistakes.tachogram(worst[0]).svg
    assert "made/a&lt;b, 0:01:00 to 0:02:00: missed AF, 60 s" in picture
    assert picture.count("<rect") == 2


def test_a_report_needs_nothing_else() -> None:
    """The page loads nothing, closes what it opens, and escapes names."""
    record = scored()
    blocks: list[Block] = [
        Heading("Figures"),
        wide({"made": summary([record], draws=50)}),
        table_of(per_patient([record]).to_dict("records")),
        table_of([]),
        *map(mistakes.tachogram, mistakes.worst_mistakes([record])),
    ]
    page = to_html("made <up>", blocks)
    seen = Strict()
    seen.feed(page)
    assert seen.loads == []
    assert seen.open == []
    assert "<up>" not in page
    assert "script" not in page


def test_annotations_hold_the_decisions() -> None:
    """Read back, the rhythm marks stand where AF was decided to start and end, in milliseconds."""
    made = scored()
    runs = episodes(made.decided, made.time_s, made.stretches_s)
    found = parse_annotations(rhythm_annotations(runs, made.stretches_s), "a", "a.haf")
    assert found.fs_hz == 1000
    marks = {int(found.sample[k]): text for k, text in found.aux.items() if k}
    end = round(1000 * made.stretches_s[0, 1])
    assert marks == {0: "(N", 120_000: "(AFIB", 300_000: "(N", end: ")"}
    assert SYMBOL[found.code].tolist().count("+") == 4


def test_annotations_end_the_rhythm_where_the_signal_ends() -> None:
    """A stretch that cannot be analysed begins with `)`; after it the rhythm is told anew."""
    stretches_s = np.array([[0.0, 60.0], [90.0, 120.0], [150.0, 170.0]])
    runs = np.array([[10.0, 60.0], [90.0, 100.0]])
    found = parse_annotations(rhythm_annotations(runs, stretches_s), "a", "a.haf")
    marks = {int(found.sample[k]) / 1000: text for k, text in found.aux.items() if k}
    expected = {0: "(N", 10: "(AFIB", 60: ")", 90: "(AFIB", 100: "(N", 120: ")"}
    assert marks == {**expected, 150: "(N", 170: ")"}


@pytest.mark.parametrize(
    ("value", "text"), [(float("nan"), "-"), (0.12345, "0.1235"), (12_345, "12,345")]
)
def test_values_are_said_for_readers(value: float, text: str) -> None:
    """Four places, thousands apart, a dash for what is undefined."""
    assert text_of(value) in (text, text.replace("0.1235", "0.1234"))


def test_curves_are_drawn_of_one_class_too() -> None:
    """ROC, PPV and calibration have a line; of patients without AF the first two are empty."""
    record = scored()
    none = np.zeros_like(record.label)
    for label, lines in ((record.label, [True] * 3), (none, [False, False, True])):
        _, true = roc(label, record.probability)
        sensitivity, _ = precision_recall(label, record.probability)
        bins = calibration(label, record.probability)
        assert [np.isfinite(true).all(), len(sensitivity) > 1, len(bins.true) > 1] == lines
        assert curves(label, record.probability, "made").startswith(b"\x89PNG")


def test_a_strip_shows_the_signal_and_every_beat() -> None:
    """Beats laid end to end make one trace from beat to beat; a bar under each that is decided."""
    record = scored()
    n = len(record.time_s)
    one = np.ones(n, np.float32)
    beats = BeatTable(
        dataset="made",
        record="a<b",
        subject="a",
        sample=np.arange(n, dtype=np.int64) * 250,
        time_s=record.time_s,
        rr_prev_s=one,
        rr_next_s=one,
        symbol=record.symbol,
        rhythm=record.rhythm,
        label=record.label,
        quality=record.quality,
        noise=0 * one,
        waveform=np.tile(np.sin(np.arange(300) / 20).astype(np.float32), (n, 1)),
        stretches_s=record.stretches_s,
    )
    missed, false = mistakes.worst_mistakes([record])
    picture = svg_of(missed, beats)
    assert picture.count("<polyline") == picture.count(">N</text>") == 11
    assert picture.count("<rect") == 0
    assert svg_of(false, beats).count("<rect") == 11
    assert "No signal" in str(mistakes.ecg_strip(missed, replace(beats, waveform=None)))
