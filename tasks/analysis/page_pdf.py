"""A record's report as a PDF: A4, true to scale, with text that can be searched and copied.

ReportLab writes it. Of the libraries that were tried it alone takes paths as text, which makes a
day's report in about a second; it needs Pillow and no compiler. A device has it where its owner
installs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.analysis import page_words
from tasks.analysis.page import Page
from tasks.analysis.page_charts import WIDTH_MM, day_chart, timeline
from tasks.analysis.page_strips import draw_strip, episode_starts, key_strips, read_strip
from tasks.analysis.shapes import KINDS, Anchor, Boxes, Curve, Drawing, Shape, Strokes, Text, pieces
from tasks.pages.colours import LIGHT
from tasks.pages.markup import clean
from tasks.scores.episodes import durations_s

if TYPE_CHECKING:
    from reportlab.pdfgen.canvas import Canvas

#: What a command says where the library is missing.
NO_PDF = "no PDF: the package reportlab is not installed (pip install reportlab)"
A4_MM = (297.0, 210.0)
LEFT_MM, TOP_MM, BOTTOM_MM = 15.0, 12.0, 196.0
POINTS_PER_MM = 72 / 25.4
#: Paths are written in whole units of this, 2,540 an inch.
UNIT_MM = 0.01
#: Episodes whose strips a PDF holds: four strips a page.
MOST_EPISODES = 40
#: Less room than this below the answer, and the chart of the day begins the next page.
LEAST_CHART_MM = 70.0
#: Samples a second of a trace: at 25 mm/s, ten a millimetre.
MOST_HZ = 250.0
Width = Callable[[str, float, bool], float]


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
    """The report as a PDF; None where the library is not installed.

    Parameters
    ----------
    page : Page
        What it shows. Its `read` is called for every strip.
    """
    if find_spec("reportlab") is None:
        return None
    from reportlab import rl_config
    from reportlab.pdfgen.canvas import Canvas

    rl_config.useA85 = 0  # bytes as they are: as text they take longer to write than all the rest
    out = BytesIO()
    size = (A4_MM[0] * POINTS_PER_MM, A4_MM[1] * POINTS_PER_MM)
    canvas = Canvas(out, pagesize=size, pageCompression=1, invariant=1, lang="en")
    title = page_words.title(page)
    canvas.setTitle(title)
    canvas.setAuthor("holter-af")
    canvas.setCreator("holter-af")
    canvas.setSubject(page_words.NOT_A_DIAGNOSIS)

    def width(text: str, size: float, bold: bool) -> float:
        return float(canvas.stringWidth(*_set(text, bold), size))

    sheets = list(_sheets(_blocks(page, width)))
    for number, sheet in enumerate(sheets, start=1):
        for y, block in sheet:
            if block.section:
                canvas.bookmarkHorizontal(block.section, 0, (A4_MM[1] - y) * POINTS_PER_MM)
                canvas.addOutlineEntry(block.section, block.section)
            _place(canvas, block.drawing, LEFT_MM, y)
        _place(canvas, _foot(title, number, len(sheets), width), LEFT_MM, 201.0)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


@cache
def _wide_font(bold: bool) -> str | None:
    """A font for text beyond Latin 1: Matplotlib's, where that is installed."""
    package = find_spec("matplotlib")
    if package is None or package.origin is None:
        return None
    from reportlab.pdfbase.pdfmetrics import registerFont
    from reportlab.pdfbase.ttfonts import TTFont

    name = "DejaVuSans-Bold" if bold else "DejaVuSans"
    file = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf"
    if not file.is_file():
        return None
    registerFont(TTFont(name, str(file)))
    return name


def _set(text: str, bold: bool) -> tuple[str, str]:
    """A text as a font can show it, and the font."""
    usual = "Helvetica-Bold" if bold else "Helvetica"
    text = clean(text)
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        if wide := _wide_font(bold):
            return text, wide
        return text.encode("cp1252", "replace").decode("cp1252"), usual
    return text, usual


def _place(canvas: Canvas, drawing: Drawing, x: float, y: float) -> None:
    """Draw shapes with their sheet's upper left corner at x and y, in mm."""
    for shape in drawing.shapes:
        colour, share = KINDS[shape.kind]
        if isinstance(shape, Text):
            text, font = _set(shape.text, shape.bold)
            canvas.setFillColor(_colour(colour))
            canvas.setFont(font, shape.size * POINTS_PER_MM)
            at = ((x + shape.x) * POINTS_PER_MM, (A4_MM[1] - y - shape.y) * POINTS_PER_MM)
            write = {"start": "drawString", "middle": "drawCentredString", "end": "drawRightString"}
            getattr(canvas, write[shape.anchor])(*at, text)
            continue
        path = _path(shape)
        if not path:
            continue
        canvas.saveState()
        scale = UNIT_MM * POINTS_PER_MM
        canvas.transform(scale, 0, 0, -scale, x * POINTS_PER_MM, (A4_MM[1] - y) * POINTS_PER_MM)
        if isinstance(shape, Boxes):
            canvas.setFillColor(_colour(colour))
            canvas.setFillAlpha(share)
        else:
            canvas.setStrokeColor(_colour(colour))
            canvas.setStrokeAlpha(share)
            canvas.setLineWidth(shape.width / UNIT_MM)
            canvas.setLineJoin(1)
        canvas.addLiteral(path)
        canvas.restoreState()


def _path(shape: Curve | Strokes | Boxes) -> str:
    """A shape as a path of PDF (ISO 32000, 8.5), in whole units: built, then filled or stroked."""
    if isinstance(shape, Boxes):
        return _numbers("%d %d %d %d re\n", shape.boxes, "f")
    if isinstance(shape, Strokes):
        return _numbers("%d %d m %d %d l\n", shape.ends, "S")
    parts = pieces(shape.points)
    lines = (
        _numbers("%d %d m\n", part[:1], "") + _numbers("%d %d l\n", part[1:], "") for part in parts
    )
    return "".join(lines) + "S" if parts else ""


def _numbers(form: str, values: Any, end: str) -> str:
    if not len(values):
        return ""
    units = np.rint(np.asarray(values) / UNIT_MM).astype(np.int64)
    return (form * len(units)) % tuple(units.ravel().tolist()) + end


@cache
def _colour(name: str) -> Any:
    from reportlab.lib.colors import HexColor

    return HexColor(LIGHT[name])


def _sheets(blocks: Iterator[Block]) -> Iterator[list[tuple[float, Block]]]:
    """Blocks laid on pages, each with how far below the upper edge it begins, in mm."""
    sheet: list[tuple[float, Block]] = []
    y = TOP_MM
    for block in blocks:
        below = y + block.drawing.height + block.keep
        if sheet and (below > BOTTOM_MM or block.fresh):
            yield sheet
            sheet, y = [], TOP_MM
            if block.head is not None:
                sheet.append((y, Block(block.head)))
                y += block.head.height
        sheet.append((y, block))
        y += block.drawing.height
    yield sheet


def _blocks(page: Page, width: Width) -> Iterator[Block]:
    """The report from top to bottom."""
    front = list(_front(page, width))
    yield from front
    room = BOTTOM_MM - TOP_MM - sum(block.drawing.height for block in front) - 3
    room = room if room > LEAST_CHART_MM else 100.0
    if (chart := day_chart(page, room)) is not None:
        yield Block(chart, section="Heart rate and intervals")
    yield _heading("Signal", width, 50)
    for strip in key_strips(page, MOST_HZ):
        yield Block(_strip(strip, width))
    yield Block(_words(page_words.TRUE_SCALE, width, 2.8, "faint", after=1))
    if len(page.time_s):
        yield Block(_words(page_words.SIGNS, width, 2.8, "faint", after=3))
    yield from _episodes(page, width)
    if page.network_figures:
        rows = page_words.sure_rows(page)
        yield _heading(page_words.SURE_TITLE, width, 25)
        yield from _table(page_words.SURE_COLUMNS, rows, width)
        yield Block(_words(page_words.SURE_NOTE, width, 2.8, "faint", after=3))
    yield _heading("What was analysed, and by what", width, 25)
    for name, value in page_words.details(page):
        text = _words(value, width, 3, after=1, indent=62)
        label = _words(name, width, 3, "faint", after=1, most=58)
        height = max(text.height, label.height)
        yield Block(Drawing(WIDTH_MM, height, [*label.shapes, *text.shapes]))


def _front(page: Page, width: Width) -> Iterator[Block]:
    """The answer: how much AF, when, how sure, how much is not known."""
    yield Block(_words(page_words.title(page), width, 6, bold=True, after=1), section="Answer")
    yield Block(_words(page_words.recording(page), width, 3, "faint", after=3))
    kind = "other" if page.burden is None or not len(page.runs) else "af"
    answer = _words(page_words.headline(page), width, 5, bold=True, after=1, indent=4)
    bar = Boxes(np.array([[0.0, 0.0, 1.5, answer.height + 1]]), kind)
    yield Block(replace(answer, height=answer.height + 2, shapes=[bar, *answer.shapes]))
    if unknown := page_words.unknown(page):
        yield Block(_words(unknown, width, 3.3, after=2))
    yield Block(_tiles(page))
    yield Block(_fitted(timeline(page), 110))
    yield Block(_words(_signs(page), width, 2.6, "faint", after=2))
    yield Block(_words(page_words.sure(page), width, 3.3, after=1))
    yield Block(_words(page_words.NOT_A_DIAGNOSIS, width, 3.3, "doubt", after=3))


def _signs(page: Page) -> str:
    words = "Tall and orange: AF. Low and blue: not AF. " if page.burden is not None else ""
    return words + "Hatched: not analysed. Dots below: beats on doubtful signal."


def _episodes(page: Page, width: Width) -> Iterator[Block]:
    if not len(page.runs) or page.burden is None:
        return
    count = len(page.runs)
    lines = min((count + 1) // 2, SHEET_ROWS) + 1
    yield _heading(f"Episodes ({count:,})", width, lines * ROW_MM)
    yield from _episode_rows(page)
    order = np.argsort(-durations_s(page.runs), kind="stable")[:MOST_EPISODES]
    title = (
        "Strips of every episode"
        if count <= MOST_EPISODES
        else (f"Strips of the {MOST_EPISODES} longest episodes; the HTML report has more")
    )
    yield _heading(title, width, 50)
    for k in sorted(order.tolist()):
        for start_s, part in episode_starts(page, k):
            strip = read_strip(page, start_s, f"Episode {k + 1}, {part}", MOST_HZ)
            yield Block(_strip(strip, width))


def _strip(strip: Any, width: Width) -> Drawing:
    """A strip below its caption."""
    caption = strip.caption + (" (cut at the paper's edge)" if strip.cut else "")
    words, drawing = _words(caption, width, 2.8, after=0.8), draw_strip(strip)
    both = [*words.shapes, *_lowered(drawing.shapes, words.height)]
    return Drawing(WIDTH_MM, words.height + drawing.height + 3, both)


def _lowered(shapes: Sequence[Shape], by: float, right: float = 0.0) -> Iterator[Shape]:
    """The same shapes, further down and to the right."""
    for shape in shapes:
        if isinstance(shape, Text):
            yield replace(shape, x=shape.x + right, y=shape.y + by)
        elif isinstance(shape, Curve):
            yield replace(shape, points=shape.points + np.array([right, by]))
        elif isinstance(shape, Strokes):
            yield replace(shape, ends=shape.ends + np.array([right, by, right, by]))
        else:
            yield replace(shape, boxes=shape.boxes + np.array([right, by, 0, 0]))


def _fitted(drawing: Drawing, most: float) -> Drawing:
    """A drawing that is too tall, made smaller in both directions."""
    by = min(most / drawing.height, 1.0)
    if by == 1.0:
        return drawing
    shapes: list[Shape] = []
    for shape in drawing.shapes:
        if isinstance(shape, Text):
            shapes.append(replace(shape, x=by * shape.x, y=by * shape.y, size=by * shape.size))
        elif isinstance(shape, Curve):
            shapes.append(replace(shape, points=by * shape.points, width=by * shape.width))
        elif isinstance(shape, Strokes):
            shapes.append(replace(shape, ends=by * shape.ends, width=by * shape.width))
        else:
            shapes.append(replace(shape, boxes=by * shape.boxes))
    return Drawing(by * drawing.width, by * drawing.height, shapes, drawing.shows)


def _heading(text: str, width: Width, keep: float) -> Block:
    words = _words(text, width, 4.4, bold=True, after=2)
    shapes = [*_lowered(words.shapes, 3)]
    line = Strokes(np.array([[0.0, 1.0, WIDTH_MM, 1.0]]), "line", 0.25)
    keep = min(keep, BOTTOM_MM - TOP_MM - words.height - 3)
    return Block(Drawing(WIDTH_MM, words.height + 3, [line, *shapes]), keep, section=text)


def _words(
    text: str,
    width: Width,
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
        if width(longer, size, bold) <= room:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if width(lines[-1] + letter, size, bold) > room:
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
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: Width, size: float = 2.8
) -> Iterator[Block]:
    """A table over the whole width; its head is set again on every page."""
    weights = np.array([22, 22, 12, 14, 14, 24, 24, 14, 22], float)[: len(columns)]
    left = np.concatenate([[0.0], np.cumsum(weights)]) * WIDTH_MM / weights.sum()

    def drawn(cells: Sequence[str], bold: bool) -> Drawing:
        parts = [
            _words(cell, width, size, bold=bold, most=float(left[k + 1] - left[k]) - 3)
            for k, cell in enumerate(cells)
        ]
        height = max(part.height for part in parts) + 1.6
        line = Strokes(np.array([[0, height - 0.6, WIDTH_MM, height - 0.6]]), "line", 0.2)
        placed = [
            shape for k, part in enumerate(parts) for shape in _lowered(part.shapes, 0, left[k])
        ]
        return Drawing(WIDTH_MM, height, [*placed, line])

    head = drawn(columns, True)
    yield Block(head, keep=8)
    for row in rows:
        yield Block(drawn(row, False), head=head)


#: Height of a row of the episodes, and rows a page; right edges of its columns, the last one left.
ROW_MM, SHEET_ROWS = 4.2, 40
EDGES_MM = (9.0, 36.0, 63.0, 83.0, 94.0, 105.0, 108.0)


def _episode_rows(page: Page) -> Iterator[Block]:
    """Every episode, in two columns; the first one is read down, then the second."""
    rows = [(f"{k:,}", *cells) for k, cells in enumerate(page_words.episode_cells(page), start=1)]
    names = ("", "Start", "End", "Duration", "Rate", "P(AF)", "Signal")
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


def _foot(title: str, number: int, count: int, width: Width) -> Drawing:
    name, cut = title, title
    while cut and width(name, 2.6, False) > 130:
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
