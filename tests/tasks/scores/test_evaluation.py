"""Calibration, bootstrap, smoothing, and the figures made of them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.reports.evaluation import figures_of, headline
from storage.tables.beats import Quality
from tasks.scores.bootstrap import RATES, bootstrap_patients, f1
from tasks.scores.calibration import best_threshold, calibration, threshold_table
from tasks.scores.curves import precision_recall, roc
from tasks.scores.evaluation import ScoredRecord, per_patient, per_rhythm, per_stratum, summary
from tasks.scores.levels.record_level import record_figures
from tasks.scores.metrics import area_under_roc, beat_metrics, roc_points
from tasks.scores.smoothing import UNSMOOTHED, fit_smoothing, viterbi, without_short


def test_probabilities_that_come_true_have_no_calibration_error() -> None:
    """Labels drawn with the probabilities said give an error near 0; overconfidence does not."""
    random = np.random.default_rng(0)
    p = random.random(200_000)
    label = (random.random(len(p)) < p).astype(np.int8)
    assert calibration(label, p).error < 0.005
    over = 1 / (1 + np.exp(-3 * np.log(p / (1 - p))))
    assert calibration(label, over).error > 0.1


def test_the_threshold_table_agrees_with_the_metrics() -> None:
    """Each row gives what `beat_metrics` gives at that threshold."""
    random = np.random.default_rng(2)
    p = np.round(random.random(500), 2).astype(np.float64)
    label = (random.random(500) < p).astype(np.int8)
    for row in threshold_table(label, p).to_dict("records"):
        whole = beat_metrics(label, p, row["threshold"])
        for name in ("sensitivity", "specificity", "ppv", "f1"):
            assert row[name] == pytest.approx(whole[name], nan_ok=True)
    best = best_threshold(label, p)
    assert beat_metrics(label, p, best)["f1"] >= beat_metrics(label, p, 0.5)["f1"]


def test_the_interval_is_over_patients_not_beats() -> None:
    """The same beats from one patient each or from few give narrower or wider intervals."""
    random = np.random.default_rng(3)
    many = np.stack([random.binomial(100, 0.9, 200), random.binomial(100, 0.1, 200)], axis=1)
    columns = [many[:, 0], many[:, 1], 100 - many[:, 0], 100 - many[:, 1]]
    counts = np.stack(columns, axis=1).astype(np.float64)
    narrow = bootstrap_patients(counts, f1)
    counts[:10, 0], counts[:10, 2] = 0, 100
    few = bootstrap_patients(counts.reshape(10, 20, 4).sum(1), f1)
    assert narrow.low < narrow.value < narrow.high
    assert few.high - few.low > narrow.high - narrow.low
    assert bootstrap_patients(counts, f1) == bootstrap_patients(counts, f1)


def best_path(probability: np.ndarray, change: float) -> float:
    """The score of the best of all courses, by trying each."""
    stay, go = np.log(1 - change), np.log(change)

    def score(path: tuple[int, ...]) -> float:
        emitted = sum(np.log(p if s else 1 - p) for s, p in zip(path, probability, strict=True))
        return float(emitted + sum(stay if a == b else go for a, b in itertools.pairwise(path)))

    return max(score(path) for path in itertools.product((0, 1), repeat=len(probability)))


def test_curves_agree_with_what_a_device_computes() -> None:
    """scikit-learn's corners lie on the device's ROC curve, and have its area."""
    random = np.random.default_rng(4)
    p = np.round(random.random(800), 2).astype(np.float32)
    label = (random.random(800) < p).astype(np.int8)
    false, true = roc(label, p)
    corners = set(zip(*(x.tolist() for x in roc_points(label, p)[:2]), strict=True))
    assert set(zip(false.tolist(), true.tolist(), strict=True)) <= corners
    assert np.trapezoid(true, false) == pytest.approx(area_under_roc(label, p), abs=1e-12)
    sensitivity, ppv = precision_recall(label, p)
    assert (sensitivity[-1], ppv[-1]) == (0, 1)
    found = beat_metrics(label, p, 0.5)
    assert min(np.hypot(sensitivity - found["sensitivity"], ppv - found["ppv"])) < 1e-12


@given(
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=9),
    st.sampled_from([0.5, 0.3, 0.05, 0.001]),
)
def test_viterbi_finds_the_likeliest_course(values: list[float], change: float) -> None:
    """No other course of rhythms has a higher score."""
    probability = np.array(values)
    path = viterbi(probability, change)
    stay, go = np.log(1 - change), np.log(change)
    emitted = np.log(np.where(path, probability, 1 - probability))
    moved = np.where(path[1:] == path[:-1], stay, go)
    mine = float(np.sum(emitted) + np.sum(moved))
    assert mine == pytest.approx(best_path(probability, change))


def test_short_runs_are_filled_by_their_surroundings() -> None:
    """A run of AF under the least length goes, then a gap; a gap at the end stays."""
    decided = np.array([1, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 0], bool)
    assert without_short(decided, 3).astype(int).tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]


def scored(
    label: list[int], decided: list[int], rhythm: list[str], name: str = "a"
) -> ScoredRecord:
    n = len(label)
    return ScoredRecord(
        dataset="made",
        record=name,
        subject=name,
        time_s=np.arange(n, dtype=np.float64) * 10,
        stretches_s=np.array([[0.0, n * 10.0]]),
        label=np.array(label, np.int8),
        rhythm=np.array(rhythm, np.str_),
        symbol=np.full(n, "N"),
        quality=np.zeros(n, np.uint16),
        probability=np.array(decided, np.float32),
        decided=np.array(decided, bool),
        sure=np.ones(n, bool),
        distance=np.ones(n, np.float32),
    )


def test_the_summary_by_hand() -> None:
    """Two patients, ten beats of 10 s each: every level's figures are those counted by hand."""
    one = scored(
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0, 0, 0], ["AFIB"] * 4 + ["N"] * 6
    )
    two = scored([0] * 10, [0] * 6 + [1] * 4, ["N"] * 6 + ["AFL"] * 4, "b")
    figures = summary([one, two])
    assert figures["beat_f1"] == pytest.approx(2 * 4 / (8 + 5))
    assert figures["worst_patient_accuracy"] == pytest.approx(0.6)
    assert figures["episode_sensitivity"] == 1
    assert figures["episode_ppv"] == figures["duration_sensitivity"] == 1  # flutter is left out
    assert figures["duration_ppv"] == pytest.approx(0.8)
    assert figures["burden_error_worst_pp"] == pytest.approx(40)
    assert figures["segment_sensitivity"] == 1
    left_out = summary([s.without(["AFL"]) for s in (one, two)])
    assert left_out["beat_f1"] == pytest.approx(2 * 4 / (8 + 1))
    assert left_out["episode_ppv"] == 1
    rows = per_rhythm([one, two]).to_dict("records")
    assert {row["rhythm"]: row["decided_af"] for row in rows} == {"AFIB": 1, "AFL": 1, "N": 1 / 12}
    assert per_patient([one, two])["patient"].tolist() == ["made/a", "made/b"]
    assert set(RATES) <= set(per_patient([one]).columns)


def test_strata_by_hand() -> None:
    """Beats near an ectopic one, and with a flagged signal, are counted apart."""
    one = scored([0] * 12, [0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0], ["N"] * 12)
    symbol = np.array(["N", "N", "N", "V", *["N"] * 8])
    quality = np.zeros(12, np.uint16)
    quality[9] = Quality.NOISY
    rows = per_stratum([replace(one, symbol=symbol, quality=quality)]).to_dict("records")
    found = {str(row["stratum"]): (row["beats"], row["specificity"]) for row in rows}
    assert found["ectopic beats and two on either side"] == (5, pytest.approx(3 / 5))
    assert found["away from ectopic beats"] == (7, pytest.approx(6 / 7))
    assert found["poor signal (gap, flat, saturated, noisy)"] == (1, 0)
    assert found["signal without a flag"] == (11, pytest.approx(9 / 11))


def test_smoothing_is_fitted_where_it_helps() -> None:
    """A lone wrong beat in each record calls for smoothing; beats that alternate rightly do not."""
    label = np.repeat([0, 1, 0], 50).astype(np.int8)
    probability = np.where(label == 1, 0.9, 0.1)
    probability[[20, 75]] = [0.8, 0.2]
    assert fit_smoothing([label], [probability], 0.5) < UNSMOOTHED
    turns = np.tile([0, 1], 50).astype(np.int8)
    assert fit_smoothing([turns], [np.where(turns == 1, 0.6, 0.4)], 0.5) == UNSMOOTHED


def test_records_that_are_labelled_whole_are_cases() -> None:
    """AF where half of the beats are decided so; not those without a label or labelled by beat."""
    found = scored([1] * 4, [1, 1, 0, 0], ["AFIB"] * 4, "found")
    missed = scored([1] * 4, [1, 0, 0, 0], ["AFIB"] * 4, "missed")
    right = [scored([0] * 4, [0, 0, 0, 0], ["N"] * 4, f"right{k}") for k in range(3)]
    wrong = scored([0] * 4, [1, 1, 1, 0], ["other"] * 4, "wrong")
    noisy = scored([-1] * 4, [1, 1, 1, 1], [""] * 4, "noisy")
    records = [replace(s, labelled_whole=True) for s in (found, missed, *right, wrong, noisy)]
    by_beat = scored([1] * 4, [0] * 4, ["AFIB"] * 4, "by beat")
    figures = record_figures([*records, by_beat])
    assert (figures["labelled_records"], figures["af_records"]) == (6, 2)
    assert figures["record_sensitivity"] == pytest.approx(1 / 2)
    assert figures["record_specificity"] == pytest.approx(3 / 4)
    assert figures["record_f1"] == pytest.approx(2 / 4)
    assert figures["record_f1_low"] <= figures["record_f1"] <= figures["record_f1_high"]
    # P(AF) 0.5 and 0.25 of AF, 0, 0, 0 and 0.75 of the others: six of eight pairs are in order.
    assert figures["record_auc"] == pytest.approx(6 / 8)
    assert record_figures([by_beat]) == {}
    both = figures_of(records)["made"]
    assert both["record_f1"] == figures["record_f1"]
    assert both["records"] == 7
    assert [tile.name for tile in headline("made", both).tiles][:2] == [
        "Record F1",
        "Record sensitivity",
    ]
