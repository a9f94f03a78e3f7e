"""A stretch of a record, from a beat to a fortnight, as the columns of a picture.

Every figure is of a column: what a thousand pixels show of a million beats is a thousand values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.tables.beats import BAD, BeatTable
from tasks.scores.rule import Judgement

Floats = NDArray[np.float32]
#: RR intervals that the scatter shows, in seconds; longer ones lie on its upper edge.
MOST_RR_S = 2.0
#: What a cell of the scatter holds.
EMPTY, UNKNOWN, NOT_AF, AF = range(4)


@dataclass(frozen=True, eq=False)
class DayColumns:
    """What a picture of `columns` columns shows of a record's beats.

    Attributes
    ----------
    scatter : uint8, shape (rows, columns)
        RR intervals, the shortest in row 0: `EMPTY`, or what the beats there are by truth; AF
        before not AF before unknown.
    rate : float32, shape (columns, 2)
        Least and greatest heart rate of a column in beats a minute; NaN without a beat.
    truth, answer : float32, shape (columns,)
        Share of AF among the beats that truth and model tell of; NaN where they tell of none.
    untold : float32, shape (columns,)
        Share of the beats of which the model tells nothing; NaN without an answer.
    probability : float32, shape (columns, 2)
        Least and greatest P(AF) of a column; NaN without one.
    bad : float32, shape (columns,)
        Share of beats whose signal may not be a heart's; NaN without a beat.
    beats : int
        Beats in the stretch.
    """

    scatter: NDArray[np.uint8]
    rate: Floats
    truth: Floats
    answer: Floats
    untold: Floats
    probability: Floats
    bad: Floats
    beats: int


def day_columns(
    table: BeatTable,
    judgement: Judgement | None,
    span_s: tuple[float, float],
    columns: int,
    rows: int,
) -> DayColumns:
    """The columns of a stretch of a record.

    Parameters
    ----------
    table : BeatTable
        The record's beats.
    judgement : Judgement or None
        What a release tells of each.
    span_s : (float, float)
        The stretch in seconds of the record, its start before its end.
    columns, rows : int
        Columns of the picture, and rows of its scatter.
    """
    start_s, end_s = span_s
    if not start_s < end_s or columns < 1 or rows < 1:
        raise ValueError(f"found {start_s} to {end_s} s in {columns} columns; expected some")
    low, high = np.searchsorted(table.time_s, [start_s, end_s])
    edges_s = np.linspace(start_s, end_s, columns + 1)
    first = np.searchsorted(table.time_s[low:high], edges_s)
    first[-1] = high - low
    rr_s, label = table.rr_prev_s[low:high], table.label[low:high]
    told = None if judgement is None else judgement.sure[low:high]
    nothing = np.full(columns, np.nan, np.float32)
    return DayColumns(
        scatter=_scatter(rr_s, label, first, rows),
        rate=np.float32(60) / _bounds(rr_s, first)[:, ::-1],
        truth=_share(label == 1, first, label >= 0),
        answer=nothing
        if judgement is None or told is None
        else _share(judgement.decided[low:high], first, told),
        untold=nothing if told is None else _share(~told, first),
        probability=np.stack([nothing, nothing], axis=1)
        if judgement is None
        else _bounds(judgement.probability[low:high], first),
        bad=_share((table.quality[low:high] & BAD) != 0, first),
        beats=int(high - low),
    )


def _scatter(
    rr_s: Floats, label: NDArray[np.int8], first: NDArray[np.int64], rows: int
) -> NDArray[np.uint8]:
    cells = np.zeros((rows, len(first) - 1), np.uint8)
    column = np.repeat(np.arange(len(first) - 1), np.diff(first))
    known = np.isfinite(rr_s)
    row = np.minimum(np.nan_to_num(rr_s) / MOST_RR_S * rows, rows - 1).astype(np.int64)
    for code, value in ((UNKNOWN, -1), (NOT_AF, 0), (AF, 1)):
        those = known & (label == value)
        cells[row[those], column[those]] = code
    return cells


def _share(
    true: NDArray[np.bool_], first: NDArray[np.int64], among: NDArray[np.bool_] | None = None
) -> Floats:
    """Share of a column's beats that are true, of those among which it is asked; NaN of none."""
    hits = true if among is None else true & among
    total = np.diff(first) if among is None else _counts(among, first)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (_counts(hits, first) / total).astype(np.float32)


def _counts(true: NDArray[np.bool_], first: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.concatenate([[0], np.cumsum(true)])
    return np.asarray(np.diff(total[first]))


def _bounds(values: Floats, first: NDArray[np.int64]) -> Floats:
    """Least and greatest of each column's values, shape (columns, 2); NaN of none."""
    out = np.full((len(first) - 1, 2), np.nan, np.float32)
    filled = np.flatnonzero(np.diff(first))
    if len(filled):
        starts = first[filled]
        out[filled, 0] = np.fmin.reduceat(values, starts)
        out[filled, 1] = np.fmax.reduceat(values, starts)
    return out
