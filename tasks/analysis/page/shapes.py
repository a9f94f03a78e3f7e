"""Drawings as plain shapes in millimetres, which HTML shows as SVG and a PDF as its own paths.

One drawing serves both, and a device makes it with numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasks.pages.markup import escape

Array: TypeAlias = NDArray[np.floating[Any]]
Anchor = Literal["start", "middle", "end"]

#: What a shape means: the variable of its colour in the style, and how much of it is laid on.
KINDS = {
    "ink": ("ink", 1.0),
    "faint": ("faint", 1.0),
    "line": ("line", 1.0),
    "af": ("af", 1.0),
    "af-half": ("af", 0.45),
    "af-wash": ("af", 0.12),
    "other": ("other", 1.0),
    "other-half": ("other", 0.45),
    "other-wash": ("other", 0.18),
    "doubt": ("doubt", 1.0),
    "untold": ("untold", 1.0),
    "untold-half": ("untold", 0.45),
    "untold-wash": ("untold", 0.18),
    "gap": ("gap", 1.0),
    "bare": ("paper", 1.0),
    "paper": ("ecg-paper", 1.0),
    "fine": ("ecg-fine", 1.0),
    "bold": ("ecg-bold", 1.0),
}


@dataclass(frozen=True, eq=False)
class Curve:
    """A line through points, shape (n, 2) in mm; a point with NaN lifts the pen."""

    points: Array
    kind: str = "ink"
    width: float = 0.25


@dataclass(frozen=True, eq=False)
class Strokes:
    """Straight strokes, shape (n, 4) in mm: x and y of one end, then of the other."""

    ends: Array
    kind: str = "line"
    width: float = 0.15


@dataclass(frozen=True, eq=False)
class Boxes:
    """Filled boxes, shape (n, 4) in mm: x, y, width and height."""

    boxes: Array
    kind: str = "gap"


@dataclass(frozen=True)
class Text:
    """A line of text: where its baseline begins, or ends, or has its middle; `size` in mm."""

    x: float
    y: float
    text: str
    size: float = 2.6
    kind: str = "ink"
    anchor: Anchor = "start"
    bold: bool = False


Shape: TypeAlias = Curve | Strokes | Boxes | Text


@dataclass(frozen=True, eq=False)
class Drawing:
    """Shapes on a sheet, in mm from its upper left corner; `shows` says in words what is seen."""

    width: float
    height: float
    shapes: Sequence[Shape]
    shows: str = ""


def svg(drawing: Drawing, classes: str = "", true_scale: bool = False) -> str:
    """A drawing as an SVG element; of `true_scale`, a millimetre is one on paper too."""
    w, h = f"{drawing.width:g}", f"{drawing.height:g}"
    size = f' style="width:{w}mm;height:{h}mm"' if true_scale else ""
    name = f' role="img" aria-label="{escape(drawing.shows)}"' if drawing.shows else ""
    inside = "".join(_markup(shape) for shape in drawing.shapes)
    named = f"d {classes}".strip()
    return f'<svg class="{named}" viewBox="0 0 {w} {h}"{size}{name}>{inside}</svg>'


def _markup(shape: Shape) -> str:
    if isinstance(shape, Text):
        anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
        weight = ' font-weight="600"' if shape.bold else ""
        place = f'x="{_short(shape.x)}" y="{_short(shape.y)}" font-size="{shape.size:g}"'
        return f'<text class="k-{shape.kind}" {place}{anchor}{weight}>{escape(shape.text)}</text>'
    if isinstance(shape, Boxes):
        path = "".join(
            f"M{_short(x)} {_short(y)}h{_short(w)}v{_short(h)}h{_short(-w)}z"
            for x, y, w, h in shape.boxes.tolist()
        )
        return f'<path class="b k-{shape.kind}" d="{path}"/>' if path else ""
    if isinstance(shape, Strokes):
        path = "".join(_stroke(*ends) for ends in shape.ends.tolist())
    else:
        path = "".join(f"M{_polyline(part)}" for part in pieces(shape.points))
    if not path:
        return ""
    return f'<path class="l k-{shape.kind}" d="{path}" stroke-width="{shape.width:g}"/>'


def _stroke(x1: float, y1: float, x2: float, y2: float) -> str:
    begin = f"M{_short(x1)} {_short(y1)}"
    if x1 == x2:
        return f"{begin}V{_short(y2)}"
    return f"{begin}H{_short(x2)}" if y1 == y2 else f"{begin}L{_short(x2)} {_short(y2)}"


def _polyline(points: Array) -> str:
    return " ".join(f"{_short(x)} {_short(y)}" for x, y in points.tolist())


def _short(value: float) -> str:
    return f"{round(value, 2):g}"


def pieces(points: Array) -> list[Array]:
    """The parts of a curve between points with NaN; one alone is a dot."""
    finite = np.isfinite(points).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]]).astype(np.int8)))
    parts = [points[a:b] for a, b in edges.reshape(-1, 2).tolist()]
    return [
        np.concatenate([part, part + np.array([0.05, 0])]) if len(part) == 1 else part
        for part in parts
    ]


def shift(shapes: Iterable[Shape], down: float, right: float = 0.0) -> Iterator[Shape]:
    """The same shapes, further down and to the right."""
    for shape in shapes:
        if isinstance(shape, Text):
            yield replace(shape, x=shape.x + right, y=shape.y + down)
        elif isinstance(shape, Curve):
            yield replace(shape, points=shape.points + np.array([right, down]))
        elif isinstance(shape, Strokes):
            yield replace(shape, ends=shape.ends + np.array([right, down, right, down]))
        else:
            yield replace(shape, boxes=shape.boxes + np.array([right, down, 0, 0]))


def fit(drawing: Drawing, most: float) -> Drawing:
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


def paper(x: float, y: float, width: float, height: float) -> list[Shape]:
    """ECG paper: a line each millimetre, a stronger one every five."""
    across, down = np.arange(0, width + 0.5), np.arange(0, height + 0.5)
    upright = np.stack([x + across, np.full_like(across, y)] * 2, axis=1)
    level = np.stack([np.full_like(down, x), y + down] * 2, axis=1)
    upright[:, 3] += height
    level[:, 2] += width
    strong_up, strong_level = across % 5 == 0, down % 5 == 0
    return [
        Boxes(np.array([[x, y, width, height]]), "paper"),
        Strokes(np.concatenate([upright[~strong_up], level[~strong_level]]), "fine", 0.1),
        Strokes(np.concatenate([upright[strong_up], level[strong_level]]), "bold", 0.15),
    ]


def hatch(boxes: Array, step: float = 1.6) -> list[Shape]:
    """Boxes that are grey and hatched: what cannot be analysed, told apart without colour too."""
    return [Boxes(boxes, "gap"), _slanted(boxes, step, "faint")]


def crosshatch(boxes: Array, step: float = 1.6, width: float = 0.16) -> list[Shape]:
    """Boxes of crossed lines on bare paper: what cannot be told, whatever lies below."""
    lines = [
        replace(_slanted(boxes, step, "untold", mirrored), width=width)
        for mirrored in (False, True)
    ]
    return [Boxes(boxes, "bare"), Boxes(boxes, "untold-wash"), *lines]


def _slanted(boxes: Array, step: float, kind: str, mirrored: bool = False) -> Strokes:
    strokes: list[Iterable[float]] = []
    for x, y, width, height in boxes.tolist():
        offsets = np.arange(step / 2, width + height, step)
        low, high = np.maximum(offsets - width, 0), np.minimum(offsets, height)
        left, right = offsets - low, offsets - high
        if mirrored:
            left, right = width - left, width - right
        strokes += np.stack([x + left, y + low, x + right, y + high], 1).tolist()
    return Strokes(np.array(strokes).reshape(-1, 4), kind, 0.12)
