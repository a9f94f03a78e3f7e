"""Check a data set's folder: every record looked at, none dropped, what is wrong said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from storage.datasets.dataset import DatasetSpec, record_names
from storage.errors import HeaderMismatch, RecordError, UnusableSignal
from storage.formats.checksums import verify_checksums
from storage.formats.leads import sample_sum
from storage.recordings.records import Record, open_record, read_lead
from storage.recordings.stretches import (
    NOWHERE,
    RR_RANGE_S,
    Stretches,
    common,
    find_unrecorded,
    unite,
    whole_record,
    without,
)

BLOCK_SAMPLES = 1 << 20
LONGEST_RR_S = RR_RANGE_S[1]
#: Read beyond a block's ends: what is not recorded there shows within 3 s.
MARGIN_S = 4.0


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
    recorded_hours : float
        Hours that were recorded (`storage.recordings.stretches`); all of them where no signal was
        read.
    rhythm_hours : dict of str to float
        Recorded hours of each rhythm; "" where none is known.
    label_source : str
        What told the rhythm; see `storage.recordings.records.Record`.
    uncovered_hours : float
        Hours in which no beat is annotated; see `uncovered_hours`.
    checksums : str
        "fit", or "none listed".
    problem : str or None
        Why the record cannot be used.
    warnings : tuple of str
        What its files do not tell for certain, though it can be used.
    """

    record: str
    subject: str
    fs_hz: float = 0.0
    hours: float = 0.0
    lead: str | None = None
    beats: int = 0
    recorded_hours: float = 0.0
    rhythm_hours: dict[str, float] = field(default_factory=dict)
    label_source: str = ""
    uncovered_hours: float = 0.0
    checksums: str = ""
    problem: str | None = None
    warnings: tuple[str, ...] = ()


def rhythm_hours(record: Record, recorded: Stretches) -> dict[str, float]:
    """Hours of each rhythm in what was recorded of a record, by name."""
    edges = np.append(np.minimum(record.rhythm_start, record.n_samples), record.n_samples)
    out: dict[str, float] = {}
    for name, start, stop in zip(record.rhythms.tolist(), edges[:-1], edges[1:], strict=True):
        stretches = common(recorded, np.array([[start, stop]]))
        out[name] = out.get(name, 0.0) + _hours(stretches, record.fs_hz)
    return out


def _hours(stretches: Stretches, fs_hz: float) -> float:
    return float(np.diff(stretches).sum()) / fs_hz / 3600


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
    try:
        record = open_record(spec, folder, name, signal=signal)
        fit = verify_checksums(folder, name, record.digests)
        recorded = whole_record(record.n_samples) if record.lead is None else check_lead(record)
        recorded = without(recorded, record.unreadable)
    except RecordError as error:
        return RecordCheck(name, spec.subject_of(name), problem=str(error))
    return RecordCheck(
        record=name,
        subject=record.subject,
        fs_hz=record.fs_hz,
        hours=record.n_samples / record.fs_hz / 3600,
        lead=record.lead,
        beats=len(record.beats),
        recorded_hours=_hours(recorded, record.fs_hz),
        rhythm_hours=rhythm_hours(record, recorded),
        label_source=record.label_source,
        uncovered_hours=uncovered_hours(record),
        checksums="fit" if fit else "none listed",
        warnings=record.warnings,
    )


def check_lead(record: Record) -> Stretches:
    """Read a record's whole lead, block by block, for what only its samples can tell.

    Returns
    -------
    int64, shape (k, 2)
        What was recorded, in samples.

    Raises
    ------
    UnusableSignal
        Every sample is invalid, or all are the same.
    HeaderMismatch
        The samples do not add up to the header's checksum.
    """
    low, high = np.inf, -np.inf
    holes, margin = [NOWHERE], round(MARGIN_S * record.fs_hz)
    for start in range(0, record.n_samples, BLOCK_SAMPLES):
        first, stop = max(start - margin, 0), start + BLOCK_SAMPLES
        block = read_lead(record, first, min(stop + margin, record.n_samples))
        gaps = find_unrecorded(block, record.fs_hz) + first
        holes.append(common(gaps, np.array([[start, stop]])))
        low, high = np.fmin.reduce(block, initial=low), np.fmax.reduce(block, initial=high)
    if not low < high:
        actual = "no valid sample" if not np.isfinite(low) else f"a constant {low:g} mV"
        raise UnusableSignal(
            record.name, f"{actual} throughout", "a signal that varies", record.file
        )
    sums = sample_sum(record.source, record.n_samples)
    if sums is not None and sums[0] != sums[1]:
        actual = f"samples that add up to {sums[0]} modulo 65536"
        raise HeaderMismatch(record.name, actual, f"{sums[1]}, the header's checksum", record.file)
    return without(whole_record(record.n_samples), unite(*holes))


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
