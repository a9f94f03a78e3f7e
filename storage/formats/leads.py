"""A recording's lead: which one is wanted, where its samples are, and how they are read."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from stat import S_ISREG
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from storage.errors import HeaderMismatch, MissingFile, NoLead
from storage.files import (
    check_name,
    is_plain_file,
    refuse_unsafe,
    safe_path,
    sha256_bytes,
    stored_name,
)
from storage.formats.flac import FlacLead, read_flac
from storage.formats.lead_names import fits, per_mv, rank, usable
from storage.formats.wfdb_formats import FramedLead, framed_values, read_framed
from storage.formats.wfdb_signal import PackedLead, raw_blocks, read_packed

#: The file that says that a record is there, by format.
SUFFIX = {"wfdb": ".hea", "edf": ".edf", "ishne": ".ecg", "dicom": ".dcm"}
OWN = {"wfdb": "its header", "edf": "an EDF file", "ishne": "an ISHNE file"}
OWN |= {"dicom": "a DICOM file"}
#: Rates that a lead may have: below, no QRS complex is left; above, a header is damaged.
RATES_HZ = (50.0, 20_000.0)
#: Longer than any Holter or patch recorder runs: a quarter of a year.
MOST_HOURS = 24 * 92
#: Headers and annotations are read whole; the annotations of a year are smaller.
MOST_TEXT_BYTES = 1 << 28


@dataclass(frozen=True)
class JoinedLead:
    """A lead in stretches: where each begins, ascending from 0, and its source; None is a gap."""

    starts: tuple[int, ...]
    parts: tuple[Source | None, ...]


Source: TypeAlias = PackedLead | FramedLead | FlacLead | JoinedLead


@dataclass(frozen=True)
class OpenRecording:
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
    warnings : tuple of str
        What a reader of its figures must know, such as an end that its header does not tell.
    n_signals : int
        Its signals, as far as marks of their quality count them; 0 where it does not say.
    start : datetime or None
        When its first sample was taken, as its header has it (`storage.formats.start`): local
        time, without a zone; None where it does not say, or its date is withheld.
    """

    fs_hz: float
    n_samples: int
    counts_hz: float
    comments: tuple[str, ...]
    file: str
    lead: str | None = None
    source: Source | None = None
    warnings: tuple[str, ...] = ()
    n_signals: int = 0
    start: datetime | None = None


@dataclass(frozen=True)
class HeaderSummary:
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
        The recorder's or the hospital's number of the patient (EDF, ISHNE, DICOM); "" of none.
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


def choose(
    signals: Sequence[tuple[str, str]], preferences: Sequence[str], record: str, file: str
) -> int:
    """Number of the wanted lead among a record's signals, each of a name and a unit.

    A wanted name is looked for as it stands; then, among signals of a voltage that are no other
    kind of signal, in any spelling, or as a pattern with `*`. The order of `preferences` goes
    before that of `LEADS`, that before the record's. Without any it is the first ECG by `LEADS`.

    Raises
    ------
    NoLead
        None is there.
    """
    names = [name for name, _ in signals]
    for lead in preferences:
        if lead in names:
            return names.index(lead)
    order = usable(signals)
    for lead in preferences:
        for number in order:
            if fits(names[number], lead):
                return number
    if not preferences and order and rank(names[order[0]]) is not None:
        return order[0]
    texts = [f"{name!r}" if per_mv(unit) else f"{name!r} in {unit!r}" for name, unit in signals]
    expected = (
        f"one of {', '.join(map(repr, preferences))}" if preferences else "an ECG, by name and unit"
    )
    raise NoLead(record, f"leads {', '.join(texts) or 'none'}", expected, file)


def units_per_mv(units: str, record: str, file: str) -> float:
    """How many of a lead's units are a millivolt.

    Raises
    ------
    HeaderMismatch
        They are no voltage.
    """
    count = per_mv(units)
    if count is None:
        raise HeaderMismatch(record, f"unit {units[:20]!r}", "mV, uV, V or nV", file)
    return count


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


def own_file(folder: Path, name: str, form: str, record: str) -> tuple[str, Path]:
    """The file that a record of a format begins with: its name as it is stored, and its path.

    Raises
    ------
    UnsafeName, MissingFile, HeaderMismatch
        As `present`; there are two whose names differ in their suffix's case alone.
    """
    check_name(name, record)
    turns: tuple[Callable[[str], str], ...] = (str.lower, str.upper, str.capitalize)
    files = [f"{name}.{turn(SUFFIX[form][1:])}" for turn in turns]
    by_inode = {inode: file for file in files if (inode := _inode(f"{folder}/{file}"))}
    if len(by_inode) > 1:
        names = " and ".join(map(repr, by_inode.values()))
        raise HeaderMismatch(record, f"files {names}", "one file of a record's name", files[0])
    return present(folder, files[0], record, OWN[form])


def _inode(path: str) -> int:
    """The number of a file on its disk; 0 where there is none."""
    try:
        state = os.stat(path)  # noqa: PTH116 - of each of thousands of records
    except OSError:
        return 0
    return state.st_ino if S_ISREG(state.st_mode) else 0


def is_present(folder: Path, file: str, record: str) -> bool:
    """Whether a file is there, of whatever case; UnsafeName as `present`."""
    check_name(file, record)
    if is_plain_file(folder, file):
        return True
    refuse_unsafe(folder, file, record)
    return (folder / stored_name(folder, file)).is_file()


def present(folder: Path, file: str, record: str, expected: str) -> tuple[str, Path]:
    """A file's name as it is stored, of whatever case, and its path.

    Raises
    ------
    UnsafeName, MissingFile
        The name leaves the folder; the file is not there.
    """
    check_name(file, record)
    if is_plain_file(folder, file):
        return file, folder / file
    refuse_unsafe(folder, file, record)
    stored = stored_name(folder, file)
    path = safe_path(folder, stored, record=record)
    if not path.is_file():
        raise MissingFile(record, "no such file", expected, file)
    return stored, path


def read_small(
    folder: Path, file: str, record: str, expected: str, digests: dict[str, str]
) -> bytes:
    """Read a header or annotation file whole, and note its digest.

    Raises
    ------
    UnsafeName, MissingFile, HeaderMismatch
        The name leaves the folder; the file is not there; it is far too large.
    """
    return read_whole(*present(folder, file, record, expected), record, digests)


def read_whole(file: str, path: Path, record: str, digests: dict[str, str]) -> bytes:
    """As `read_small`, of a file that is known to be there, by its name and its path."""
    with path.open("rb", buffering=0) as stream:
        if (size := os.fstat(stream.fileno()).st_size) > MOST_TEXT_BYTES:
            raise HeaderMismatch(record, f"{size} bytes", f"at most {MOST_TEXT_BYTES}", file)
        data = stream.read()
    digests[file] = sha256_bytes(data)
    return data
