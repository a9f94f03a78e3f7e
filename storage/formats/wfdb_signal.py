"""WFDB signal files of formats 212 and 16: one lead, block by block, in numpy (wag/signal-5)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.compiled import kernels

BLOCK_FRAMES = 1 << 17  #: a block's temporaries then stay in the processor's cache
BLOCK_BYTES = 1 << 18  #: as much is read and decoded at once by compiled code
INVALID = {212: -2048, 16: -32768}  #: the sample value that means "no sample"
FAST_FORMATS = frozenset(INVALID)
#: Bits of one sample in each format that packs plainly; FLAC (508, 516, 524) has no fixed size.
BITS = {-8: 8, 8: 8, 16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12}


@dataclass(frozen=True)
class PackedLead:
    """Where one lead's samples lie in a file that holds several, interleaved.

    Attributes
    ----------
    path : Path
        The signal file.
    format : int
        212 or 16.
    n_signals, channel : int
        Signals in the file, and which one this is.
    offset_bytes : int
        Bytes before the first sample.
    gain : float
        Converter units per mV.
    baseline : int
        Converter value of 0 mV.
    checksum : int or None
        The sum of all samples modulo 65536, where the header gives it and it is not 0.
    """

    path: Path
    format: int
    n_signals: int
    channel: int
    offset_bytes: int
    gain: float
    baseline: int
    checksum: int | None = None


def packed_bytes(format_code: int, samples: int) -> int | None:
    """Bytes that `samples` samples take in a format; None where that is not fixed (FLAC)."""
    if format_code in BITS:
        return -(-samples * BITS[format_code] // 8)
    if format_code in (310, 311):
        # Three samples of 10 bits in four bytes; a last incomplete group needs only the bytes used:
        # 310 puts a second sample into the third and fourth, 311 into the second and third.
        whole, rest = divmod(samples, 3)
        return 4 * whole + (0, 2, 4 if format_code == 310 else 3)[rest]
    return None


def read_packed(lead: PackedLead, start: int, stop: int) -> NDArray[np.float32]:
    """Read samples `start` to `stop` of a lead in mV; NaN where the file says "no sample".

    Returns
    -------
    float32, shape (stop - start,)
        Fewer where the file ends early.
    """
    out = np.empty(stop - start, np.float32)
    filled = 0
    # float32 holds a 16-bit sample minus a baseline of this size exactly, and is twice as fast.
    exact = np.float32 if abs(lead.baseline) < 1 << 23 else np.float64
    if kernels.LIBRARY is not None and exact is np.float32:
        return _read_compiled(lead, start, out)
    for raw in raw_blocks(lead, start, stop):
        block = out[filled : filled + len(raw)]
        np.divide(np.subtract(raw, exact(lead.baseline), dtype=exact), exact(lead.gain), out=block)
        invalid = raw == INVALID[lead.format]
        if invalid.any():
            block[invalid] = np.nan
        filled += len(raw)
    return out[:filled]


def _read_compiled(lead: PackedLead, start: int, out: NDArray[np.float32]) -> NDArray[np.float32]:
    """Read samples from `start` on into `out`; one pass over the bytes makes millivolts."""
    library, n = kernels.LIBRARY, lead.n_signals
    decode = library.decode_212 if lead.format == 212 else library.decode_16
    values = (INVALID[lead.format], lead.baseline, lead.gain)
    # The bytes of a turn stay in the cache.
    frames = max(1, BLOCK_BYTES // (2 * n))
    buffer, filled = bytearray(), 0
    with lead.path.open("rb", buffering=0) as file:
        while filled < len(out):
            count = min(frames, len(out) - filled)
            first, size, odd = _place(lead, start + filled, count)
            buffer = buffer if len(buffer) >= size else bytearray(size)
            got = os.preadv(file.fileno(), [memoryview(buffer)[:size]], first)
            whole = (8 * got // BITS[lead.format] - odd) // n
            count = min(count, whole)
            if count <= 0:
                break
            at = np.frombuffer(buffer, np.uint8)
            words = (count, n, lead.channel + odd, *values)
            decode(kernels.memory(at), *words, kernels.memory(out[filled:]))
            filled += count
    return out[:filled]


def _place(lead: PackedLead, start: int, frames: int) -> tuple[int, int, int]:
    """Where some frames begin in the file, how many bytes they take, and samples before them."""
    n = lead.n_signals
    if lead.format == 16:
        return lead.offset_bytes + 2 * n * start, 2 * n * frames, 0
    first_pair, odd = divmod(start * n, 2)
    return lead.offset_bytes + 3 * first_pair, (3 * (frames * n + odd) + 1) // 2, odd


def raw_blocks(lead: PackedLead, start: int, stop: int) -> Iterator[NDArray[np.int16]]:
    """Converter values of samples `start` to `stop`, block by block; fewer where the file ends."""
    decode = _decode_212 if lead.format == 212 else _decode_16
    with lead.path.open("rb", buffering=0) as file:
        for first in range(start, stop, BLOCK_FRAMES):
            raw = decode(file.fileno(), lead, first, min(stop, first + BLOCK_FRAMES))
            if not len(raw):
                return
            yield raw


def _decode_16(descriptor: int, lead: PackedLead, start: int, stop: int) -> NDArray[np.int16]:
    """Read converter values of frames `start` to `stop`; fewer where the file ends."""
    frame_bytes = 2 * lead.n_signals
    at = lead.offset_bytes + start * frame_bytes
    data = os.pread(descriptor, (stop - start) * frame_bytes, at)
    frames = len(data) // frame_bytes
    samples = np.frombuffer(data, "<i2", frames * lead.n_signals)
    return samples[lead.channel :: lead.n_signals]


def _decode_212(descriptor: int, lead: PackedLead, start: int, stop: int) -> NDArray[np.int16]:
    """Read converter values of frames `start` to `stop`; fewer where the file ends.

    Three bytes hold two samples: the low bytes of both around the byte with their high halves.
    """
    n = lead.n_signals
    first_pair, odd = divmod(start * n, 2)
    count = (stop - start) * n + odd
    data = os.pread(descriptor, (3 * count + 1) // 2, lead.offset_bytes + 3 * first_pair)
    frames = (2 * len(data) // 3 - odd) // n
    data += b"\0" * (-len(data) % 3)
    triplets = np.frombuffer(data, np.uint8).reshape(-1, 3)
    if n % 2 == 0:  # a lead then always lies in the same half of its pair: decode that half only
        triplets = triplets[lead.channel // 2 :: n // 2][:frames]
        return _half(triplets, lead.channel % 2)
    pairs = np.empty((len(triplets), 2), np.int16)
    pairs[:, 0], pairs[:, 1] = _half(triplets, 0), _half(triplets, 1)
    return pairs.reshape(-1)[odd + lead.channel :: n][:frames]


def _half(triplets: NDArray[np.uint8], half: int) -> NDArray[np.int16]:
    """Decode the first or second samples of pairs, shape (n, 3); the shifts extend the sign."""
    low = triplets[:, 2 * half]
    shared = triplets[:, 1].astype(np.int16)
    high = shared << 12 >> 4 if half == 0 else (shared & 0xF0) << 8 >> 4
    values: NDArray[np.int16] = high | low
    return values
