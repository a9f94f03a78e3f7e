"""An evaluation as one HTML page that needs nothing else: tables, curves, and the worst episodes.

Figures are inline SVG; there is no script, font or picture to load.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from numpy.typing import NDArray

from storage.tables.beats import R_INDEX, WAVEFORM_SAMPLES, BeatTable
from tasks.pages.markup import escape
from tasks.scores.calibration import Calibration
from tasks.scores.episodes import Intervals, durations_s
from tasks.scores.evaluation import Scored

Row = Mapping[str, object]
Points = NDArray[np.floating]

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;font-size:13px;display:block;overflow-x:auto}
th,td{border-bottom:1px solid #ddd;padding:.2rem .6rem;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
svg{max-width:100%;background:#fff} figure{display:inline-block;margin:0 1rem 1rem 0}
figcaption{font-size:13px;color:#555}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole HTML page."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def heading(text: str) -> str:
    """A section's heading."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def table(rows: Sequence[Row]) -> str:
    """A table of rows that share their keys."""
    if not rows:
        return paragraph("None.")
    head = "".join(f"<th>{escape(str(name).replace('_', ' '))}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(said(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def said(value: object) -> str:
    """A value as a reader wants it: four places, thousands apart, a dash for what is undefined."""
    if isinstance(value, float | np.floating):
        return "-" if isnan(value) else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def curve(
    x: Points, y: Points, title: str, axes: tuple[str, str], *, diagonal: bool = False
) -> str:
    """A curve within 0 to 1 on both axes, NaN left out."""
    keep = np.isfinite(x) & np.isfinite(y)
    place = np.unique(np.linspace(0, max(keep.sum() - 1, 0), 400).astype(int))
    points = (
        [
            f"{40 + 240 * a:.1f},{260 - 240 * b:.1f}"
            for a, b in zip(x[keep][place], y[keep][place], strict=True)
        ]
        if keep.any()
        else []
    )
    line = '<line x1="40" y1="260" x2="280" y2="20" stroke="#bbb" stroke-dasharray="4"/>'
    return (
        f'<figure><svg viewBox="0 0 300 300" width="300" role="img" aria-label="{escape(title)}">'
        '<rect x="40" y="20" width="240" height="240" fill="none" stroke="#999"/>'
        f"{line if diagonal else ''}"
        f'<polyline points="{" ".join(points)}" fill="none" stroke="#06c" stroke-width="2"/>'
        f'<text x="160" y="290" font-size="12" text-anchor="middle">{escape(axes[0])}</text>'
        '<text x="14" y="140" font-size="12" text-anchor="middle" '
        f'transform="rotate(-90 14 140)">{escape(axes[1])}</text>'
        '<text x="36" y="264" font-size="10" text-anchor="end">0</text>'
        '<text x="36" y="26" font-size="10" text-anchor="end">1</text>'
        '<text x="280" y="274" font-size="10" text-anchor="end">1</text>'
        f"</svg><figcaption>{escape(title)}</figcaption></figure>"
    )


def calibration_curve(found: Calibration) -> str:
    """What was said against what was, in bins."""
    title = f"Calibration, expected error {found.error:.4f}"
    return curve(found.said, found.true, title, ("P(AF) said", "share of AF"), diagonal=True)


@dataclass(frozen=True)
class Mistake:
    """A stretch in which truth and decision differ, and the record it is in."""

    scored: Scored
    start_s: float
    end_s: float
    missed: bool


def worst_mistakes(scored: Sequence[Scored], most: int = 12) -> list[Mistake]:
    """The longest stretches of missed or false AF, at most two a record and kind."""
    found: list[Mistake] = []
    for record in scored:
        truth, decided = record.intervals()
        for missed, (these, those) in ((True, (truth, decided)), (False, (decided, truth))):
            wrong = without(these, those)
            order = np.argsort(-durations_s(wrong))[:2]
            found += [Mistake(record, wrong[k, 0], wrong[k, 1], missed) for k in order]
    return sorted(found, key=lambda m: m.start_s - m.end_s)[:most]


def without(these: Intervals, those: Intervals) -> Intervals:
    """The parts of `these` that no interval of `those` covers."""
    out = []
    for start, end in these.tolist():
        at = start
        for low, high in those[(those[:, 1] > start) & (those[:, 0] < end)].tolist():
            if low > at:
                out.append((at, low))
            at = max(at, high)
        if at < end:
            out.append((at, end))
    return np.array(out, np.float64).reshape(-1, 2)


def tachogram(mistake: Mistake, before_s: float = 60.0, longest_s: float = 600.0) -> str:
    """RR intervals around a mistake, with truth and decision as bars under them."""
    record = mistake.scored
    low = max(mistake.start_s - before_s, 0)
    high = min(max(mistake.end_s, mistake.start_s) + before_s, low + longest_s)
    near = (record.time_s >= low) & (record.time_s <= high)
    time_s = record.time_s[near]
    rr_s = record.rr_s[near]

    def across(value: float) -> float:
        return 50 + 800 * (min(max(value, low), high) - low) / (high - low)

    dots = "".join(
        f'<circle cx="{across(t):.1f}" cy="{130 - 50 * min(rr, 2.4):.1f}" r="1.6"/>'
        for t, rr in zip(time_s.tolist(), rr_s.tolist(), strict=True)
        if not isnan(rr)
    )
    bars = ""
    for y, name, color, intervals in zip(
        (145, 163), ("truth", "decision"), ("#06c", "#c60"), record.intervals(), strict=True
    ):
        inside = intervals[(intervals[:, 1] > low) & (intervals[:, 0] < high)].tolist()
        bars += f'<text x="2" y="{y + 9}" font-size="11">{name}</text>' + "".join(
            f'<rect x="{across(a):.1f}" y="{y}" width="{across(b) - across(a):.1f}" height="12" '
            f'fill="{color}"/>'
            for a, b in inside
        )
    kind = "missed AF" if mistake.missed else "false AF"
    title = (
        f"{record.dataset}/{record.record}, {clock(mistake.start_s)} to {clock(mistake.end_s)}: "
        f"{kind}, {mistake.end_s - mistake.start_s:.0f} s; shown {clock(low)} to {clock(high)}"
    )
    return (
        f'<figure><svg viewBox="0 0 860 180" width="860" role="img" aria-label="{escape(title)}">'
        '<text x="2" y="34" font-size="11">RR 2 s</text>'
        '<text x="2" y="84" font-size="11">1 s</text>'
        '<line x1="50" x2="850" y1="80" y2="80" stroke="#ddd"/>'
        '<line x1="50" x2="850" y1="30" y2="30" stroke="#ddd"/>'
        f"{dots}{bars}</svg><figcaption>{escape(title)}</figcaption></figure>"
    )


def ecg_strip(mistake: Mistake, beats: BeatTable, length_s: float = 12.0) -> str:
    """The ECG in the middle of a mistake, put together from its beats, the decision under it.

    A beat reaches from a third of the interval before R to two thirds of the one after, so the
    beats of a record lie end to end and are its cleaned signal.
    """
    middle = (mistake.start_s + mistake.end_s) / 2
    low = max(min(middle, mistake.end_s) - length_s / 2, 0.0)
    high = low + length_s
    near = np.flatnonzero((beats.time_s > low) & (beats.time_s < high))
    if beats.waveform is None or not len(near):
        return paragraph("No signal was read for this record.")
    shape = beats.waveform[near]
    # Beside what was not recorded a beat has no waveform, and stands at its R peak alone.
    before = np.nan_to_num(beats.rr_prev_s[near, None]) / 3
    after = np.nan_to_num(beats.rr_next_s[near, None]) * (2 / 3)
    steps = np.arange(WAVEFORM_SAMPLES) - R_INDEX
    away = np.where(
        steps < 0, before * steps / R_INDEX, after * steps / (WAVEFORM_SAMPLES - R_INDEX)
    )
    x = 50 + 800 * (beats.time_s[near, None] + away - low) / length_s
    span = max(float(np.nanmax(np.abs(shape), initial=0.5)), 0.5)
    y = 80 - 60 * shape / span
    decided = mistake.scored.decided[np.searchsorted(mistake.scored.time_s, beats.time_s[near])]
    traces = "".join(
        f'<polyline points="{" ".join(map("{:.1f},{:.1f}".format, xs[::2], ys[::2]))}" '
        f'fill="none" stroke="#222"/>'
        for xs, ys in zip(x.tolist(), y.tolist(), strict=True)
        if not isnan(ys[0] + ys[-1])
    )
    marks = "".join(
        f'<text x="{at:.1f}" y="152" font-size="11" text-anchor="middle">'
        f"{escape(symbol or '?')}</text>"
        + (f'<rect x="{at - 8:.1f}" y="157" width="16" height="8" fill="#c60"/>' if af else "")
        for at, symbol, af in zip(
            x[:, R_INDEX].tolist(), beats.symbol[near].tolist(), decided.tolist(), strict=True
        )
    )
    when = f"{clock(low)} to {clock(high)}, {2 * span:.1f} mV high"
    title = f"{when}: beats as annotated, a bar where decided AF"
    return (
        f'<figure><svg viewBox="0 0 860 170" width="860" role="img" aria-label="{escape(title)}">'
        f"{traces}{marks}</svg><figcaption>{escape(title)}</figcaption></figure>"
    )


def clock(seconds: float) -> str:
    """A time in the record as h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
