"""A record's report as a PDF: A4, true to scale, with text that can be searched and copied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from tasks.analysis.page import words as page_words
from tasks.analysis.page.charts import WIDTH_MM, day_chart, timeline
from tasks.analysis.page.facts import Page
from tasks.analysis.page.pdf import Placement, is_installed, to_pdf, width_mm
from tasks.analysis.page.shapes import Anchor, Boxes, Drawing, Shape, Strokes, Text, fit, shift
from tasks.analysis.page.strips import (
    Strip,
    draw_strip,
    episode_starts,
    key_strips,
    read_strip,
    untold_strips,
)
from tasks.scores.episodes import durations_s

#: What a command says where the library is missing.
NO_PDF = "no PDF: the package reportlab is not installed (pip install reportlab)"
LEFT_MM, TOP_MM, BOTTOM_MM, FOOT_MM = 15.0, 12.0, 196.0, 201.0
#: Episodes whose strips a PDF holds: four strips a page.
MOST_EPISODES = 40
#: Less room than this below the answer, and the chart of the day begins the next page.
LEAST_CHART_MM = 70.0
#: Samples a second of a trace: at 25 mm/s, ten a millimetre.
MOST_HZ = 250.0


@dataclass(frozen=True, eq=False)
class Block:
    """What is placed on a page: a drawing, and what stays with it.

    Attributes
    ----------
    drawing : Drawing
        At most `WIDTH_MM` wide.
    keep : float
        Room in mm that must be left below it: a heading stays with what it heads.
    head : Drawing, optional
        What is set again above it where it begins a page.
    section : str
        Its name among the bookmarks.
    fresh : bool
        Whether it begins a page.
    """

    drawing: Drawing
    keep: float = 0.0
    head: Drawing | None = None
    section: str = ""
    fresh: bool = False


def draw_pdf(page: Page) -> bytes | None:
    """The report as a PDF; None where the library that writes it is not installed.

    Parameters
    ----------
    page : Page
        What it shows. Its `read` is called for every strip.
    """
    if not is_installed():
        return None
    title = page_words.title(page)
    sheets = list(_sheets(_blocks(page)))
    for number, sheet in enumerate(sheets, start=1):
        sheet.append(Placement(LEFT_MM, FOOT_MM, _foot(title, number, len(sheets))))
    return to_pdf(sheets, title, page_words.NOT_A_DIAGNOSIS)


def _sheets(blocks: Iterable[Block]) -> Iterator[list[Placement]]:
    """Blocks laid on pages."""
    sheet: list[Placement] = []
    y = TOP_MM
    for block in blocks:
        below = y + block.drawing.height + block.keep
        if sheet and (below > BOTTOM_MM or block.fresh):
            yield sheet
            sheet, y = [], TOP_MM
            if block.head is not None:
                sheet.append(Placement(LEFT_MM, y, block.head))
                y += block.head.height
        sheet.append(Placement(LEFT_MM, y, block.drawing, block.section))
        y += block.drawing.height
    yield sheet


def _blocks(page: Page) -> Iterator[Block]:
    """The report from top to bottom."""
    front = list(_front(page))
    yield from front
    room = BOTTOM_MM - TOP_MM - sum(block.drawing.height for block in front) - 3
    room = room if room > LEAST_CHART_MM else 100.0
    if (chart := day_chart(page, room)) is not None:
        yield Block(chart, section="Heart rate and intervals")
    yield _heading("Signal", 50)
    for strip in key_strips(page, MOST_HZ):
        yield Block(_strip(strip))
    yield Block(_words(page_words.TRUE_SCALE, 2.8, "faint", after=1))
    if page.burden is not None:
        yield Block(_words(page_words.SIGNS, 2.8, "faint", after=3))
    yield from _untold(page)
    if page.network_figures and page.burden is not None:
        rows = page_words.sure_rows(page)
        table = list(_table(page_words.SURE_COLUMNS, rows))
        yield _heading(page_words.SURE_TITLE, min(sum(b.drawing.height for b in table), 120.0))
        yield from table
        yield Block(_words(page_words.SURE_NOTE, 2.8, "faint", after=3))
    yield _heading("What was analysed, and by what", 25)
    for name, value in page_words.details(page):
        text = _words(value, 3, after=1, indent=62)
        label = _words(name, 3, "faint", after=1, most=58)
        height = max(text.height, label.height)
        yield Block(Drawing(WIDTH_MM, height, [*label.shapes, *text.shapes]))
    yield from _episodes(page)


def _untold(page: Page) -> Iterator[Block]:
    """What cannot be told: a row each, and strips of the longest."""
    if not len(page.long_untold):
        return
    yield _heading(f"Cannot tell ({len(page.long_untold):,})", 40)
    yield Block(_words(page_words.UNTOLD_NOTE, 2.8, "faint", after=2))
    yield from _table(page_words.UNTOLD_COLUMNS, page_words.untold_rows(page))
    yield from (Block(_strip(strip)) for strip in untold_strips(page, MOST_HZ))


def _front(page: Page) -> Iterator[Block]:
    """The answer: how much AF, when, how sure, how much is not known."""
    yield Block(_words(page_words.title(page), 6, bold=True, after=1), section="Answer")
    yield Block(_words(page_words.recording(page), 3, "faint", after=3))
    kind = "af" if page.burden and page.limits[0] else "other"
    answer = _words(page_words.headline(page), 5, bold=True, after=1, indent=4)
    bar = Boxes(np.array([[0.0, 0.0, 1.5, answer.height + 1]]), kind)
    yield Block(replace(answer, height=answer.height + 2, shapes=[bar, *answer.shapes]))
    if unknown := page_words.unknown(page):
        yield Block(_words(unknown, 3.3, after=2))
    yield Block(_tiles(page))
    yield Block(fit(timeline(page), 110))
    yield Block(_words(_signs(page), 2.6, "faint", after=2))
    if page.burden is not None:
        yield Block(_words(page_words.sure(page), 3.3, after=1))
    yield Block(_words(page_words.NOT_A_DIAGNOSIS, 3.3, "doubt", after=3))


def _signs(page: Page) -> str:
    words = "Tall and orange: AF. Low and blue: not AF. " if page.burden is not None else ""
    drawn = {shape.kind for shape in timeline(page).shapes}
    crossed = "Crossed lines: cannot tell. " if "bare" in drawn else ""
    return f"{words}{crossed}Hatched: not analysed. Dots below: beats on doubtful signal."


def _episodes(page: Page) -> Iterator[Block]:
    if not len(page.runs) or page.burden is None:
        return
    count = len(page.runs)
    lines = min((count + 1) // 2, SHEET_ROWS) + 1
    yield _heading(f"Episodes ({count:,})", lines * ROW_MM)
    yield from _episode_rows(page)
    order = np.argsort(-durations_s(page.runs), kind="stable")[:MOST_EPISODES]
    title = (
        "Strips of every episode"
        if count <= MOST_EPISODES
        else (f"Strips of the {MOST_EPISODES} longest episodes; the HTML report has more")
    )
    yield _heading(title, 50)
    for k in sorted(order.tolist()):
        for start_s, part in episode_starts(page, k):
            strip = read_strip(page, start_s, f"Episode {k + 1}, {part}", MOST_HZ)
            yield Block(_strip(strip))


def _strip(strip: Strip) -> Drawing:
    """A strip below its caption."""
    caption = strip.caption + (" (cut at the paper's edge)" if strip.cut else "")
    words, drawing = _words(caption, 2.8, after=0.8), draw_strip(strip)
    both = [*words.shapes, *shift(drawing.shapes, words.height)]
    return Drawing(WIDTH_MM, words.height + drawing.height + 3, both)


def _heading(text: str, keep: float) -> Block:
    words = _words(text, 4.4, bold=True, after=2)
    line = Strokes(np.array([[0.0, 1.0, WIDTH_MM, 1.0]]), "line", 0.25)
    keep = min(keep, BOTTOM_MM - TOP_MM - words.height - 3)
    return Block(
        Drawing(WIDTH_MM, words.height + 3, [line, *shift(words.shapes, 3)]), keep, section=text
    )


def _words(
    text: str,
    size: float,
    kind: str = "ink",
    *,
    bold: bool = False,
    after: float = 0.0,
    indent: float = 0.0,
    most: float = WIDTH_MM,
) -> Drawing:
    """A paragraph, its lines broken to fit; a word that is too long is broken too."""
    lines, room = [""], most - indent
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if width_mm(longer, size, bold) <= room:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if width_mm(lines[-1] + letter, size, bold) > room:
                lines.append("")
            lines[-1] += letter
    shapes = [
        Text(indent, 1.05 * size + 1.35 * size * k, words, size, kind, bold=bold)
        for k, words in enumerate(lines)
    ]
    return Drawing(most, 1.35 * size * len(lines) + after, shapes)


def _tiles(page: Page) -> Drawing:
    tiles = page_words.tiles(page)
    each = WIDTH_MM / len(tiles)
    shapes: list[Shape] = []
    for k, (name, value, note) in enumerate(tiles):
        x = each * k
        shapes.append(Text(x, 7, value, 5.5))
        shapes.append(Text(x, 11.5, name, 2.9))
        shapes.append(Text(x, 15.2, note, 2.6, "faint"))
    return Drawing(WIDTH_MM, 20, shapes)


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], size: float = 2.8
) -> Iterator[Block]:
    """A table over the whole width; its head is set again on every page."""
    weights = np.array([22, 22, 12, 14, 14, 24, 24, 14, 22], float)[: len(columns)]
    left = np.concatenate([[0.0], np.cumsum(weights)]) * WIDTH_MM / weights.sum()

    def drawn(cells: Sequence[str], bold: bool) -> Drawing:
        parts = [
            _words(cell, size, bold=bold, most=float(left[k + 1] - left[k]) - 3)
            for k, cell in enumerate(cells)
        ]
        height = max(part.height for part in parts) + 1.6
        line = Strokes(np.array([[0, height - 0.6, WIDTH_MM, height - 0.6]]), "line", 0.2)
        placed = [shape for k, part in enumerate(parts) for shape in shift(part.shapes, 0, left[k])]
        return Drawing(WIDTH_MM, height, [*placed, line])

    head = drawn(columns, True)
    yield Block(head, keep=8)
    for row in rows:
        yield Block(drawn(row, False), head=head)


#: Height of a row of the episodes, and rows a page; right edges of its columns, the last one left.
ROW_MM, SHEET_ROWS = 4.2, 40
EDGES_MM = (8.0, 34.0, 60.0, 78.0, 87.0, 96.0, 112.0, 114.0)


def _episode_rows(page: Page) -> Iterator[Block]:
    """Every episode, in two columns; the first one is read down, then the second."""
    rows = [(f"{k:,}", *cells) for k, cells in enumerate(page_words.episode_cells(page), start=1)]
    names = ("", "Start", "End", "Duration", "Rate", "P(AF)", "Told", "Signal")
    head = _pair(names, names if len(rows) > 1 else None, bold=True)
    for begin in range(0, len(rows), 2 * SHEET_ROWS):
        part = rows[begin : begin + 2 * SHEET_ROWS]
        middle = (len(part) + 1) // 2
        yield Block(head, fresh=begin > 0)
        for left, right in zip_longest(part[:middle], part[middle:]):
            yield Block(_pair(left, right))


def _pair(left: Sequence[str], right: Sequence[str] | None, bold: bool = False) -> Drawing:
    half = WIDTH_MM / 2 + 3
    shapes: list[Shape] = []
    for x, cells in ((0.0, left), (half, right or ())):
        for k, cell in enumerate(cells):
            anchor: Anchor = "start" if k == len(EDGES_MM) - 1 else "end"
            shapes.append(Text(x + EDGES_MM[k], 3, cell, 2.6, "ink", anchor, bold))
        if cells:
            line = np.array([[x, 4.0, x + half - 6, 4.0]])
            shapes.append(Strokes(line, "faint" if bold else "line", 0.15))
    return Drawing(WIDTH_MM, ROW_MM, shapes)


def _foot(title: str, number: int, count: int) -> Drawing:
    name, cut = title, title
    while cut and width_mm(name, 2.6, False) > 130:
        cut = cut[:-1]
        name = f"{cut}…"
    place = f"page {number} of {count}"
    words = "A network's decisions, not a diagnosis; not a medical device"
    return Drawing(
        WIDTH_MM,
        4,
        [
            Text(0, 3, name, 2.6, "faint"),
            Text(WIDTH_MM / 2 + 40, 3, words, 2.6, "faint", "middle"),
            Text(WIDTH_MM, 3, place, 2.6, "faint", "end"),
        ],
    )
