"""The metrics, held against scikit-learn."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as judge

from tasks.scores.metrics import area_under_roc, beat_metrics, confusion, roc_points


@st.composite
def _beats(draw: st.DrawFn) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Labels of both classes and probabilities, coarse ones often, so that ties are common."""
    n = draw(st.integers(2, 60))
    label = draw(hnp.arrays(np.int8, n, elements=st.integers(0, 1)))
    label[:2] = 0, 1
    fine = hnp.arrays(np.float32, n, elements=st.floats(0, 1, width=32))
    coarse = hnp.arrays(np.float32, n, elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
    return label, draw(fine | coarse)


@given(_beats(), st.sampled_from([0.1, 0.5, 0.75]))
def test_metrics_equal_scikit_learn(
    beats: tuple[NDArray[np.int8], NDArray[np.float32]], threshold: float
) -> None:
    """Every metric is what scikit-learn computes from the same decisions, ties included."""
    label, probability = beats
    decided = (probability >= threshold).astype(int)
    ours = beat_metrics(label, probability, threshold)
    precision, recall, f1, _ = judge.precision_recall_fscore_support(
        label, decided, average="weighted", zero_division=0
    )
    expected = {
        "precision_weighted": precision,
        "recall_weighted": recall,
        "f1_weighted": f1,
        "accuracy": judge.accuracy_score(label, decided),
        "sensitivity": judge.recall_score(label, decided),
        "specificity": judge.recall_score(label, decided, pos_label=0),
        "ppv": judge.precision_score(label, decided, zero_division=math.nan),
        "f1": judge.f1_score(label, decided),
        "auc": judge.roc_auc_score(label, probability),
        **dict(
            zip(
                ("tn", "fp", "fn", "tp"),
                judge.confusion_matrix(label, decided, labels=[0, 1]).ravel(),
                strict=True,
            )
        ),
        "n_beats": len(label),
    }
    assert ours == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(_beats())
def test_roc_points_equal_scikit_learn(
    beats: tuple[NDArray[np.int8], NDArray[np.float32]],
) -> None:
    """The ROC curve has scikit-learn's points and thresholds."""
    ours = roc_points(*beats)
    theirs = judge.roc_curve(*beats, drop_intermediate=False)
    for mine, reference in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, reference, atol=1e-12)


def test_confusion_has_truth_in_rows() -> None:
    """Rows are truth, columns decision, not AF first."""
    table = confusion([0, 0, 0, 1, 1, 1, 1], [0.1, 0.1, 0.9, 0.9, 0.9, 0.9, 0.1])
    assert table.tolist() == [[2, 1], [1, 3]]


@pytest.mark.parametrize(
    ("label", "probability", "undefined"),
    [
        ([0, 0, 0], [0.1, 0.2, 0.3], {"sensitivity", "ppv", "f1", "auc"}),
        ([0, 0, 0], [0.1, 0.2, 0.9], {"sensitivity", "auc"}),
        ([1, 1], [0.9, 0.1], {"specificity", "auc"}),
        ([0, 1], [0.1, 0.2], {"ppv"}),
    ],
)
def test_what_is_undefined_is_nan(
    label: list[int], probability: list[float], undefined: set[str]
) -> None:
    """A metric without beats to be computed from is NaN, and no other is."""
    found = beat_metrics(np.array(label, np.int8), np.array(probability, np.float32))
    assert {name for name, value in found.items() if math.isnan(value)} == undefined


def test_no_beats_at_all() -> None:
    """Without beats every ratio is NaN and every count 0."""
    found = beat_metrics(np.zeros(0, np.int8), np.zeros(0, np.float32))
    counts = {"tp", "fp", "tn", "fn", "n_beats"}
    assert all(found[name] == 0 for name in counts)
    assert all(math.isnan(value) for name, value in found.items() if name not in counts)


@pytest.mark.parametrize(
    ("label", "probability", "says"),
    [
        ([0, 1], [0.5], "must be two"),
        ([[0, 1]], [[0.5, 0.5]], "must be two"),
        ([0, -1], [0.5, 0.5], r"\[-1\]"),
        ([0, 1], [0.5, math.nan], "0..1"),
        ([0, 1], [0.5, 1.5], "0..1"),
    ],
)
def test_misuse_is_refused(label: Any, probability: Any, says: str) -> None:
    """Unequal shapes, unknown labels and values that are no probability are refused by name."""
    with pytest.raises(ValueError, match=says):
        beat_metrics(label, probability)


def test_a_million_ties() -> None:
    """All beats at one probability give an AUC of exactly one half."""
    label = (np.arange(1_000_000) % 3 == 0).astype(np.int8)
    assert area_under_roc(label, np.full(1_000_000, 0.3, np.float32)) == 0.5


def test_the_device_needs_numpy_alone() -> None:
    """Importing the module loads none of the server's libraries."""
    heavy = [
        "prefect",
        "mlflow",
        "tensorflow",
        "keras",
        "wfdb",
        "pandas",
        "pyarrow",
        "scipy",
        "sklearn",
        "matplotlib",
    ]
    code = f"import sys, tasks.scores.metrics; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
