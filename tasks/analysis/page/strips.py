"""Ten seconds of signal at 25 mm/s and 10 mm/mV: which are shown, and how each is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.analysis.page.facts import CLINICAL_S, Page
from tasks.analysis.page.shapes import Array, Boxes, Curve, Drawing, Shape, Strokes, Text, paper
from tasks.analysis.page.words import moment
from tasks.scores.episodes import NO_INTERVALS, Intervals, durations_s, lasting
from tasks.scores.levels.certainty import TOLD_SHARE

STRIP_S = 10.0
#: How far before its onset an episode's first strip begins, and after its end the last one ends.
MARGIN_S = 3.0
MM_PER_S, MM_PER_MV = 25.0, 10.0
#: Paper left of the trace, for the pulse of 1 mV; and below it, for the beats' marks.
LEAD_IN_MM, MARKS_MM = 10.0, 9.0
HEIGHTS_MM = (30.0, 65.0)
WIDTH_MM = LEAD_IN_MM + MM_PER_S * STRIP_S
ENDS_NO_INTERVAL, UNDECIDED, UNTOLD = 4, 8, 16
#: Stretches that cannot be told which have a strip: the longest.
MOST_UNTOLD = 6
#: Beats looked at for a calm stretch.
CALM_BEATS = 16
#: A beat's sign and colour by its kind; of a record on which nothing is decided, none.
MARKS: dict[int, tuple[str, str]] = {
    0: ("–", "other"),
    1: ("A", "af"),
    2: ("–?", "doubt"),
    3: ("A?", "doubt"),
    UNDECIDED: ("", "faint"),
    UNTOLD: ("?", "untold"),
    UNTOLD + 1: ("?", "untold"),
    UNTOLD + 2: ("–?", "doubt"),
    UNTOLD + 3: ("A?", "doubt"),
}


@dataclass(frozen=True, eq=False)
class Strip:
    """A stretch of signal with its beats.

    Attributes
    ----------
    caption : str
        What it shows, and when.
    hz : float
        Samples a second of `level_mm`.
    level_mm : float32, shape (n,)
        The trace above its median in mm, NaN where there is no signal; its first sample is at 0 s.
    beat_s : float64, shape (b,)
        Times of its beats from its start.
    beat_kind : int, shape (b,)
        1 for AF, plus 2 on doubtful signal, plus 16 where that cannot be told, or 8 where nothing
        is decided; plus 4 where no interval ends with it.
    af_s, gaps_s : float64, shape (k, 2)
        Episodes and what was not analysed, from its start.
    height_mm, zero_mm : float
        Height of the paper, and how far below its upper edge the median lies.
    cut : bool
        Whether the trace goes beyond the paper.
    """

    caption: str
    hz: float
    level_mm: NDArray[np.float32]
    beat_s: NDArray[np.float64]
    beat_kind: NDArray[np.int64]
    af_s: Intervals
    gaps_s: Intervals
    height_mm: float
    zero_mm: float
    cut: bool


def read_strip(page: Page, start_s: float, words: str, most_hz: float = np.inf) -> Strip:
    """Read a strip that begins at or near a time, within the record."""
    length = round(STRIP_S * page.fs_hz)
    n_samples = round(page.duration_s * page.fs_hz)
    first = min(max(round(start_s * page.fs_hz), 0), max(n_samples - length, 0))
    signal = page.read(first, min(first + length, n_samples)).astype(np.float32)
    begin_s = first / page.fs_hz
    end_s = begin_s + len(signal) / page.fs_hz
    level, factor = thin(MM_PER_MV * (signal - _median(signal)), page.fs_hz, most_hz)
    above, below, cut = _reach(level)
    low, high = np.searchsorted(page.time_s, (begin_s, end_s)).tolist()
    kind = page.decided[low:high] + 2 * page.flagged[low:high] + UNTOLD * ~page.sure[low:high]
    kind = np.full_like(kind, UNDECIDED) if page.burden is None else kind
    kind = kind + ENDS_NO_INTERVAL * ~np.isfinite(page.rr_s[low:high])
    return Strip(
        caption=f"{words}, {moment(page, begin_s)}",
        hz=page.fs_hz / factor,
        level_mm=level,
        beat_s=page.time_s[low:high] - begin_s,
        beat_kind=kind.astype(np.int64),
        af_s=_within(NO_INTERVALS if page.burden is None else page.runs, begin_s, end_s),
        gaps_s=_within(page.holes_s, begin_s, end_s),
        height_mm=above + below + MARKS_MM,
        zero_mm=above,
        cut=cut,
    )


def _median(signal: NDArray[np.float32]) -> float:
    return float(np.nanmedian(signal)) if np.isfinite(signal).any() else 0.0


def _reach(level: NDArray[np.float32]) -> tuple[float, float, bool]:
    """Paper above and below the median, in whole fives together with the marks; whether cut."""
    values = level[np.isfinite(level)]
    top, bottom = (float(values.max()), float(-values.min())) if len(values) else (0.0, 0.0)
    room = HEIGHTS_MM[1] - MARKS_MM
    above, below = max(top + 2, 12.0), max(bottom + 2, 5.0)
    if above + below > room:
        share = above / (above + below)
        above = min(max(room * share, 12.0), room - 5)
        return above, room - above, True
    height = max(5 * np.ceil((above + below + MARKS_MM) / 5), HEIGHTS_MM[0])
    spare = (height - MARKS_MM - above - below) / 2
    return above + spare, below + spare, False


def _within(intervals: Intervals, begin_s: float, end_s: float) -> Intervals:
    inside = intervals[(intervals[:, 0] < end_s) & (intervals[:, 1] > begin_s)]
    return np.asarray(np.clip(inside, begin_s, end_s) - begin_s)


def thin(
    values: NDArray[np.float32], fs_hz: float, most_hz: float
) -> tuple[NDArray[np.float32], int]:
    """Values at no more than `most_hz`, and by how much they are fewer; no peak is lost.

    Of every block the least and the greatest stay, in the order in which they come.
    """
    factor = max(int(np.ceil(fs_hz / most_hz)), 1)
    if factor == 1 or len(values) < 2 * factor:
        return values, 1
    blocks = values[: len(values) // (2 * factor) * 2 * factor].reshape(-1, 2 * factor)
    gaps = ~np.isfinite(blocks)
    low = np.where(gaps, np.inf, blocks).argmin(axis=1)
    high = np.where(gaps, -np.inf, blocks).argmax(axis=1)
    rows = np.arange(len(blocks))
    ends = np.sort(np.stack([low, high], axis=1), axis=1)
    return blocks[rows[:, None], ends].ravel(), factor


def episode_starts(page: Page, number: int) -> list[tuple[float, str]]:
    """Where the strips of an episode begin: onset, middle and end, or fewer where it is short."""
    start, end = page.runs[number].tolist()
    if end - start <= STRIP_S - 2:
        return [((start + end - STRIP_S) / 2, "the whole of it")]
    onset, offset = start - MARGIN_S, end - STRIP_S + MARGIN_S
    if end - start <= 2 * STRIP_S:
        return [(onset, "onset"), (offset, "end")]
    return [(onset, "onset"), ((start + end - STRIP_S) / 2, "middle"), (offset, "end")]


def key_strips(page: Page, most_hz: float = 250.0) -> Iterator[Strip]:
    """What a reader looks at first: the longest episode's strips, or the likeliest AF; not AF."""
    lengths_s = durations_s(page.runs)
    if len(lasting(page.runs, CLINICAL_S)):
        told = page.told_shares >= TOLD_SHARE
        longest = int((lengths_s * np.where(told, 1, 0 if told.any() else 1)).argmax())
        for start_s, part in episode_starts(page, longest)[:2]:
            state = "" if told[longest] else ", cannot tell"
            words = f"Longest episode (number {longest + 1}){state}, {part}"
            yield read_strip(page, start_s, words, most_hz)
    elif page.burden is not None:
        at = float(page.time_s[int(page.probability.argmax())])
        words = "No AF of 30 s or more found; P(AF) is highest here"
        yield read_strip(page, at - STRIP_S / 2, words, most_hz)
    elif page.duration_s > 0:
        yield read_strip(page, 0.0, "How the signal begins", most_hz)
    calm_s = calmest(page)
    if calm_s is not None:
        yield read_strip(page, calm_s, "Decided not AF, for comparison", most_hz)


def untold_strips(page: Page, most_hz: float = 250.0) -> Iterator[Strip]:
    """The middle of the longest stretches of 30 s or more that cannot be told, in their order."""
    stretches = page.long_untold
    for k in sorted(np.argsort(-durations_s(stretches), kind="stable")[:MOST_UNTOLD].tolist()):
        middle_s = float(stretches[k].mean())
        words = f"Cannot tell (number {k + 1}), middle"
        yield read_strip(page, middle_s - STRIP_S / 2, words, most_hz)


def calmest(page: Page) -> float | None:
    """Where some beats of one stretch hold no AF and no doubtful one, with the lowest P(AF)."""
    if len(page.time_s) < CALM_BEATS or page.burden is None:
        return None
    bad = page.decided | page.flagged | ~page.sure | ~np.isfinite(page.rr_s)
    cost = np.convolve(page.probability + bad, np.ones(CALM_BEATS), "valid")
    at = int(cost.argmin())
    window = slice(at, at + CALM_BEATS)
    return None if page.decided[window].any() else float(page.time_s[at]) - 0.5


def draw_strip(strip: Strip) -> Drawing:
    """A strip on ECG paper, true to scale."""
    height, zero = strip.height_mm, strip.zero_mm
    shapes: list[Shape] = paper(0, 0, WIDTH_MM, height)
    for intervals, kind in ((strip.gaps_s, "gap"), (strip.af_s, "af-wash")):
        left, right = (LEAD_IN_MM + MM_PER_S * intervals[:, k] for k in (0, 1))
        top = np.zeros_like(left)
        shapes.append(Boxes(np.stack([left, top, right - left, top + height], axis=1), kind))
    pulse = np.array([[1, 0], [2.5, 0], [2.5, -10], [7.5, -10], [7.5, 0], [9, 0]]) + np.array(
        [0, zero]
    )
    shapes.append(Curve(pulse, "ink", 0.3))
    x = LEAD_IN_MM + np.arange(len(strip.level_mm)) * MM_PER_S / strip.hz
    y = np.clip(zero - strip.level_mm, 0.3, height - MARKS_MM)
    shapes.append(Curve(np.stack([x, y], axis=1), "ink", 0.3))
    if not np.isfinite(strip.level_mm).any():
        shapes.append(Text(WIDTH_MM / 2, zero, "no signal here", 3.5, "faint", "middle"))
    shapes += _marks(strip, height - MARKS_MM)
    return Drawing(WIDTH_MM, height, shapes, strip_words(strip))


def strip_words(strip: Strip) -> str:
    """A strip in words, for those who do not see it."""
    beats, af = len(strip.beat_s), int((strip.beat_kind & 1).sum())
    return f"ECG, {len(strip.level_mm) / strip.hz:.0f} s: {beats} beats, {af} decided AF"


def _marks(strip: Strip, top: float) -> Iterator[Shape]:
    x = LEAD_IN_MM + MM_PER_S * strip.beat_s
    for kind in set(strip.beat_kind.tolist()):
        at = x[strip.beat_kind == kind]
        ends = np.stack([at, np.full_like(at, top + 1), at, np.full_like(at, top + 3)], axis=1)
        yield Strokes(ends, MARKS[kind & ~ENDS_NO_INTERVAL][1], 0.4)
    beat_ms = np.round(1000 * strip.beat_s).astype(np.int64).tolist()
    for k, (at, kind) in enumerate(zip(x.tolist(), strip.beat_kind.tolist(), strict=True)):
        sign, colour = MARKS[kind & ~ENDS_NO_INTERVAL]
        yield Text(at, top + 7.2, sign, 3.2, colour, "middle", bold=True)
        if k and not kind & ENDS_NO_INTERVAL:
            middle, interval = (at + float(x[k - 1])) / 2, beat_ms[k] - beat_ms[k - 1]
            yield Text(middle, top + 3.4, f"{interval}", 2.3, "faint", "middle")


#: Characters of a trace as text: none that JSON, HTML or a script's end gives a meaning.
ALPHABET = "".join(chr(code) for code in range(35, 127) if chr(code) not in "&<\\")
_LETTERS = np.frombuffer(ALPHABET.encode(), np.uint8)
_BASE = len(ALPHABET)
_SMALL = (_BASE - 2) // 2  # steps up to this many tenths of a millimetre are one character


def pack(level_mm: Array) -> str:
    """A trace as text: each sample's step in tenths of a millimetre, a character where it is small.

    The first character of `ALPHABET` is a sample that is not there; the last one begins a step in
    three characters, two digits of base 89 after it. A script unpacks it (`page.js`).
    """
    finite = np.isfinite(level_mm)
    tenths = np.clip(np.round(10 * level_mm[finite]), -1900, 1900).astype(np.int64)
    step = np.zeros(len(level_mm), np.int64)
    step[finite] = np.diff(tenths, prepend=0)
    far = np.abs(step) > _SMALL
    letters = np.where(far, _BASE - 1, np.where(finite, step + _SMALL + 1, 0))
    digits = step[far] + _BASE * _BASE // 2
    after = np.flatnonzero(far) + 1
    letters = np.insert(
        letters, np.repeat(after, 2), np.stack([digits // _BASE, digits % _BASE], axis=1).ravel()
    )
    return str(_LETTERS[letters].tobytes(), "ascii")


def as_data(strip: Strip) -> list[Any]:
    """A strip as the page's script reads it."""
    marks = np.stack([np.round(1000 * strip.beat_s).astype(np.int64), strip.beat_kind], axis=1)
    return [
        strip.caption + (" (cut at the paper's edge)" if strip.cut else ""),
        round(strip.hz, 4),
        round(strip.height_mm, 2),
        round(strip.zero_mm, 2),
        pack(strip.level_mm),
        marks.ravel().tolist(),
        np.round(strip.af_s, 3).ravel().tolist(),
        np.round(strip.gaps_s, 3).ravel().tolist(),
    ]
