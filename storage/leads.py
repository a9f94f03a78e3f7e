"""A recording's lead: which one is wanted, where its samples are, and how they are read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from storage.errors import HeaderMismatch, MissingFile, NoLead
from storage.files import safe_path, sha256_bytes
from storage.flac import FlacLead, read_flac
from storage.wfdb_formats import FramedLead, framed_values, read_framed
from storage.wfdb_signal import PackedLead, raw_blocks, read_packed

#: The file that says that a record is there, by format.
SUFFIX = {"wfdb": ".hea", "edf": ".edf", "ishne": ".ecg"}
#: Units of a lead to a millivolt.
PER_MV = {"mv": 1.0, "uv": 1e3, "µv": 1e3, "μv": 1e3, "v": 1e-3, "nv": 1e6}
#: Rates that a lead may have: below, no QRS complex is left; above, a header is damaged.
RATES_HZ = (50.0, 20_000.0)
#: Longer than any Holter or patch recorder runs: a quarter of a year.
MOST_HOURS = 24 * 92
#: Headers and annotations are read whole; the annotations of a year are smaller.
MOST_TEXT_BYTES = 1 << 28


@dataclass(frozen=True)
class Joined:
    """A lead in stretches: where each begins, ascending from 0, and its source; None is a gap."""

    starts: tuple[int, ...]
    parts: tuple[Source | None, ...]


Source: TypeAlias = PackedLead | FramedLead | FlacLead | Joined


@dataclass(frozen=True)
class Opened:
    """What a recording's own files say of it.

    Attributes
    ----------
    fs_hz : float
        Sampling rate of the chosen lead; of the header where none is read.
    n_samples : int
        Its samples; 0 where none is read and the header does not say.
    counts_hz : float
        Rate that annotation times count in, where their file does not say.
    comments : tuple of str
        The header's comment lines.
    file : str
        The file an error about the lead names.
    lead : str or None
        Name of the chosen lead; None where none is read.
    source : Source or None
        Where its samples are.
    n_signals : int
        Its signals, as far as marks of their quality count them; 0 where it does not say.
    """

    fs_hz: float
    n_samples: int
    counts_hz: float
    comments: tuple[str, ...]
    file: str
    lead: str | None = None
    source: Source | None = None
    n_signals: int = 0


@dataclass(frozen=True)
class Described:
    """What a recording's header says before anything is chosen of it.

    Attributes
    ----------
    leads : tuple of (str, str)
        Name and unit of every signal, in the header's order.
    hours : float
        Length; 0 where the header does not say.
    comments : tuple of str
        Comment lines (WFDB).
    patient : str
        The recorder's or the hospital's number of the patient (EDF, ISHNE); "" where there is none.
    segments : tuple of str
        Records that are parts of this one.
    """

    leads: tuple[tuple[str, str], ...]
    hours: float
    comments: tuple[str, ...] = ()
    patient: str = ""
    segments: tuple[str, ...] = ()


def read_source(source: Source, start: int, stop: int) -> NDArray[np.float32]:
    """Read samples `start` to `stop` of a lead in mV; fewer where a file ends early."""
    if isinstance(source, PackedLead):
        return read_packed(source, start, stop)
    if isinstance(source, FramedLead):
        return read_framed(source, start, stop)
    if isinstance(source, FlacLead):
        return read_flac(source, start, stop)
    out = np.full(stop - start, np.nan, np.float32)
    number = max(bisect_right(source.starts, start) - 1, 0)
    while number < len(source.parts) and source.starts[number] < stop:
        begin, part = source.starts[number], source.parts[number]
        low, high = max(begin, start), min([stop, *source.starts[number + 1 : number + 2]])
        if part is not None and low < high:
            block = read_source(part, low - begin, high - begin)
            out[low - start : low - start + len(block)] = block
            if len(block) < high - low:
                return out[: low - start + len(block)]
        number += 1
    return out


def sample_sum(source: Source | None, n_samples: int) -> tuple[int, int] | None:
    """The sum of a lead's samples modulo 65536, and what its header says; None where it does not.

    Samples are summed as stored, so a skewed lead's are not the ones its header summed.
    """
    if not isinstance(source, PackedLead | FramedLead) or source.checksum is None:
        return None
    if isinstance(source, FramedLead):
        if source.skew:
            return None
        blocks = framed_values(source, 0, source.n_frames)
    else:
        blocks = raw_blocks(source, 0, n_samples)
    return sum(int(block.sum(dtype=np.int64)) for block in blocks) % 65536, source.checksum


def choose(found: Sequence[str], wanted: Sequence[str], record: str, file: str) -> int:
    """Number of the first wanted lead that is there; of two with one name, the first.

    Raises
    ------
    NoLead
        None is there.
    """
    for lead in wanted:
        if lead in found:
            return list(found).index(lead)
    raise NoLead(record, f"leads {', '.join(found) or 'none'}", f"one of {', '.join(wanted)}", file)


def units_per_mv(units: str, record: str, file: str) -> float:
    """How many of a lead's units are a millivolt.

    Raises
    ------
    HeaderMismatch
        They are no voltage.
    """
    if units.lower() not in PER_MV:
        raise HeaderMismatch(record, f"unit {units[:20]!r}", "mV, uV, V or nV", file)
    return PER_MV[units.lower()]


def check_extent(fs_hz: float, n_samples: int, record: str, file: str) -> None:
    """Refuse a rate or a length that no recorder makes, before memory is taken for it.

    Raises
    ------
    HeaderMismatch
    """
    low, high = RATES_HZ
    if not low <= fs_hz <= high:
        raise HeaderMismatch(record, f"{fs_hz:g} Hz", f"{low:g} to {high:g} Hz", file)
    if n_samples / fs_hz > MOST_HOURS * 3600:
        hours = n_samples / fs_hz / 3600
        raise HeaderMismatch(record, f"{hours:.0f} hours", f"at most {MOST_HOURS}", file)


def read_small(folder: Path, file: str, record: str, what: str, digests: dict[str, str]) -> bytes:
    """Read a header or annotation file whole, and note its digest.

    Raises
    ------
    UnsafeName, MissingFile, HeaderMismatch
        The name leaves the folder; the file is not there; it is far too large.
    """
    path = safe_path(folder, file, record=record)
    if not path.is_file():
        raise MissingFile(record, "no such file", what, file)
    if (size := path.stat().st_size) > MOST_TEXT_BYTES:
        raise HeaderMismatch(record, f"{size} bytes", f"at most {MOST_TEXT_BYTES}", file)
    data = path.read_bytes()
    digests[file] = sha256_bytes(data)
    return data
