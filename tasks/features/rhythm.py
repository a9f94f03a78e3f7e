"""Rhythm: what a network reads of a record's RR intervals, and how records become windows.

The irregularity of RR intervals defines atrial fibrillation (Hindricks et al. 2021,
doi:10.1093/eurheartj/ehaa612, section 3), so these networks see no waveform at all: they work on
annotations alone, and on any lead.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from storage.recordings.stretches import RR_RANGE_S, slices
from storage.tables.beats import BeatTable

FEATURES = 5
#: Windows of a running median that are sorted at once: half a megabyte stays in the cache.
MEDIANS_AT_ONCE = 2048
#: Columns of a network from before the last one: its medians take a record's end values to go on.
WITHOUT_MASK = 4
WINDOW_BEATS = 640
MEDIAN_BEATS = 61
SHORT_MEDIAN_BEATS = 17
TYPICAL_RR_S = 0.8
#: The name that data sets map atrial flutter to.
FLUTTER = "AFL"

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class RhythmRecord:
    """What a network reads of one record, beat by beat, ends and unknown beats included.

    Attributes
    ----------
    name, subject : str
        With the data set's name before it ("afdb/04015"), so that they are unique.
    rr_s : float32, shape (n,)
        Interval from the beat before, in seconds; NaN where a stretch begins
        (`storage.recordings.stretches`).
    label : int8, shape (n,)
        1 AF, 0 not AF, -1 unknown.
    weight : float
        How often the record is drawn in training, against 1 for the others.
    shape : float32, shape (n, 80), or None
        Normalised shapes (`tasks.features.fused`), rows of NaN where a beat has none; None where
        there is no signal, or no use for it.
    flutter : bool, shape (n,), or None
        Whether the rhythm at each beat is atrial flutter, whose label is 0; None where it is at no
        beat. Training aims between AF and not AF there.
    labelled_whole : bool
        Whether one label is of the whole record, of whose beats AF may fill a part alone.
    """

    name: str
    subject: str
    rr_s: Floats
    label: NDArray[np.int8]
    weight: float = 1.0
    shape: Floats | None = None
    flutter: NDArray[np.bool_] | None = None
    labelled_whole: bool = False

    def __len__(self) -> int:
        return len(self.rr_s)

    @property
    def begins(self) -> NDArray[np.bool_]:
        """Whether each beat is the first of its stretch, shape (n,)."""
        return np.isnan(self.rr_s)

    def part(self, part: slice) -> RhythmRecord:
        """Some successive beats, as a record of its own; arrays are views."""
        return replace(
            self,
            rr_s=self.rr_s[part],
            label=self.label[part],
            shape=None if self.shape is None else self.shape[part],
            flutter=None if self.flutter is None else self.flutter[part],
        )

    def stretches(self) -> list[RhythmRecord]:
        """Its stretches, each as a record of its own."""
        return [self.part(part) for part in slices(self.begins)]


def join_records(records: Sequence[RhythmRecord]) -> RhythmRecord:
    """Records as stretches of one, which has the first's name; those without a shape lack it."""
    rr_s = np.concatenate([record.rr_s for record in records])
    rr_s[np.cumsum([0, *map(len, records[:-1])])] = np.nan
    shape = flutter = None
    if any(record.shape is not None for record in records):
        width = next(r.shape.shape[1] for r in records if r.shape is not None)
        shape = np.concatenate(
            [
                np.full((len(r), width), np.nan, np.float32) if r.shape is None else r.shape
                for r in records
            ]
        )
    if any(record.flutter is not None for record in records):
        flutter = np.concatenate(
            [np.zeros(len(r), bool) if r.flutter is None else r.flutter for r in records]
        )
    label = np.concatenate([record.label for record in records])
    return replace(records[0], rr_s=rr_s, label=label, shape=shape, flutter=flutter)


def rr_features(rr_s: Floats, *, causal: bool = False, columns: int = FEATURES) -> Floats:
    """What a rhythm network reads at each beat.

    Parameters
    ----------
    rr_s : float32, shape (n,)
        Interval before each beat in seconds, of one stretch. NaN counts as the interval before it.
        Where there is none, it counts as the one after it; for a causal network it is missing.
    causal : bool
        Take the running median over the past alone, not to both sides.
    columns : int
        How many to give, the first ones. A network of four or fewer is from before the last one.
        It reads them as it learnt them: NaN at the start is 0.8 s, and medians take a record's
        end values to go on.

    Returns
    -------
    float32, shape (n, columns)
        Logarithm of the interval over its running median of 61 beats; of the interval over the one
        before; of the median over 0.8 s; of the interval over its running median of 17 beats; each
        held within -1 to 1. The last is 1 where there is a beat with an interval: what is beyond a
        record's ends is zero throughout, and known to be missing. Medians are over the beats that
        are there. A new column goes last: a network from before it reads the first ones.
    """
    if not len(rr_s):
        return np.empty((0, columns), np.float32)
    if columns <= WITHOUT_MASK:
        return _columns(fill_gaps(rr_s), running_median, causal=causal)[:, :columns]
    first = int(np.isfinite(rr_s).argmax())
    if not np.isfinite(rr_s[first]):
        return np.zeros((len(rr_s), FEATURES), np.float32)
    out = np.zeros((len(rr_s), FEATURES), np.float32)
    start = first if causal else 0
    intervals = fill_gaps(rr_s[start:], rr_s[first])
    out[start:, :WITHOUT_MASK] = _columns(intervals, nearest_median, causal=causal)
    out[start:, WITHOUT_MASK] = 1
    return out


def _columns(rr_s: Floats, median_of: Callable[..., Floats], *, causal: bool) -> Floats:
    """The columns but the last, shape (n, 4)."""
    log_rr = np.log(np.clip(rr_s, *RR_RANGE_S)).astype(np.float32)
    median = median_of(log_rr, MEDIAN_BEATS, causal=causal)
    short = median_of(log_rr, SHORT_MEDIAN_BEATS, causal=causal)
    columns = (
        log_rr - median,
        np.diff(log_rr, prepend=log_rr[:1]),
        median - np.float32(np.log(TYPICAL_RR_S)),
        log_rr - short,
    )
    return np.asarray(np.clip(np.stack(columns, axis=1), -1, 1), np.float32)


def fill_gaps(rr_s: Floats, first_s: float = TYPICAL_RR_S) -> Floats:
    """Intervals, NaN as the one before it, or as `first_s` where there is none."""
    finite = np.isfinite(rr_s)
    last = np.maximum.accumulate(np.where(finite, np.arange(len(rr_s)), -1))
    return np.where(last < 0, np.float32(first_s), rr_s[last])


def nearest_median(values: Floats, width: int, *, causal: bool) -> Floats:
    """Median of the `width` (odd) values nearest to each, or up to each; of those that there are.

    Of an even count it is the upper of the middle two.
    """
    out = running_median(values, width, causal=causal)
    half = width // 2
    if causal:
        window: list[float] = []
        for place, value in enumerate(values[: width - 1].tolist()):
            insort(window, value)
            out[place] = window[len(window) // 2]
    elif len(values) <= width:
        out[:] = np.sort(values)[len(values) // 2 :][:1]
    else:
        out[:half], out[-half:] = out[half], out[-half - 1]
    return out


def running_median(values: Floats, width: int, *, causal: bool) -> Floats:
    """Median of the `width` (odd) values around each, or up to each; the end values go on.

    By numpy alone, in 16 ms for the 100,000 beats of a day: scipy's own takes 5, its import 180.
    """
    before = width - 1 if causal else width // 2
    ends = np.repeat(values[:1], before), np.repeat(values[-1:], width - 1 - before)
    out = np.empty(len(values), np.float32)
    if not len(values):
        return out
    windows = sliding_window_view(np.concatenate([ends[0], values, ends[1]]), width)
    for start in range(0, len(values), MEDIANS_AT_ONCE):
        rows = slice(start, start + MEDIANS_AT_ONCE)
        out[rows] = np.partition(windows[rows], width // 2, axis=1)[:, width // 2]
    return out


@dataclass(frozen=True)
class Windows:
    """How a record is cut for a network: `core` beats to answer, with beats of context around them.

    With context of at least the network's reach on either side, an answer does not depend on where
    the windows fall.
    """

    core: int = WINDOW_BEATS - 256
    before: int = 128
    after: int = 128

    @property
    def beats(self) -> int:
        """Length of a window in beats."""
        return self.before + self.core + self.after

    def count(self, n: int) -> int:
        """Windows of a record of n beats."""
        return -(-n // self.core)

    def cut(
        self, values: NDArray[Any], fill: float = 0.0, rows: range | None = None
    ) -> NDArray[Any]:
        """Windows of a record's values (n, ...) as (k, beats, ...), `fill` beyond its ends.

        All of them, or those of `rows` that there are.
        """
        n = len(values)
        window_range = (
            range(self.count(n))[rows.start : rows.stop] if rows else range(self.count(n))
        )
        low, high = (
            window_range.start * self.core - self.before,
            window_range.stop * self.core + self.after,
        )
        width = [(max(-low, 0), max(high - n, 0))]
        part = values[max(low, 0) : high]
        padded = np.pad(part, width + [(0, 0)] * (values.ndim - 1), constant_values=fill)
        views = sliding_window_view(padded, self.beats, axis=0)[:: self.core]
        return np.ascontiguousarray(np.moveaxis(views, -1, 1))

    def places(self, begins: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Where each beat stands when stretches keep apart as a record keeps from its ends."""
        later = np.append(False, begins[1:])[: len(begins)]
        apart = max(self.before, self.after) * np.cumsum(later)
        return np.asarray(np.arange(len(begins)) + apart, np.int64)

    def join(self, windows: NDArray[Any], n: int) -> NDArray[Any]:
        """The cores of windows (k, beats), put together as the record's (n,)."""
        return windows[:, self.before : self.before + self.core].reshape(-1)[:n]

    def only_core(self, windows: NDArray[Any], fill: float = -1) -> NDArray[Any]:
        """Windows (k, beats) with `fill` for the context: each beat of the record counts once."""
        out = np.full_like(windows, fill)
        core = slice(self.before, self.before + self.core)
        out[:, core] = windows[:, core]
        return out


TWO_SIDED = Windows()
BACKWARD = Windows(before=256, after=0)


def spread(values: NDArray[Any], places: NDArray[np.int64], fill: float = 0.0) -> NDArray[Any]:
    """Values (n, ...) at their places, ascending, and `fill` between them."""
    length = int(places[-1]) + 1 if len(places) else 0
    if length == len(values):
        return values
    out = np.full((length, *values.shape[1:]), fill, values.dtype)
    out[places] = values
    return out


def windows_of(*, causal: bool) -> Windows:
    """How a record is cut for the two-sided or the causal networks."""
    return BACKWARD if causal else TWO_SIDED


def random_windows(
    features: Sequence[Floats],
    labels: Sequence[NDArray[np.int8]],
    weights: Sequence[float],
    beats: int,
    count: int,
    random: np.random.Generator,
) -> tuple[Floats, NDArray[np.int8]]:
    """Draw `count` windows of `beats` beats, records by their length times their weight.

    Returns
    -------
    features : float32, shape (count, beats, 5)
    label : int8, shape (count, beats)
        -1 beyond a record's end.
    """
    size = np.array([len(label) for label in labels], np.float64)
    share = size * np.asarray(weights, np.float64)
    picks = random.choice(len(size), count, p=share / share.sum())
    x = np.zeros((count, beats, FEATURES), np.float32)
    y = np.full((count, beats), -1, np.int8)
    for row, number in enumerate(picks.tolist()):
        at = int(random.integers(0, max(len(labels[number]) - beats, 0) + 1))
        part = slice(at, at + beats)
        length = len(labels[number][part])
        x[row, :length], y[row, :length] = features[number][part], labels[number][part]
    return x, y


def rhythm_record(table: BeatTable, weight: float = 1.0) -> RhythmRecord:
    """The rhythm of a beat table; its waveforms, if any, are not touched."""
    flutter = table.rhythm == FLUTTER
    return RhythmRecord(
        name=f"{table.dataset}/{table.record}",
        subject=f"{table.dataset}/{table.subject}",
        rr_s=table.rr_prev_s,
        label=table.label,
        weight=weight,
        flutter=flutter if flutter.any() else None,
    )
