"""How well decisions agree with labels: the method's metrics, in numpy alone.

A server and a device compute them with this one module, so equal probabilities give equal metrics.
AF (label 1) is the positive class throughout, and a beat is decided AF where its probability is
at or above the threshold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

NAN = float("nan")


def _truth_and_score(
    label: ArrayLike, probability: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.floating]]:
    """Labels as booleans and probabilities, or a ValueError saying what is wrong with them."""
    truth, score = np.asarray(label), np.asarray(probability)
    if truth.ndim != 1 or truth.shape != score.shape:
        raise ValueError(
            f"label {truth.shape} and probability {score.shape} must be two (n,) arrays"
        )
    if not np.isin(truth, (0, 1)).all():
        wrong = np.unique(truth[~np.isin(truth, (0, 1))])[:5].tolist()
        raise ValueError(f"labels must be 0 or 1, found also {wrong}: leave unknown beats out")
    if not np.issubdtype(score.dtype, np.floating):
        score = score.astype(np.float64)
    if not ((score >= 0) & (score <= 1)).all():
        raise ValueError("probabilities must lie in 0..1, found NaN or others")
    return truth.astype(np.bool_), score


def _ratio(part: float, whole: float, undefined: float = NAN) -> float:
    return float(part / whole) if whole else undefined


def confusion(
    label: ArrayLike, probability: ArrayLike, threshold: float = 0.5
) -> NDArray[np.int64]:
    """Count beats by truth and decision.

    Parameters
    ----------
    label : int8, shape (n,)
        1 AF, 0 not AF.
    probability : float32, shape (n,)
        Probability of AF.
    threshold : float
        A beat is decided AF where its probability is at or above it.

    Returns
    -------
    int64, shape (2, 2)
        Rows truth, columns decision, both in the order not AF, AF: [[tn, fp], [fn, tp]].

    Raises
    ------
    ValueError
        Shapes differ, a label is not 0 or 1, or a probability is not in 0..1.
    """
    truth, score = _truth_and_score(label, probability)
    cell = 2 * truth.astype(np.int64) + (score >= threshold)
    return np.bincount(cell, minlength=4).reshape(2, 2)


def roc_points(
    label: ArrayLike, probability: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Find the ROC curve's corners: one point for every distinct probability.

    Returns
    -------
    false_positive_rate, true_positive_rate, threshold : float64, shape (k + 1,)
        Ascending rates with the threshold that gives each; the first threshold is infinite
        (no beat decided AF). A rate whose class is absent is NaN.

    Raises
    ------
    ValueError
        As `confusion`.
    """
    truth, score = _truth_and_score(label, probability)
    # Values alone are sorted, which takes a tenth of the time that their places take.
    value, beats = np.unique(score, return_counts=True)
    af_value, af_beats = np.unique(score[truth], return_counts=True)
    af = np.zeros_like(beats)
    af[np.searchsorted(value, af_value)] = af_beats
    beats, af = beats[::-1], af[::-1]
    true = np.concatenate(([0], np.cumsum(af))).astype(np.float64)
    false = np.concatenate(([0], np.cumsum(beats - af))).astype(np.float64)
    threshold = np.concatenate(([np.inf], value[::-1].astype(np.float64)))
    rates = [
        count / count[-1] if count[-1] else np.full_like(count, NAN) for count in (false, true)
    ]
    return rates[0], rates[1], threshold


def area_under_roc(label: ArrayLike, probability: ArrayLike) -> float:
    """Area under the ROC curve; ties count one half, one class alone gives NaN.

    By trapezoids over the curve of distinct probabilities, which equals the Mann-Whitney
    statistic with ties halved (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747).
    """
    false, true, _ = roc_points(label, probability)
    if np.isnan(false[0]) or np.isnan(true[0]):
        return NAN
    return float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))


def beat_metrics(
    label: ArrayLike, probability: ArrayLike, threshold: float = 0.5
) -> dict[str, float]:
    """Compute every metric that the method reports, at beat level.

    Parameters
    ----------
    label : int8, shape (n,)
        1 AF, 0 not AF.
    probability : float32, shape (n,)
        Probability of AF.
    threshold : float
        A beat is decided AF where its probability is at or above it.

    Returns
    -------
    dict of str to float
        `precision_weighted`, `recall_weighted`, `f1_weighted`: averages over the two classes
        weighted by their true beats, a class that is never decided having precision 0 (the
        convention of scikit-learn, which the method used);
        `accuracy`; `sensitivity`, `specificity`, `ppv`, `f1` of AF; `auc`;
        `tp`, `fp`, `tn`, `fn`, `n_beats`: counts.
        What has no beats to be computed from is NaN: `sensitivity` without AF beats,
        `specificity` without others, `auc` without both, `ppv` without AF decisions, `f1` without
        AF in truth and decision alike, every ratio without beats.

    Raises
    ------
    ValueError
        As `confusion`.
    """
    table = confusion(label, probability, threshold).astype(np.float64)
    (tn, fp), (fn, tp) = table
    n_beats, support, decided, right = table.sum(), table.sum(1), table.sum(0), np.diag(table)
    per_class = [
        (_ratio(hit, dec, 0.0), _ratio(hit, sup, 0.0), _ratio(2 * hit, sup + dec, 0.0))
        for hit, dec, sup in zip(right, decided, support, strict=True)
    ]
    weighted = [
        _ratio(sum(s * m for s, m in zip(support, column, strict=True)), n_beats)
        for column in zip(*per_class, strict=True)
    ]
    return {
        "precision_weighted": weighted[0],
        "recall_weighted": weighted[1],
        "f1_weighted": weighted[2],
        "accuracy": _ratio(tp + tn, n_beats),
        "sensitivity": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "ppv": _ratio(tp, tp + fp),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "auc": area_under_roc(label, probability),
        "tp": float(tp),
        "fp": float(fp),
        "tn": float(tn),
        "fn": float(fn),
        "n_beats": float(n_beats),
    }
