"""What is known against a beat's signal: gaps, flat stretches, saturation, noise."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from storage.beats import Quality
from tasks.filters import Floats

#: The signal is judged in cells of this length.
CELL_S = 0.1
#: A stretch without any change for so many cells is flat: no heart is still for half a second.
FLAT_CELLS = 5
#: Share of a cell's samples at the record's extreme value that counts as saturated.
SATURATED_SHARE = 0.4
#: Noise index above which a beat is flagged: half the QRS complex's own bend.
NOISY = 0.5
#: Beats whose noise is measured at once; what is made of them stays in the cache.
BATCH = 256
#: An RR interval outside these, in seconds, is no plausible pair of beats.
RR_RANGE_S = (0.2, 3.0)


@dataclass(frozen=True, eq=False)
class Cells:
    """The raw signal in cells of 0.1 s.

    Attributes
    ----------
    low, high : float32, shape (m,)
        Smallest and largest sample of each; NaN where one is invalid.
    at_low, at_high : bool, shape (m,)
        Whether that is the extreme of its stretch, and 40 % of its samples have it.
    """

    low: Floats
    high: Floats
    at_low: NDArray[np.bool_]
    at_high: NDArray[np.bool_]


def cells_of(raw: Floats, fs_hz: float) -> Cells:
    """Cells of a stretch of the raw signal, NaN where invalid; the last one may be short."""
    width = cell_samples(fs_hz)
    # A row a cell, turned: whole rows are compared, which is much faster than one row at a time.
    whole = len(raw) // width * width
    turned = np.ascontiguousarray(raw[:whole].reshape(-1, width).T)
    low, high = (join.reduce(turned, axis=0) for join in (np.minimum, np.maximum))
    if whole < len(raw):
        rest = raw[whole:]
        low, high = np.append(low, rest.min()), np.append(high, rest.max())
    saturated = []
    for values, join in ((low, np.fmin), (high, np.fmax)):
        full = np.zeros(len(values), dtype=bool)
        # A cell that is not at the extreme of its stretch is not at the record's either.
        extreme = join.reduce(values) if len(values) else np.nan
        for i in np.flatnonzero(values == extreme):
            full[i] = np.mean(raw[i * width : (i + 1) * width] == extreme) >= SATURATED_SHARE
        saturated.append(full)
    return Cells(low, high, *saturated)


def joined_cells(parts: list[Cells]) -> Cells:
    """Cells of successive stretches as one."""
    names = ("low", "high", "at_low", "at_high")
    return Cells(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def cell_flags(cells: Cells) -> NDArray[np.uint16]:
    """Quality flags of every cell of a whole record: sums of GAP, FLAT and SATURATED.

    FLAT: 5 cells or more in a row that hold one value, and the cell on either side, which may be
    partly of that value. SATURATED: 40 % of a cell at the record's lowest or highest value.
    """
    low, high = cells.low, cells.high
    flags = np.zeros(len(low), dtype=np.uint16)
    gap = np.isnan(low)
    flags[gap] |= np.uint16(Quality.GAP)
    still = low == high
    flat = np.zeros(len(low), dtype=bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], still, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2):
        turns = start + 1 + np.flatnonzero(np.diff(low[start:stop]) != 0)
        bounds = [start, *turns.tolist(), stop]
        for first, last in pairwise(bounds):
            if last - first >= FLAT_CELLS:
                flat[max(first - 1, 0) : last + 1] = True
    flags[flat & ~gap] |= np.uint16(Quality.FLAT)
    for extreme, values, full in (
        (np.fmin.reduce(low, initial=np.inf), low, cells.at_low),
        (np.fmax.reduce(high, initial=-np.inf), high, cells.at_high),
    ):
        flags[(values == extreme) & full] |= np.uint16(Quality.SATURATED)
    return flags


def cell_samples(fs_hz: float) -> int:
    """Samples of a cell."""
    return max(2, round(CELL_S * fs_hz))


def segment_flags(
    cells: NDArray[np.uint16], fs_hz: float, first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.uint16]:
    """Flags of the segments [first, last] (sample indices): the sum of their cells' flags."""
    out = np.zeros(len(first), dtype=np.uint16)
    width, n = cell_samples(fs_hz), len(cells)
    if not n or not cells.any():
        return out
    start, stop = (first // width).clip(0, n - 1), (last // width).clip(0, n - 1) + 1
    for flag in (Quality.GAP, Quality.FLAT, Quality.SATURATED):
        total = np.concatenate([[0], np.cumsum((cells & flag) != 0)])
        out[total[stop] > total[start]] |= np.uint16(flag)
    return out


def noise_index(waveform: Floats) -> Floats:
    """How restless a beat is away from its QRS complex, against the complex itself.

    Mean absolute second difference from 40 % to 95 % of the cycle after R over that within 10
    samples of R; 0 is clean, 1 as restless as the complex. Ours, not a standard's.

    Parameters
    ----------
    waveform : float32, shape (k, 300)

    Returns
    -------
    float32, shape (k,)
        NaN for rows of NaN.
    """
    out = np.empty(len(waveform), dtype=np.float32)
    for at in range(0, len(waveform), BATCH):
        some = waveform[at : at + BATCH]
        rest, complex_ = _bend(some[:, 180:290]), _bend(some[:, 90:112])
        np.divide(rest, np.maximum(complex_, 1e-6), out=out[at : at + BATCH])
    return out


def _bend(x: Floats) -> Floats:
    """Mean absolute second difference of every row."""
    out = -2 * x[:, 1:-1]
    out += x[:, :-2]
    out += x[:, 2:]
    return np.asarray(np.abs(out, out=out).mean(axis=1))


def rr_flags(rr_prev_s: Floats, rr_next_s: Floats) -> NDArray[np.uint16]:
    """RR_RANGE where an interval on either side is outside 0.2 to 3.0 s; the ends pass."""
    low, high = RR_RANGE_S
    out = np.zeros(len(rr_prev_s), dtype=np.uint16)
    for rr in (rr_prev_s, rr_next_s):
        out[(rr < low) | (rr > high)] |= np.uint16(Quality.RR_RANGE)
    return out
