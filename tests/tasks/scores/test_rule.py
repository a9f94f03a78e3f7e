"""Laws of what is told of a beat: AF, not AF, or that it cannot be told."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest

from storage.errors import ModelError
from storage.tables.beats import BeatTable, Quality
from tasks.scores.rule import (
    LengthScaling,
    Risk,
    Rule,
    calibrate,
    judge,
    lengths,
    log_odds_of,
    rule_of,
    rule_of_tags,
)
from tasks.scores.rule_fit import PatientAnswers, fit_rule, measure_risk
from tasks.scores.smoothing import decide

SCALINGS = (LengthScaling(12, 2.0, 0.5), LengthScaling(768, 1.0, 0.25))
RULE = Rule(0.5, 1e-4, SCALINGS, af_share=0.4, margin=2.0, around=31)
RISK = Risk(0.005, 0.004, 0.96, 56, 0.0217)


def table_of(n: int, rr_s: float = 0.8, begins: tuple[int, ...] = (0,)) -> BeatTable:
    """A record of n beats in stretches."""
    time_s = np.arange(1, n + 1, dtype=np.float64) * rr_s
    rr_prev_s = np.full(n, rr_s, np.float32)
    rr_prev_s[list(begins)] = np.nan
    starts = [*begins, n]
    stretches = [(a * rr_s + 0.1, b * rr_s + 0.1) for a, b in pairwise(starts)]
    return BeatTable(
        dataset="one", record="r", subject="s",
        sample=(time_s * 250).astype(np.int64), time_s=time_s,
        rr_prev_s=rr_prev_s, rr_next_s=np.full(n, rr_s, np.float32),
        symbol=np.full(n, "N"), rhythm=np.full(n, "N"), label=np.zeros(n, np.int8),
        quality=np.zeros(n, np.uint16), noise=np.zeros(n, np.float32),
        waveform=None, stretches_s=np.array(stretches),
    )  # fmt: skip


def answers_of(n: int, seed: int = 0) -> np.ndarray:
    """Answers that wander between sure and unsure."""
    walk = np.cumsum(np.random.default_rng(seed).normal(0, 0.5, n))
    return np.asarray(1 / (1 + np.exp(-walk)), np.float32)


def test_a_release_from_before_decides_as_it_did_and_tells_everything() -> None:
    table, answers = table_of(900), answers_of(900)
    table.quality[7] = Quality.NOISY
    told = judge(rule_of({"threshold": 0.4, "smoothing_change": 1e-4}), table, answers)
    assert np.array_equal(told.probability, answers)
    assert np.array_equal(told.decided, decide(answers, 0.4, 1e-4, 1, table.begins))
    assert told.sure.all()


def test_a_strip_is_as_sure_as_its_beats_and_rarer_af_allow() -> None:
    """The same answers are less of AF in a strip than in a whole record, by both terms."""
    answers = np.full(1000, 0.9, np.float32)
    long = judge(RULE, table_of(1000), answers).probability
    strip = judge(RULE, table_of(12), answers[:12]).probability
    odds = log_odds_of(0.9)
    assert long == pytest.approx(1 / (1 + np.exp(-(odds + 0.25 + log_odds_of(0.4)))), abs=1e-6)
    assert strip == pytest.approx(1 / (1 + np.exp(-(2 * odds + 0.5 + log_odds_of(0.12)))), abs=1e-6)


def test_the_share_of_af_may_be_stated() -> None:
    table, answers = table_of(40), np.full(40, 0.6, np.float32)
    rare = judge(RULE, table, answers, af_share=0.01)
    common = judge(RULE, table, answers, af_share=0.6)
    assert not rare.decided.any()
    assert common.decided.all()


def test_the_threshold_is_the_answer_that_is_calibrated_to_even_odds() -> None:
    """Beat by beat, a whole record is decided by it as by its calibrated probabilities."""
    rule = replace(fit_rule(patients(40, 0)), change=0.5)
    table, answers = table_of(900), answers_of(900)
    judgement = judge(rule, table, answers)
    apart = np.abs(answers - rule.threshold) > 1e-3
    assert np.array_equal(judgement.decided[apart], (answers >= rule.threshold)[apart])
    assert np.array_equal(judgement.decided, judgement.probability >= 0.5)


def test_nothing_is_told_near_the_threshold_nor_of_a_poor_signal() -> None:
    answers = np.concatenate([np.full(400, 0.999), np.full(400, 0.6), np.full(400, 0.001)])
    table = table_of(1200)
    table.quality[[10, 1190]] = Quality.NOISY, Quality.SATURATED
    sure = judge(RULE, table, answers.astype(np.float32)).sure
    assert not sure[420:780].any()
    assert sure[20:380].all()
    assert sure[820:1180].all()
    assert not sure[10]
    assert not sure[1190]


def test_a_wider_margin_tells_the_beats_of_greater_distance() -> None:
    """`distance` says of each beat up to which margin it is told."""
    table, answers = table_of(900), answers_of(900)
    table.quality[3] = Quality.FLAT
    distance = judge(RULE, table, answers).distance
    for margin in (0.5, 1.0, 4.0):
        sure = judge(replace(RULE, margin=margin), table, answers).sure
        assert np.array_equal(sure, distance >= np.float32(margin))
    assert distance[3] == 0


def test_a_stretch_knows_nothing_of_another() -> None:
    answers = np.concatenate([np.full(300, 0.999), np.full(300, 0.6)]).astype(np.float32)
    both = judge(RULE, table_of(600, begins=(0, 300)), answers)
    second = judge(RULE, table_of(300), answers[300:])
    assert np.array_equal(both.sure[300:], second.sure)
    assert np.array_equal(both.probability[300:], second.probability)


def test_a_network_without_a_future_knows_the_beats_so_far() -> None:
    """What is told of a beat does not change by what comes after it."""
    causal, answers = replace(RULE, around=1), answers_of(700)
    begins = np.arange(700) == 0
    whole = calibrate(causal, answers, begins)
    assert np.array_equal(whole[:50], calibrate(causal, answers[:50], begins[:50]))
    assert lengths(begins, so_far=True)[49] == 50


def test_a_rule_survives_its_manifest_and_its_tags() -> None:
    rule = replace(RULE, risk=RISK)
    certainty = json.loads(json.dumps(rule.certainty()))
    manifest = {"threshold": 0.5, "smoothing_change": 1e-4, "certainty": certainty}
    tags = {
        "holter.threshold": "0.5",
        "holter.smoothing_change": "0.0001",
        "holter.certainty": json.dumps(certainty),
    }
    assert rule_of(manifest) == rule == rule_of_tags(tags)
    unbound = {**certainty, "risk": {**certainty["risk"], "bound": None}}
    risk = rule_of({**manifest, "certainty": unbound}).risk
    assert risk is not None
    assert risk.bound is None


@pytest.mark.parametrize(
    "certainty",
    [
        {"margin": "wide"},
        {"margin": -1},
        {"around": 30},
        {"af_share": 0},
        {"scalings": [{"beats": 12, "slope": -1, "offset": 0}]},
        {"scalings": [{"beats": 12, "slope": float("nan"), "offset": 0}]},
        {"scalings": [{"beats": 24, "slope": 1, "offset": 0}] * 2},
        {"scalings": [{"slope": 1, "offset": 0}]},
        {"risk": {"wrong": 0.1}},
        [1],
        {"margin": True},
        {"margin": 1e308},
        {"margin": 10**400},
        {"around": -1},
        {"around": 31.5},
        {"around": 10**30 + 1},
        {"scalings": [{"beats": 12, "slope": 1e308, "offset": 1e308}]},
        {"scalings": [{"beats": 10**400, "slope": 1, "offset": 0}]},
        {"scalings": [{"beats": 12.5, "slope": 1, "offset": 0}]},
        {"risk": {**asdict(RISK), "aim": float("nan")}},
        {"risk": {**asdict(RISK), "coverage": 3}},
        {"risk": {**asdict(RISK), "patients": 0}},
    ],
)
def test_a_manifest_that_tells_no_decision_is_refused(certainty: object) -> None:
    with pytest.raises(ModelError, match="tells no decision"):
        rule_of({"threshold": 0.5, "certainty": certainty})


def test_a_steep_line_makes_answers_certain_without_an_overflow() -> None:
    """As networks that answer nearly the same of every beat have it."""
    rule = Rule(0.5, scalings=(LengthScaling(12, 1e5, -3e4),))
    told = calibrate(rule, np.array([0, 0.5, 1], np.float32), np.arange(3) == 0, 0.5)
    assert told.tolist() == pytest.approx([0, 0, 1])


def patients(n: int, seed: int, blur: float = 1.0) -> list[PatientAnswers]:
    """Records whose answers are right on average, some beats doubtful."""
    out = []
    for number in range(n):
        random = np.random.default_rng([seed, number])
        label = np.repeat(random.random(10) < 0.5, 100).astype(np.int8)
        strength = np.repeat(random.uniform(-0.6, 6, 10), 100)
        odds = (2 * label - 1) * strength + random.normal(0, blur, len(label))
        answers = np.asarray(1 / (1 + np.exp(-odds)), np.float32)
        out.append(PatientAnswers(f"a/{number}", label, answers, np.arange(len(label)) == 0))
    return out


def test_the_margin_keeps_to_the_risk_and_tells_more_where_more_is_allowed() -> None:
    unseen = patients(40, 1)
    strict, loose = (fit_rule(patients(40, 0), [], unseen=unseen, aim=a) for a in (0.001, 0.02))
    assert strict.risk is not None
    assert loose.risk is not None
    assert strict.risk.wrong <= 0.001
    assert loose.risk.wrong <= 0.02
    assert strict.margin > loose.margin
    assert strict.risk.coverage < loose.risk.coverage
    assert strict.risk.bound == pytest.approx((40 * 0.001 + 1) / 41)
    usual = fit_rule(patients(40, 0), unseen=unseen).risk
    assert usual is not None
    assert usual.bound is None


def test_the_bound_holds_for_patients_that_fixed_nothing() -> None:
    rule = fit_rule(patients(60, 0), [], unseen=patients(60, 1), aim=0.01)
    others = measure_risk(rule, patients(200, 2))
    assert others is not None
    assert rule.risk is not None
    assert rule.risk.bound is not None
    assert 0 < others.wrong <= rule.risk.bound


def test_strips_of_worse_answers_get_a_flatter_line() -> None:
    """Answers as sure as in whole records and right less often are scaled down."""
    short = []
    for item in patients(40, 3):
        begins = np.arange(1000) % 25 == 0
        random = np.random.default_rng(4)
        swapped = random.random(1000) < 0.25
        short.append(
            replace(item, begins=begins, label=np.where(swapped, 1 - item.label, item.label))
        )
    scalings = {s.beats: s for s in fit_rule(patients(40, 0), short, (24,)).scalings}
    assert scalings[24].slope < 0.7 * scalings[768].slope


def test_beats_without_a_known_rhythm_count_nowhere() -> None:
    known, unseen = patients(30, 0), patients(30, 1)

    def blot(items: list[PatientAnswers]) -> list[PatientAnswers]:
        return [
            replace(
                item,
                label=np.append(item.label, np.full(50, -1, np.int8)),
                answers=np.append(item.answers, np.full(50, 0.5, np.float32)),
                begins=np.append(item.begins, np.arange(50) == 0),
            )
            for item in items
        ]

    plain = fit_rule(known, [], unseen=unseen, aim=0.01)
    assert fit_rule(blot(known), [], unseen=blot(unseen), aim=0.01) == plain
