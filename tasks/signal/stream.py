"""Beats of a signal that is still coming in, by the same code as those of a whole record.

The lead is cut into short blocks with the margins of `tasks.signal.filters`, each filtered as soon
as the samples after it are there. R peaks do not depend on where blocks begin
(`tests/system/test_laws.py`), so they are those of the whole record, but for rounding. What is not
recorded is told by the same rule as of a whole record (`storage.recordings.stretches`): a margin is
longer than what the rule looks at.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from storage.recordings.stretches import (
    LONGEST_PAUSE_S,
    NOWHERE,
    Stretches,
    find_unrecorded,
    number,
    unite,
    whole_record,
    within,
    without,
)
from tasks.features.rhythm import FEATURES, MEDIAN_BEATS, WINDOW_BEATS, rr_features, windows_of
from tasks.signal.filters import Floats, Grid, blocks_at, make_grid
from tasks.signal.preprocessing import Preprocessing
from tasks.signal.qrs import END_S, LEARNING_S, Rules, candidates

#: Stands for the length of a signal whose end is not known yet.
ENDLESS = 1 << 62
BLOCK_S = 4.0
#: Holes are kept for so long: no beat becomes known later.
KEPT_S = 60.0
#: No beat was found for so long where none will be found any more: a pause, learning anew, a block.
SILENT_S = LONGEST_PAUSE_S + LEARNING_S + BLOCK_S


def live_grid(fs_hz: float) -> Grid:
    """Blocks of about four seconds: a beat is known at most a block and a margin after it."""
    hop = 64 * max(1, round(BLOCK_S * fs_hz / 64))
    return replace(make_grid(ENDLESS, fs_hz), hop=hop)


class Peaks(NamedTuple):
    """R peaks, shape (k,) each: where, and whether each is the first of its stretch."""

    sample: NDArray[np.int64]
    begins: NDArray[np.bool_]


NO_PEAKS = Peaks(np.empty(0, np.int64), np.empty(0, bool))


@dataclass
class BeatStream:
    """R peaks of a signal that comes in pieces; memory is bounded by four margins and a block.

    Attributes
    ----------
    fs_hz : float
        Sampling rate.
    received : int
        Samples so far.
    holes : int64, shape (k, 2)
        What of the last minute was not recorded, in samples.
    """

    fs_hz: float
    received: int = 0
    holes: Stretches = field(default_factory=lambda: NOWHERE)
    _begin: int = 0
    _next: int = 0
    _samples: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    _last: int = -1
    _horizon: int = 0
    _last_change: int = -1
    _present: bool = True
    _silent: bool = False
    _rules: Rules = field(init=False)

    def __post_init__(self) -> None:
        self._rules = Rules(self.fs_hz)

    @property
    def delay_s(self) -> float:
        """The longest time from a beat to its filtering.

        Search-back adds an RR interval or two, and the first ten seconds are learnt from.
        """
        grid = live_grid(self.fs_hz)
        return (grid.hop + grid.margin) / self.fs_hz

    def feed(self, signal_mv: Floats) -> Peaks:
        """Take more samples, NaN where invalid; gives the R peaks that became known."""
        self._samples = np.concatenate([self._samples, signal_mv])
        self.received += len(signal_mv)
        return self._detect(live_grid(self.fs_hz), last=False)

    def finish(self) -> Peaks:
        """The signal has ended: gives the last R peaks."""
        grid = replace(live_grid(self.fs_hz), n_samples=self.received)
        return self._detect(grid, last=True)

    def _detect(self, grid: Grid, *, last: bool) -> Peaks:
        out = [NO_PEAKS]
        while self._next < self.received and (
            last or self._next + grid.hop + grid.margin <= self.received
        ):
            (block,) = blocks_at(self._read, grid, [self._next], Preprocessing())
            self._next += grid.hop
            ends = last and self._next >= self.received
            self._look()
            peaks = self._rules.take(candidates(block, grid), last=ends)
            out.append(self._new(peaks))
        keep = max(self._next - 3 * grid.margin - self._begin, 0)
        self._samples, self._begin = self._samples[keep:], self._begin + keep
        return out[-1] if len(out) < 3 else Peaks(*map(np.concatenate, zip(*out, strict=True)))

    def _look(self) -> None:
        """Find what was not recorded, as far as samples are there."""
        new_holes = find_unrecorded(self._samples, self.fs_hz) + self._begin
        if len(new_holes) or len(self.holes):
            holes = unite(self.holes, new_holes)
            self.holes = holes[holes[:, 1] > self._next - KEPT_S * self.fs_hz]

    def _new(self, peaks: NDArray[np.int64]) -> Peaks:
        """The next R peaks, those in what was recorded."""
        recorded = without(whole_record(self.received), self.holes)
        peaks = peaks[within(peaks, recorded, END_S * self.fs_hz)]
        places = np.append(self._last, peaks)
        self._last = int(places[-1])
        long = np.diff(places) > LONGEST_PAUSE_S * self.fs_hz
        return Peaks(peaks, long | (np.diff(number(places, recorded)) != 0) | (places[:-1] < 0))

    def changes(self) -> list[tuple[int, bool]]:
        """Samples at which the signal went (False) or came back (True), not given before.

        A signal without any beat for `SILENT_S` went with its last beat.
        """
        horizon = min(self._next, self.received)
        if horizon == self._horizon:
            return []
        self._horizon = horizon
        edges = enumerate(self.holes.ravel().tolist())
        out = [
            (edge, place % 2 == 1) for place, edge in edges if self._last_change < edge < horizon
        ]
        self._last_change = max([self._last_change, *(edge for edge, _ in out)])
        self._present = out[-1][1] if out else self._present
        since = max(self._last, self._last_change, 0)
        silent = self._present and horizon - since > SILENT_S * self.fs_hz
        if silent != self._silent:
            out.append((since, self._silent))
            self._silent = silent
        return out

    def _read(self, start: int, stop: int) -> Floats:
        """Samples as far as they are held, NaN beyond."""
        out = np.full(stop - start, np.nan, np.float32)
        low, high = max(start, self._begin), min(stop, self.received)
        if low < high:
            out[low - start : high - start] = self._samples[low - self._begin : high - self._begin]
        return out


@dataclass
class RhythmStream:
    """What a causal rhythm network reads of beats that come in pieces.

    Every beat gets a window that ends with it or with one of the beats that came together with it,
    and in which its whole past is, as far as the network sees.
    """

    fs_hz: float
    columns: int = FEATURES
    _before: int = -1
    _rr_s: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    _rows: Floats = field(init=False)

    def __post_init__(self) -> None:
        self._rows = np.zeros((windows_of(causal=True).before, self.columns), np.float32)

    def window(self, sample: NDArray[np.int64]) -> tuple[Floats, slice]:
        """Take at most 384 more beats; gives a window (1, 640, 5) and where they are in it."""
        n = len(sample)
        if n > windows_of(causal=True).core:
            raise ValueError(f"{n} beats at once; at most {windows_of(causal=True).core}")
        gap = np.diff(sample, prepend=self._before) / self.fs_hz
        if self._before < 0 and n:
            gap[0] = np.nan
        self._before = int(sample[-1]) if n else self._before
        self._rr_s = np.concatenate([self._rr_s, gap.astype(np.float32)])[-(MEDIAN_BEATS + n) :]
        rows = rr_features(self._rr_s, causal=True, columns=self.columns)[len(self._rr_s) - n :]
        self._rows = np.concatenate([self._rows, rows])[-WINDOW_BEATS:]
        window = np.zeros((1, WINDOW_BEATS, self.columns), np.float32)
        window[0, : len(self._rows)] = self._rows
        return window, slice(len(self._rows) - n, len(self._rows))
