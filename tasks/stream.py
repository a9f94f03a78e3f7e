"""Beats of a signal that is still coming in, by the same code as those of a whole record.

The lead is cut into short blocks with the margins of `tasks.filters`, each filtered as soon as the
samples after it are there. R peaks do not depend on where blocks begin (`tests/test_laws.py`), so
they are those of the whole record, but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tasks.filters import Floats, Grid, filtered, make_grid
from tasks.preprocessing import Preprocessing
from tasks.qrs import Rules, candidates
from tasks.rhythm import FEATURES, MEDIAN_BEATS, WINDOW_BEATS, rr_features, windows_of

#: Stands for the length of a signal whose end is not known yet.
ENDLESS = 1 << 62
BLOCK_S = 4.0


def live_grid(fs_hz: float) -> Grid:
    """Blocks of about four seconds: a beat is known at most a block and a margin after it."""
    hop = 64 * max(1, round(BLOCK_S * fs_hz / 64))
    return replace(make_grid(ENDLESS, fs_hz), hop=hop)


@dataclass
class BeatStream:
    """R peaks of a signal that comes in pieces; memory is bounded by four margins and a block.

    Attributes
    ----------
    fs_hz : float
        Sampling rate.
    received : int
        Samples so far.
    """

    fs_hz: float
    received: int = 0
    _begin: int = 0
    _next: int = 0
    _held: Floats = field(default_factory=lambda: np.empty(0, np.float32))
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

    def feed(self, signal_mv: Floats) -> NDArray[np.int64]:
        """Take more samples, NaN where invalid; gives the R peaks that became known."""
        self._held = np.concatenate([self._held, signal_mv])
        self.received += len(signal_mv)
        return self._filtered(live_grid(self.fs_hz), last=False)

    def finish(self) -> NDArray[np.int64]:
        """The signal has ended: gives the last R peaks."""
        grid = replace(live_grid(self.fs_hz), n_samples=self.received)
        return self._filtered(grid, last=True) if self.received else np.empty(0, np.int64)

    def _filtered(self, grid: Grid, *, last: bool) -> NDArray[np.int64]:
        out = [np.empty(0, np.int64)]
        while self._next < self.received and (
            last or self._next + grid.hop + grid.margin <= self.received
        ):
            (block,) = filtered(self._read, grid, [self._next], Preprocessing())
            self._next += grid.hop
            ends = last and self._next >= self.received
            out.append(self._rules.take(candidates(block, grid), last=ends))
        keep = max(self._next - 3 * grid.margin - self._begin, 0)
        self._held, self._begin = self._held[keep:], self._begin + keep
        return np.concatenate(out)

    def _read(self, start: int, stop: int) -> Floats:
        """Samples as far as they are held, NaN beyond."""
        out = np.full(stop - start, np.nan, np.float32)
        low, high = max(start, self._begin), min(stop, self.received)
        if low < high:
            out[low - start : high - start] = self._held[low - self._begin : high - self._begin]
        return out


@dataclass
class RhythmStream:
    """What a causal rhythm network reads of beats that come in pieces.

    Every beat gets a window that ends with it or with one of the beats that came together with it,
    and in which its whole past is, as far as the network sees.
    """

    fs_hz: float
    _before: int = -1
    _rr_s: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    _rows: Floats = field(
        default_factory=lambda: np.zeros((windows_of(causal=True).before, FEATURES), np.float32)
    )

    def window(self, sample: NDArray[np.int64]) -> tuple[Floats, slice]:
        """Take at most 384 more beats; gives a window (1, 640, 4) and where they are in it."""
        n = len(sample)
        if n > windows_of(causal=True).core:
            raise ValueError(f"{n} beats at once; at most {windows_of(causal=True).core}")
        gap = np.diff(sample, prepend=self._before) / self.fs_hz
        if self._before < 0 and n:
            gap[0] = np.nan
        self._before = int(sample[-1]) if n else self._before
        self._rr_s = np.concatenate([self._rr_s, gap.astype(np.float32)])[-(MEDIAN_BEATS + n) :]
        rows = rr_features(self._rr_s, causal=True)[len(self._rr_s) - n :]
        self._rows = np.concatenate([self._rows, rows])[-WINDOW_BEATS:]
        window = np.zeros((1, WINDOW_BEATS, FEATURES), np.float32)
        window[0, : len(self._rows)] = self._rows
        return window, slice(len(self._rows) - n, len(self._rows))
