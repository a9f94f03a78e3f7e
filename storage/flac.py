"""WFDB signals compressed with FLAC (formats 508, 516, 524): the wfdb package reads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.wfdb_formats import millivolts, valid_range

FORMATS = frozenset({508, 516, 524})


@dataclass(frozen=True)
class FlacLead:
    """A lead in a FLAC file: its WFDB record's path and signal number, and what values mean.

    `n_frames`, `per_frame`, `skew`, `gain` and `baseline` are as in `FramedLead`.
    """

    path: Path
    format: int
    channel: int
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

    The stream is sought, not read from its beginning. Skew is applied here: wfdb 4.3.1 does not
    read the frames that it needs for it.

    Raises
    ------
    ValueError
        What wfdb found wrong: on damaged bytes it raises whatever Python or libsndfile does.
    """
    import wfdb  # a second to import, and only this format needs it

    low, high = start // lead.per_frame, -(-stop // lead.per_frame)
    last = min(high + lead.skew, lead.n_frames)
    out = np.full((high - low) * lead.per_frame, np.nan, np.float32)
    if low + lead.skew < last:
        try:
            read = wfdb.rdrecord(
                str(lead.path),
                sampfrom=low + lead.skew,
                sampto=last,
                channels=[lead.channel],
                physical=False,
                smooth_frames=False,
                ignore_skew=True,
            )
        except Exception as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        values = read.e_d_signal[0]
        out[: len(values)] = millivolts(values, lead.gain, lead.baseline, valid_range(lead.format))
    return out[start - low * lead.per_frame :][: stop - start]
