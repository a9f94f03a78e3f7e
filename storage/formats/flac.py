"""WFDB signals compressed with FLAC (formats 508, 516, 524): libsndfile decodes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.formats.wfdb_formats import WIDTH, Integers, millivolts, valid_range

FORMATS = frozenset({508, 516, 524})
#: Bits that libsndfile fills a sample of each width up to, from below with zeros.
_READ_AS = {"PCM_S8": (8, "int16", 8), "PCM_16": (16, "int16", 0), "PCM_24": (24, "int32", 8)}


@dataclass(frozen=True)
class FlacLead:
    """A lead in a FLAC file of WFDB, and what its values mean.

    `channel` of `channels` is the lead's; `offset_samples` of each precede the record's first
    frame. The rest is as in `FramedLead`, where a frame is `per_frame` samples of every channel.
    """

    path: Path
    format: int
    channels: int
    channel: int
    offset_samples: int
    n_frames: int
    per_frame: int
    skew: int
    gain: float
    baseline: int


def stream_samples(path: Path) -> int | None:
    """Samples of each channel that a FLAC file announces; None where it is no FLAC file.

    They are the last 36 bits before the MD5 sum in STREAMINFO, the first block (RFC 9639, 8.2).
    """
    with path.open("rb") as file:
        head = file.read(26)
    if len(head) < 26 or head[:4] != b"fLaC" or head[4] & 0x7F != 0:
        return None
    return int.from_bytes(head[21:26], "big") & ((1 << 36) - 1)


def read_flac(lead: FlacLead, start: int, stop: int) -> NDArray[np.float32]:
    """Read samples `start` to `stop` of a lead in mV; NaN where there is none.

    The stream is sought, not read from its beginning.

    Raises
    ------
    ValueError
        What is wrong with the stream: on damaged bytes libsndfile raises, or gives less.
    ImportError, OSError
        Neither the package soundfile nor libsndfile is here.
    """
    out = np.full(stop - start, np.nan, np.float32)
    first = start + lead.skew * lead.per_frame
    last = min(stop + lead.skew * lead.per_frame, lead.n_frames * lead.per_frame)
    if first < last:
        values = _decode(lead, first, last)
        out[: len(values)] = millivolts(values, lead.gain, lead.baseline, valid_range(lead.format))
    return out


def _decode(lead: FlacLead, first: int, last: int) -> Integers:
    """Converter values of the lead's samples `first` to `last`."""
    import soundfile  # a device has none, and only this format needs it

    try:
        with soundfile.SoundFile(lead.path) as stream:
            bits, dtype, shift = _READ_AS.get(stream.subtype, (99, "int32", 0))
            if bits > WIDTH[lead.format] or stream.channels != lead.channels:
                raise ValueError(
                    f"{stream.channels} channels of {bits} bits, not the {lead.channels} of "
                    f"{WIDTH[lead.format]} that the header tells"
                )
            stream.seek(first + lead.offset_samples)
            values = stream.read(last - first, dtype=dtype, always_2d=True)[:, lead.channel]
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ValueError(f"FLAC that cannot be decoded: {error}") from error
    if len(values) < last - first:
        raise ValueError(f"a FLAC stream of {first + len(values)} samples")
    decoded: Integers = values >> shift
    return decoded
