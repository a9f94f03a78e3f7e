"""Confidence intervals over patients: beats of one patient are no independent witnesses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Counts], NDArray[np.floating]]


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f}-{self.high:.4f})"


def bootstrap_patients(
    counts: Counts,
    statistic: Statistic,
    draws: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic of summed counts, patients drawn with replacement.

    Efron & Tibshirani 1993 (ISBN 978-0-412-04231-7), chapter 13, patients as the units.

    Parameters
    ----------
    counts : float64, shape (patients, k)
        What each patient adds, for instance tp, fp, fn, tn.
    statistic : callable
        From sums (draws, k) to values (draws,).
    draws, seed : int
        How many resamples, and from which seed.

    Returns
    -------
    Interval
        Draws in which the statistic is undefined (NaN) are left out.
    """
    n = len(counts)
    if not n:
        raise ValueError("no patient to draw from")
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(counts.sum(0, keepdims=True))[0])
        values = statistic(times @ counts)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (2.5, 97.5)).tolist() if len(values) else (np.nan, np.nan)
    return Interval(value, low, high)


def bootstrap_difference(
    before: Counts,
    after: Counts,
    statistic: Statistic,
    draws: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of what a statistic gains from `before` to `after`, paired by patient.

    Every draw takes the same patients on both sides (Efron & Tibshirani 1993, chapter 8), so what
    makes a patient hard is no part of the difference.

    Parameters
    ----------
    before, after : float64, shape (patients, k)
        What each patient adds, in the same order of patients.
    statistic, draws, seed
        As `bootstrap_patients`.

    Returns
    -------
    Interval
        Positive where `after` has more; one patient gives no bounds (NaN).
    """
    if before.shape != after.shape:
        raise ValueError(f"patients before {before.shape} and after {after.shape} do not pair")
    k = before.shape[1]
    gain = bootstrap_patients(
        np.hstack([before, after]),
        lambda sums: statistic(sums[:, k:]) - statistic(sums[:, :k]),
        draws,
        seed,
    )
    return gain if len(before) > 1 else Interval(gain.value, np.nan, np.nan)


def f1(counts: Counts) -> NDArray[np.floating]:
    """F1 of AF from (draws, 4) of tp, fp, fn, tn; the same order serves those below."""
    tp, fp, fn, _ = counts.T
    return np.asarray(2 * tp / (2 * tp + fp + fn))


def sensitivity(counts: Counts) -> NDArray[np.floating]:
    """Share of AF beats that were decided AF."""
    tp, _, fn, _ = counts.T
    return np.asarray(tp / (tp + fn))


def specificity(counts: Counts) -> NDArray[np.floating]:
    """Share of the other beats that were not."""
    _, fp, _, tn = counts.T
    return np.asarray(tn / (tn + fp))


def ppv(counts: Counts) -> NDArray[np.floating]:
    """Share of the AF decisions that were right."""
    tp, fp, _, _ = counts.T
    return np.asarray(tp / (tp + fp))


def accuracy(counts: Counts) -> NDArray[np.floating]:
    """Share of right decisions."""
    tp, fp, fn, tn = counts.T
    return np.asarray((tp + tn) / (tp + fp + fn + tn))


#: The metrics that come with an interval.
RATES: dict[str, Statistic] = {
    "f1": f1,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "ppv": ppv,
    "accuracy": accuracy,
}
