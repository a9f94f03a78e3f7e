"""What is known against a beat's signal: gaps, flat stretches, saturation, noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storage.beats import Quality
from tasks.filters import Floats

#: The signal is judged in cells of this length.
CELL_S = 0.1
#: A stretch without any change for so many cells is flat: no heart is still for half a second.
FLAT_CELLS = 5
#: Share of a cell's samples at the block's extreme value that counts as saturated.
SATURATED_SHARE = 0.4
#: Noise index above which a beat is flagged: half the QRS complex's own bend.
NOISY = 0.5
#: An RR interval outside these, in seconds, is no plausible pair of beats.
RR_RANGE_S = (0.2, 3.0)


def cell_flags(raw: Floats, fs_hz: float) -> NDArray[np.uint16]:
    """Quality flags of every cell of 0.1 s of the raw signal.

    Parameters
    ----------
    raw : float32, shape (n,)
        As read, NaN where invalid.
    fs_hz : float
        Sampling rate.

    Returns
    -------
    uint16, shape (ceil(n / cell),)
        Sums of GAP, FLAT and SATURATED.
    """
    width = cell_samples(fs_hz)
    full = len(raw) // width
    flags = np.zeros(-(-len(raw) // width), dtype=np.uint16)
    cells = raw[: full * width].reshape(full, width)
    firsts = np.arange(0, full * width, width)
    low, high = (np.empty(0, np.float32),) * 2
    if full:
        low, high = (f.reduceat(raw[: full * width], firsts) for f in (np.minimum, np.maximum))
    gap = np.isnan(low)
    flags[:full][gap] |= np.uint16(Quality.GAP)
    if np.isnan(raw[full * width :]).any():
        flags[full] |= np.uint16(Quality.GAP)
    still = low == high
    # A constant stretch touches cells that are only partly in it; they are flagged as it.
    run = _runs(still & np.append(low[1:] == low[:-1], True), FLAT_CELLS)
    flags[:full][run] |= np.uint16(Quality.FLAT)
    if not full or gap.all():
        return flags
    for extreme, cell in ((np.fmin.reduce(low), low), (np.fmax.reduce(high), high)):
        for i in np.flatnonzero((cell == extreme) & ~run):
            if np.count_nonzero(cells[i] == extreme) >= SATURATED_SHARE * width:
                flags[i] |= np.uint16(Quality.SATURATED)
    return flags


def cell_samples(fs_hz: float) -> int:
    """Samples of a cell."""
    return max(2, round(CELL_S * fs_hz))


def _runs(mask: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """True where mask is, in runs of `least` or more."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    out = np.zeros(len(mask), dtype=bool)
    for start, stop in edges.reshape(-1, 2):
        if stop - start >= least:
            out[start:stop] = True
    return out


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
    rest = np.abs(np.diff(waveform[:, 180:290], 2)).mean(axis=1)
    complex_ = np.abs(np.diff(waveform[:, 90:112], 2)).mean(axis=1)
    return np.asarray(rest / np.maximum(complex_, 1e-6), dtype=np.float32)


def rr_flags(rr_prev_s: Floats, rr_next_s: Floats) -> NDArray[np.uint16]:
    """RR_RANGE where an interval on either side is outside 0.2 to 3.0 s; the ends pass."""
    low, high = RR_RANGE_S
    out = np.zeros(len(rr_prev_s), dtype=np.uint16)
    for rr in (rr_prev_s, rr_next_s):
        out[(rr < low) | (rr > high)] |= np.uint16(Quality.RR_RANGE)
    return out
