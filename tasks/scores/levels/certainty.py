"""What a release tells, and how often that is right: at beats, 30 s segments and episodes.

A segment or an episode is told where at least half of its beats are. Every figure of what is told
stands beside its coverage: who tells less is wrong less often.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.scores.bootstrap import RATES, Counts, Statistic, bootstrap_patients
from tasks.scores.episodes import (
    episodes,
    lasting,
    outside,
    overlapping,
    segment_shares,
    told_share,
)
from tasks.scores.evaluation import (
    FLUTTER,
    SEGMENT_S,
    ScoredRecord,
    confusion_counts,
    with_interval,
)

#: What is told where at least this share of its beats is.
TOLD_SHARE = 0.5
#: The accuracy that the greatest coverage is given for.
ACCURACY = 0.995
#: Shortest episode that counts, seconds (`tasks.scores.episodes.compare_episodes`).
LEAST_S = 30.0
#: What becomes of an annotated episode.
FATES = ("found", "missed", "untold")


def told_figures(
    scored: Sequence[ScoredRecord], draws: int = 2_000, seed: int = 0
) -> dict[str, float]:
    """Every figure of what is told; rates come with `_low` and `_high` over patients.

    Returns
    -------
    dict of str to float
        `coverage` (share of the beats with a known rhythm that are told) and `sure_*` rates of
        those; `segment_coverage` and `segment_sure_*`; `episode_coverage` (of decided episodes of
        30 s or more) and `episode_sure_ppv`; `episodes_found`, `episodes_missed`,
        `episodes_untold` (of annotated ones of 30 s or more) and `episode_sure_sensitivity`;
        `coverage_at_0.995`. NaN where there is nothing to compute a figure from.
    """
    patients = [s.patient for s in scored]

    def interval(name: str, counts: Counts, rate: Statistic) -> dict[str, float]:
        return with_interval(name, bootstrap_patients(counts, rate, draws, seed))

    out: dict[str, float] = {}
    for level, counts_of in (("", ScoredRecord.told_counts), ("segment_", told_segments)):
        counts = by_patient(patients, [counts_of(s) for s in scored])
        out |= interval(f"{level}coverage", counts, lambda c: c[:, 1:].sum(1) / c[:, 0])
        for name, rate in RATES.items():
            out |= interval(f"{level}sure_{name}", counts[:, 1:], rate)
    decided = by_patient(patients, [told_episodes(s) for s in scored])
    out |= interval("episode_coverage", decided, lambda c: c[:, 1] / c[:, 0])
    out |= interval("episode_sure_ppv", decided, lambda c: c[:, 2] / c[:, 1])
    fates = by_patient(patients, [episode_fates(s) for s in scored])
    out |= {f"episodes_{fate}": int(n) for fate, n in zip(FATES, fates.sum(0), strict=True)}
    out |= interval("episode_sure_sensitivity", fates, lambda c: c[:, 0] / c.sum(1))
    out["coverage_at_0.995"] = coverage_at(ACCURACY, *coverage_curve(scored))
    return out


def by_patient(patients: Sequence[str], rows: Sequence[NDArray[np.float64]]) -> Counts:
    """The rows of counts of each patient's records, summed; shape (patients, k)."""
    _, place = np.unique(patients, return_inverse=True)
    out = np.zeros((place.max() + 1, len(rows[0])))
    np.add.at(out, place, np.stack(rows))
    return out


def told_segments(scored: ScoredRecord) -> NDArray[np.float64]:
    """Segments of a record; of those that are told, tp, fp, fn, tn."""
    truth, decided = scored.segments()
    analysable = np.isfinite(segment_shares(scored.intervals()[0], scored.stretches_s, SEGMENT_S))
    place = (scored.time_s // SEGMENT_S).astype(np.int64)
    inside = place < len(analysable)  # the last part of a record is no whole segment
    beats, unsure = (
        np.bincount(place[rows], minlength=len(analysable))
        for rows in (inside, inside & ~scored.sure)
    )
    told = (unsure <= (1 - TOLD_SHARE) * beats)[analysable]
    return np.array([len(truth), *confusion_counts(truth[told], decided[told])])


def told_episodes(scored: ScoredRecord) -> NDArray[np.float64]:
    """Decided episodes of 30 s or more outside flutter; those that are told; those told rightly."""
    truth, decided = scored.intervals()
    flutter = (scored.rhythm == FLUTTER) & (scored.label == 0)
    decided = outside(decided, episodes(flutter, scored.time_s, scored.stretches_s), LEAST_S)
    told = decided[told_share(decided, scored.time_s, scored.sure) >= TOLD_SHARE]
    return np.array([len(decided), len(told), overlapping(told, truth).sum()], np.float64)


def episode_fates(scored: ScoredRecord) -> NDArray[np.float64]:
    """Annotated episodes of 30 s or more: found, missed, and such that cannot be told.

    One is found where it overlaps beats that are told to be AF; else it cannot be told where less
    than half of its beats are told.
    """
    truth = lasting(scored.intervals()[0], LEAST_S)
    af = scored.decided & scored.sure & (scored.label >= 0)
    found = overlapping(truth, episodes(af, scored.time_s, scored.stretches_s))
    untold = ~found & (told_share(truth, scored.time_s, scored.sure) < TOLD_SHARE)
    missed = ~found & ~untold
    return np.array([part.sum() for part in (found, missed, untold)], np.float64)


def coverage_curve(
    scored: Sequence[ScoredRecord],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy over coverage, the margin falling: which beats are told first is by `distance`.

    Returns
    -------
    coverage, accuracy : float64, shape (k,)
        Of beats with a known rhythm; coverage ascends to 1. Beats of one distance come together.
    """
    known = [s.label >= 0 for s in scored]
    parts = list(zip(scored, known, strict=True))
    distance = np.concatenate([s.distance[rows] for s, rows in parts])
    right = np.concatenate([(s.decided == (s.label == 1))[rows] for s, rows in parts])
    order = np.argsort(distance)[::-1]  # the order of equals does not matter
    last = np.flatnonzero(np.diff(distance[order], append=-np.inf))
    counts = last + 1.0
    return counts / max(len(distance), 1), np.cumsum(right[order])[last] / counts


def coverage_at(
    accuracy: float, coverage: NDArray[np.float64], accuracies: NDArray[np.float64]
) -> float:
    """The greatest coverage at which what is told is right so often; 0 where there is none."""
    reached = coverage[accuracies >= accuracy]
    return float(reached.max(initial=0.0)) if len(coverage) else float("nan")
