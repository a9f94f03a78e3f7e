"""The method's band-pass, of zero phase, in blocks.

The signal is cut into blocks, each read with a margin on both sides, so memory is bounded. The
band-pass and the QRS feature of `tasks.signal.qrs` come from one forward FFT a block. How long a
block is changes no result but by rounding (`tests/system/test_laws.py`). numpy alone: the same code
runs on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, pi
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasks.signal.preprocessing import Preprocessing

Floats: TypeAlias = NDArray[np.float32]
#: Reads samples [start, stop) of a lead in millivolts, NaN where they are invalid.
Reader: TypeAlias = Callable[[int, int], Floats]

#: The filters' memory: the 0.5 Hz edge has decayed below 1e-7 after so long.
MARGIN_S = 8.0
#: Least length of a block against its margin: longer ones waste less, shorter fit the cache.
BLOCK_MARGINS = 24
#: Windows of shrinkage and the margin are multiples of it, a power of two: short factors.
STEP = 64
#: Blocks that are transformed at once.
BLOCKS_AT_ONCE = 4
#: Blocks of a larger range, in millivolts, are transformed in double precision.
MOST_RANGE_MV = 8.0


@dataclass(frozen=True)
class Grid:
    """The blocks of a lead: `hop` samples each, read with `margin` more on both sides.

    Attributes
    ----------
    n_samples : int
        Length of the lead.
    fs_hz : float
        Its sampling rate.
    margin, hop : int
        In samples; any, though a length of large prime factors is transformed slowly.
    """

    n_samples: int
    fs_hz: float
    margin: int
    hop: int

    @property
    def length(self) -> int:
        """Samples of a block with its margins."""
        return self.hop + 2 * self.margin

    def starts(self) -> range:
        """Where the blocks begin, without their margins."""
        return range(0, max(self.n_samples, 1), self.hop)


def make_grid(n_samples: int, fs_hz: float) -> Grid:
    """The grid of a lead of `n_samples` at `fs_hz`."""
    if fs_hz <= 0:
        raise ValueError(f"sampling rate must be above 0 Hz, got {fs_hz}")
    margin = STEP * ceil(MARGIN_S * fs_hz / STEP)
    return Grid(n_samples, fs_hz, margin, fast_length(BLOCK_MARGINS * margin, (5,)) - 2 * margin)


def fast_length(n: int, factors: tuple[int, ...] = (5, 6, 8, 9, 15)) -> int:
    """The least of the factors times a power of two that is not below n: transformed fast.

    Five times one is the best: the quarters of a power of two fall on the same cache lines.
    """
    return min(factor << ((n - 1) // factor).bit_length() for factor in factors)


def band_gain(
    frequency_hz: NDArray[np.floating[Any]], fs_hz: float, low_hz: float, high_hz: float, order: int
) -> NDArray[np.float64]:
    """Gain of a digital Butterworth band-pass run forwards and backwards: |H(f)|^2, no phase.

    The same as `scipy.signal.sosfiltfilt` of `butter(order, ..., "bandpass")` but for the ends. An
    upper edge at or above 0.45 fs is moved to 0.45 fs.
    """
    high_hz = min(high_hz, 0.45 * fs_hz)
    warped = np.tan(pi * np.minimum(frequency_hz / fs_hz, 0.5 - 1e-9))
    low, high = np.tan(pi * low_hz / fs_hz), np.tan(pi * high_hz / fs_hz)
    with np.errstate(divide="ignore", over="ignore"):
        away = (warped**2 - low * high) / ((high - low) * warped)
        return np.asarray(1.0 / (1.0 + away ** (2 * order)))


@lru_cache(maxsize=8)
def _gains(
    length: int, fs_hz: float, config: Preprocessing
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Of a block's spectrum: the band-pass, and the QRS feature (of it 5-15 Hz, differentiated).

    They hold the block's length, by which the forward transform divides.
    """
    frequency_hz = np.fft.rfftfreq(length, 1 / fs_hz)
    clean = length * band_gain(frequency_hz, fs_hz, config.low_hz, config.high_hz, config.order)
    qrs = clean * band_gain(frequency_hz, fs_hz, 5.0, 15.0, 1) * 2j * pi * frequency_hz
    return clean.astype(np.complex64), qrs.astype(np.complex64)


@dataclass(frozen=True, eq=False)
class Block:
    """One block, filtered; its arrays hold its margins too.

    Attributes
    ----------
    start : int
        Sample of the record at which the block begins, without its margin.
    inside : slice
        Its own samples of the record, without margins, in `raw` and `band`.
    raw : float32, shape (length,)
        As read, millivolts, NaN where invalid.
    gaps : bool
        Whether any of it is invalid.
    band : float32, shape (length,)
        Band-passed, millivolts.
    slope : float32, shape (length,)
        Derivative of the 5-15 Hz band, millivolts per second; empty where it was not asked for.
    """

    start: int
    inside: slice
    raw: Floats
    gaps: bool
    band: Floats
    slope: Floats


def filtered_blocks(read: Reader, grid: Grid, config: Preprocessing) -> Iterator[Block]:
    """Read and filter a lead, block by block.

    The record's ends are extended by their mirror image turned about the end sample, as filtfilt
    does. Invalid samples are bridged by straight lines; in gaps longer than twice the margin each
    end's value is held and fades to zero within a margin. `tasks.signal.quality` flags them.
    """
    starts = grid.starts()
    for first in range(0, len(starts), BLOCKS_AT_ONCE):
        yield from blocks_at(read, grid, starts[first : first + BLOCKS_AT_ONCE], config)


def blocks_at(
    read: Reader, grid: Grid, starts: Sequence[int], config: Preprocessing, *, feature: bool = True
) -> Iterator[Block]:
    """Read and filter some blocks at once, with the QRS feature or without."""
    gain, qrs_gain = _gains(grid.length, grid.fs_hz, config)
    raws = [_pad(read, start - grid.margin, grid.length, grid.n_samples) for start in starts]
    whole, gaps, most = np.empty((len(raws), grid.length), np.float32), [], 0.0
    for row, start, raw in zip(whole, starts, raws, strict=True):
        low, high = raw.min(), raw.max()
        gaps.append(bool(np.isnan(low)))
        if gaps[-1]:
            raw = _bridge_gaps(read, grid, start - grid.margin, raw)
            low, high = raw.min(), raw.max()
        # An electrode's offset costs digits: it is taken off before any transform.
        np.subtract(raw, low + (high - low) / 2, out=row)
        most = max(most, float(high - low))
    # Single precision rounds by a ten-millionth of the block's range.
    exact = whole.astype(np.float64) if most > MOST_RANGE_MV else whole
    # numpy transforms float32 as float64 unless it divides by the length, which the gains hold.
    spectrum = np.fft.rfft(exact, norm="forward").astype(np.complex64, copy=False)
    bands = np.fft.irfft(spectrum * gain, grid.length)
    if feature:
        slopes = np.fft.irfft(np.multiply(spectrum, qrs_gain, out=spectrum), grid.length)
    else:
        slopes = bands[:, :0]
    for start, raw, gap, band, slope in zip(starts, raws, gaps, bands, slopes, strict=True):
        stop = min(start + grid.hop, grid.n_samples)
        inside = slice(grid.margin, grid.margin + stop - start)
        yield Block(start, inside, raw, gap, band, slope)


def moving(x: Floats, width: int, join: np.ufunc) -> Floats:
    """Sum or maximum of every x[i : i + width], by doubling: the same operations at every i."""
    count = len(x) - width + 1
    out, offset, size = None, 0, 1
    while True:
        if width & size:
            part = x[offset : offset + count]
            out, offset = part if out is None else join(out, part), offset + size
        if offset == width:
            return np.asarray(out)
        x, size = join(x[:-size], x[size:]), 2 * size


def halving_sum(rows: Floats) -> Floats:
    """Sum of every row, halves added to halves: of one order, whatever adds it; shape (k,)."""
    room = 1 << (rows.shape[1] - 1).bit_length()
    out = np.zeros((len(rows), room), np.float32)
    out[:, : rows.shape[1]] = rows
    while room > 1:
        room //= 2
        out[:, :room] += out[:, room : 2 * room]
    return out[:, 0]


def _pad(read: Reader, start: int, length: int, n_samples: int) -> Floats:
    """Samples [start, start + length), odd-mirrored beyond the record's two ends."""
    low, high = max(start, 0), min(start + length, n_samples)
    inside = np.asarray(read(low, high), dtype=np.float32)
    before, after = low - start, start + length - high
    if not before and not after:
        return inside
    out = np.empty(length, dtype=np.float32)
    out[before : before + len(inside)] = inside
    out[:before] = mirror(inside, before)[::-1]
    out[before + len(inside) :] = mirror(inside[::-1], after)
    return out


def mirror(inside: Floats, count: int) -> Floats:
    """`count` samples outwards from the first one: its odd mirror image, then held."""
    valid = inside[np.isfinite(inside)][:1]
    first = valid[0] if len(valid) else np.float32(0)
    image = 2 * first - inside[1 : count + 1]
    end = image[-1] if len(image) else first
    return np.concatenate([image, np.full(count - len(image), end, dtype=np.float32)])


def _bridge_gaps(read: Reader, grid: Grid, start: int, raw: Floats) -> Floats:
    """A block's samples with its gaps bridged; zeros if none is valid.

    A gap that a block's end cuts is looked at beyond it, so every block bridges it alike.
    """
    longest = 2 * grid.margin
    more = 0 if np.isfinite(raw[[0, -1]]).all() else longest
    x = raw if not more else _pad(read, start - more, len(raw) + 2 * more, grid.n_samples)
    x = x.copy()  # a reader may give a view of what it holds
    valid, at = np.flatnonzero(np.isfinite(x)), np.flatnonzero(~np.isfinite(x))
    if not len(valid):
        return np.zeros_like(raw)
    after = np.searchsorted(valid, at)
    left, right = valid[np.maximum(after - 1, 0)], valid[np.minimum(after, len(valid) - 1)]
    nearest = np.where(np.abs(at - left) <= np.abs(right - at), left, right)
    away = np.clip(2 * np.abs(at - nearest) / grid.margin - 1, 0, 1)
    faded = x[nearest] * np.cos(pi / 2 * away) ** 2
    long = (right - left > longest) | (after == 0) | (after == len(valid))
    x[at] = np.where(long, faded, np.interp(at, valid, x[valid]))
    return x[more : len(x) - more]
