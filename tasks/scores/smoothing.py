"""Decisions from probabilities: a threshold, a two-state chain, and a shortest episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.compiled import kernels
from storage.recordings.stretches import slices

Decisions = NDArray[np.bool_]
#: Probability of a change at which `viterbi` gives the threshold's decisions, beat by beat.
UNSMOOTHED = 0.5
#: What `fit_smoothing` chooses among.
CHANGES = (UNSMOOTHED, 1e-2, 1e-4, 1e-6)


def viterbi(probability: NDArray[np.floating], change: float, prior: float = 0.5) -> Decisions:
    """The likeliest course of AF and not AF when the rhythm seldom changes.

    A two-state hidden Markov chain (Rabiner 1989, doi:10.1109/5.18626), the network's log odds as
    evidence at each beat.

    Parameters
    ----------
    probability : float, shape (n,)
        Probability of AF at each beat.
    change : float
        Probability that the rhythm changes from one beat to the next; 0.5 gives the beat-wise
        threshold.
    prior : float
        The threshold: probability at which a beat's evidence favours neither rhythm.

    Returns
    -------
    bool, shape (n,)
    """
    if not 0 < change <= 0.5 or not 0 < prior < 1:
        raise ValueError(f"change must lie in 0 to 0.5 and prior in 0 to 1, got {change}, {prior}")
    p = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    evidence = np.log(p / (1 - p)) - np.log(prior / (1 - prior))
    cost = np.log((1 - change) / change)
    return _back(_leads(evidence, float(cost)), cost)


def _leads(evidence: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """By how much the best course that ends in AF leads at each beat.

    With two states only the difference of their best scores matters, and it stays within `most`:
    the state before a beat differs from the state after only where the difference is clipped.
    """
    library = kernels.LIBRARY
    if library is not None:
        evidence, lead = np.ascontiguousarray(evidence), np.empty(len(evidence))
        library.leads(kernels.memory(evidence), len(evidence), most, kernels.memory(lead))
        return lead
    before, least, leads = 0.0, -most, []
    for value in evidence.tolist():  # comparisons, which take a third of min's and max's time
        if before > most:
            before = most
        elif before < least:
            before = least
        before += value
        leads.append(before)
    return np.array(leads, np.float64)


def _back(lead: NDArray[np.float64], cost: float) -> Decisions:
    """Trace back: AF where AF leads by more than a change costs, not AF likewise, else as after."""
    if not len(lead):
        return np.empty(0, bool)
    sure = np.where(lead >= cost, 1, np.where(lead <= -cost, 0, -1)).astype(np.int8)
    sure[-1] = lead[-1] >= 0
    # The next sure beat decides for the unsure ones before it.
    place = np.where(sure >= 0, np.arange(len(sure)), len(sure))
    following = np.minimum.accumulate(place[::-1])[::-1]
    return np.asarray(sure[following] == 1)


def fit_smoothing(
    labels: Sequence[NDArray[np.int8]],
    probabilities: Sequence[NDArray[np.floating]],
    threshold: float,
) -> float:
    """The probability of a change of greatest beat F1, among `CHANGES`.

    Parameters
    ----------
    labels, probabilities : sequences of arrays, shape (n,) each
        Of each record; for training patients. Beats of label -1 count nowhere.
    threshold : float
        Threshold of the decisions.
    """
    truth = np.concatenate(labels)

    def f1(change: float) -> float:
        decided = np.concatenate([viterbi(p, change, threshold) for p in probabilities])
        wrong = int(np.sum((truth >= 0) & (decided != (truth == 1))))
        twice_right = 2 * int(np.sum(decided & (truth == 1)))
        return twice_right / max(twice_right + wrong, 1)

    return max(CHANGES, key=f1)


def decide(
    probability: NDArray[np.floating],
    threshold: float,
    change: float,
    least_beats: int,
    begins: NDArray[np.bool_],
) -> Decisions:
    """What is called AF: smoothed by `viterbi`, without runs of fewer than `least_beats`.

    Each stretch on its own; `begins` says of each beat whether it is the first of one.
    """
    parts = [
        without_short(viterbi(probability[part], change, threshold), least_beats)
        for part in slices(begins)
    ]
    return np.concatenate([np.empty(0, bool), *parts])


@dataclass
class Forward:
    """The chain of `viterbi` for beats that come one at a time: the likelier rhythm as of now.

    Decisions are not taken back, so a change of rhythm is seen some beats later than by `viterbi`;
    at a change of 0.5 both are the threshold.
    """

    threshold: float
    change: float = UNSMOOTHED
    lead: float = 0.0

    def decide(self, probability: float) -> bool:
        """AF or not, after one more beat."""
        p = min(max(probability, 1e-6), 1 - 1e-6)
        cost = float(np.log((1 - self.change) / self.change))
        evidence = np.log(p / (1 - p)) - np.log(self.threshold / (1 - self.threshold))
        self.lead = min(max(self.lead, -cost), cost) + float(evidence)
        return self.lead >= 0


def without_short(decided: Decisions, least_beats: int) -> Decisions:
    """Turn runs of fewer than `least_beats` equal decisions into what surrounds them, AF first."""
    out = decided.copy()
    for value in (True, False):
        edge = np.flatnonzero(np.diff(np.concatenate([[not value], out, [not value]]).astype(int)))
        for start, stop in edge.reshape(-1, 2).tolist():
            inside = start > 0 and stop < len(out)
            if stop - start < least_beats and (inside or value):
                out[start:stop] = not value
    return out
