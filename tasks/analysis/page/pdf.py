"""Drawings as pages of a PDF, by ReportLab.

Of the libraries that were tried it alone takes a path as text, which makes a day's report in about
two seconds; it is of Python alone, and needs Pillow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.analysis.page.shapes import KINDS, Boxes, Curve, Drawing, Strokes, Text, pieces
from tasks.pages.colours import LIGHT
from tasks.pages.markup import clean

if TYPE_CHECKING:
    from reportlab.pdfgen.canvas import Canvas

LIBRARY = "reportlab"
A4_MM = (297.0, 210.0)
POINTS_PER_MM = 72 / 25.4
#: Paths are written in whole units of this, 2,540 an inch.
UNIT_MM = 0.01


@dataclass(frozen=True, eq=False)
class Placement:
    """A drawing on a page: its upper left corner in mm; `section` is its name as a bookmark."""

    x: float
    y: float
    drawing: Drawing
    section: str = ""


def is_installed() -> bool:
    """Whether the library is there; a device has it where its owner installed it."""
    return find_spec(LIBRARY) is not None


def width_mm(text: str, size: float, bold: bool = False) -> float:
    """How long a line of text is at a size in mm."""
    from reportlab.pdfbase.pdfmetrics import stringWidth

    return float(stringWidth(*_set(text, bold), size))


def to_pdf(sheets: Sequence[Sequence[Placement]], title: str, subject: str) -> bytes:
    """A4 pages across, with bookmarks; the same drawings give the same bytes."""
    from reportlab import rl_config
    from reportlab.pdfgen.canvas import Canvas

    rl_config.useA85 = 0  # bytes as they are: as text they take longer to write than all the rest
    out = BytesIO()
    size = (A4_MM[0] * POINTS_PER_MM, A4_MM[1] * POINTS_PER_MM)
    canvas = Canvas(out, pagesize=size, pageCompression=1, invariant=1, lang="en")
    canvas.setTitle(title)
    canvas.setAuthor("holter-af")
    canvas.setCreator("holter-af")
    canvas.setSubject(subject)
    for sheet in sheets:
        for placed in sheet:
            if placed.section:
                top = (A4_MM[1] - placed.y) * POINTS_PER_MM
                canvas.bookmarkHorizontal(placed.section, 0, top)
                canvas.addOutlineEntry(placed.section, placed.section)
            _place(canvas, placed.drawing, placed.x, placed.y)
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
