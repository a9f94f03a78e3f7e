"""The queue's order, and how two reviewers agree."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from storage.labels.decisions import Decision
from tasks.review.agreement import agreements, kappa
from tasks.review.queue import LEAST_BEATS, Case, RecordAnswers, cases, entropy_bits
from tests.deciding import decision

N = 1_000


def answers(**columns: Any) -> RecordAnswers:
    """A record without AF, about which the model is right and rather sure, but for the columns."""
    probability = np.asarray(columns.pop("probability", np.full(N, 0.1)), np.float32)
    values: dict[str, Any] = {
        "label": np.zeros(N, np.int8),
        "rhythm": np.full(N, "N"),
        "probability": probability,
        "decided": probability > 0.5,
        "sure": np.ones(N, bool),
    }
    return RecordAnswers("set", "r1", N * 100, np.arange(N) * 100, **{**values, **columns})


def at(first: int, last: int, value: float, other: float = 0.1) -> np.ndarray:
    """One value from a beat up to another, and another one elsewhere."""
    out = np.full(N, other)
    out[first:last] = value
    return out


def test_nothing_is_asked_of_a_record_without_a_question() -> None:
    """Where the model tells what is annotated there is no case; nor without beats."""
    assert cases([answers()]) == ()
    empty = {name: np.array([], kind) for name, kind in (("label", np.int8), ("rhythm", str))}
    flags = {name: np.array([], bool) for name in ("decided", "sure")}
    sample = np.array([], np.int64)
    none = RecordAnswers(
        "s", "r", 0, sample, **empty, **flags, probability=np.array([], np.float32)
    )
    assert cases([none]) == ()


def test_each_kind_of_question_is_a_case() -> None:
    """Disagreement, doubt and versions each give the passage, what is annotated and answered."""
    probability = at(100, 200, 0.99)
    probability[500:600] = 0.5
    rival = at(800, 900, 0.9)
    found = cases(
        [
            answers(
                probability=probability,
                sure=at(500, 600, 0, 1) == 1,
                rival=rival,
                rival_decided=rival > 0.5,
            )
        ]
    )
    by_kind = {case.kind: case for case in found}
    assert by_kind.keys() == {"disagreement", "doubt", "versions"}
    assert [case.weight for case in found] == sorted((c.weight for c in found), reverse=True)
    first = by_kind["disagreement"]
    assert (first.start, first.end, first.truth, first.answer) == (10_000, 20_000, "N", "AF")
    assert first.weight == pytest.approx(100 * -math.log2(1 - 0.99), rel=1e-3)
    doubt = by_kind["doubt"]
    assert (doubt.start, doubt.end, doubt.answer) == (50_000, 60_000, "cannot tell")
    assert doubt.weight == pytest.approx(100)  # a bit a beat
    assert (by_kind["versions"].start, by_kind["versions"].end) == (80_000, 90_000)


def test_what_teaches_more_comes_first() -> None:
    """A longer or a surer mistake weighs more than a shorter or fainter one."""
    passages = [(0, 10, 0.9), (100, 110, 0.99), (200, 260, 0.9), (300, 310, 0.6)]
    probability = np.full(N, 0.1)
    for first, last, p in passages:
        probability[first:last] = p
    starts = [case.start // 100 for case in cases([answers(probability=probability)])]
    assert starts == [200, 100, 0, 300]
    assert len(cases([answers(probability=probability)], most=2)) == 2


def test_what_was_decided_is_not_asked_again() -> None:
    """No beat of a passage that somebody decided about is in a case; the rest of it is."""
    record = answers(probability=at(100, 200, 0.99))
    reviewed = {("set", "r1"): np.array([[0, 15_000]]), ("set", "r2"): np.array([[0, N * 100]])}
    (case,) = cases([record], reviewed)
    assert (case.start, case.end) == (15_000, 20_000)
    assert cases([record], {("set", "r1"): np.array([[10_000, 20_000]])}) == ()


def test_a_few_beats_are_no_passage() -> None:
    """Fewer beats than tell a rhythm are not asked about; beats without a label neither."""
    short = at(100, 100 + LEAST_BEATS - 1, 0.99)
    assert cases([answers(probability=short)]) == ()
    unknown = answers(probability=at(100, 200, 0.99), label=np.full(N, -1, np.int8))
    assert cases([unknown]) == ()


def test_the_worst_patients_are_cases_of_their_own() -> None:
    """A record that is mostly wrong, in several passages, is asked about as a whole."""
    probability = np.where(np.arange(N) % 100 < 50, 0.99, 0.1)
    whole = [case for case in cases([answers(probability=probability)]) if case.kind == "patient"]
    assert [(case.start, case.end) for case in whole] == [(0, N * 100)]
    assert not any(c.kind == "patient" for c in cases([answers(probability=at(0, 500, 0.99))]))


def test_an_answer_that_is_none_is_no_surprise() -> None:
    """A NaN weighs as even odds, and no weight is infinite."""
    assert entropy_bits(np.array([0.5])).tolist() == [1.0]
    probability = at(100, 200, math.nan)
    probability[300:400] = 1.0
    found: tuple[Case, ...] = cases(
        [answers(probability=probability, sure=at(100, 200, 0, 1) == 1)]
    )
    assert {case.kind: case.weight for case in found} == {"doubt": 100.0, "disagreement": 700.0}


def test_kappa_is_cohen_s() -> None:
    """Fifty proposals of two readers, 35 alike: 0.4 (the example of the textbooks)."""
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert kappa(pairs, np.ones(50)) == pytest.approx(0.4)
    assert math.isnan(kappa([("y", "y")] * 3, np.ones(3)))
    assert math.isnan(kappa([], np.ones(0)))


def by(who: str, start: int, end: int, rhythm: str, record: str = "r1") -> Decision:
    return decision(start, end, rhythm, reviewer=who, record=record)


def test_agreement_is_of_what_both_looked_at() -> None:
    """Episodes are cut by the two alone, count once or by time, and disputes are told."""
    (both,) = agreements(
        [
            by("Anna", 0, 100, "AFIB"),
            by("Ben", 0, 60, "AFIB"),
            by("Ben", 60, 100, "N"),
            by("Anna", 500, 900, "N"),
            by("Ben", 500, 900, "N"),
            by("Anna", 0, 50, "AFIB", "r2"),  # Ben did not look
        ]
    )
    assert (both.reviewers, both.episodes, both.samples) == (("Anna", "Ben"), 3, 500)
    assert [(d.record, d.start, d.end, d.rhythms) for d in both.disputes] == [
        ("r1", 60, 100, ("AFIB", "N"))
    ]
    assert both.kappa_time > both.kappa_episodes > 0
    assert agreements([by("Anna", 0, 10, "N"), by("Ben", 10, 20, "N")]) == ()
    third = agreements([by("Anna", 0, 100, "N"), by("Ben", 0, 100, "N"), by("Cy", 30, 40, "AFIB")])
    assert {pair.reviewers: pair.episodes for pair in third} == {
        ("Anna", "Ben"): 1,
        ("Anna", "Cy"): 1,
        ("Ben", "Cy"): 1,
    }
