"""Beats cut from the cleaned signal: 300 samples each, R at index 100 whatever the heart rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storage.beats import R_INDEX, WAVEFORM_SAMPLES
from tasks.filters import Floats

BEFORE, AFTER = R_INDEX, WAVEFORM_SAMPLES - R_INDEX
_BEFORE_STEPS = np.arange(-BEFORE, 0, dtype=np.float32) / np.float32(BEFORE)
_AFTER_STEPS = np.arange(AFTER, dtype=np.float32) / np.float32(AFTER)
#: Beats interpolated at once; their 300 positions stay in the cache.
BATCH = 512


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
    inside = covered(len(clean), offset, r, rr_prev, rr_next)
    for at in range(0, len(r), BATCH):
        rows = slice(at, at + BATCH)
        here = np.where(inside[rows], r[rows] - offset, 0)[:, None]
        before = np.where(inside[rows], rr_prev[rows], 0).astype(np.float32)[:, None] / 3
        after = np.where(inside[rows], rr_next[rows], 0).astype(np.float32)[:, None] * (2 / 3)
        away = np.concatenate([before * _BEFORE_STEPS, after * _AFTER_STEPS], axis=1)
        whole = np.floor(away)
        left = here + whole.astype(np.int64)
        right = np.minimum(left + 1, len(clean) - 1)
        values = clean[left]
        out[rows] = values + (away - whole) * (clean[right] - values)
    out[~inside] = np.nan
    return out


def covered(
    length: int,
    offset: int,
    r: NDArray[np.int64],
    rr_prev: NDArray[np.int64],
    rr_next: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which segments lie wholly inside the `length` samples that begin at `offset`."""
    first, last = r - rr_prev / 3, r + rr_next * (2 / 3)
    known = (rr_prev > 0) & (rr_next > 0)
    return np.asarray(known & (first >= offset) & (last <= offset + length - 1))
