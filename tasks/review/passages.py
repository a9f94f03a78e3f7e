"""Passages of a record by truth and by a model: runs of one rhythm, and where the two differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storage.tables.beats import BeatTable
from tasks.scores.episodes import Intervals, episodes
from tasks.scores.rule import Judgement


def true_episodes(table: BeatTable) -> Intervals:
    """Episodes of AF by truth, in seconds, shape (k, 2)."""
    return _runs(table, table.label == 1)


def told_episodes(table: BeatTable, judgement: Judgement) -> Intervals:
    """Episodes of AF that a model tells, in seconds, shape (k, 2)."""
    return _runs(table, judgement.decided & judgement.sure)


def untold_passages(table: BeatTable, judgement: Judgement) -> Intervals:
    """Where a model cannot tell, in seconds, shape (k, 2)."""
    return _runs(table, ~judgement.sure)


def differing_beats(table: BeatTable, judgement: Judgement) -> NDArray[np.bool_]:
    """Whether truth and model differ at each beat of which both tell something, shape (n,)."""
    return np.asarray(
        (table.label >= 0) & judgement.sure & ((table.label == 1) != judgement.decided)
    )


def disagreements(table: BeatTable, judgement: Judgement) -> Intervals:
    """Where truth and model differ, in seconds, shape (k, 2)."""
    return _runs(table, differing_beats(table, judgement))


def rhythm_runs(table: BeatTable) -> list[tuple[float, float, str]]:
    """Runs of one rhythm by truth: start and end in seconds, and its name; "" where unknown."""
    if not len(table):
        return []
    rhythm = table.rhythm
    changes = np.flatnonzero((rhythm[1:] != rhythm[:-1]) | table.begins[1:]) + 1
    first = np.concatenate([[0], changes])
    stop = np.append(table.time_s[changes], np.nan)
    place = np.searchsorted(table.stretches_s[:, 0], table.time_s[first], side="right") - 1
    ends = np.fmin(stop, table.stretches_s[place, 1])
    return [
        (float(a), float(b), str(name))
        for a, b, name in zip(table.time_s[first], ends, rhythm[first], strict=True)
    ]


def _runs(table: BeatTable, true: NDArray[np.bool_]) -> Intervals:
    return episodes(true, table.time_s, table.stretches_s)
