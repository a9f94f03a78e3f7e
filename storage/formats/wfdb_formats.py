"""Samples of one lead in any packed layout, block by block, in numpy (wag/signal-5; EDF; ISHNE).

A file is a row of frames; a frame holds the samples of every signal, one or more of each. WFDB's
formats differ in how a sample becomes bytes. An EDF data record is such a frame as well, of format
16. Formats 212 and 16 with one sample a frame have a faster reader in
`storage.formats.wfdb_signal`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.formats.wfdb_signal import packed_bytes

Integers = NDArray[np.signedinteger[Any]]

#: Samples of all signals that are decoded at once.
BLOCK_SAMPLES = 1 << 18
#: A frame is read whole: one of more samples is a damaged header (EDF advises 30,720 at most).
MOST_FRAME_SAMPLES = 1 << 22
#: A signed byte a sample: no format of WFDB, one of DICOM.
SIGNED_8 = -8
#: How the formats of whole bytes lie in a file, and what is subtracted.
PLAIN = {8: ("<i1", 0), 16: ("<i2", 0), 32: ("<i4", 0), 61: (">i2", 0)}
PLAIN |= {80: ("<u1", 1 << 7), 160: ("<u2", 1 << 15), SIGNED_8: ("<i1", 0)}
#: The others: samples in a group, and its bytes.
GROUP = {24: (1, 3), 212: (2, 3), 310: (3, 4), 311: (3, 4)}
#: Bits that a sample of a format has; its lowest value means "no sample", but in differences (8).
WIDTH = {16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12, 310: 10, 311: 10}
WIDTH |= {508: 8, 516: 16, 524: 24}
DIFFERENCES = 8


@dataclass(frozen=True)
class FramedLead:
    """Where one lead's samples lie in a file of frames.

    Attributes
    ----------
    path : Path
        The file.
    format : int
        WFDB format code of its samples.
    n_frames : int
        Frames in the file.
    frame_samples, first, per_frame : int
        Samples of a frame, the lead's first one in it, and how many are the lead's.
    skew : int
        The lead lies so many frames later in the file than its time.
    offset_bytes : int
        Bytes before the first frame.
    gain, baseline : float
        Converter units per mV, and the converter value of 0 mV.
    valid : tuple of (int, int)
        Converter values outside these two mean "no sample".
    initial : int
        Value before the first difference, in format 8.
    checksum : int or None
        The sum of the lead's samples modulo 65536, where the header gives it and it is not 0.
    missing : int or None
        A converter value that means "no sample" beside those that are not valid.
    """

    path: Path
    format: int
    n_frames: int
    frame_samples: int
    first: int
    per_frame: int
    skew: int
    offset_bytes: int
    gain: float
    baseline: float
    valid: tuple[int, int]
    initial: int = 0
    checksum: int | None = None
    missing: int | None = None


def valid_range(format_code: int) -> tuple[int, int]:
    """The lowest and the highest value that are samples in a format."""
    if format_code == DIFFERENCES:
        return -(1 << 31), (1 << 31) - 1
    half = 1 << WIDTH[format_code] - 1
    return 1 - half, half - 1


def millivolts(
    values: Integers, gain: float, baseline: float, valid: tuple[int, int]
) -> NDArray[np.float32]:
    """Converter values as mV, NaN where they are not `valid`."""
    out = ((values - np.float64(baseline)) / gain).astype(np.float32)
    out[(values < valid[0]) | (values > valid[1])] = np.nan
    return out


def read_framed(lead: FramedLead, start: int, stop: int) -> NDArray[np.float32]:
    """Read samples `start` to `stop` of a lead in mV; NaN where there is none.

    Returns
    -------
    float32, shape (stop - start,)
        Fewer where the file ends early.
    """
    low, high = start // lead.per_frame, -(-stop // lead.per_frame)
    # What skew moves beyond the end of the file is not there: it stays NaN.
    last = min(high + lead.skew, lead.n_frames)
    out = np.full((high - low) * lead.per_frame, np.nan, np.float32)
    filled = 0
    for values in framed_values(lead, low + lead.skew, last):
        block = millivolts(values, lead.gain, lead.baseline, lead.valid)
        if lead.missing is not None:
            block[values == lead.missing] = np.nan
        out[filled : filled + len(block)] = block
        filled += len(block)
    if filled < (last - low - lead.skew) * lead.per_frame:
        out = out[:filled]
    return out[start - low * lead.per_frame :][: stop - start]


def framed_values(lead: FramedLead, first: int, last: int) -> Iterator[Integers]:
    """Converter values of frames `first` to `last`, block by block; fewer where the file ends."""
    hop = max(1, BLOCK_SAMPLES // lead.frame_samples)
    if lead.format == DIFFERENCES and first < last:
        yield from _sum_steps(lead, first, last, hop)
        return
    with lead.path.open("rb", buffering=0) as file:
        for at in range(first, last, hop):
            values = _read_numbers(file.fileno(), lead, at, min(at + hop, last))
            if not len(values):
                return
            yield values


def _sum_steps(lead: FramedLead, first: int, last: int, hop: int) -> Iterator[Integers]:
    """Values of format 8, whose blocks each need the sum of all differences before them."""
    state = lead.path.stat()
    before = _sums(lead, hop, state.st_mtime_ns, state.st_size)
    with lead.path.open("rb", buffering=0) as file:
        for at in range(first // hop * hop, last, hop):
            steps = _read_numbers(file.fileno(), lead, at, min(at + hop, last))
            if not len(steps):
                return
            values = before[at // hop] + np.cumsum(steps, dtype=np.int64)
            yield values[max(first - at, 0) * lead.per_frame :]


@lru_cache(maxsize=8)
def _sums(lead: FramedLead, hop: int, mtime_ns: int, size: int) -> NDArray[np.int64]:
    """The value before each block of `hop` frames; one pass, as long as the file is unaltered."""
    del mtime_ns, size
    total, out = lead.initial, []
    with lead.path.open("rb", buffering=0) as file:
        for at in range(0, lead.n_frames, hop):
            out.append(total)
            steps = _read_numbers(file.fileno(), lead, at, min(at + hop, lead.n_frames))
            total += int(steps.sum(dtype=np.int64))
    return np.array(out, np.int64)


def _read_numbers(descriptor: int, lead: FramedLead, first: int, last: int) -> Integers:
    """The lead's numbers in frames `first` to `last`, as they are stored."""
    samples, size = GROUP.get(lead.format, (1, packed_bytes(lead.format, 1)))
    assert size is not None  # noqa: S101 - FLAC alone has no size, and is read elsewhere
    group, lead_in = divmod(first * lead.frame_samples, samples)
    count = lead_in + (last - first) * lead.frame_samples
    n_bytes = packed_bytes(lead.format, count)
    data = os.pread(descriptor, n_bytes or 0, lead.offset_bytes + group * size)
    if len(data) < (n_bytes or 0):  # as many frames as are whole
        whole = len(data) // size * samples
        frames = max(0, whole - lead_in) // lead.frame_samples
        count = lead_in + frames * lead.frame_samples
    values = decode(lead.format, data, count)[lead_in:].reshape(-1, lead.frame_samples)
    return values[:, lead.first : lead.first + lead.per_frame].reshape(-1)


def decode(format_code: int, data: bytes, count: int) -> Integers:
    """Decode the first `count` samples of a stretch of bytes that begins with a group."""
    if format_code in PLAIN:
        dtype, zero = PLAIN[format_code]
        values = np.frombuffer(data, dtype, count)
        return values if not zero else values.astype(np.int32) - zero
    samples, size = GROUP[format_code]
    groups = -(-count // samples)
    padded = data[: groups * size].ljust(groups * size, b"\0")
    packed = np.frombuffer(padded, np.uint8).reshape(groups, size).astype(np.int32)
    out = np.empty((groups, samples), np.int32)
    for column, values in enumerate(_DECODERS[format_code](packed)):
        out[:, column] = values
    half = 1 << WIDTH[format_code] - 1
    return ((out.reshape(-1)[:count]) ^ half) - half


def _from_24(b: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    return [b[:, 0] | b[:, 1] << 8 | b[:, 2] << 16]


def _from_212(b: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    return [b[:, 0] | (b[:, 1] & 0x0F) << 8, b[:, 2] | (b[:, 1] & 0xF0) << 4]


def _from_310(b: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    left, right = b[:, 0] | b[:, 1] << 8, b[:, 2] | b[:, 3] << 8
    return [left >> 1 & 0x3FF, right >> 1 & 0x3FF, left >> 11 | right >> 11 << 5]


def _from_311(b: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    low, high = b[:, 0] | b[:, 1] << 8, b[:, 2] | b[:, 3] << 8
    return [low & 0x3FF, low >> 10 | (high & 0x0F) << 6, high >> 4 & 0x3FF]


_DECODERS = {24: _from_24, 212: _from_212, 310: _from_310, 311: _from_311}
