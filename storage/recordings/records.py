"""Records: one recording's header, annotations and signal, read as its data set's TOML says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.datasets.labels import label_table, row_sha256, subject_of
from storage.errors import HeaderMismatch, MissingFile, NoLead, TruncatedSignal
from storage.files import refuse_unsafe
from storage.formats.dicom import open_dicom
from storage.formats.edf import open_edf
from storage.formats.ishne import open_ishne
from storage.formats.leads import SUFFIX, Source, read_source
from storage.formats.wfdb_record import open_wfdb
from storage.recordings.marks import annotated_beats, annotated_rhythm
from storage.recordings.review import LayeredRhythm, with_review

if TYPE_CHECKING:  # a device opens recordings without any data set, and without pydantic
    from storage.datasets.dataset import DatasetSpec

#: How a recording of each format of `DatasetSpec.records.format` is opened.
OPENERS = {"wfdb": open_wfdb, "edf": open_edf, "ishne": open_ishne, "dicom": open_dicom}


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
    unreadable : int64, shape (j, 2)
        Stretches in which its annotator could read no signal, in samples.
    start : datetime or None
        When its first sample was taken, by the recorder's clock: local time without a zone. None
        where its header does not say, or withholds it.
    digests : mapping of str to str
        SHA-256 of every file read, by name relative to the data set's folder; of a CSV that holds
        a row a record, what its row gives, by FILE#RECORD; so are the decisions about it.
    label_source : str
        What told the rhythm: "annotation", "record label", "comment" or "unmarked"; "review" where
        people's decisions alone did, "" where nothing did.
    comments : tuple of str
        The header's comment lines.
    source : Source or None
        What `read_lead` needs to read the lead; None where there is no signal.
    file : str
        The file an error about the lead names.
    warnings : tuple of str
        What a reader of its figures must know; see `storage.formats.leads.OpenRecording`.
    review : mapping of str to int
        How many decisions about its passages each reviewer took, where they are a layer of it.
    corrected : int
        Passages in which these say otherwise than its files.
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
    label_source: str = ""
    comments: tuple[str, ...] = ()
    source: Source | None = None
    file: str = ""
    warnings: tuple[str, ...] = ()
    unreadable: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    start: datetime | None = None
    review: Mapping[str, int] = field(default_factory=dict)
    corrected: int = 0


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
        `BadAnnotation`, `BadLabel`, `TooFewBeats`, `NoRhythm` or `UnknownRhythm`, each naming
        record and file.
    """
    refuse_unsafe(folder, name, name)
    digests: dict[str, str] = {}
    recording = OPENERS[spec.records.format](
        folder, name, spec.leads.prefer, digests, signal=signal
    )
    beats, symbols, unreadable = annotated_beats(spec, folder, name, recording, digests)
    starts, rhythms, label_source = annotated_rhythm(spec, folder, name, recording, digests)
    if row_digest := row_sha256(spec, folder, name):
        digests[f"{label_table(spec, folder).file}#{name}"] = row_digest
    last = max(int(marks[-1]) + 1 if len(marks) else 0 for marks in (beats, starts))
    n_samples = recording.n_samples or last
    under = LayeredRhythm(starts, rhythms, label_source)
    rhythm = with_review(spec, name, n_samples, under, digests)
    return Record(
        dataset=spec.name,
        name=name,
        subject=subject_of(spec, folder, name),
        folder=folder,
        fs_hz=recording.fs_hz,
        n_samples=n_samples,
        lead=recording.lead,
        beats=beats,
        symbols=symbols,
        rhythm_start=rhythm.rhythm_start,
        rhythms=rhythm.rhythms,
        af=frozenset(spec.rhythms.af),
        digests=digests,
        label_source=rhythm.label_source,
        comments=recording.comments,
        source=recording.source,
        file=recording.file,
        warnings=(*recording.warnings, *rhythm.warnings),
        unreadable=unreadable,
        start=recording.start,
        review=rhythm.decisions,
        corrected=rhythm.corrected,
    )


def open_alone(path: Path, leads: Sequence[str] = ()) -> Record:
    """Open a recording that belongs to no data set: nothing of it is annotated.

    Parameters
    ----------
    path : Path
        Its .hea, .dat, .edf, .ecg or .dcm file, or a WFDB record's name without the suffix.
    leads : sequence of str
        The leads to look for, in order of preference; by default the ECG on which AF is read best
        (`storage.formats.lead_names.LEADS`), the one that `holter data add` proposes.

    Raises
    ------
    RecordError
        As `open_record`.
    """
    formats = {suffix: name for name, suffix in SUFFIX.items()} | {".dat": "wfdb"}
    format_ = formats.get(path.suffix.lower(), "")
    if not format_ and path.is_file():
        expected = f"a recording: {', '.join(formats)}, or a WFDB record's name"
        raise HeaderMismatch(path.name, f"a file {path.suffix or 'without ending'}", expected)
    name, format_ = (path.stem, format_) if format_ else (path.name, "wfdb")
    digests: dict[str, str] = {}
    refuse_unsafe(path.parent, name, name)
    recording = OPENERS[format_](path.parent, name, leads, digests, signal=True)
    if recording.lead is None:
        raise NoLead(name, "no signal", "a record with a signal", recording.file)
    return Record(
        dataset="",
        name=name,
        subject=name,
        folder=path.parent,
        fs_hz=recording.fs_hz,
        n_samples=recording.n_samples,
        lead=recording.lead,
        beats=np.empty(0, np.int64),
        symbols=np.empty(0, "U1"),
        rhythm_start=np.zeros(1, np.int64),
        rhythms=np.array([""]),
        af=frozenset(),
        digests=digests,
        comments=recording.comments,
        source=recording.source,
        file=recording.file,
        warnings=recording.warnings,
        start=recording.start,
    )


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
    try:
        out = read_source(record.source, start, stop)
    except FileNotFoundError as error:
        file = Path(str(error.filename)).name
        raise MissingFile(record.name, "no such file", "the signal file", file) from error
    except ValueError as error:
        expected = "samples that can be read"
        raise HeaderMismatch(record.name, str(error), expected, record.file) from error
    if len(out) != stop - start:
        raise TruncatedSignal(
            record.name, f"{start + len(out)} samples", f"{record.n_samples}", record.file
        )
    return out
