"""The rule of a release, fitted on its network's answers; scikit-learn fits, so no device does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from storage.recordings.stretches import slices
from tasks.scores.calibration import best_threshold
from tasks.scores.rule import (
    LengthScaling,
    Risk,
    Rule,
    calibrate,
    distances,
    lengths,
    log_odds,
    log_odds_of,
    probability_of,
)
from tasks.scores.smoothing import fit_smoothing, viterbi

#: A whole record has so many beats or more.
WHOLE_BEATS = 768
#: The mean probability of so many beats is held against the margin, by networks that see both ways.
AROUND = 31
#: The margin where no patient outside of the training is there to fix it: from AFDB to LTAFDB and
#: back it leaves 96 % of the beats, one in two hundred of them wrong.
USUAL_MARGIN = 2.0
MARGINS = tuple(step / 20 for step in range(141))
#: Beats of each class and length that scalings are fitted on, at most.
MOST_BEATS = 100_000
#: Fewer beats of a class tell no line.
LEAST_BEATS = 200


#: A patient; of the beats with a known rhythm, distance from the threshold, and whether wrong.
Side: TypeAlias = tuple[str, NDArray[np.float64], NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class PatientAnswers:
    """A record, or strips of one, with the network's answers; n beats.

    Attributes
    ----------
    patient : str
        Of whom it is, under the data set's name.
    label : int8, shape (n,)
        1 AF, 0 not AF, -1 unknown.
    answers : float32, shape (n,)
        The network's own P(AF).
    begins : bool, shape (n,)
        Whether each beat is the first of its stretch.
    """

    patient: str
    label: NDArray[np.int8]
    answers: NDArray[np.float32]
    begins: NDArray[np.bool_]


def fit_rule(
    records: Sequence[PatientAnswers],
    strips: Sequence[PatientAnswers] = (),
    lengths_at: Sequence[int] = (),
    *,
    causal: bool = False,
    unseen: Sequence[PatientAnswers] = (),
    aim: float = 0.0,
) -> Rule:
    """Threshold, smoothing, calibration by length, and margin.

    Parameters
    ----------
    records : sequence of PatientAnswers
        Whole records: threshold and smoothing are fixed on them. The threshold is the answer that
        is calibrated to even odds in them: AF is decided where it is the likelier.
    strips : sequence of PatientAnswers
        Strips of them, and what else is short.
    lengths_at : sequence of int
        Lengths of the strips in beats.
    causal : bool
        Whether the network sees no beats to come.
    unseen : sequence of PatientAnswers
        Whole records of patients whom the network that answered did not learn from.
    aim : float
        Mean share of wrong answers in them that the margin is fixed for; 0 takes the usual margin.
    """
    label = [r.label[part] for r in records for part in slices(r.begins)]
    answers = [r.answers[part] for r in records for part in slices(r.begins)]
    truth = np.concatenate(label)
    known = truth >= 0
    share = float(np.clip(np.mean(truth[known] == 1), 0.01, 0.99))
    scalings = fit_scalings([*records, *strips], lengths_at, so_far=causal)
    rule = Rule(
        threshold=even_odds(scalings, share)
        or best_threshold(truth[known], np.concatenate(answers)[known]),
        scalings=scalings,
        af_share=share,
        margin=USUAL_MARGIN,
        around=1 if causal else AROUND,
    )
    parts = [
        calibrate(rule, r.answers, r.begins)[part] for r in records for part in slices(r.begins)
    ]
    rule = replace(rule, change=fit_smoothing(label, parts, rule.calibrated_threshold))
    sides = _sides(rule, unseen)
    if aim and sides:
        rule = replace(rule, margin=_fit_margin(sides, aim))
    return replace(rule, risk=_risk(sides, rule.margin, aim))


def even_odds(scalings: Sequence[LengthScaling], af_share: float) -> float | None:
    """The answer that is calibrated to 0.5 in a whole record, in thousandths; None without any."""
    if not scalings or scalings[-1].beats < WHOLE_BEATS:
        return None
    whole = scalings[-1]
    odds = -(whole.offset + log_odds_of(af_share)) / whole.slope
    return min(max(round(probability_of(odds), 3), 0.001), 0.999)


def fit_scalings(
    items: Sequence[PatientAnswers], lengths_at: Sequence[int] = (), *, so_far: bool
) -> tuple[LengthScaling, ...]:
    """A logistic regression on the log odds (Platt 1999) of the beats of each length.

    Both classes weigh the same. A length at which either has few beats is left out.
    """
    at = np.array([*lengths_at, WHOLE_BEATS])
    beats = np.concatenate([lengths(item.begins, so_far=so_far) for item in items])
    label = np.concatenate([item.label for item in items])
    odds = log_odds(np.concatenate([item.answers for item in items]))
    nearest = np.abs(np.log(beats)[:, None] - np.log(at)).argmin(axis=1)
    out = []
    for number, length in enumerate(at.tolist()):
        rows = [_thinned(np.flatnonzero((nearest == number) & (label == k))) for k in (0, 1)]
        if min(map(len, rows)) < LEAST_BEATS:
            continue
        both = np.concatenate(rows)
        slope, offset = _line(odds[both], label[both])
        if slope > 0:
            out.append(LengthScaling(length, slope, offset))
    return tuple(out)


def _thinned(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[:: max(-(-len(rows) // MOST_BEATS), 1)]


def _line(odds: NDArray[np.float64], label: NDArray[np.int8]) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    # Weak shrinkage: classes that are parted without an error have no finite slope.
    regression = LogisticRegression(class_weight="balanced", tol=1e-8)
    regression.fit(odds[:, None], label)
    return float(regression.coef_[0, 0]), float(regression.intercept_[0])


def _fit_margin(sides: Sequence[Side], aim: float) -> float:
    """The smallest margin by which a patient's share of wrong answers is `aim` in the mean."""
    for margin in MARGINS:
        if _mean_by_patient((p, wrong & (far >= margin)) for p, far, wrong in sides) <= aim:
            return margin
    return MARGINS[-1]


def measure_risk(rule: Rule, unseen: Sequence[PatientAnswers], aim: float = 0.0) -> Risk | None:
    """What a rule's margin gives in patients whom the network did not learn from, if there are."""
    return _risk(_sides(rule, unseen), rule.margin, aim)


def _risk(sides: Sequence[Side], margin: float, aim: float) -> Risk | None:
    n = len({patient for patient, _, _ in sides})
    if not n:
        return None
    wrong = _mean_by_patient((p, w & (far >= margin)) for p, far, w in sides)
    coverage = _mean_by_patient((p, far >= margin) for p, far, _ in sides)
    bound = (n * aim + 1) / (n + 1) if aim and wrong <= aim else None
    return Risk(aim, wrong, coverage, n, bound)


def _sides(rule: Rule, items: Sequence[PatientAnswers]) -> list[Side]:
    """What a margin is held against, of the records with a known rhythm."""
    return [_distances(rule, item) for item in items if (item.label >= 0).any()]


def _distances(rule: Rule, item: PatientAnswers) -> Side:
    """Patient; of the beats with a known rhythm, distance from the threshold, and whether wrong."""
    probability = calibrate(rule, item.answers, item.begins)
    parts = [
        viterbi(probability[part], rule.change, rule.calibrated_threshold)
        for part in slices(item.begins)
    ]
    known, decided = item.label >= 0, np.concatenate(parts)
    wrong = decided != (item.label == 1)
    beyond = distances(rule, probability, decided, item.begins)
    return item.patient, beyond[known], wrong[known]


def _mean_by_patient(rows: Iterable[tuple[str, NDArray[np.bool_]]]) -> float:
    """The mean over patients of the share of their beats at which something holds."""
    total: dict[str, NDArray[np.float64]] = {}
    for patient, holds in rows:
        counts = np.array([np.count_nonzero(holds), len(holds)], np.float64)
        total[patient] = total.get(patient, 0.0) + counts
    return float(np.mean([count / beats for count, beats in total.values()]))
