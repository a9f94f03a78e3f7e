"""Beats cut from the cleaned signal: 300 samples each, R at index 100 whatever the heart rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storage.compiled import kernels
from storage.tables.beats import R_INDEX, WAVEFORM_SAMPLES
from tasks.signal.filters import Floats

BEFORE, AFTER = R_INDEX, WAVEFORM_SAMPLES - R_INDEX
#: Where the 300 samples lie: before R in RR1/3, from R on in 2 RR2/3.
_STEPS = np.concatenate(
    [
        np.arange(-BEFORE, 0, dtype=np.float32) / np.float32(BEFORE),
        np.arange(AFTER, dtype=np.float32) / np.float32(AFTER),
    ]
)
#: Beats interpolated at once; their 300 positions stay in the cache.
BATCH = 128


def segment(
    clean: Floats,
    offset: int,
    r: NDArray[np.int64],
    rr_prev: NDArray[np.int64],
    rr_next: NDArray[np.int64],
) -> Floats:
    """Cut R - RR1/3 .. R + 2 RR2/3 and interpolate linearly to 100 samples before R, 200 from R on.

    The bounds are real numbers, not samples, so a beat does not depend on the sampling rate.

    Parameters
    ----------
    clean : float32, shape (n,)
        Cleaned signal, millivolts.
    offset : int
        Sample of the record at which `clean` begins.
    r, rr_prev, rr_next : int64, shape (k,)
        R peaks of the record, and the RR intervals on both sides, in samples.

    Returns
    -------
    float32, shape (k, 300)
        Rows of NaN where a segment is not wholly inside `clean` or an RR interval is below 1.
    """
    out = np.empty((len(r), WAVEFORM_SAMPLES), dtype=np.float32)
    inside = whole_segments(len(clean), offset, r, rr_prev, rr_next)
    if not inside.any():
        out[:] = np.nan
        return out
    peak = np.where(inside, r - offset, 0)
    before = np.where(inside, rr_prev, 0).astype(np.float32) / np.float32(3)
    after = np.where(inside, rr_next, 0).astype(np.float32) * np.float32(2 / 3)
    library = kernels.LIBRARY
    if library is None:
        _interpolate(clean, peak, before, after, out)
    else:
        clean = np.ascontiguousarray(clean, np.float32)
        at = (kernels.memory(x) for x in (clean, peak, before, after, _STEPS, out))
        clean_at, peak_at, before_at, after_at, steps_at, out_at = at
        shape = (len(r), steps_at, BEFORE, WAVEFORM_SAMPLES)
        library.segment(clean_at, len(clean), peak_at, before_at, after_at, *shape, out_at)
    out[~inside] = np.nan
    return out


def _interpolate(
    clean: Floats, peak: NDArray[np.int64], before: Floats, after: Floats, out: Floats
) -> None:
    """The twin of `holter_segment` in numpy."""
    for at in range(0, len(peak), BATCH):
        rows = slice(at, at + BATCH)
        away = np.empty((len(peak[rows]), WAVEFORM_SAMPLES), dtype=np.float32)
        np.multiply(before[rows, None], _STEPS[:BEFORE], out=away[:, :BEFORE])
        np.multiply(after[rows, None], _STEPS[BEFORE:], out=away[:, BEFORE:])
        whole = np.floor(away)
        away -= whole
        # By way of int32: float32 to int64 takes five times as long.
        left = peak[rows, None] + whole.astype(np.int32)
        values = clean.take(left, mode="clip")
        step = clean[1:].take(left, mode="clip")
        step -= values
        step *= away
        np.add(values, step, out=out[rows])


def whole_segments(
    length: int,
    offset: int,
    r: NDArray[np.int64],
    rr_prev: NDArray[np.int64],
    rr_next: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which segments lie wholly inside the `length` samples that begin at `offset`."""
    first, last = r - rr_prev / 3, r + rr_next * (2 / 3)
    complete = (rr_prev > 0) & (rr_next > 0)
    return np.asarray(complete & (first >= offset) & (last <= offset + length - 1))
