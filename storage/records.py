"""Records: one recording's header, annotations and signal, as its data set's TOML says to read it.

Headers, annotations and the formats 212 and 16 are read by our own numpy code, tested equal with
the wfdb package, which reads every other format and multi-segment records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.dataset import DETECT, ERROR, DatasetSpec, safe_path
from storage.errors import (
    BadAnnotation,
    HeaderMismatch,
    MissingFile,
    NoLead,
    NoRhythm,
    TooFewBeats,
    TruncatedSignal,
    UnknownRhythm,
)
from storage.files import sha256_bytes, sha256_file
from storage.wfdb_annotation import (
    BEAT,
    RHYTHM_CHANGE,
    SYMBOL,
    Annotations,
    parse_annotations,
)
from storage.wfdb_header import Header, SignalHeader, parse_header
from storage.wfdb_signal import FAST_FORMATS, PackedLead, packed_bytes, read_packed

LEAST_BEATS = 3  #: a beat needs an RR interval on both sides
KNOWN_FORMATS = frozenset({8, 16, 24, 32, 61, 80, 160, 212, 310, 311, 508, 516, 524})
_PER_MV = {"mv": 1.0, "uv": 1e3, "µv": 1e3, "μv": 1e3, "v": 1e-3, "nv": 1e6}


@dataclass(frozen=True)
class WfdbLead:
    """A lead that the wfdb package reads: its record's path, its signal's number, units per mV."""

    path: Path
    channel: int
    per_mv: float


@dataclass(frozen=True, eq=False)
class Record:
    """One recording, opened: everything but its samples.

    Attributes
    ----------
    dataset, name, subject : str
        Data set, record and subject (patient) it belongs to.
    folder : Path
        Folder that holds the record's files.
    fs_hz : float
        Sampling rate.
    n_samples : int
        Length in samples of the signal, or of the annotated stretch where there is no signal.
    lead : str or None
        Name of the chosen lead; None where there is no signal.
    beats : int64, shape (k,)
        Annotated beats as sample indices, ascending; empty where beats are to be detected.
    symbols : str, shape (k,)
        Their WFDB mnemonics.
    rhythm_start : int64, shape (m,)
        Where each rhythm begins, ascending; it lasts until the next one.
    rhythms : str, shape (m,)
        Their names, mapped by the data set's TOML ("AFIB", "N", ...); "" where unknown.
    af : frozenset of str
        The rhythm names that count as AF.
    digests : mapping of str to str
        SHA-256 of every file read, by name relative to the data set's folder.
    comments : tuple of str
        The header's comment lines.
    source : PackedLead, WfdbLead or None
        What `read_lead` needs to read the lead; None where there is no signal.
    """

    dataset: str
    name: str
    subject: str
    folder: Path
    fs_hz: float
    n_samples: int
    lead: str | None
    beats: NDArray[np.int64]
    symbols: NDArray[np.str_]
    rhythm_start: NDArray[np.int64]
    rhythms: NDArray[np.str_]
    af: frozenset[str]
    digests: Mapping[str, str]
    comments: tuple[str, ...] = ()
    source: PackedLead | WfdbLead | None = None

    @property
    def file(self) -> str:
        """The file an error about the lead names: its signal file, else the header."""
        if isinstance(self.source, PackedLead):
            return self.source.path.relative_to(self.folder).as_posix()
        return f"{self.name}.hea"


def open_record(spec: DatasetSpec, folder: Path, name: str, *, signal: bool = True) -> Record:
    """Read a record's header and annotations, and check its signal file against the header.

    Parameters
    ----------
    spec : DatasetSpec
        How to read the data set.
    folder : Path
        The data set's folder.
    name : str
        The record's name, as `record_names` gives it.
    signal : bool
        False: annotations alone, the signal file need not be there and `lead` is None. A record
        whose header has no signals is read so in any case.

    Raises
    ------
    RecordError
        `UnsafeName`, `MissingFile`, `HeaderMismatch`, `TruncatedSignal`, `NoLead`,
        `BadAnnotation`, `TooFewBeats`, `NoRhythm` or `UnknownRhythm`, each naming record and file.
    """
    safe_path(folder, name, record=name)
    digests: dict[str, str] = {}
    header = _header(folder, name, name, digests)
    record = Record(
        dataset=spec.name,
        name=name,
        subject=spec.subject_of(name),
        folder=folder,
        fs_hz=header.fs_hz,
        n_samples=header.n_samples,
        lead=None,
        beats=np.empty(0, np.int64),
        symbols=np.empty(0, "U1"),
        rhythm_start=np.empty(0, np.int64),
        rhythms=np.empty(0, "U1"),
        af=frozenset(spec.rhythms.af),
        digests=digests,
        comments=header.comments,
    )
    if signal and header.n_signals:
        record = _with_signal(record, spec, header, digests)
    return _with_annotations(record, spec, digests)


def read_lead(record: Record, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
    """Read the chosen lead from sample `start` up to `stop` (default: to the end).

    Returns
    -------
    float32, shape (stop - start,)
        Millivolts; NaN where the file says that there is no sample.

    Raises
    ------
    NoLead
        The record has no signal.
    TruncatedSignal, MissingFile, HeaderMismatch
        The signal file shrank, went away or changed since the record was opened.
    ValueError
        `start` and `stop` are not within the record.
    """
    stop = record.n_samples if stop is None else stop
    if not 0 <= start <= stop <= record.n_samples:
        raise ValueError(f"samples {start} to {stop} of a record with {record.n_samples}")
    if record.source is None:
        raise NoLead(record.name, "no signal", "a record with a signal")
    if isinstance(record.source, WfdbLead):
        out = _read_wfdb(record, record.source, start, stop)
        file = f"{record.name}.hea"
    else:
        file = record.source.path.name
        try:
            out = read_packed(record.source, start, stop)
        except FileNotFoundError as error:
            raise MissingFile(record.name, "no such file", "the signal file", file) from error
    if len(out) != stop - start:
        raise TruncatedSignal(
            record.name, f"{start + len(out)} samples", f"{record.n_samples}", file
        )
    return out


def _header(folder: Path, name: str, record: str, digests: dict[str, str]) -> Header:
    file = f"{name}.hea"
    return parse_header(_read(folder, file, record, "its header", digests), record, file)


def _read(folder: Path, file: str, record: str, what: str, digests: dict[str, str]) -> bytes:
    path = safe_path(folder, file, record=record)
    if not path.is_file():
        raise MissingFile(record, "no such file", what, file)
    data = path.read_bytes()
    digests[file] = sha256_bytes(data)
    return data


def _beside(name: str, file: str) -> str:
    """A file that a header names, relative to the data set's folder."""
    parent = name.rpartition("/")[0]
    return f"{parent}/{file}" if parent else file


def _with_signal(
    record: Record, spec: DatasetSpec, header: Header, digests: dict[str, str]
) -> Record:
    """Choose the lead and check every signal file of the record against the header."""
    hea = f"{record.name}.hea"
    signals, n_samples = header.signals, header.n_samples
    for segment, length in header.segments:
        if segment == "~":
            continue
        part = _header(record.folder, _beside(record.name, segment), record.name, digests)
        signals = signals or part.signals
        if part.n_samples != length:
            found = f"{part.n_samples} samples in segment {segment}"
            raise HeaderMismatch(record.name, found, f"{length}, as the record says", hea)
        if length:
            _check_files(record, part.signals, length, digests)
    if header.segments:
        n_samples = n_samples or sum(length for _, length in header.segments)
    else:
        n_samples = _check_files(record, signals, n_samples, digests)
    channel = _choose([one.lead for one in signals], spec.leads.prefer, record.name, hea)
    chosen = signals[channel]
    if chosen.units.lower() not in _PER_MV:
        raise HeaderMismatch(record.name, f"unit {chosen.units!r}", "mV, uV or V", hea)
    per_mv = _PER_MV[chosen.units.lower()]
    together = [one for one in signals if one.file == chosen.file]
    source: PackedLead | WfdbLead
    plain = all(
        (one.per_frame, one.skew, one.format, one.offset_bytes)
        == (1, 0, chosen.format, chosen.offset_bytes)
        for one in together
    )
    if plain and chosen.format in FAST_FORMATS and not header.segments:
        source = PackedLead(
            path=record.folder / _beside(record.name, chosen.file),
            format=chosen.format,
            n_signals=len(together),
            channel=sum(one.file == chosen.file for one in signals[:channel]),
            offset_bytes=chosen.offset_bytes,
            gain=chosen.gain * per_mv,
            baseline=chosen.baseline,
            checksum=chosen.checksum,
        )
    else:
        source = WfdbLead(record.folder / record.name, channel, per_mv)
    return replace(record, lead=chosen.lead, n_samples=n_samples, source=source)


def _check_files(
    record: Record, signals: tuple[SignalHeader, ...], n_samples: int, digests: dict[str, str]
) -> int:
    """Check and digest each signal file; return the length, from their sizes where it is 0."""
    lengths = []
    hea = f"{record.name}.hea"
    for name in dict.fromkeys(one.file for one in signals):
        together = [one for one in signals if one.file == name]
        form, file = together[0].format, _beside(record.name, name)
        path = safe_path(record.folder, file, record=record.name)
        if not path.is_file():
            raise MissingFile(record.name, "no such file", "the signal file", file)
        per_frame = sum(one.per_frame for one in together)
        if form not in KNOWN_FORMATS:
            raise HeaderMismatch(record.name, f"format {form}", "a WFDB format", hea)
        available = path.stat().st_size - together[0].offset_bytes
        needed = packed_bytes(form, n_samples * per_frame)
        if needed is not None and available < needed:
            found = f"{available} bytes of samples"
            raise TruncatedSignal(record.name, found, f"{needed} for {n_samples} frames", file)
        # A header that is wrong about the number of signals or the format shows here: read by it,
        # the file would be cut off, or its leads mixed up.
        most = packed_bytes(form, (n_samples + ceil(record.fs_hz)) * per_frame)
        if needed is not None and most is not None and n_samples and available >= most:
            found = f"{n_samples} frames of {per_frame} samples, that is {needed} bytes"
            raise HeaderMismatch(record.name, found, f"the {available} bytes of {file}", hea)
        if needed is not None and n_samples == 0:
            # Bytes of 12 frames are whole bytes in every format, and whole groups of 310 and 311.
            lengths.append(12 * available // (packed_bytes(form, 12 * per_frame) or 1))
        digests[file] = sha256_file(path)
    if n_samples == 0 and not lengths:
        raise HeaderMismatch(record.name, "no length", "a number of samples", hea)
    return n_samples or min(lengths)


def _choose(found: list[str], wanted: tuple[str, ...], record: str, file: str) -> int:
    """Number of the first wanted lead that is there; of two with one name, the first."""
    for lead in wanted:
        if lead in found:
            return found.index(lead)
    raise NoLead(record, f"leads {', '.join(found) or 'none'}", f"one of {', '.join(wanted)}", file)


def _read_wfdb(record: Record, source: WfdbLead, start: int, stop: int) -> NDArray[np.float32]:
    if start == stop:
        return np.empty(0, np.float32)
    import wfdb  # a second to import, and only rare formats need it

    try:
        read = wfdb.rdrecord(
            str(source.path), sampfrom=start, sampto=stop, channels=[source.channel]
        )
        lead: NDArray[np.float32] = (read.p_signal[:, 0] / source.per_mv).astype(np.float32)
    except Exception as error:  # on damaged bytes wfdb raises whatever Python or numpy does there
        found, hea = f"{type(error).__name__}: {error}", f"{record.name}.hea"
        raise HeaderMismatch(record.name, found, "samples that wfdb can read", hea) from error
    return lead


def _with_annotations(record: Record, spec: DatasetSpec, digests: dict[str, str]) -> Record:
    file, beats, symbols = _beats(record, spec, digests)
    if file and len(beats) < LEAST_BEATS:
        found = f"{len(beats)} annotated beats"
        raise TooFewBeats(record.name, found, f"at least {LEAST_BEATS}", file)
    starts, rhythms = _rhythm(record, spec, digests)
    last = max([0, *(int(marks[-1]) + 1 for marks in (beats, starts) if len(marks))])
    n_samples = record.n_samples or last
    if len(beats) and int(beats[-1]) >= n_samples:
        found = f"a beat at sample {int(beats[-1])}"
        expected = f"beats before the end, sample {n_samples}"
        raise BadAnnotation(record.name, found, expected, file)
    return replace(
        record,
        n_samples=n_samples,
        beats=beats,
        symbols=symbols,
        rhythm_start=starts,
        rhythms=rhythms,
    )


def _annotations(record: Record, annotator: str, digests: dict[str, str]) -> Annotations:
    file = f"{record.name}.{annotator}"
    data = _read(record.folder, file, record.name, "its annotations", digests)
    return parse_annotations(data, record.name, file).at(record.fs_hz)


def _beats(
    record: Record, spec: DatasetSpec, digests: dict[str, str]
) -> tuple[str, NDArray[np.int64], NDArray[np.str_]]:
    """The file of beats, those beats, and their symbols."""
    for annotator in spec.annotations.beats:
        if annotator == DETECT:
            return "", record.beats, record.symbols
        if safe_path(record.folder, f"{record.name}.{annotator}", record=record.name).is_file():
            break
    found = _annotations(record, annotator, digests)
    is_beat = BEAT[found.code]
    file = f"{record.name}.{annotator}"
    return file, found.sample[is_beat], SYMBOL[found.code[is_beat]]


def _rhythm(
    record: Record, spec: DatasetSpec, digests: dict[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Where each rhythm begins and its name, from marks, else comments, else the TOML's word."""
    rules, annotator = spec.rhythms, spec.annotations.rhythm
    file = f"{record.name}.{annotator}" if annotator else f"{record.name}.hea"
    marks: list[tuple[int, str]] = []
    if annotator:
        found = _annotations(record, annotator, digests)
        for number, text in found.aux.items():
            # A rhythm change without "(" speaks of something else (WFDB Applications Guide).
            if found.code[number] == RHYTHM_CHANGE and text.startswith("("):
                raw = text[1:]
                if raw not in rules.map:
                    known = ", ".join(rules.map)
                    raise UnknownRhythm(record.name, f"rhythm {raw!r}", f"one of {known}", file)
                marks.append((int(found.sample[number]), rules.map[raw]))
    if not marks:
        said = [
            rules.from_comments[line] for line in record.comments if line in rules.from_comments
        ]
        if not said and rules.unmarked == ERROR:
            raise NoRhythm(record.name, "no rhythm mark", "at least one", file)
        marks = [(0, said[0] if said else rules.unmarked)]
    elif marks[0][0] > 0:
        marks.insert(0, (0, rules.before_first))
    return np.array([at for at, _ in marks], np.int64), np.array([name for _, name in marks])
