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
from tasks.scores.evaluation import ScoredRecord, with_interval
from tasks.scores.levels.certainty import TOLD_SHARE, by_patient
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
    sure : bool, shape (n,)
        Whether that is told: at least half of its beats are.
    """

    patient: NDArray[np.str_]
    label: NDArray[np.int8]
    probability: NDArray[np.float64]
    decided: NDArray[np.bool_]
    sure: NDArray[np.bool_]


def record_answers(scored: Sequence[ScoredRecord]) -> RecordAnswers:
    """One answer a record, of those whose label is of the whole record and known."""
    records = [s for s in scored if s.labelled_whole and (s.label >= 0).any()]
    return RecordAnswers(
        patient=np.array([s.patient for s in records], np.str_),
        label=np.array([s.label.max() for s in records], np.int8),
        probability=np.array([s.probability.mean() for s in records], np.float64),
        decided=np.array([s.decided.mean() >= RECORD_SHARE for s in records], np.bool_),
        sure=np.array([s.sure.mean() >= TOLD_SHARE for s in records], np.bool_),
    )


def record_figures(
    scored: Sequence[ScoredRecord], draws: int = 2_000, seed: int = 0
) -> dict[str, float]:
    """Every figure by record; rates come with `_low` and `_high` over patients.

    Returns
    -------
    dict of str to float
        `record_*` rates and `record_auc`; `record_coverage`, the share of records that are told,
        and `record_sure_*`, the rates of those; how many records are labelled so
        (`labelled_records`) and how many of them AF (`af_records`). Empty where no record has a
        label of its own.
    """
    answers = record_answers(scored)
    if not len(answers.label):
        return {}
    sides = (("record_", np.ones(len(answers.label), bool)), ("record_sure_", answers.sure))
    cells = np.eye(4)[np.where(answers.decided, 0, 2) + (answers.label == 0)]  # tp, fp, fn, tn
    patients = answers.patient.tolist()
    out: dict[str, float] = {
        "labelled_records": len(answers.label),
        "af_records": int(answers.label.sum()),
    }
    for start, rows in sides:
        counts = by_patient(patients, list(cells * rows[:, None]))
        for name, rate in RATES.items():
            out |= with_interval(f"{start}{name}", bootstrap_patients(counts, rate, draws, seed))
    told = np.stack([answers.sure, np.ones(len(answers.sure))], axis=1)
    counts = by_patient(patients, list(told))
    coverage = bootstrap_patients(counts, lambda c: c[:, 0] / c[:, 1], draws, seed)
    out |= with_interval("record_coverage", coverage)
    out["record_auc"] = area_under_roc(answers.label, answers.probability)
    return out
