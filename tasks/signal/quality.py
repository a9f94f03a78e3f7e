"""What is known against a beat's signal: gaps, flat stretches, saturation, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.compiled import kernels
from storage.recordings.stretches import RR_RANGE_S
from storage.tables.beats import Quality
from tasks.signal.filters import Floats, halving_sum

#: The signal is judged in cells of this length.
CELL_S = 0.1
#: A stretch without any change for so many cells is flat: no heart is still for half a second.
FLAT_CELLS = 5
#: Share of a cell's samples at the record's extreme value that counts as saturated.
SATURATED_SHARE = 0.4
#: Noise index above which a beat is flagged: half the QRS complex's own bend.
NOISY = 0.5
#: What a cell's byte says of it: quality flags, and what these follow from.
GAP, FLAT, SATURATED = (np.uint8(flag) for flag in (Quality.GAP, Quality.FLAT, Quality.SATURATED))
STILL, SAME, AT_LOW, AT_HIGH = (np.uint8(bit) for bit in (8, 16, 32, 64))
#: Cells that are judged at once.
AT_ONCE = 1 << 16
#: Beats whose noise is measured at once; what is made of them stays in the cache.
BATCH = 256


@dataclass(frozen=True, eq=False)
class Cells:
    """A stretch of the raw signal in cells of 0.1 s, a byte each: days of them are kept.

    Attributes
    ----------
    state : uint8, shape (m,)
        Sums of GAP (a sample is invalid), STILL (all samples are one value), SAME (the value of
        the still cell before), and AT_LOW and AT_HIGH (40 % of it is the stretch's extreme value).
    low, high : float
        Extreme values of the stretch's cells without gaps; NaN where there is none.
    first, last : float
        Value of the first and of the last cell where they are still, else NaN.
    lowest, highest : float
        Extreme values of all samples that are valid; infinities where none is.
    """

    state: NDArray[np.uint8]
    low: float
    high: float
    first: float
    last: float
    lowest: float
    highest: float


def cells_of(raw: Floats, fs_hz: float) -> Cells:
    """Cells of a stretch of the raw signal, NaN where invalid; the last one may be short."""
    width = cell_samples(fs_hz)
    whole = len(raw) // width * width
    low, high, state, bounds = _extremes(raw[:whole], width)
    if whole < len(raw):
        rest = _extremes(raw[whole:], len(raw) - whole)
        low, high = np.append(low, rest[0]), np.append(high, rest[1])
        state = np.append(state, rest[2])
        if len(low) > 1 and low[-1] == high[-1] == low[-2] == high[-2]:
            state[-1] |= SAME
        pairs = zip((min, max) * 2, bounds, rest[3], strict=True)
        bounds = tuple(pick(first, second) for pick, first, second in pairs)
    lowest, highest, least, most = bounds
    extremes = []
    for values, extreme, bit in ((low, least, AT_LOW), (high, most, AT_HIGH)):
        # A cell that is not at the extreme of its stretch is not at the record's either.
        for i in np.flatnonzero(values == extreme):
            if np.mean(raw[i * width : (i + 1) * width] == extreme) >= SATURATED_SHARE:
                state[i] |= bit
        extremes.append(extreme if np.isfinite(extreme) else np.nan)
    ends = [float(low[i]) if len(low) and low[i] == high[i] else np.nan for i in (0, -1)]
    (least, most), (first, last) = extremes, ends
    return Cells(state, least, most, first, last, lowest, highest)


def _extremes(
    raw: Floats, width: int
) -> tuple[Floats, Floats, NDArray[np.uint8], tuple[float, ...]]:
    """Least and largest value of every `width` samples, GAP, STILL and SAME, and the extremes.

    These are of all samples that are valid, and of the cells without gaps; infinities where there
    is none. A cell with a gap has NaN.
    """
    library = kernels.LIBRARY
    if library is not None:
        raw, bounds = np.ascontiguousarray(raw, np.float32), np.empty(4, np.float32)
        low, high = (np.empty(len(raw) // width, np.float32) for _ in range(2))
        state = np.empty(len(low), np.uint8)
        at = [kernels.memory(x) for x in (raw, low, high, state, bounds)]
        library.cells(at[0], len(low), width, *at[1:])
        return low, high, state, tuple(bounds.tolist())
    # A row a cell, turned: whole rows are compared, much faster than one row at a time.
    columns = np.ascontiguousarray(raw.reshape(-1, width).T)
    low, high = (join.reduce(columns, axis=0) for join in (np.minimum, np.maximum))
    still = low == high
    state = GAP * np.isnan(low) + STILL * still.astype(np.uint8)
    state[1:][still[1:] & still[:-1] & (low[1:] == low[:-1])] |= SAME
    extremes = ((raw, raw), (low, high))
    joins = ((np.fmin, np.inf), (np.fmax, -np.inf))
    return (
        *(low, high, state),
        tuple(
            float(join.reduce(values, initial=start))
            for pair in extremes
            for values, (join, start) in zip(pair, joins, strict=True)
        ),
    )


def cell_flags(parts: list[Cells]) -> NDArray[np.uint8]:
    """Quality flags of every cell of a whole record: sums of GAP, FLAT and SATURATED.

    FLAT: 5 cells or more in a row that hold one value, and the cell on either side, which may be
    partly of that value. SATURATED: 40 % of a cell at the record's lowest or highest value.

    Parameters
    ----------
    parts : list of Cells
        Its stretches, in time order.
    """
    low = np.fmin.reduce([part.low for part in parts])
    high = np.fmax.reduce([part.high for part in parts])
    state = np.concatenate([part.state for part in parts])
    at, before = 0, np.nan
    for part in parts:
        own = state[at : at + len(part.state)]
        if part.first == before:
            own[0] |= SAME
        if part.low != low:
            own &= ~AT_LOW
        if part.high != high:
            own &= ~AT_HIGH
        at += len(own)
        before = part.last if len(own) else before
    flags = np.empty_like(state)
    for start in range(0, len(state), AT_ONCE):
        # What is flat about a cell is seen from so many on either side of it.
        around = min(start, FLAT_CELLS + 1)
        own = state[start : start + AT_ONCE]
        flat = _flat(state[start - around : start + AT_ONCE + FLAT_CELLS + 1])
        gap, full = own & GAP, (own & (AT_LOW | AT_HIGH)) != 0
        flat = flat[around : around + len(own)] & (gap == 0)
        flags[start : start + AT_ONCE] = gap | FLAT * flat | SATURATED * full
    return flags


def _flat(state: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether a cell is one of 5 or more in a row that hold one value, or beside them."""
    begins, same = (state & STILL) != 0, (state & SAME) != 0
    for ahead in range(1, FLAT_CELLS):
        begins[:-ahead] &= same[ahead:]
        begins[-ahead:] = False
    first, out = np.flatnonzero(begins), np.zeros(len(state), dtype=bool)
    for near in range(-1, FLAT_CELLS + 1):
        out[np.clip(first + near, 0, len(state) - 1)] = True
    return out


def cell_samples(fs_hz: float) -> int:
    """Samples of a cell."""
    return max(2, round(CELL_S * fs_hz))


def segment_flags(
    cells: NDArray[np.uint8], fs_hz: float, first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.uint16]:
    """Flags of the segments [first, last] (sample indices): the sum of their cells' flags."""
    out = np.zeros(len(first), dtype=np.uint16)
    width, n = cell_samples(fs_hz), len(cells)
    if not n or not len(first):
        return out
    start, stop = (first // width).clip(0, n - 1), (last // width).clip(0, n - 1) + 1
    begin = start.min()
    span = cells[begin : stop.max()]
    if not span.any():
        return out
    for flag in (GAP, FLAT, SATURATED):
        total = np.concatenate([[0], np.cumsum((span & flag) != 0)])
        out[total[stop - begin] > total[start - begin]] |= np.uint16(flag)
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
    out, library = np.empty(len(waveform), dtype=np.float32), kernels.LIBRARY
    if library is not None:
        waveform = np.ascontiguousarray(waveform, np.float32)
        library.noise(kernels.memory(waveform), *waveform.shape, kernels.memory(out))
        return out
    for at in range(0, len(waveform), BATCH):
        part = waveform[at : at + BATCH]
        rest, complex_ = _bend(part[:, 180:290]), _bend(part[:, 90:112])
        np.divide(rest, np.maximum(complex_, np.float32(1e-6)), out=out[at : at + BATCH])
    return out


def _bend(x: Floats) -> Floats:
    """Mean absolute second difference of every row."""
    out = -2 * x[:, 1:-1]
    out += x[:, :-2]
    out += x[:, 2:]
    return halving_sum(np.abs(out, out=out)) / np.float32(out.shape[1])


def rr_flags(rr_prev_s: Floats, rr_next_s: Floats) -> NDArray[np.uint16]:
    """RR_RANGE where an interval on either side is outside 0.2 to 3.0 s; the ends pass."""
    low, high = RR_RANGE_S
    out = np.zeros(len(rr_prev_s), dtype=np.uint16)
    for rr in (rr_prev_s, rr_next_s):
        out[(rr < low) | (rr > high)] |= np.uint16(Quality.RR_RANGE)
    return out
