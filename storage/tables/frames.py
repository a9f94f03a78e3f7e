"""Beat tables and manifests as pandas DataFrames, for analysts and for the tables of reports.

On the server alone: no device has pandas.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from storage.errors import TableError
from storage.places import Place, beats_place, place
from storage.tables.beats import BeatTable, Quality, read_beats
from storage.tables.beats_manifest import Manifest
from storage.tables.labelled import checked_files
from storage.text import csv_cell, did_you_mean

#: The columns of text, which repeat few values.
TEXTS = ("dataset", "record", "subject", "symbol", "rhythm")
#: A column of truth for each flag of `storage.tables.beats.Quality`.
FLAGS = {flag.name.lower(): np.uint16(flag) for flag in Quality if flag.name}
COLUMNS = (
    *TEXTS[:3],
    *("sample", "time_s", "rr_prev_s", "rr_next_s", "symbol", "rhythm", "label"),
    *("quality", *FLAGS, "noise"),
)
#: What of a manifest's entry describes its record.
OF_RECORD = (
    *("record", "subject", "lead", "hours", "analysable_hours", "uncovered_hours"),
    *("beats", "af_beats", "unknown_beats", "flagged_beats", "label_source", "file", "sha256"),
)


def beats_frame(source: Place | str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read the beats of one record, or of all records of a data set, a row a beat.

    Parameters
    ----------
    source : Place or str
        A record's beat table (`NAME.parquet`), a data set's `manifest.json`, or the name of an
        ingested data set's tables (`storage.tables.beats_manifest.variant`: "afdb",
        "afdb.annotations"). Tables that a manifest names are held to their digests.
    columns : sequence of str, optional
        Those to keep, in this order; all where not given.

    Returns
    -------
    DataFrame, n rows
        Records one after another, beats in time order, a plain index from 0:

        ==========================  ========  ====================================================
        column                      type      what
        ==========================  ========  ====================================================
        dataset, record, subject    category  whence the beat, and whose
        sample                      int64     R peak, as a sample index of the record
        time_s                      float64   R peak, in seconds from the record's start
        rr_prev_s, rr_next_s        float32   RR intervals before and after in seconds; NaN at the
                                              ends of a stretch that can be analysed
        symbol                      category  annotation (WFDB mnemonic), "" for a detected beat
        rhythm                      category  rhythm at the beat, "" where none is known
        label                       int8      1 AF, 0 not AF, -1 unknown
        quality                     uint16    sum of `storage.tables.beats.Quality` flags
        gap, flat, saturated, ...   bool      each of these flags
        noise                       float32   noise index, 0 clean, NaN without a signal
        ==========================  ========  ====================================================

        Waveforms are not in it: `storage.tables.beats.read_beats` has them.

    Raises
    ------
    TableError
        A table or the manifest is missing, altered or damaged, or names no table.
    ValueError
        A column is none of these.

    Examples
    --------
    >>> beats = beats_frame("mitdb", ["subject", "rr_prev_s", "rhythm"])  # doctest: +SKIP
    >>> beats.groupby(["subject", "rhythm"]).rr_prev_s.describe()  # doctest: +SKIP
    """
    names = list(COLUMNS if columns is None else columns)
    for name in names:
        if name not in COLUMNS:
            hint = did_you_mean(name, COLUMNS) or f"; expected some of {', '.join(COLUMNS)}"
            raise ValueError(f"found the column {name!r}{hint}")
    frames = [_frame(read_beats(file, waveform=False))[names] for file in _files(source)]
    if not frames:
        raise TableError(f"{source}: found no beat table; expected one at least")
    return pd.concat(frames, ignore_index=True).astype(
        {name: "category" for name in TEXTS if name in names}
    )


def _files(source: Place | str) -> Iterator[Place]:
    """The tables that a path, a manifest or a name stands for."""
    if isinstance(source, str):
        by_name = "/" not in source and not source.endswith((".parquet", ".json"))
        source = beats_place() / f"dataset={source}/manifest.json" if by_name else place(source)
    if source.name.endswith(".json"):
        yield from checked_files([source])
    else:
        yield source


def _frame(table: BeatTable) -> pd.DataFrame:
    flags = {name: (table.quality & flag) != 0 for name, flag in FLAGS.items()}
    plain = {name: getattr(table, name) for name in COLUMNS if name not in flags}
    return pd.DataFrame({**plain, **flags}, index=range(len(table)))


def records_frame(manifests: Iterable[Manifest]) -> pd.DataFrame:
    """The records of data sets, a row a record.

    Returns
    -------
    DataFrame
        `dataset`, then `record`, `subject`, `lead`; `hours`, `analysable_hours`,
        `uncovered_hours`; `beats` and how many of them are AF, without a label or flagged;
        `label_source`, `file` and `sha256`, as `storage.tables.beats_manifest.Entry` has them.
    """
    rows = [{"dataset": m.dataset, **asdict(entry)} for m in manifests for entry in m.entries]
    return pd.DataFrame(rows, columns=["dataset", *OF_RECORD])


def as_csv(frame: pd.DataFrame) -> bytes:
    """A table as CSV: a header, then a line a row, ended by CR LF; what is undefined is `nan`.

    A text that a spreadsheet would take for a formula is written by `storage.text.csv_cell`.
    """
    texts = frame.select_dtypes(exclude="number")
    frame = frame.assign(**{str(name): texts[name].map(csv_cell) for name in texts})
    text = frame.to_csv(index=False, lineterminator="\r\n", na_rep="nan") if len(frame) else ""
    return text.encode()
