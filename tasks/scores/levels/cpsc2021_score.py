"""The score of the China Physiological Signal Challenge 2021 for one record.

Rules as published with the challenge (Wang et al. 2021, "Paroxysmal atrial fibrillation events
detection from dynamic ECG recordings", icbeb.org/CPSC2021, its scoring program of that year): a
score for the kind of record (no AF, persistent, paroxysmal) plus points for every detected onset
and offset that lies within one beat (1) or two (0.5) of a true one. AF and flutter are one.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Beats = NDArray[np.int64]
Points = NDArray[np.float64]


class Kind(IntEnum):
    """The three kinds of record."""

    NO_AF = 0
    PERSISTENT = 1
    PAROXYSMAL = 2


#: Points for the kind: rows truth, columns decision.
KIND_POINTS = np.array([[1.0, -1.0, -0.5], [-2.0, 1.0, 0.0], [-1.0, 0.0, 1.0]])


def kind_of(episodes: Beats, n_samples: int) -> Kind:
    """The kind that detected episodes mean: none; one over all samples; or anything else."""
    if not len(episodes):
        return Kind.NO_AF
    whole = len(episodes) == 1 and int(episodes[0, 1] - episodes[0, 0]) == n_samples - 1
    return Kind.PERSISTENT if whole else Kind.PAROXYSMAL


#: Samples a second of `score_decisions`; the rules count in beats, so any fine grid serves.
GRID_HZ = 200


def score_decisions(
    time_s: NDArray[np.float64],
    rhythm: NDArray[np.str_],
    decided: NDArray[np.bool_],
    stretches_s: NDArray[np.float64],
) -> float:
    """Score one record by its beats: where they are, their true rhythm, and what was decided.

    Parameters
    ----------
    time_s : float64, shape (n,)
        R peaks in seconds; the record is taken to end at the last.
    rhythm : str, shape (n,)
        True rhythm at each beat; AFIB and AFL count.
    decided : bool, shape (n,)
        Whether each beat was decided AF.
    stretches_s : float64, shape (k, 2)
        What can be analysed: an episode, true or detected, goes on from none into the next.
    """
    stretch = np.searchsorted(stretches_s[:, 0], time_s, side="right")
    beats = np.round(time_s * GRID_HZ).astype(np.int64)
    af = np.isin(rhythm, ["AFIB", "AFL"])
    truth = Kind.PERSISTENT if af.all() else Kind.PAROXYSMAL if af.any() else Kind.NO_AF
    n_samples = int(beats[-1]) + 1
    whole = np.array([[0, n_samples - 1]])
    detected = whole if decided.all() else beats[_runs(decided, stretch)]
    return score_record(truth, beats, _runs(af, stretch), detected, n_samples)


def _runs(mask: NDArray[np.bool_], stretch: NDArray[np.int64]) -> Beats:
    """First and last place of every run of True within one stretch, shape (k, 2)."""
    new = np.diff(stretch, prepend=-1, append=-1) != 0
    first = mask & (np.append(True, ~mask[:-1]) | new[:-1])
    last = mask & (np.append(~mask[1:], True) | new[1:])
    return np.stack([np.flatnonzero(first), np.flatnonzero(last)], axis=1)


def score_record(
    truth: Kind, beats: Beats, true_beats: Beats, detected: Beats, n_samples: int
) -> float:
    """Score one record; a data set's score is the mean over its records.

    Parameters
    ----------
    truth : Kind
        What the record is.
    beats : int64, shape (n,)
        Sample of each annotated beat.
    true_beats : int64, shape (k, 2)
        First and last beat of each true episode, as numbers into `beats`.
    detected : int64, shape (m, 2)
        First and last sample of each detected episode.
    n_samples : int
        Length of the record.

    Raises
    ------
    ValueError
        A detected episode lies outside the record or ends before it starts.
    """
    if len(detected) and (
        detected.min() < 0
        or detected.max() >= n_samples
        or bool((detected[:, 0] > detected[:, 1]).any())
    ):
        raise ValueError(f"detected episodes must lie within 0 to {n_samples - 1}, in order")
    kind = float(KIND_POINTS[truth, kind_of(detected, n_samples)])
    if truth is Kind.NO_AF or not len(detected):
        return kind
    onset, offset = _point_maps(truth, beats, true_beats, n_samples)
    points = float(onset[detected[:, 0]].sum() + offset[detected[:, 1]].sum())
    return kind + points * len(true_beats) / max(len(true_beats), len(detected))


def _point_maps(
    truth: Kind, beats: Beats, true_beats: Beats, n_samples: int
) -> tuple[Points, Points]:
    """Points that an onset, and an offset, would earn at every sample.

    An onset at beat b earns 1 from beat b-1 up to beat b+2, and 0.5 a beat beyond on either side;
    an offset at beat b earns 1 from b-2 up to b+1, and 0.5 likewise. What lies before the record's
    first beats, or after its last, belongs to the nearest range; in a persistent record so does
    all that lies outward.
    """
    onset, offset = np.zeros(n_samples), np.zeros(n_samples)
    persistent = truth is Kind.PERSISTENT
    last = len(beats) - 1

    def at(number: int) -> int:
        return int(beats[min(max(number, 0), last)]) if number <= last else n_samples

    for first, end in true_beats.tolist():
        inner = 0 if persistent or first <= 1 else at(first - 1)
        outer = 0 if persistent or first <= 2 else at(first - 2)
        onset[inner : at(first + 2)] += 1
        onset[outer:inner] += 0.5
        onset[at(first + 2) : at(first + 3)] += 0.5
        inner = n_samples if persistent or end + 1 >= last else at(end + 1)
        outer = n_samples if persistent or end + 2 >= last else at(end + 2)
        offset[at(end - 2) : inner] += 1
        offset[inner:outer] += 0.5
        offset[at(end - 3) : at(end - 2)] += 0.5
    return onset, offset
