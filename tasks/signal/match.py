"""Which annotated and which detected beats are the same: the rules of EC57's beat comparison."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Counts:
    """Beats of a record: annotated, detected, in both, and in one of them alone."""

    annotated: int
    detected: int
    matched: int
    missed: int
    extra: int


def match_beats(
    annotated: NDArray[np.int64], detected: NDArray[np.int64], window: float
) -> NDArray[np.int64]:
    """Pair annotated and detected beats one to one, each with its nearest.

    Parameters
    ----------
    annotated, detected : int64, shape (k,) and (m,)
        Ascending sample indices.
    window : float
        Largest distance of a pair in samples (ANSI/AAMI EC57: 150 ms).

    Returns
    -------
    int64, shape (k,)
        For every annotated beat the position of its partner in `detected`, -1 for none.
    """
    partner = np.full(len(annotated), -1, dtype=np.int64)
    if not len(annotated) or not len(detected):
        return partner
    forth = _nearest(annotated, detected)
    back = _nearest(detected, annotated)
    mutual = back[forth] == np.arange(len(annotated))
    near = np.abs(detected[forth] - annotated) <= window
    partner[mutual & near] = forth[mutual & near]
    # What is left over may still pair with a neighbour that another beat was nearer to.
    alone = np.ones(len(detected), dtype=bool)
    alone[partner[partner >= 0]] = False
    free = np.flatnonzero(alone)
    for i in np.flatnonzero(partner < 0):
        if not len(free):
            break
        j = free[_nearest(annotated[i : i + 1], detected[free])[0]]
        if abs(int(detected[j]) - int(annotated[i])) <= window:
            partner[i] = j
            free = free[free != j]
    return partner


def _nearest(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position in ascending `b` of the value nearest to each of `a`."""
    if len(b) == 1:
        return np.zeros(len(a), dtype=np.int64)
    right = np.searchsorted(b, a).clip(1, len(b) - 1)
    left = right - 1
    return np.where(a - b[left] <= b[right] - a, left, right).astype(np.int64)


def count(annotated: int, detected: int, matched: int) -> Counts:
    """The counts of a comparison."""
    return Counts(annotated, detected, matched, annotated - matched, detected - matched)
