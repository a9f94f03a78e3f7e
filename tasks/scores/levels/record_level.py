"""Evaluation by record, where one label is of a whole record and no beat has its own.

In such a record AF may fill a part alone, so figures by beat count what nobody labelled. Here a
record is one case: AF where at least half of its beats are decided so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.scores.bootstrap import RATES, bootstrap_patients
from tasks.scores.evaluation import ScoredRecord
from tasks.scores.metrics import area_under_roc

#: A record is AF where at least this share of its beats is.
RECORD_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class RecordAnswers:
    """The records with a label of their own that is known, and what is said of each.

    Attributes
    ----------
    patient : str, shape (n,)
        Of whom each is.
    label : int8, shape (n,)
        1 AF, 0 not AF.
    probability : float64, shape (n,)
        Mean P(AF) of its beats: the share of them that is AF, as far as is known.
    decided : bool, shape (n,)
        Whether at least half of its beats are decided AF.
    """

    patient: NDArray[np.str_]
    label: NDArray[np.int8]
    probability: NDArray[np.float64]
    decided: NDArray[np.bool_]


def record_answers(scored: Sequence[ScoredRecord]) -> RecordAnswers:
    """One answer a record, of those whose label is of the whole record and known."""
    records = [s for s in scored if s.labelled_whole and (s.label >= 0).any()]
    return RecordAnswers(
        patient=np.array([s.patient for s in records], np.str_),
        label=np.array([s.label.max() for s in records], np.int8),
        probability=np.array([s.probability.mean() for s in records], np.float64),
        decided=np.array([s.decided.mean() >= RECORD_SHARE for s in records], np.bool_),
    )


def record_figures(
    scored: Sequence[ScoredRecord], draws: int = 2_000, seed: int = 0
) -> dict[str, float]:
    """Every figure by record; rates come with `_low` and `_high` over patients.

    Returns
    -------
    dict of str to float
        `record_*` rates and `record_auc`, how many records are labelled so (`labelled_records`) and
        how many of them AF (`af_records`). Empty where no record has a label of its own.
    """
    answers = record_answers(scored)
    if not len(answers.label):
        return {}
    _, place = np.unique(answers.patient, return_inverse=True)
    counts = np.zeros((place.max() + 1, 4))
    cell = np.where(answers.decided, 0, 2) + (answers.label == 0)  # tp, fp, fn, tn
    np.add.at(counts, (place, cell), 1)
    out: dict[str, float] = {
        "labelled_records": len(answers.label),
        "af_records": int(answers.label.sum()),
    }
    for name, rate in RATES.items():
        interval = bootstrap_patients(counts, rate, draws, seed)
        out |= {
            f"record_{name}": interval.value,
            f"record_{name}_low": interval.low,
            f"record_{name}_high": interval.high,
        }
    out["record_auc"] = area_under_roc(answers.label, answers.probability)
    return out
