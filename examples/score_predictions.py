"""Predictions become figures with intervals: `python score_predictions.py`.

Twelve made-up patients of 1,000 beats each, with a made-up network's probabilities. An interval is
of the patients, drawn with replacement: beats of one patient are no independent witnesses.
"""

import numpy as np

from tasks.scores.bootstrap import RATES, bootstrap_patients
from tasks.scores.evaluation import confusion_counts
from tasks.scores.metrics import beat_metrics

PATIENTS, BEATS, THRESHOLD = 12, 1_000, 0.5


def main() -> None:
    """Score all beats together, and draw the patients for the intervals."""
    rng = np.random.default_rng(0)
    labels = (rng.random((PATIENTS, BEATS)) < rng.random((PATIENTS, 1))).astype(np.int8)
    spread = rng.uniform(0.1, 0.4, (PATIENTS, 1))  # some patients are harder than others
    probabilities = np.clip(labels * 0.4 + 0.3 + spread * rng.normal(size=labels.shape), 0, 1)

    metrics = beat_metrics(labels.ravel(), probabilities.ravel(), THRESHOLD)
    print(f"{PATIENTS} patients, {metrics['n_beats']:.0f} beats, AUC {metrics['auc']:.4f}")
    counts = np.stack(
        [
            confusion_counts(label, p >= THRESHOLD)
            for label, p in zip(labels, probabilities, strict=True)
        ]
    )
    for name, rate in RATES.items():
        print(f"{name:12} {bootstrap_patients(counts, rate)}")


if __name__ == "__main__":
    main()
