"""What a test by ANSI/AAMI EC57 reads of a record's annotation beside its beats and its rhythm."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from storage.datasets.dataset import DatasetSpec
from storage.formats.leads import read_small
from storage.formats.wfdb_annotation import CODE, parse_annotations
from storage.recordings.records import OPENERS, Record
from storage.recordings.stretches import NOWHERE, Stretches

#: The marks that ventricular flutter or fibrillation begins and ends with (WFDB's VFON, VFOFF).
BEGIN, END = CODE["["], CODE["]"]


def fibrillation(spec: DatasetSpec, folder: Path, record: Record) -> Stretches:
    """Where ventricular flutter or fibrillation is annotated: no beat is compared there.

    Parameters
    ----------
    spec, folder : DatasetSpec, Path
        The record's data set.
    record : Record
        The record, opened.

    Returns
    -------
    int64, shape (k, 2)
        In samples, ascending and apart; one that is not closed runs to the record's end.

    Raises
    ------
    RecordError
        The annotation cannot be read.
    """
    names = [f"{record.name}.{annotator}" for annotator in spec.annotations.beats]
    file = next((name for name in names if name in record.digests), None)
    if file is None:  # beats are to be detected
        return NOWHERE
    opener = OPENERS[spec.records.format]
    recording = opener(folder, record.name, spec.leads.prefer, {}, signal=False)
    data = read_small(folder, file, record.name, "its annotations", {})
    marks = parse_annotations(data, record.name, file).at(record.fs_hz, recording.counts_hz)
    edges = np.isin(marks.code, (BEGIN, END))
    begins = marks.code[edges] == BEGIN
    sample = np.append(marks.sample[edges], record.n_samples)
    first = begins & ~np.append(False, begins[:-1])
    closes = np.append(np.flatnonzero(~begins), len(begins))
    starts = np.flatnonzero(first)
    ends = closes[np.searchsorted(closes, starts)]
    return np.stack([sample[starts], sample[ends]], axis=1)
