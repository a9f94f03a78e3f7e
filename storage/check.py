"""Check a data set's folder: every record looked at, none dropped, what is wrong said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from storage.beats import RR_RANGE_S
from storage.checksums import verify_checksums
from storage.dataset import DatasetSpec, record_names
from storage.errors import HeaderMismatch, RecordError, UnusableSignal
from storage.leads import sample_sum
from storage.records import Record, open_record, read_lead

BLOCK_SAMPLES = 1 << 20
LONGEST_RR_S = RR_RANGE_S[1]


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
    uncovered_hours : float
        Hours in which no beat is annotated; see `uncovered_hours`.
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
    uncovered_hours: float = 0.0
    checksums: str = ""
    problem: str | None = None


def rhythm_hours(record: Record) -> dict[str, float]:
    """Hours of each rhythm of a record, by name."""
    edges = np.append(np.minimum(record.rhythm_start, record.n_samples), record.n_samples)
    out: dict[str, float] = {}
    for name, samples in zip(record.rhythms.tolist(), np.diff(edges).tolist(), strict=True):
        out[name] = out.get(name, 0.0) + samples / record.fs_hz / 3600
    return out


def uncovered_hours(record: Record) -> float:
    """Hours of a record in which no beat is annotated, though beats are.

    These are its pauses of more than 3 s between annotated beats, and its beginning and end where
    they are that long: nobody's heart rests so for hours, the annotation does. Rhythm marks may go
    on there (afdb: after the last beat of every record; longest in 04048).
    """
    if not len(record.beats):
        return 0.0
    pauses = np.diff(np.concatenate([[0], record.beats, [record.n_samples]])) / record.fs_hz
    return float(pauses[pauses > LONGEST_RR_S].sum() / 3600)


def check_record(spec: DatasetSpec, folder: Path, name: str, *, signal: bool) -> RecordCheck:
    """Look at one record: header, length, annotations, checksums, lead. Never raises for it."""
    subject = spec.subject_of(name)
    try:
        record = open_record(spec, folder, name, signal=signal)
        fit = verify_checksums(folder, name, record.digests)
        if record.lead is not None:
            check_lead(record)
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
        uncovered_hours=uncovered_hours(record),
        checksums="fit" if fit else "none listed",
    )


def check_lead(record: Record) -> None:
    """Read a record's whole lead, block by block, for what only its samples can tell.

    Raises
    ------
    UnusableSignal
        Every sample is invalid, or all are the same.
    HeaderMismatch
        The samples do not add up to the header's checksum.
    """
    low, high = np.inf, -np.inf
    for start in range(0, record.n_samples, BLOCK_SAMPLES):
        block = read_lead(record, start, min(start + BLOCK_SAMPLES, record.n_samples))
        low, high = np.fmin.reduce(block, initial=low), np.fmax.reduce(block, initial=high)
    if not low < high:
        found = "no valid sample" if not np.isfinite(low) else f"a constant {low:g} mV"
        raise UnusableSignal(
            record.name, f"{found} throughout", "a signal that varies", record.file
        )
    sums = sample_sum(record.source, record.n_samples)
    if sums is not None and sums[0] != sums[1]:
        found = f"samples that add up to {sums[0]} modulo 65536"
        raise HeaderMismatch(record.name, found, f"{sums[1]}, the header's checksum", record.file)


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
