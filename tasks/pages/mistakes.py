"""The longest mistakes of an evaluation, drawn: intervals between beats, and the ECG itself.

Drawings are SVG; their colours are the classes of the page's one style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from storage.tables.beats import R_INDEX, WAVEFORM_SAMPLES, BeatTable
from tasks.pages.document import Block, Drawing, Words
from tasks.pages.markup import escape
from tasks.pages.numbers import clock
from tasks.scores.episodes import Intervals, durations_s, told_share
from tasks.scores.evaluation import ScoredRecord

#: Where a drawing's field begins, and how wide it is.
LEFT, FIELD = 60, 800


@dataclass(frozen=True)
class Mistake:
    """A stretch in which truth and decision differ, and the record it is in."""

    scored: ScoredRecord
    start_s: float
    end_s: float
    missed: bool


def worst_mistakes(scored: Sequence[ScoredRecord], most: int = 12) -> list[Mistake]:
    """The longest stretches of missed or false AF, at most two a record and kind."""
    mistakes: list[Mistake] = []
    for record in scored:
        truth, decided = record.intervals()
        for missed, (intervals, cover) in ((True, (truth, decided)), (False, (decided, truth))):
            wrong = without(intervals, cover)
            order = np.argsort(-durations_s(wrong))[:2]
            mistakes += [Mistake(record, wrong[k, 0], wrong[k, 1], missed) for k in order]
    return sorted(mistakes, key=lambda m: m.start_s - m.end_s)[:most]


def without(intervals: Intervals, cover: Intervals) -> Intervals:
    """The parts of `intervals` that no interval of `cover` covers."""
    out = []
    for start, end in intervals.tolist():
        at = start
        for low, high in cover[(cover[:, 1] > start) & (cover[:, 0] < end)].tolist():
            if low > at:
                out.append((at, low))
            at = max(at, high)
        if at < end:
            out.append((at, end))
    return np.array(out, np.float64).reshape(-1, 2)


def tachogram(mistake: Mistake, before_s: float = 60.0, longest_s: float = 600.0) -> Drawing:
    """RR intervals around a mistake, with truth and decision as bars under them."""
    record = mistake.scored
    low = max(mistake.start_s - before_s, 0)
    high = min(max(mistake.end_s, mistake.start_s) + before_s, low + longest_s)
    near = (record.time_s >= low) & (record.time_s <= high)

    def across(value: float) -> float:
        return LEFT + FIELD * (min(max(value, low), high) - low) / (high - low)

    parts = [
        f'<line x1="{LEFT}" x2="{LEFT + FIELD}" y1="{y}" y2="{y}" class="line"/>'
        f'<text x="2" y="{y + 4}" font-size="11">{text}</text>'
        for y, text in ((30, "RR 2 s"), (80, "RR 1 s"))
    ]
    parts += [
        f'<circle cx="{across(t):.1f}" cy="{130 - 50 * min(rr, 2.4):.1f}" r="1.6" class="faint"/>'
        for t, rr in zip(record.time_s[near].tolist(), record.rr_s[near].tolist(), strict=True)
        if not isnan(rr)
    ]
    rows = zip((145, 163), ("truth", "decision"), ("other", "af"), record.intervals(), strict=True)
    for y, name, kind, intervals in rows:
        inside = intervals[(intervals[:, 1] > low) & (intervals[:, 0] < high)].tolist()
        parts.append(f'<text x="2" y="{y + 10}" font-size="11">{name}</text>')
        parts += [
            f'<rect x="{across(a):.1f}" y="{y}" width="{across(b) - across(a):.1f}" height="12" '
            f'class="{kind}"/>'
            for a, b in inside
        ]
    verdict = "missed AF" if mistake.missed else "false AF"
    span_s = np.array([[mistake.start_s, mistake.end_s]])
    share = float(told_share(span_s, record.time_s, record.sure)[0])
    return _drawing(
        180,
        parts,
        f"{record.dataset}/{record.record}, {clock(mistake.start_s)} to {clock(mistake.end_s)}: "
        f"{verdict}, {mistake.end_s - mistake.start_s:.0f} s, {share:.0%} of its beats told; "
        f"shown {clock(low)} to {clock(high)}",
    )


def ecg_strip(mistake: Mistake, beats: BeatTable, length_s: float = 12.0) -> Block:
    """The ECG in the middle of a mistake, put together from its beats, the decision under it.

    A beat reaches from a third of the interval before R to two thirds of the one after, so the
    beats of a record lie end to end and are its cleaned signal.
    """
    middle = (mistake.start_s + mistake.end_s) / 2
    low = max(min(middle, mistake.end_s) - length_s / 2, 0.0)
    high = low + length_s
    near = np.flatnonzero((beats.time_s > low) & (beats.time_s < high))
    if beats.waveform is None or not len(near):
        return Words("No signal was read for this record.")
    shape = beats.waveform[near]
    # Beside what was not recorded a beat has no waveform, and stands at its R peak alone.
    before = np.nan_to_num(beats.rr_prev_s[near, None]) / 3
    after = np.nan_to_num(beats.rr_next_s[near, None]) * (2 / 3)
    steps = np.arange(WAVEFORM_SAMPLES) - R_INDEX
    away = np.where(
        steps < 0, before * steps / R_INDEX, after * steps / (WAVEFORM_SAMPLES - R_INDEX)
    )
    x = LEFT + FIELD * (beats.time_s[near, None] + away - low) / length_s
    span = max(float(np.nanmax(np.abs(shape), initial=0.5)), 0.5)
    y = 80 - 60 * shape / span
    decided = mistake.scored.decided[np.searchsorted(mistake.scored.time_s, beats.time_s[near])]
    parts = [
        f'<polyline points="{" ".join(map("{:.1f},{:.1f}".format, xs[::2], ys[::2]))}" '
        'class="trace"/>'
        for xs, ys in zip(x.tolist(), y.tolist(), strict=True)
        if not isnan(ys[0] + ys[-1])
    ]
    parts += [
        f'<text x="{at:.1f}" y="152" font-size="11" text-anchor="middle">'
        f"{escape(symbol or '?')}</text>"
        + (f'<rect x="{at - 8:.1f}" y="157" width="16" height="8" class="af"/>' if af else "")
        for at, symbol, af in zip(
            x[:, R_INDEX].tolist(), beats.symbol[near].tolist(), decided.tolist(), strict=True
        )
    ]
    span_text = f"{clock(low)} to {clock(high)}, {2 * span:.1f} mV high"
    return _drawing(170, parts, f"{span_text}: beats as annotated, a bar where decided AF")


def _drawing(height: int, parts: Sequence[str], shows: str) -> Drawing:
    wide = LEFT + FIELD + 10
    return Drawing(
        f'<svg viewBox="0 0 {wide} {height}" width="{wide}" role="img" '
        f'aria-label="{escape(shows)}">{"".join(parts)}</svg>',
        shows,
    )
