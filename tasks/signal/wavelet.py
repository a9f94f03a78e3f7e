"""Wavelet shrinkage of a band-passed lead, and how a lead that is not in memory is read cleaned.

Shrinkage judges the noise in windows of a fixed length that begin at sample 0, so how long a block
is changes no result.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise
from math import log, sqrt

import numpy as np
import pywt

from storage.compiled import kernels
from tasks.signal.filters import (
    BLOCKS_AT_ONCE,
    STEP,
    Floats,
    Grid,
    Reader,
    blocks_at,
    fast_length,
    mirror,
)
from tasks.signal.preprocessing import Preprocessing

#: Samples beyond a window that its wavelet transform takes in: 2 ** levels filters reach less.
WAVELET_MARGIN = 512
#: Of so many coefficients one is looked at first for their median.
SAMPLED = 16
#: Windows of a block where a lead is filtered again.
WINDOWS_AT_ONCE = 2


def window_edges(n_samples: int, fs_hz: float, config: Preprocessing) -> list[int]:
    """Where the windows of shrinkage begin, and the record's end."""
    step = STEP * max(1, round(config.noise_window_s * fs_hz / STEP))
    return [*range(0, max(n_samples // step, 1) * step, step), n_samples]


def shrink_windows(band: Floats, fs_hz: float, config: Preprocessing) -> None:
    """Wavelet-shrink a whole band-passed lead in place, each window by its own noise.

    Windows of `config.noise_window_s` begin at sample 0; what is left over belongs to the last one.
    Beyond the record's ends its odd mirror image goes on, as the band-pass has it.

    Parameters
    ----------
    band : float32, shape (n,)
        Millivolts; becomes the cleaned signal.
    """
    edges = window_edges(len(band), fs_hz, config)
    read = partial(part_of, band)
    for start, shrunk in shrunk_windows(read, edges, len(band), config):
        band[start : start + len(shrunk)] = shrunk


def part_of(x: Floats, start: int, stop: int) -> Floats:
    """A reader of what is held: samples [start, stop)."""
    return x[start:stop]


def shrunk_windows(
    band: Reader, edges: Sequence[int], n_samples: int, config: Preprocessing
) -> Iterator[tuple[int, Floats]]:
    """Where each window between the edges begins, and its samples shrunk.

    A window may be written over once it was given: what the next one needs of it is kept.
    """
    around = WAVELET_MARGIN
    low = max(edges[0] - around, 0)
    before = band(low, edges[0] if edges[0] else min(around + 1, n_samples))
    if not edges[0]:
        before = mirror(before, around)[::-1]
    for start, stop in pairwise(edges):
        own, length = band(start, min(stop + around, n_samples)), stop - start
        pieces = [before, own]
        if len(own) < length + around:
            rest = -length % STEP + length + around - len(own)
            pieces.append(mirror(own[-rest - 1 :][::-1], rest))
        window, before = np.concatenate(pieces), own[max(length - around, 0) : length].copy()
        inside = slice(around, around + length)
        yield start, shrink(window, config.wavelet, config.levels, inside)[inside]


def cleaned_reader(read: Reader, grid: Grid, config: Preprocessing) -> Reader:
    """Reads the cleaned lead, filtered anew window by window where it is asked for.

    For leads that neither memory nor a disk should hold: what it gives is what `shrink_windows`
    makes, but for rounding.
    """
    edges, around = window_edges(grid.n_samples, grid.fs_hz, config), WAVELET_MARGIN
    at_once = WINDOWS_AT_ONCE * BLOCKS_AT_ONCE

    def windows(own_edges: list[int]) -> Floats:
        pairs = [
            own_edges[at : at + WINDOWS_AT_ONCE + 1]
            for at in range(0, len(own_edges) - 1, WINDOWS_AT_ONCE)
        ]
        longest = max(pair[-1] - pair[0] for pair in pairs)
        hop = fast_length(longest + STEP + 2 * around + 2 * grid.margin) - 2 * grid.margin
        starts = [pair[0] - around for pair in pairs]
        blocks = blocks_at(read, replace(grid, hop=hop), starts, config, feature=False)
        out = np.empty(own_edges[-1] - own_edges[0], np.float32)
        for pair, block in zip(pairs, blocks, strict=True):
            band = block.band[grid.margin :]
            for start, stop in pairwise(pair):
                low = start - pair[0]
                window = band[low : low + stop - start + -(stop - start) % STEP + 2 * around]
                inside = slice(around, around + stop - start)
                shrunk = shrink(window, config.wavelet, config.levels, inside)
                out[start - own_edges[0] : stop - own_edges[0]] = shrunk[inside]
        return out

    return by_windows(windows, edges, at_once)


def spooled_reader(band: Reader, grid: Grid, config: Preprocessing) -> Reader:
    """Reads the cleaned lead, of a band-passed one that lies elsewhere than in memory.

    What it gives is what `shrink_windows` makes, to the bit.
    """

    def windows(own_edges: list[int]) -> Floats:
        parts = shrunk_windows(band, own_edges, grid.n_samples, config)
        return np.concatenate([shrunk for _, shrunk in parts])

    edges = window_edges(grid.n_samples, grid.fs_hz, config)
    return by_windows(windows, edges, WINDOWS_AT_ONCE * BLOCKS_AT_ONCE)


def by_windows(make: Callable[[list[int]], Floats], edges: list[int], at_once: int) -> Reader:
    """A reader of what is made some windows at a time, of which the last two lots are kept.

    Parameters
    ----------
    make : callable
        Makes the samples between the first and the last of the edges that it is given.
    """

    @lru_cache(maxsize=2)
    def lot(number: int) -> Floats:
        return make(edges[number * at_once : (number + 1) * at_once + 1])

    def part(start: int, stop: int) -> Floats:
        first, last = bisect_right(edges, start) - 1, bisect_left(edges, stop)
        steps = range(first // at_once, -(-last // at_once))
        begin = edges[steps.start * at_once] if len(steps) else start
        pieces = [np.empty(0, np.float32), *map(lot, steps)]
        return np.concatenate(pieces)[start - begin : stop - begin]

    return part


def shrink(x: Floats, wavelet: str, levels: int, judged: slice = slice(None)) -> Floats:
    """Soft-threshold the detail coefficients of a wavelet transform and reconstruct.

    Zeros go on beyond both ends, which is felt in the last 256 samples there.

    The threshold is Donoho's universal one, sigma sqrt(2 ln n), sigma = median |d1| / 0.6745 of
    the n samples judged (DOI 10.1093/biomet/81.3.425).

    Parameters
    ----------
    x : float32, shape (m,)
        Signal, m a multiple of 2 ** levels.
    wavelet : str
        A discrete wavelet of PyWavelets.
    levels : int
        Levels of the transform.
    judged : slice
        The samples whose noise counts.

    Returns
    -------
    float32, shape (m,)
    """
    start, stop, _ = judged.indices(len(x))
    bank = _filter_bank(wavelet)
    factor = sqrt(2 * log(stop - start))
    library, taps = kernels.LIBRARY, bank.shape[1]
    if library is None:
        return _shrink_plainly(x, bank, levels, (start, stop), factor)
    x, out = np.ascontiguousarray(x, np.float32), np.empty(len(x), np.float32)
    work = np.empty(library.shrink_work(len(x), taps, levels), np.float32)
    memory = (kernels.memory(array) for array in (x, bank, work, out))
    x_at, bank_at, work_at, out_at = memory
    library.shrink(x_at, len(x), start, stop, bank_at, taps, levels, factor, work_at, out_at)
    return out


@lru_cache(maxsize=8)
def _filter_bank(wavelet: str) -> Floats:
    """The wavelet's filters, rows of taps: down to the low and high band, and back from them."""
    return np.array(pywt.Wavelet(wavelet).filter_bank, np.float32)


def _shrink_plainly(
    x: Floats, bank: Floats, levels: int, judged: tuple[int, int], factor: float
) -> Floats:
    """The twin of `holter_shrink` in numpy."""
    start, stop = judged
    # Behind so many zeros zero-padding has the rows of PyWavelets' "periodization".
    zeros = bank.shape[1] // 2 - 1
    a = np.concatenate([np.zeros(zeros, np.float32), x])
    lengths, details = [], []
    for _ in range(levels):
        lengths.append(len(a))
        a, detail = _down(a, bank)
        details.append(detail)
    finest = np.abs(details[0][zeros + start // 2 : zeros + (stop + 1) // 2])
    limit = np.float32(_middle(finest) / 0.6745 * factor)
    for length, detail in zip(reversed(lengths), reversed(details), strict=True):
        detail -= np.clip(detail, -limit, limit)
        a = _up(a[: len(detail)], detail, bank)[:length]
    return a[zeros : zeros + len(x)]


def _down(x: Floats, bank: Floats) -> tuple[Floats, Floats]:
    """One level down: sums over the taps j, ascending, of taps[j] x[2 k + 1 - j]."""
    taps = bank.shape[1]
    pairs, reach = (len(x) + taps - 1) // 2, taps // 2
    halves = np.zeros((2, reach + pairs), np.float32)  # odd samples, even samples
    halves[0, reach : reach + len(x) // 2] = x[1::2]
    halves[1, reach : reach + (len(x) + 1) // 2] = x[::2]
    parts = [halves[j % 2, reach - j // 2 : reach - j // 2 + pairs] for j in range(taps)]
    return _sum(parts, bank[0]), _sum(parts, bank[1])


def _up(a: Floats, detail: Floats, bank: Floats) -> Floats:
    """One level up, for the pairs of samples that the filters cover whole."""
    reach = bank.shape[1] // 2
    out = np.empty((len(a) - reach + 1, 2), np.float32)
    for odd in (0, 1):
        sums = [
            _sum([x[reach - 1 - j : len(x) - j] for j in range(reach)], taps[odd::2])
            for x, taps in ((a, bank[2]), (detail, bank[3]))
        ]
        np.add(sums[0], sums[1], out=out[:, odd])
    return out.reshape(-1)


def _sum(parts: Sequence[Floats], taps: Floats) -> Floats:
    """Sum of the parts times their taps, one after another."""
    out = taps[0] * parts[0]
    product = np.empty_like(out)
    for part, tap in zip(parts[1:], taps[1:], strict=True):
        out += np.multiply(part, tap, out=product)
    return np.asarray(out)


def _middle(x: Floats) -> float:
    """The value in the middle of x in order, found among those about a sample's own middle."""
    middle, sample = len(x) // 2, np.sort(x[::SAMPLED])
    low, high = (sample[int(share * len(sample))] for share in (0.44, 0.56))
    near = x.compress((x >= low) & (x <= high))
    rank = middle - int(np.count_nonzero(x < low))
    if not 0 <= rank < len(near):  # the sample misleads
        near, rank = x, middle
    return float(np.partition(near, rank)[rank])
