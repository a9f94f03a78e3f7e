"""Whether a probability means what it says, and what each threshold would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
THRESHOLDS = tuple(percent / 100 for percent in range(5, 100, 5))


@dataclass(frozen=True, eq=False)
class Calibration:
    """A calibration curve: bins of probability with beats in each.

    Attributes
    ----------
    beats : int64, shape (15,)
        Beats of each bin.
    said, true : float64, shape (15,)
        Mean probability and true share of AF of each bin; NaN where it is empty.
    """

    beats: NDArray[np.int64]
    said: NDArray[np.float64]
    true: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of the two, weighted by beats."""
        gap = np.nan_to_num(np.abs(self.said - self.true))
        return float((gap * self.beats).sum() / self.beats.sum())


def calibration(label: NDArray[np.int8], probability: NDArray[np.floating]) -> Calibration:
    """Compare what was said with what was, in 15 bins of equal width.

    Naeini, Cooper & Hauskrecht 2015 (AAAI-15, pages 2901-2907).

    Parameters
    ----------
    label : int8, shape (n,)
        1 AF, 0 not AF.
    probability : float, shape (n,)
        Probability of AF.
    """
    if not len(label) or len(label) != len(probability):
        raise ValueError(f"{len(label)} labels with {len(probability)} probabilities")
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    beats = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        said = np.bincount(place, weights=probability, minlength=BINS) / beats
        true = np.bincount(place, weights=label, minlength=BINS) / beats
    return Calibration(beats, said, true)


@dataclass(frozen=True)
class Scaling:
    """Platt scaling: the log odds become slope * log odds + offset."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, probability: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scaled probabilities, of the same shape."""
        return _sigmoid(self.slope * _log_odds(probability) + self.offset).astype(np.float32)


def fit_scaling(label: NDArray[np.int8], probability: NDArray[np.floating]) -> Scaling:
    """Fit slope and offset to labels by maximum likelihood (Newton's method).

    Platt 1999; with `offset` 0 it is the temperature of Guo et al. 2017 (arXiv:1706.04599).
    Fit it on patients that the network was not trained on, or it learns their overconfidence.
    """
    x, y = _log_odds(probability), label.astype(np.float64)
    theta = np.array([1.0, 0.0])
    features = np.stack([x, np.ones_like(x)])
    for _ in range(50):
        p = _sigmoid(theta @ features)
        slope = features @ (p - y)
        curvature = (features * (p * (1 - p))) @ features.T + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, slope)
        theta -= np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-6:
            break
    return Scaling(float(theta[0]), float(theta[1]))


def threshold_table(
    label: NDArray[np.int8],
    probability: NDArray[np.floating],
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[dict[str, float]]:
    """Sensitivity, specificity, PPV and F1 of AF at each threshold."""
    af, other = np.sort(probability[label == 1]), np.sort(probability[label == 0])
    rows = []
    for threshold in thresholds:
        tp = len(af) - int(np.searchsorted(af, threshold))
        fp = len(other) - int(np.searchsorted(other, threshold))
        rows.append(
            {
                "threshold": threshold,
                "sensitivity": tp / len(af) if len(af) else float("nan"),
                "specificity": 1 - fp / len(other) if len(other) else float("nan"),
                "ppv": tp / (tp + fp) if tp + fp else float("nan"),
                "f1": 2 * tp / (len(af) + tp + fp) if len(af) + fp else float("nan"),
            }
        )
    return rows


def best_threshold(label: NDArray[np.int8], probability: NDArray[np.floating]) -> float:
    """The threshold of greatest F1, among 0.05 to 0.95 in steps of 0.05: for training patients."""
    rows = threshold_table(label, probability)
    return float(max(rows, key=lambda row: np.nan_to_num(row["f1"]))["threshold"])


def _log_odds(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    p = np.clip(probability.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -40, 40))))
