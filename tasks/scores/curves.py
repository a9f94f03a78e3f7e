"""Curves over all thresholds, by scikit-learn: on the server, where they are drawn.

It is imported where a curve is asked for: two CPU seconds that most commands need not pay.

What a device computes too, the area under the ROC curve among it, is in `tasks.scores.metrics`.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def roc(label: NDArray[np.int8], probability: NDArray[np.floating]) -> Curve:
    """The corners of the ROC curve.

    Parameters
    ----------
    label : int8, shape (n,)
        1 AF, 0 not AF.
    probability : float, shape (n,)
        Probability of AF.

    Returns
    -------
    false_positive_rate, true_positive_rate : float64, shape (k,)
        Ascending; a rate whose class is absent is NaN. Points within a straight line are left out.
    """
    from sklearn.exceptions import UndefinedMetricWarning
    from sklearn.metrics import roc_curve

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # NaN says it
        false, true, _ = roc_curve(label, probability)
    return false, true


def precision_recall(label: NDArray[np.int8], probability: NDArray[np.floating]) -> Curve:
    """PPV over sensitivity; parameters as `roc`.

    Returns
    -------
    sensitivity, ppv : float64, shape (k,)
        Sensitivity descending from 1 to 0, where the PPV is set to 1; none without AF beats.
    """
    if not np.any(label == 1):
        return np.empty(0), np.empty(0)
    from sklearn.metrics import precision_recall_curve

    ppv, sensitivity, _ = precision_recall_curve(label, probability, drop_intermediate=True)
    return sensitivity, ppv
