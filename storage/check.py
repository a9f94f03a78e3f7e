"""Check a data set's folder: every record looked at, none dropped, what is wrong said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from storage.checksums import verify_checksums
from storage.dataset import DatasetSpec, record_names
from storage.errors import RecordError
from storage.records import Record, open_record


@dataclass(frozen=True)
class RecordCheck:
    """What was found of one record.

    Attributes
    ----------
    record, subject : str
        The record and whose it is.
    fs_hz, hours : float
        Sampling rate and length; 0 where the header could not be read.
    lead : str or None
        The lead that would be used.
    beats : int
        Annotated beats.
    rhythm_hours : dict of str to float
        Hours of each rhythm; "" where none is known.
    checksums : str
        "fit", or "none listed".
    problem : str or None
        Why the record cannot be used.
    """

    record: str
    subject: str
    fs_hz: float = 0.0
    hours: float = 0.0
    lead: str | None = None
    beats: int = 0
    rhythm_hours: dict[str, float] = field(default_factory=dict)
    checksums: str = ""
    problem: str | None = None


def rhythm_hours(record: Record) -> dict[str, float]:
    """Hours of each rhythm of a record, by name."""
    edges = np.append(np.minimum(record.rhythm_start, record.n_samples), record.n_samples)
    out: dict[str, float] = {}
    for name, samples in zip(record.rhythms.tolist(), np.diff(edges).tolist(), strict=True):
        out[name] = out.get(name, 0.0) + samples / record.fs_hz / 3600
    return out


def check_record(spec: DatasetSpec, folder: Path, name: str, *, signal: bool) -> RecordCheck:
    """Look at one record: header, length, lead, annotations, checksums. Never raises for it."""
    subject = spec.subject_of(name)
    try:
        record = open_record(spec, folder, name, signal=signal)
        fit = verify_checksums(folder, name, record.digests)
    except RecordError as error:
        return RecordCheck(name, subject, problem=str(error))
    return RecordCheck(
        record=name,
        subject=subject,
        fs_hz=record.fs_hz,
        hours=record.n_samples / record.fs_hz / 3600,
        lead=record.lead,
        beats=len(record.beats),
        rhythm_hours=rhythm_hours(record),
        checksums="fit" if fit else "none listed",
    )


def check_dataset(
    spec: DatasetSpec,
    folder: Path,
    on_record: Callable[[RecordCheck], None],
    *,
    signal: bool = True,
) -> list[RecordCheck]:
    """Check every record of a data set, telling each as it is done."""
    checks = []
    for name in record_names(spec, folder):
        checks.append(check_record(spec, folder, name, signal=signal))
        on_record(checks[-1])
    return checks
