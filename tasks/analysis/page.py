"""A record's rhythm on one page: a self-contained SVG of tachogram, AF, quality and strips.

Plain text of shapes, made with numpy alone: a device draws it without any plotting library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.pages.colours import AF, DOUBT, FAINT, INK, PAPER
from tasks.pages.colours import NOT_AF as SINUS
from tasks.pages.markup import escape
from tasks.pages.numbers import clock
from tasks.scores.episodes import Intervals

WIDTH, LEFT, RIGHT = 1120, 70, 1045
TACHO_TOP, TACHO_HEIGHT = 150, 250
RR_S = (0.25, 2.0)
#: More beats than this are drawn as what lies between their percentiles, column by column.
MOST_DOTS = 4_000
COLUMNS = 1_000
QUANTILES = np.array([0.05, 0.5, 0.95])
STRIP_HEIGHT = 150
GAP = "#d4d4d4"
#: Steps of the time axis, seconds: the first that gives at most twelve.
STEPS_S = (60, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400, 604_800)


@dataclass(frozen=True, eq=False)
class Strip:
    """A stretch of the signal to show: why, where it begins, and its samples in millivolts."""

    caption: str
    start_s: float
    fs_hz: float
    signal_mv: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Page:
    """What is drawn.

    Attributes
    ----------
    record, lead : str
        Names for the title.
    duration_s : float
        Length of the record.
    stretches_s : float64, shape (m, 2)
        What of it can be analysed; the rest is grey.
    time_s : float64, shape (n,)
        Time of each beat; `rr_s` the interval before it, `flagged` whether its signal is in doubt,
        `decided` whether it is AF, `probability` P(AF): shape (n,) each.
    runs : float64, shape (k, 2)
        AF episodes in seconds.
    figures : mapping
        From `tasks.analysis.analyse.summary`.
    strips : sequence of Strip
        At most five.
    """

    record: str
    lead: str
    duration_s: float
    stretches_s: Intervals
    time_s: NDArray[np.float64]
    rr_s: NDArray[np.float32]
    flagged: NDArray[np.bool_]
    decided: NDArray[np.bool_]
    probability: NDArray[np.float32]
    runs: Intervals
    figures: Mapping[str, Any]
    strips: Sequence[Strip]

    @property
    def holes_s(self) -> Intervals:
        """What cannot be analysed, shape (k, 2)."""
        edges = np.concatenate([[0.0], self.stretches_s.ravel(), [self.duration_s]]).reshape(-1, 2)
        return edges[edges[:, 1] > edges[:, 0]]

    def x(self, time_s: float | NDArray[np.float64]) -> Any:
        """Where a time lies across the page."""
        return LEFT + (RIGHT - LEFT) * np.clip(time_s, 0, self.duration_s) / self.duration_s


def draw(page: Page) -> str:
    """The page as SVG text."""
    top = TACHO_TOP + TACHO_HEIGHT + 120
    height = top + len(page.strips) * (STRIP_HEIGHT + 50) + 20
    parts = [*_head(page), *_tachogram(page), *_bands(page)]
    for number, strip in enumerate(page.strips):
        parts += _strip(page, strip, top + number * (STRIP_HEIGHT + 50))
    foot = "Decisions of a network, not a diagnosis: to be confirmed on the signal by a physician."
    parts.append(_text(LEFT, height - 8, foot, size=11, fill=FAINT))
    title = escape(f"{page.record}: atrial fibrillation")
    size = f'width="{WIDTH}" height="{height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'{size} font-family="system-ui, sans-serif" role="img" '
        f'aria-label="{title}"><title>{title}</title>'
        f'<rect {size} fill="{PAPER}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _text(
    x: float, y: float, text: str, size: int = 12, fill: str = INK, anchor: str = "start"
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}"'
    return f'<text {place} fill="{fill}" text-anchor="{anchor}">{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, fill: str, opacity: float = 1) -> str:
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {size} fill="{fill}" fill-opacity="{opacity:g}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{stroke}" stroke-width="1"/>'


def _head(page: Page) -> Iterable[str]:
    figures, model = page.figures, page.figures["model"]
    yield _text(LEFT, 42, f"Record {page.record}", size=24)
    beats, flagged = figures["beats"], figures["flagged_beats"]
    yield _text(
        LEFT,
        66,
        f"lead {page.lead}, {clock(page.duration_s)}, of which "
        f"{100 * figures['unanalysable_share']:.1f} % cannot be analysed (grey), {beats:,} beats "
        f"({flagged:,} on doubtful "
        f"signal), mean {figures['mean_heart_rate_bpm']:.0f} beats/min; decided by {model['name']} "
        f"({model['sha256'][:8]}), threshold {model['threshold']:g}",
        fill=FAINT,
    )
    entries = (
        (
            f"AF burden of {clock(3600 * figures['analysable_hours'])} analysed",
            "cannot tell" if figures["cannot_tell"] else f"{100 * figures['af_burden']:.1f} %",
        ),
        ("time in AF", clock(figures["af_s"])),
        ("episodes of 30 s or more", f"{figures['episodes_of_30_s']:,}"),
        ("longest episode", clock(figures["longest_af_s"])),
    )
    for number, (name, value) in enumerate(entries):
        yield _text(LEFT + 250 * number, 104, value, size=24, fill=AF if page.runs.size else SINUS)
        yield _text(LEFT + 250 * number, 122, name, fill=FAINT)


def _y(rr_s: Any) -> Any:
    """Height of an RR interval in the tachogram, logarithmic: equal ratios are equal heights."""
    low, high = np.log(RR_S[0]), np.log(RR_S[1])
    share = (np.log(np.clip(rr_s, *RR_S)) - low) / (high - low)
    return TACHO_TOP + TACHO_HEIGHT * (1 - share)


def _tachogram(page: Page) -> Iterable[str]:
    bottom = TACHO_TOP + TACHO_HEIGHT
    yield from _holes(page, TACHO_TOP, TACHO_HEIGHT)
    for start, end in page.runs.tolist():
        x = page.x(start)
        yield _rect(x, TACHO_TOP, max(page.x(end) - x, 0.5), TACHO_HEIGHT, AF, 0.1)
    for rr_s in (0.3, 0.5, 0.75, 1.0, 1.5, 2.0):
        yield _line(LEFT, _y(rr_s), RIGHT, _y(rr_s), "#e5e5e5")
        yield _text(LEFT - 8, _y(rr_s) + 4, f"{rr_s:g} s", size=11, anchor="end")
        yield _text(RIGHT + 6, _y(rr_s) + 4, f"{60 / rr_s:.0f}/min", size=11)
    yield _text(LEFT, TACHO_TOP - 8, "interval between beats", size=11, fill=FAINT)
    yield from _points(page)
    step = next((s for s in STEPS_S if page.duration_s / s <= 12), STEPS_S[-1])
    for at in np.arange(0, page.duration_s, step).tolist():
        yield _line(page.x(at), bottom, page.x(at), bottom + 5, "#888")
        yield _text(page.x(at), bottom + 18, clock(at), size=11, anchor="middle")


def _holes(page: Page, top: float, height: float) -> Iterable[str]:
    """What cannot be analysed, in grey."""
    path = "".join(
        f"M{page.x(start):.1f} {top}h{max(page.x(end) - page.x(start), 0.5):.1f}v{height}"
        f"H{page.x(start):.1f}z"
        for start, end in page.holes_s.tolist()
    )
    yield f'<path d="{path}" fill="{GAP}"/>'


def _points(page: Page) -> Iterable[str]:
    """Every beat as a dot, or, of many, the middle 90 % of each column and its median."""
    keep = np.isfinite(page.rr_s)
    time_s, rr_s, decided = page.time_s[keep], page.rr_s[keep], page.decided[keep]
    if len(rr_s) <= MOST_DOTS:
        for is_af, color in ((False, SINUS), (True, AF)):
            beats = decided == is_af
            dots = "".join(
                f"M{x:.1f} {y:.1f}h0"
                for x, y in zip(page.x(time_s[beats]), _y(rr_s[beats]), strict=True)
            )
            yield f'<path d="{dots}" stroke="{color}" stroke-width="2.4" stroke-linecap="round"/>'
        return
    column = (time_s / page.duration_s * COLUMNS).astype(np.int64).clip(0, COLUMNS - 1)
    edges = np.searchsorted(column, np.arange(COLUMNS + 1))
    path = {False: "", True: ""}
    middle = ""
    for k, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        if low == high:
            continue
        ordered = np.sort(rr_s[low:high])
        first, centre, last = _y(ordered[(QUANTILES * (high - low - 1)).astype(int)])
        x = LEFT + (k + 0.5) * (RIGHT - LEFT) / COLUMNS
        is_af = bool(decided[low:high].mean() >= 0.5)
        path[is_af] += f"M{x:.1f} {first + 0.6:.1f}V{last - 0.6:.1f}"
        middle += f"M{x:.1f} {centre:.1f}h0"
    for is_af, color in ((False, SINUS), (True, AF)):
        yield f'<path d="{path[is_af]}" stroke="{color}" stroke-width="1" stroke-opacity="0.55"/>'
    yield f'<path d="{middle}" stroke="{INK}" stroke-width="1.4" stroke-linecap="round"/>'


def _bands(page: Page) -> Iterable[str]:
    """AF as decided, the network's probability, and the share of beats on doubtful signal."""
    top = TACHO_TOP + TACHO_HEIGHT + 28
    yield _text(LEFT - 8, top + 11, "AF", size=11, anchor="end")
    yield _rect(LEFT, top, RIGHT - LEFT, 14, "#eef2f7")
    yield from _holes(page, top, 14)
    for start, end in page.runs.tolist():
        yield _rect(page.x(start), top, max(page.x(end) - page.x(start), 0.8), 14, AF)
    column = (page.time_s / page.duration_s * COLUMNS).astype(np.int64).clip(0, COLUMNS - 1)
    count = np.maximum(np.bincount(column, minlength=COLUMNS), 1)
    rows = (("P(AF)", page.probability, AF), ("signal", page.flagged, DOUBT))
    for number, (name, values, color) in enumerate(rows, start=1):
        y = top + 20 * number
        yield _text(LEFT - 8, y + 11, name, size=11, anchor="end")
        yield _rect(LEFT, y, RIGHT - LEFT, 14, "#eef2f7")
        yield from _holes(page, y, 14)
        share = np.bincount(column, weights=values.astype(np.float64), minlength=COLUMNS) / count
        width = (RIGHT - LEFT) / COLUMNS
        bars = "".join(
            f"M{LEFT + (k + 0.5) * width:.1f} {y + 14}v{-14 * share[k]:.1f}"
            for k in np.flatnonzero(share > 0.02).tolist()
        )
        yield f'<path d="{bars}" stroke="{color}" stroke-width="{width:.2f}"/>'
    yield _text(RIGHT + 6, top + 51, "doubtful", size=11, fill=DOUBT)


def _strip(page: Page, strip: Strip, top: float) -> Iterable[str]:
    """Ten seconds of signal with its beats marked and decided."""
    seconds = len(strip.signal_mv) / strip.fs_hz
    end_s = strip.start_s + seconds
    yield _text(LEFT, top - 6, f"{clock(strip.start_s)}  {strip.caption}", size=13)
    frame = f'width="{RIGHT - LEFT}" height="{STRIP_HEIGHT}" fill="#fffafa" stroke="#e8b9b9"'
    yield f'<rect x="{LEFT}" y="{top}" {frame}/>'
    per_s = (RIGHT - LEFT) / max(seconds, 1e-9)
    grid = "".join(
        f"M{LEFT + k * per_s / 5:.1f} {top}v{STRIP_HEIGHT}" for k in range(1, int(5 * seconds))
    )
    yield f'<path d="{grid}" stroke="#f3d6d6" stroke-width="0.7"/>'
    signal = (
        strip.signal_mv - np.nanmedian(strip.signal_mv) if _has_values(strip.signal_mv) else None
    )
    if signal is None:
        yield _text(LEFT + 10, top + STRIP_HEIGHT / 2, "no signal here", fill=FAINT)
    else:
        low, high = np.nanpercentile(signal, (0.2, 99.8)).tolist()
        span = max(high - low, 0.5)
        per_mv = (STRIP_HEIGHT - 50) / span
        y = top + STRIP_HEIGHT - 34 - (np.clip(signal, low, high) - low) * per_mv
        yield f'<path d="{_curve(y, per_s / strip.fs_hz)}" fill="none" stroke="{INK}"/>'
        mv = per_mv * min(1.0, span)
        yield _line(LEFT - 10, top + 20, LEFT - 10, top + 20 + mv, INK)
        yield _text(LEFT - 14, top + 24 + mv / 2, f"{min(1.0, span):g} mV", size=10, anchor="end")
    first, last = np.searchsorted(page.time_s, (strip.start_s, end_s)).tolist()
    for k in range(first, last):
        x = LEFT + (float(page.time_s[k]) - strip.start_s) * per_s
        color, word = (AF, "AF") if page.decided[k] else (SINUS, "–")
        yield _line(x, top + STRIP_HEIGHT - 28, x, top + STRIP_HEIGHT - 20, color)
        yield _text(x, top + STRIP_HEIGHT - 7, word, size=11, fill=color, anchor="middle")


def _has_values(values: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(values).any())


def _curve(y: NDArray[np.floating[Any]], step: float) -> str:
    """A path through the finite points."""
    out, pen = [], "M"
    for k, value in enumerate(y.tolist()):
        if not isfinite(value):
            pen = "M"
            continue
        out.append(f"{pen}{LEFT + k * step:.1f} {value:.1f}")
        pen = "L"
    return "".join(out)
