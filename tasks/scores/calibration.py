"""Whether a probability means what it says, and what each threshold would give.

scikit-learn fits and bins, scipy has the functions and pandas the table: imported where they are
used, as a device imports this module for its types and has none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

BINS = 15
THRESHOLDS = tuple(percent / 100 for percent in range(5, 100, 5))
#: Log odds are taken of probabilities this far from 0 and 1.
EDGE = 1e-6


@dataclass(frozen=True, eq=False)
class Calibration:
    """A calibration curve: bins of probability with beats in each.

    Attributes
    ----------
    beats : int64, shape (k,)
        Beats of each of the 15 bins that hold any.
    probability, true : float64, shape (k,)
        Mean probability and true share of AF of each.
    """

    beats: NDArray[np.int64]
    probability: NDArray[np.float64]
    true: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of the two, weighted by beats."""
        return float(np.average(np.abs(self.probability - self.true), weights=self.beats))


def calibration(label: NDArray[np.int8], probability: NDArray[np.floating]) -> Calibration:
    """Compare what was said with what was, in 15 bins of equal width.

    Naeini, Cooper & Hauskrecht 2015 (AAAI-15, pages 2901-2907), by scikit-learn's
    `calibration_curve`: a probability on the edge of two bins counts in the lower one.

    Parameters
    ----------
    label : int8, shape (n,)
        1 AF, 0 not AF.
    probability : float, shape (n,)
        Probability of AF.
    """
    from sklearn.calibration import calibration_curve

    if not len(label) or len(label) != len(probability):
        raise ValueError(f"{len(label)} labels with {len(probability)} probabilities")
    true, means = calibration_curve(label, probability, n_bins=BINS)
    edges = np.linspace(0, 1, BINS + 1)[1:-1]  # as scikit-learn, which does not tell its counts
    beats = np.bincount(np.searchsorted(edges, probability), minlength=BINS)
    return Calibration(beats[beats > 0], means, true)


def threshold_table(
    label: NDArray[np.int8],
    probability: NDArray[np.floating],
    thresholds: Sequence[float] = THRESHOLDS,
) -> pd.DataFrame:
    """Sensitivity, specificity, PPV and F1 of AF, a row a threshold; NaN where undefined."""
    import pandas as pd

    af, not_af = np.sort(probability[label == 1]), np.sort(probability[label == 0])
    at = np.asarray(thresholds)
    tp = len(af) - np.searchsorted(af, at)
    fp = len(not_af) - np.searchsorted(not_af, at)
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "threshold": at,
                "sensitivity": np.divide(tp, len(af)),
                "specificity": 1 - np.divide(fp, len(not_af)),
                "ppv": tp / (tp + fp),
                "f1": 2 * tp / (len(af) + tp + fp),
            }
        )


def best_threshold(label: NDArray[np.int8], probability: NDArray[np.floating]) -> float:
    """The threshold of greatest F1, among 0.05 to 0.95 in steps of 0.05: for training patients."""
    table = threshold_table(label, probability)
    return float(table["threshold"][table["f1"].fillna(0.0).idxmax()])
