"""The report of a record as a PDF: the same content, true to scale."""

from __future__ import annotations

import re
import zlib

import numpy as np
import pytest

from tasks.analysis.page import pdf
from tasks.analysis.page.charts import WIDTH_MM
from tasks.analysis.page.pdf import POINTS_PER_MM, UNIT_MM
from tasks.analysis.page.shapes import Text
from tasks.analysis.page.to_pdf import NO_PDF, _words, draw_pdf
from tasks.analysis.page.words import headline, sure
from tests.tasks.analysis.page_cases import page_with


def streams(data: bytes) -> list[bytes]:
    """The content of every page, as operators."""
    parts = re.findall(
        rb"/Filter \[ /FlateDecode \] /Length \d+\n>>\nstream\n(.*?)endstream", data, re.DOTALL
    )
    return [zlib.decompress(part) for part in parts]


def texts(data: bytes) -> list[str]:
    """Every text that can be selected, page by page."""
    return [
        " ".join(t.decode("cp1252") for t in re.findall(rb"\((.*?[^\\])\) Tj", part))
        for part in streams(data)
    ]


def drawn(page: object) -> bytes:
    data = draw_pdf(page)  # type: ignore[arg-type]  # the caller's is a Page
    assert data is not None
    return data


def test_it_says_what_the_page_says() -> None:
    """All of it can be selected; every page has its number and the record's name."""
    page = page_with(3, [(600, 1800), (4000, 4100)], record="ward 7")
    data = drawn(page)
    pages = texts(data)
    assert data.count(b"/Type /Page\n") == len(pages)
    for number, text in enumerate(pages, start=1):
        assert f"page {number} of {len(pages)}" in text
        assert "AF report: ward 7" in text
        assert "not a diagnosis; not a medical device" in text
    whole = " ".join(pages)
    assert headline(page) in whole
    assert sure(page)[:60] in whole
    for words in (
        "10:12:03",
        "holter-rhythm/3",
        "Episode 2, onset, 11:08:40",
        "Could not be analysed",
    ):
        assert words in whole


def test_it_is_true_to_scale() -> None:
    """A4 across; paths in hundredths of a millimetre, 10 mm/mV and 25 mm/s among them."""
    data = drawn(page_with(1, [(600, 1800)]))
    box = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", data)
    assert {tuple(round(float(n) / POINTS_PER_MM) for n in pair) for pair in box} == {(297, 210)}
    scales = set(re.findall(rb"([\d.]+) 0 0 -([\d.]+) \S+ \S+ cm", b"".join(streams(data))))
    assert {round(float(n) / POINTS_PER_MM, 4) for pair in scales for n in pair} == {UNIT_MM}
    pulse = rb"100 (\d+) m\n250 \1 l\n250 (\d+) l\n750 \2 l\n750 \1 l"
    heights = {int(a) - int(b) for a, b in re.findall(pulse, b"".join(streams(data)))}
    assert heights == {1000}


def test_the_same_record_gives_the_same_bytes() -> None:
    """No clock, no number of its own."""
    assert drawn(page_with(1, [(600, 1800)])) == drawn(page_with(1, [(600, 1800)]))


def test_many_episodes_are_listed_and_the_longest_drawn() -> None:
    """All rows; strips of forty, which the heading says."""
    page = page_with(24, [(400.0 * k, 400.0 * k + 40 + k / 4) for k in range(200)])
    pages = texts(drawn(page))
    whole = " ".join(pages)
    assert "Strips of the 40 longest episodes; the HTML report has more" in whole
    shown = {int(n) for n in re.findall(r"Episode (\d+), onset", whole)}
    lengths_s = page.runs[:, 1] - page.runs[:, 0]
    rest = np.delete(lengths_s, np.array(sorted(shown)) - 1)
    assert len(shown) == 40
    assert lengths_s[np.array(sorted(shown)) - 1].min() >= rest.max()
    rows = next(text for text in pages if "Episodes \\(200\\)" in text)
    assert " 80 " in rows
    assert len(pages) < 60


@pytest.mark.parametrize(
    "page",
    [
        page_with(0.0003),
        page_with(10 / 3600, [(0, 10)], start=None),
        page_with(14 * 24, [(k * 9000, k * 9000 + 900) for k in range(100)]),
        page_with(1, cannot_tell="noise", network_figures=()),
        page_with(1, [(9, 99)], record="\u202e<b>" + "x" * 300 + " שלום 心 \\ ) ("),
    ],
    ids=["one beat", "ten seconds", "14 days", "noise", "hostile"],
)
def test_every_record_has_one(page: object) -> None:
    """Short, long, undecided, of any name."""
    assert drawn(page).startswith(b"%PDF-")


def test_without_the_library_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device without it has the HTML; one line says why, and what would help."""
    monkeypatch.setattr(pdf, "LIBRARY", "no_such_library")
    assert draw_pdf(page_with(1)) is None
    assert NO_PDF == "no PDF: the package reportlab is not installed (pip install reportlab)"


def test_without_wide_fonts_a_name_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the standard fonts lack becomes a question mark each."""
    monkeypatch.setattr(pdf, "_wide_font", lambda _: None)
    assert "AF report: a?b" in texts(drawn(page_with(1, record="a心b")))[0]


def test_a_letter_of_another_font_widens_its_line() -> None:
    """A line with a letter beyond Latin 1 is set in a wider font, and broken by its width there."""
    for count in range(20, 60):
        lines = _words("word " * count + "ł", 3).shapes
        texts = [line.text for line in lines if isinstance(line, Text)]
        assert all(pdf.width_mm(text, 3) <= WIDTH_MM for text in texts), count
