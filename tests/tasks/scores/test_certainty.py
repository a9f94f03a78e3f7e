"""Laws of the figures of what is told, and of the words for a rule."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decide.promote import _hint
from flows.reports.evaluation import figures_of, headline
from storage.audit import outcomes
from storage.files import sha256_file
from storage.registry import client, tracking
from storage.registry.models import ModelVersion
from storage.tables.beats import Quality
from tasks.pages.decision import decision_words
from tasks.pages.document import Drawing
from tasks.pages.mistakes import tachogram, worst_mistakes
from tasks.scores.drift import profile
from tasks.scores.episodes import told_share
from tasks.scores.evaluation import ScoredRecord, per_patient, per_rhythm, summary
from tasks.scores.levels.certainty import (
    coverage_at,
    coverage_curve,
    episode_fates,
    told_figures,
)
from tasks.scores.levels.record_level import record_figures
from tasks.scores.rule import LengthScaling, Risk, Rule, judge
from tests.tasks.scores.test_rule import answers_of, table_of

RISK = Risk(0.005, 0.004, 0.96, 56, 0.0217)
RULE = Rule(0.4, 1e-4, (LengthScaling(12, 2, 0.5), LengthScaling(768, 1, 0.3)), 0.4, 2.0, 31, RISK)


def scored(
    label: np.ndarray, decided: np.ndarray, sure: np.ndarray | None = None, name: str = "a"
) -> ScoredRecord:
    """A beat a second."""
    n = len(label)
    return ScoredRecord(
        dataset="made",
        record=name,
        subject=name,
        time_s=np.arange(n, dtype=np.float64),
        stretches_s=np.array([[0.0, n]]),
        label=label.astype(np.int8),
        rhythm=np.where(label == 1, "AFIB", "N"),
        symbol=np.full(n, "N"),
        quality=np.zeros(n, np.uint16),
        probability=decided.astype(np.float32),
        decided=decided.astype(bool),
        sure=np.ones(n, bool) if sure is None else sure,
        distance=np.linspace(0, 5, n).astype(np.float32),
    )


def walks(seed: int, n: int = 1800) -> list[ScoredRecord]:
    """Records of some patients, right mostly, some beats not told, some without a rhythm."""
    out = []
    for number in range(5):
        random = np.random.default_rng([seed, number])
        label = np.repeat(random.random(n // 60) < 0.5, 60).astype(np.int8)
        decided = np.where(random.random(n) < 0.02, 1 - label, label)
        label[random.random(n) < 0.05] = -1
        sure = np.repeat(random.random(n // 20) < 0.8, 20)
        distance = random.random(n).astype(np.float32)
        out.append(replace(scored(label, decided, sure, str(number)), distance=distance))
    return out


@given(st.integers(0, 50))
def test_who_tells_everything_has_the_same_figures_told_and_not(seed: int) -> None:
    """Where every beat is told, coverage is 1 and each figure of what is told is the plain one."""
    records = [replace(s, sure=np.ones(len(s.label), bool)) for s in walks(seed, 600)]
    plain, told = summary(records, draws=50), told_figures(records, draws=50)
    for level in ("", "segment_", "episode_"):
        assert told[f"{level}coverage"] == 1
    for rate in ("accuracy", "f1", "sensitivity", "ppv", "specificity"):
        for end in ("", "_low", "_high"):
            assert told[f"sure_{rate}{end}"] == pytest.approx(plain[f"beat_{rate}{end}"])
            segment = plain[f"segment_{rate}{end}"]
            assert told[f"segment_sure_{rate}{end}"] == pytest.approx(segment, nan_ok=True)
    assert told["episode_sure_ppv"] == pytest.approx(plain["episode_ppv"], nan_ok=True)
    found = plain["episode_sensitivity"]
    assert told["episode_sure_sensitivity"] == pytest.approx(found, nan_ok=True)
    assert told["episodes_untold"] == 0
    patients = per_patient(records)
    assert patients["burden_low"].tolist() == pytest.approx(patients["burden_high"].tolist())


def test_plain_figures_do_not_know_what_is_told() -> None:
    """So releases from before a margin compare with those that have one."""
    records = walks(3)
    everything = [replace(s, sure=np.ones(len(s.label), bool)) for s in records]
    assert summary(records) == pytest.approx(summary(everything), nan_ok=True)


def test_what_is_told_by_hand() -> None:
    """Four minutes: AF in the second and third, decided so but for half a minute, told in part."""
    label = np.repeat([0, 1, 1, 0], 60)
    decided = np.repeat([0, 0, 1, 1, 1, 1, 1, 0], 30)
    sure = np.repeat([1, 1, 1, 1, 1, 1, 0, 1], 30).astype(bool)  # the false alarm is not told
    one = scored(label, decided, sure)
    figures = told_figures([one])
    assert figures["coverage"] == pytest.approx(7 / 8)
    assert figures["sure_accuracy"] == figures["sure_ppv"] == 1
    assert figures["segment_coverage"] == pytest.approx(7 / 8)
    assert figures["segment_sure_accuracy"] == 1
    assert figures["episode_coverage"] == figures["episode_sure_ppv"] == 1
    assert (figures["episodes_found"], figures["episodes_missed"]) == (1, 0)
    row = per_patient([one]).to_dict("records")[0]
    assert (row["burden_low"], row["burden_high"]) == (pytest.approx(0.5), pytest.approx(0.625))
    assert (row["coverage"], row["sure_accuracy"]) == (pytest.approx(0.875), 1)
    rhythms = {r["rhythm"]: r for r in per_rhythm([one]).to_dict("records")}
    assert rhythms["N"]["decided_af"] == rhythms["N"]["cannot_tell"] == pytest.approx(1 / 4)
    assert rhythms["N"]["told_af"] == 0


def test_an_annotated_episode_is_found_or_missed_or_cannot_be_told() -> None:
    """Three episodes: decided and told; told to be none; decided, and not told."""
    label = np.repeat([0, 1, 0, 1, 0, 1, 0], 60)
    decided = np.repeat([0, 1, 0, 0, 0, 1, 0], 60)
    sure = np.repeat([1, 1, 1, 1, 1, 0, 1], 60).astype(bool)
    assert episode_fates(scored(label, decided, sure)).tolist() == [1, 1, 1]


def test_a_record_is_told_where_half_of_its_beats_are() -> None:
    label, half = np.ones(10), np.arange(10) < 5
    told = scored(label, np.ones(10), half, "told")
    untold = scored(label, np.zeros(10), np.arange(10) < 4, "untold")
    records = [replace(s, labelled_whole=True) for s in (told, untold)]
    figures = record_figures(records)
    assert figures["record_coverage"] == pytest.approx(1 / 2)
    assert figures["record_sensitivity"] == pytest.approx(1 / 2)
    assert figures["record_sure_sensitivity"] == 1


@given(st.integers(0, 30))
def test_coverage_over_accuracy(seed: int) -> None:
    """The curve ends where all is told, and at each corner is what a margin there would give."""
    records = [replace(s, distance=np.round(s.distance, 1)) for s in walks(seed, 300)]
    coverage, accuracy = coverage_curve(records)
    known = np.concatenate([s.label for s in records]) >= 0
    right = np.concatenate([s.decided == (s.label == 1) for s in records])[known]
    distance = np.concatenate([s.distance for s in records])[known]
    assert coverage[-1] == 1
    assert accuracy[-1] == pytest.approx(right.mean())
    for margin, share, correct in zip(np.unique(distance)[::-1], coverage, accuracy, strict=True):
        told = distance >= margin
        assert (share, correct) == (pytest.approx(told.mean()), pytest.approx(right[told].mean()))
    best = coverage_at(0.98, coverage, accuracy)
    assert best == max([c for c, a in zip(coverage, accuracy, strict=True) if a >= 0.98], default=0)


def test_the_told_share_is_of_the_beats_of_each_interval() -> None:
    """From its first beat to the last before its end; an interval without a beat is told."""
    sure = np.array([1, 0, 0, 1, 0, 0], bool)
    time_s = np.array([1.0, 2, 3, 4, 5, 9])
    assert told_share(np.array([[1.0, 3], [1.2, 1.8], [2, 5]]), time_s, sure).tolist() == [
        *(0.5, 1.0, pytest.approx(1 / 3))
    ]


def test_coverage_stands_beside_accuracy_on_the_first_screen() -> None:
    records = walks(1)
    tiles = {tile.name: tile.value for tile in headline("made", figures_of(records)["made"]).tiles}
    figures = told_figures(records)
    assert tiles["Share of beats told"] == f"{figures['coverage']:.4f}"
    assert tiles["Beat accuracy where told"] == f"{figures['sure_accuracy']:.4f}"


@pytest.mark.filterwarnings("default")  # Prefect's and MLflow's own, at import
def test_evaluations_and_drift_decide_by_the_version_s_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told, and P(AF), are those of `judge`; not those of the threshold alone."""
    from flows.decide import drift, evaluate

    table = table_of(900)
    table.quality[5] = Quality.NOISY
    answers, mask = answers_of(900), np.ones(900, bool)
    (tmp_path / "r.parquet").write_bytes(b"")
    entry = SimpleNamespace(
        file="r.parquet",
        sha256=sha256_file(tmp_path / "r.parquet"),
        record="r",
        labelled_whole=False,
    )
    manifest = SimpleNamespace(dataset="d", entries=[entry])
    tags = {
        "holter.sha256.model.tflite": "",
        "holter.threshold": "0.4",
        "holter.smoothing_change": "0.0001",
        "holter.certainty": json.dumps(RULE.certainty()),
    }
    version: Any = ModelVersion("holter-rhythm", 1, "0" * 32, tags)
    for flow in (drift, evaluate):
        monkeypatch.setattr(flow, "read_beats", lambda *_, **__: table)
        monkeypatch.setattr(flow, "probabilities", lambda *_: (answers, mask))
    monkeypatch.setattr(drift, "LiteRT", lambda _file: None)
    monkeypatch.setattr(evaluate, "registered_network", lambda *_: None)
    monkeypatch.setattr(drift, "model_bytes", lambda _model: b"")
    monkeypatch.setattr(evaluate, "work_folder", lambda _run: tmp_path)
    monkeypatch.setattr(client, "fetch_model_file", lambda *_: tmp_path / "r.parquet")
    made: Any = SimpleNamespace(path=tmp_path / "manifest.json", manifest=manifest)
    (record,) = evaluate.score_dataset.fn(version, made, 1)
    expected = judge(RULE, table, answers)
    for name in ("probability", "decided", "sure", "distance"):
        assert np.array_equal(getattr(record, name), getattr(expected, name)), name
    assert 0 < expected.sure.mean() < 1
    seen: Any = SimpleNamespace(model=version)
    (drifted,) = drift.profiles_of(seen, made.manifest, made.path)
    assert drifted == profile(table, expected.probability, expected.decided)


@pytest.mark.filterwarnings("default")  # Prefect's and MLflow's own, at import
def test_an_evaluation_s_report_and_metrics_tell_the_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coverage goes to MLflow and to the first screen; the rule stands in the report in words."""
    from flows.decide import evaluate

    logged: dict[str, float] = {}
    monkeypatch.setattr(evaluate, "work_folder", lambda _run: tmp_path)
    monkeypatch.setattr(outcomes, "write_outcome", lambda *_: None)
    monkeypatch.setattr(tracking, "log_table", lambda *_: None)
    monkeypatch.setattr(tracking, "log_folder", lambda *_: None)
    monkeypatch.setattr(tracking, "log_metrics", lambda _run, clean: logged.update(clean))
    monkeypatch.setattr(evaluate, "read_beats", lambda _path: table_of(10))
    tags = {"holter.threshold": "0.4", "holter.certainty": json.dumps(RULE.certainty())}
    version: Any = ModelVersion("holter-rhythm", 1, "0" * 32, tags)
    records = walks(2, 300)
    files: Any = {("made", s.record): None for s in records}
    result = evaluate.write_up.fn(version, records, files, [], "0" * 32)
    expected = told_figures(records)
    for name in ("coverage", "coverage_low", "sure_accuracy", "coverage_at_0.995"):
        assert logged[f"made_{name}"] == pytest.approx(expected[name])
    page = result.report.read_text()
    for words in ("31 beats around lies between", "In 56 patients", "2.17 % at most"):
        assert words in page
    assert f"{expected['coverage']:.4f}" in page.split("<h2")[0]


def test_a_policy_may_ask_for_coverage() -> None:
    """Where it was not measured, the refusal names the evaluation that measures it."""
    for figure in ("nsrdb_coverage", "nsrdb_sure_accuracy_low", "nsrdb_coverage_at_0.995"):
        assert _hint(figure, "m/1") == "not evaluated: holter evaluate m/1 --on nsrdb"
    assert "nothing measures" in _hint("coverage", "m/1")


def test_the_words_tell_the_whole_rule() -> None:
    """Threshold, smoothing, limits of P, risk with patients and bound, and the share of AF."""
    text = " ".join(decision_words(RULE))
    low, high = RULE.limits
    expected = (
        f"Threshold {RULE.calibrated_threshold:.3g} of P(AF)",
        "0.4 of the network's own",
        "probability of a change 0.0001",
        f"31 beats around lies between {low:.2g} and {high:.2g}",
        "fixed for 0.5 % of wrong answers",
        "In 56 patients",
        "96 % of the beats were told and 0.4 % told wrongly",
        "2.17 % at most",
        "12 % where less than 120 s",
    )
    assert [part for part in expected if part not in text] == []
    plain = decision_words(Rule(0.4))
    assert plain == [
        "Threshold 0.4, not smoothed.",
        "The release has no margin: every beat is told.",
    ]


def test_a_mistake_says_how_much_of_it_was_told() -> None:
    label, sure = np.repeat([0, 1, 0], 100), np.arange(300) >= 150
    (mistake,) = worst_mistakes([scored(label, np.zeros(300), sure)])
    drawing = tachogram(mistake)
    assert isinstance(drawing, Drawing)
    assert "missed AF, 100 s, 50% of its beats told" in drawing.shows


@pytest.mark.parametrize("beats", [0, 1])
def test_where_there_is_nothing_to_count_figures_are_not_defined(beats: int) -> None:
    """A record without a beat, or without a known rhythm, is no error and no number."""
    nothing = scored(np.full(beats, -1), np.zeros(beats))
    figures = told_figures([nothing], draws=10)
    assert np.isnan([figures["coverage"], figures["sure_f1"], figures["coverage_at_0.995"]]).all()
    assert np.isnan(per_patient([nothing])["coverage"]).all()
