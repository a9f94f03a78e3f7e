"""The record at a glance: when there was AF, and heart rate and intervals over the day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasks.analysis.page.facts import CLINICAL_S, Page
from tasks.analysis.page.shapes import (
    Array,
    Boxes,
    Curve,
    Drawing,
    Shape,
    Strokes,
    Text,
    crosshatch,
    hatch,
)
from tasks.analysis.page.words import date, moment
from tasks.scores.episodes import Intervals, lasting

#: Steps of a time axis, seconds: the first that gives at most so many labels.
STEPS_S = (1.0, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
DAY_S = 86_400.0
#: Longer records are shown a day a row.
ONE_ROW_S = 30 * 3600.0
WIDTH_MM = 267.0
RR_S = (0.25, 2.0)
#: More beats than this are drawn as where they lie on a lattice of columns and rows.
MOST_DOTS = 4_000
COLUMNS, ROWS = 700, 110
#: In a short record, what cannot be told is drawn from this share of it on.
LEAST_UNTOLD = 0.02
#: Where so many of the beats are doubtful, the timeline says so.
DOUBTFUL_SHARE = 0.1

#: What a group of beats is called, how it is drawn, and which beats are in it.
Group: TypeAlias = tuple[str, str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Axis:
    """A stretch of time laid across a drawing: from where, to where, in s and mm."""

    begin_s: float
    end_s: float
    left: float
    right: float

    def x(self, time_s: Any) -> Any:
        """Where times lie."""
        share = (np.clip(time_s, self.begin_s, self.end_s) - self.begin_s) / self.length_s
        return self.left + (self.right - self.left) * share

    @property
    def length_s(self) -> float:
        """Seconds across."""
        return max(self.end_s - self.begin_s, 1e-9)


def since_midnight_s(page: Page) -> float:
    """How long after midnight the record begins; 0 where that is not known."""
    if page.start is None:
        return 0.0
    clock = page.start.time()
    return clock.hour * 3600 + clock.minute * 60 + clock.second + clock.microsecond / 1e6


def ticks_s(page: Page, axis: Axis, most: int) -> list[float]:
    """Round times of an axis, seconds from the record's start."""
    offset = since_midnight_s(page)
    days = DAY_S * float(np.ceil(axis.length_s / most / DAY_S))
    step = next((s for s in STEPS_S if axis.length_s / s <= most), days)
    first = np.ceil((axis.begin_s + offset) / step) * step
    values = np.arange(first, axis.end_s + offset + step * 1e-6, step) - offset
    return [float(value) for value in values]


def tick_text(page: Page, at_s: float, axis: Axis) -> str:
    """A tick's label: the time of day, the date at midnight, or the time from the start."""
    clock = moment(page, at_s + 1e-6).rsplit(" ", 1)[-1]
    if axis.length_s > 8 * DAY_S or (page.start and clock == "00:00:00"):
        return _day(page, at_s + 1e-6)
    if page.start is None and axis.length_s > 6 * 3600:
        return f"{at_s / 3600:.0f} h"
    return clock.rsplit(":", 1)[0] if axis.length_s > 600 and page.start else clock


def timeline(page: Page, width: float = WIDTH_MM) -> Drawing:
    """When there was AF: a bar of the record, or of each of its days.

    AF is a tall bar, what is not AF a low one, what was not analysed a hatched one, what cannot be
    told one of crosshatch lines, doubtful signal a line of dots below: they are told apart without
    colour too.
    """
    many = page.duration_s > ONE_ROW_S
    offset = since_midnight_s(page) if many else 0.0
    days = int(np.ceil((page.duration_s + offset) / DAY_S)) if many else 1
    left, row = (24.0, float(np.clip(96 / days, 3.2, 12))) if many else (1.0, 14.0)
    length_s = DAY_S if many else page.duration_s
    shapes: list[Shape] = []
    for day in range(days):
        begin, top = day * length_s - offset, 1 + day * row
        shapes += _bar(page, Axis(begin, begin + length_s, left, width - 1), top, row / 14)
        if many:
            shapes.append(Text(0, top + 0.5 * row, _day(page, max(begin, 0)), min(3, 0.7 * row)))
    bottom = 1 + days * row
    axis = Axis(-offset, length_s - offset, left, width - 1)
    shapes += _time_axis(page, axis, bottom - 0.6, many)
    return Drawing(width, bottom + 5, shapes, timeline_words(page))


def _day(page: Page, at_s: float) -> str:
    """A day without its year."""
    return date(page, at_s).removesuffix(f" {page.start.year}" if page.start else "")


def timeline_words(page: Page) -> str:
    """The timeline in words."""
    longest = page.runs[np.argsort(page.runs[:, 0] - page.runs[:, 1], kind="stable")[:5]]
    spans = [f"{moment(page, a)} to {moment(page, b)}" for a, b in longest.tolist()]
    words = f"AF: {'; '.join(spans)}" if spans else "No AF found"
    if page.burden is None:
        return f"Timeline of the record. Cannot tell. Not analysed: {len(page.holes_s)} stretches."
    if len(page.runs) > 5:
        words = f"The longest of {len(page.runs):,} episodes of {words}"
    words += f". Not analysed: {len(page.holes_s)} stretches"
    if len(shown := shown_untold(page)):
        words += f". Cannot be told: {len(shown)} stretches"
    return f"Timeline of the record. {words}."


def shown_untold(page: Page) -> Intervals:
    """What of that which cannot be told is drawn: 30 s or more, or less of a short record."""
    return lasting(page.untold, min(CLINICAL_S, LEAST_UNTOLD * page.duration_s))


def _bar(page: Page, axis: Axis, top: float, scale: float) -> Iterator[Shape]:
    tall, least = 9 * scale, 0.35
    known = _clipped(page.stretches_s, axis)
    if page.burden is not None:
        yield Boxes(_across(axis, known, top + 0.65 * tall, 0.35 * tall), "other")
        yield Boxes(_across(axis, _clipped(page.runs, axis), top, tall, least), "af")
        if len(untold := _clipped(shown_untold(page), axis)):
            yield from crosshatch(_across(axis, untold, top, tall, least))
    elif page.cannot_tell and len(known):
        yield from crosshatch(_across(axis, known, top, tall))
    holes = page.holes_s
    if page.burden is None and not page.cannot_tell:
        holes = np.array([[0.0, page.duration_s]])
    yield from hatch(_across(axis, _clipped(holes, axis), top, tall, least))
    low, high = np.searchsorted(page.time_s, (axis.begin_s, axis.end_s)).tolist()
    if low < high:
        beats = slice(low, high)
        first, last = _columns(axis, page.time_s[beats], 500)
        total = np.concatenate([[0], np.cumsum(page.flagged[beats])])
        doubtful = (total[last] - total[first]) / (last - first) >= DOUBTFUL_SHARE
        x = axis.x(page.time_s[beats][first[doubtful]])
        level = np.full_like(x, top + 10.2 * scale)
        if len(x):
            yield Strokes(np.stack([x - 0.1, level, x + 0.3, level], axis=1), "doubt", 0.9 * scale)


def _clipped(intervals: Intervals, axis: Axis) -> Intervals:
    inside = (intervals[:, 0] < axis.end_s) & (intervals[:, 1] > axis.begin_s)
    return np.asarray(np.clip(intervals[inside], axis.begin_s, axis.end_s))


def _across(axis: Axis, spans_s: Intervals, top: float, height: float, least: float = 0) -> Array:
    """Boxes over spans of time, at least so wide; those that touch are one."""
    left, right = axis.x(spans_s[:, 0]), axis.x(spans_s[:, 1])
    right = np.minimum(np.maximum(right, left + least), axis.right)
    left = np.minimum(left, np.maximum(right - least, axis.left))
    if len(left) > 1:
        apart = np.append(True, left[1:] - np.maximum.accumulate(right)[:-1] > 0.02)
        first = np.flatnonzero(apart)
        left, right = left[first], np.maximum.reduceat(right, first)
    level = np.full_like(left, top)
    return np.stack([left, level, right - left, np.full_like(left, height)], axis=1)


def _time_axis(page: Page, axis: Axis, y: float, of_day: bool = False) -> Iterator[Shape]:
    most = max(int((axis.right - axis.left) / 19), 2)
    at_s = ticks_s(page, axis, most)
    if of_day:
        at_s = [axis.begin_s + DAY_S * k / 8 for k in range(9)][:: 1 if axis.right > 150 else 2]
    x = axis.x(np.array(at_s))
    yield Strokes(np.stack([x, np.full_like(x, y), x, np.full_like(x, y + 1.2)], axis=1), "faint")
    for place, value in zip(x.tolist(), at_s, strict=True):
        text = f"{3 * round((value - axis.begin_s) / 10_800):02}:00" if of_day else ""
        text = text or tick_text(page, value, axis)
        anchor = "start" if place < axis.left + 4 else "end" if place > axis.right - 4 else "middle"
        yield Text(place, y + 4.2, text, 2.6, "faint", anchor)  # type: ignore[arg-type]  # a literal


def day_chart(page: Page, height: float = 125.0) -> Drawing | None:
    """Heart rate, RR intervals, P(AF) and doubtful signal over the record; None without intervals.

    `height` in mm is what it may take; more than 125 it does not use.
    """
    known = np.isfinite(page.rr_s)
    if not known.any():
        return None
    axis = Axis(0.0, page.duration_s, 14, WIDTH_MM - 13)
    time_s, rr_s, groups = page.time_s[known], page.rr_s[known], _groups(page, known)
    shapes: list[Shape] = []
    top, room = 5.0, min(height, 125.0) - 38
    for panel, tall in ((_rate_panel, 0.38 * room), (_rr_panel, 0.62 * room)):
        shapes += _ground(page, axis, top, tall)
        shapes += panel(axis, top, tall, time_s, rr_s, groups)
        top += tall + 8
    top -= 5
    lanes = [("P(AF)", page.probability, "af"), ("doubtful", page.flagged, "doubt")]
    for name, values, kind in lanes[page.burden is None :]:
        shapes += _share_lane(page, axis, top, name, values, kind)
        top += 7.5
    shapes += _time_axis(page, axis, top - 0.6)
    return Drawing(WIDTH_MM, top + 4.5, shapes, _chart_words(rr_s))


def _groups(page: Page, known: NDArray[np.bool_]) -> list[Group]:
    """The beats with an interval by what is told of them."""
    decided, sure = page.decided[known], page.sure[known]
    if page.burden is None:
        return [("", "other", np.ones(len(sure), bool))]
    groups: list[Group] = [
        ("blue, decided not AF", "other", ~decided & sure),
        ("orange, decided AF", "af", decided & sure),
        ("purple, cannot tell", "untold", ~sure),
    ]
    return groups[: 2 + (not sure.all())]


def _chart_words(rr_s: Array) -> str:
    low, middle, high = (60 / np.quantile(rr_s, (0.95, 0.5, 0.05))).tolist()
    return (
        "Heart rate, intervals between beats and doubtful signal over the record. "
        f"Heart rate: median {middle:.0f} per minute, nine tenths of it {low:.0f} to {high:.0f}."
    )


def _ground(page: Page, axis: Axis, top: float, height: float) -> Iterator[Shape]:
    yield Boxes(_across(axis, page.holes_s, top, height, 0.1), "gap")
    if page.burden is not None:
        yield Boxes(_across(axis, page.runs, top, height, 0.15), "af-wash")


def _scale(
    axis: Axis, marks: Sequence[tuple[float, str, str]], name: str, top: float
) -> Iterator[Shape]:
    """Level lines with what stands at their left and right ends."""
    for y, left, right in marks:
        yield Strokes(np.array([[axis.left, y, axis.right, y]]), "line")
        yield Text(axis.left - 1.5, y + 0.9, left, 2.6, "faint", "end")
        yield Text(axis.right + 1.5, y + 0.9, right, 2.6, "faint")
    yield Text(axis.left, top - 1.5, name, 2.8)


def _columns(axis: Axis, time_s: Array, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First beat and end of each column that holds beats."""
    column = ((time_s - axis.begin_s) / axis.length_s * most).astype(np.int64).clip(0, most - 1)
    edges = np.searchsorted(column, np.arange(most + 1))
    filled = edges[1:] > edges[:-1]
    return edges[:-1][filled], edges[1:][filled]


def _quantiles(
    values: Array, first: NDArray[np.int64], last: NDArray[np.int64], shares: Sequence[float]
) -> Array:
    """Quantiles of values[first:last], parts that follow each other; shape (parts, shares).

    As numpy's own of each, in a thirtieth of their time.
    """
    part = np.repeat(np.arange(len(first)), last - first)
    ordered = values[np.lexsort((values, part))]
    place = (last - first - 1)[:, None] * np.array(shares)
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, (last - first - 1)[:, None])
    low_value, high_value = ordered[first[:, None] + low], ordered[first[:, None] + high]
    return np.asarray(low_value + (place - low) * (high_value - low_value))


def _rate_panel(
    axis: Axis, top: float, height: float, time_s: Array, rr_s: Array, groups: Sequence[Group]
) -> Iterator[Shape]:
    del groups
    first, last = _columns(axis, time_s, 350)
    rate = _quantiles(60 / rr_s, first, last, (0.05, 0.5, 0.95))
    low = max(20 * np.floor(min(rate.min(), 60) / 20), 0)
    high = min(20 * np.ceil(max(np.quantile(rate, 0.995), low + 60) / 20), 300)
    y = top + height * (1 - (np.clip(rate, low, high) - low) / (high - low))
    x = axis.x((time_s[first] + time_s[last - 1]) / 2)
    step = 20 if high - low <= 120 else 40
    lines = np.arange(low, high + 1, step)
    marks = [
        (top + height * (1 - (v - low) / (high - low)), f"{v:.0f}", "") for v in lines.tolist()
    ]
    name = "Heart rate, beats/min: median, and the middle 90 %"
    yield from _scale(axis, marks, name, top)
    yield Strokes(np.stack([x, y[:, 0] + 0.1, x, y[:, 2] - 0.1], axis=1), "other-half", 0.55)
    apart = (np.diff(x) > 3.0) & (np.diff(time_s[first]) > 10.0)  # a pause lifts the pen
    points = np.stack([x, y[:, 1]], axis=1)
    yield Curve(np.insert(points, np.flatnonzero(apart) + 1, np.nan, axis=0), "ink", 0.4)


def _rr_panel(
    axis: Axis, top: float, height: float, time_s: Array, rr_s: Array, groups: Sequence[Group]
) -> Iterator[Shape]:
    """Every interval, logarithmic: equal ratios are equal heights."""
    low, high = np.log(RR_S)
    level = 1 - (np.log(np.clip(rr_s, *RR_S)) - low) / (high - low)
    marks = [
        (top + height * (1 - (np.log(v) - low) / (high - low)), f"{v:g} s", f"{60 / v:.0f}/min")
        for v in (0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
    ]
    names = "; ".join(name for name, _, _ in groups if name)
    name = f"Intervals between beats: {names}" if names else "Intervals between beats"
    yield from _scale(axis, marks, name, top)
    for _, kind, beats in groups:
        x, y = axis.x(time_s[beats]), top + height * level[beats]
        if len(rr_s) <= MOST_DOTS:
            half = 0.3 if len(rr_s) > 400 else 0.6
            yield Strokes(np.stack([x - half, y, x + half, y], axis=1), kind, 2 * half)
        else:
            yield from _lattice(axis, top, height, x, level[beats], kind)


def _lattice(
    axis: Axis, top: float, height: float, x: Array, level: Array, kind: str
) -> Iterator[Shape]:
    """Where beats lie on a lattice: faint where a cell holds one, full where it holds more."""
    wide, tall = (axis.right - axis.left) / COLUMNS, height / ROWS
    column = ((x - axis.left) / wide).astype(np.int64).clip(0, COLUMNS - 1)
    row = (level * ROWS).astype(np.int64).clip(0, ROWS - 1)
    count = np.bincount(column * ROWS + row, minlength=COLUMNS * ROWS).reshape(COLUMNS, ROWS)
    for cells, shade in ((count == 1, f"{kind}-half"), (count > 1, kind)):
        edges = np.diff(np.pad(cells, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        at, begin = np.nonzero(edges == 1)
        _, end = np.nonzero(edges == -1)
        middle = axis.left + (at + 0.5) * wide
        yield Strokes(
            np.stack([middle, top + begin * tall, middle, top + end * tall], axis=1), shade, wide
        )


def _share_lane(
    page: Page, axis: Axis, top: float, name: str, values: NDArray[Any], kind: str
) -> Iterator[Shape]:
    yield Boxes(np.array([[axis.left, top, axis.right - axis.left, 6.0]]), "other-wash")
    yield Boxes(_across(axis, page.holes_s, top, 6, 0.1), "gap")
    first, last = _columns(axis, page.time_s, COLUMNS)
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    share = (total[last] - total[first]) / (last - first)
    x, shown = axis.x((page.time_s[first] + page.time_s[last - 1]) / 2), share > 0.02
    bottom = np.full_like(x, top + 6)
    bars = np.stack([x, bottom, x, bottom - 6 * share], axis=1)
    yield Strokes(bars[shown], kind, (axis.right - axis.left) / COLUMNS + 0.02)
    yield Text(axis.left - 1.5, top + 4, name, 2.4, "faint", "end")
