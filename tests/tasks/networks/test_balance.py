"""How often beats are drawn: each once, or data sets by weight, and patients or classes evenly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from storage.tables.checkpoint import Checkpoint
from storage.tables.labelled import LabelledBeats, read_labelled
from tasks.features.rhythm import RhythmRecord
from tasks.learning.balance import balance_records, draw_positions, often
from tasks.learning.training import Course, TrainingConfig, fit, predict
from tests.tiny import tiny_dataset


def record(name: str, n: int, af: float, weight: float = 1.0) -> RhythmRecord:
    label = (np.arange(n) < af * n).astype(np.int8)
    return RhythmRecord(name, name, np.full(n, 0.8, np.float32), label, weight)


def test_balance_weighs_records() -> None:
    """By beats not at all, by patient inversely to length, by class towards the rarer one."""
    records = [record("a", 1_000, 0.0), record("b", 4_000, 0.0), record("c", 1_000, 0.9, 2.0)]
    assert [r.weight for r in balance_records(records, "beats")] == [1, 1, 2]
    by_patient = [r.weight * len(r) for r in balance_records(records, "patient")]
    assert by_patient == pytest.approx([by_patient[0], by_patient[0], 2 * by_patient[0]])
    by_class = balance_records([*records[:2], record("c", 1_000, 1.0)], "class")
    af = sum(r.weight * (r.label == 1).sum() for r in by_class)
    assert af / sum(r.weight * len(r) for r in by_class) == pytest.approx(0.5)
    assert [r.weight for r in balance_records(records[:2], "class")] == [1, 1]
    names = [("one/a", 1_000, 1), ("one/b", 500, 1), ("one/b", 500, 1), ("two/c", 9_000, 3)]
    mixed = [replace(record(name, n, 0.0), weight=weight) for name, n, weight in names]
    by_dataset = [r.weight * len(r) for r in balance_records(mixed, "dataset")]
    assert by_dataset[1] + by_dataset[2] == pytest.approx(by_dataset[0])
    assert by_dataset[3] == pytest.approx(3 * sum(by_dataset[:3]))
    with pytest.raises(ValueError, match="found 'beat'"):
        balance_records(records, "beat")


@pytest.fixture
def beats(tmp_path: Path) -> LabelledBeats:
    """Two data sets of 3 and 2 records of 60 and 100 beats, half of them AF."""
    one = tiny_dataset(tmp_path / "one", 3, 60, 2, "one")
    return read_labelled([one, tiny_dataset(tmp_path / "two", 2, 100, 3, "two")])


def test_a_side_is_drawn_as_asked(beats: LabelledBeats) -> None:
    """Data sets by weight; then patients, or AF and not AF, alike. An epoch keeps its length."""
    mostly = np.flatnonzero((beats.label == 0) | (np.arange(len(beats)) % 5 == 0))
    dataset = np.char.partition(beats.subject[mostly], "/")[:, 0]
    label, subject = beats.label[mostly], beats.subject[mostly]
    assert 0.1 < label.mean() < 0.3

    def sums(weights: dict[str, float], by: str, of: np.ndarray) -> list[float]:
        times = often(beats, weights, by, mostly)
        assert times.dtype == np.float32
        assert times.mean() == pytest.approx(1, abs=1e-5)
        return [float(times[of == one].sum()) for one in np.unique(of)]

    one, two = sums({"two": 3.0}, "beats", dataset)
    assert two / one == pytest.approx(3 * (dataset == "two").sum() / (dataset == "one").sum())
    assert sums({}, "class", label) == pytest.approx([len(mostly) / 2] * 2, rel=1e-4)
    assert sums({}, "patient", subject) == pytest.approx([len(mostly) / 5] * 5, rel=1e-4)
    for by, of in (("class", label), ("patient", subject)):
        judge = compute_sample_weight("balanced", of)
        assert often(beats, {}, by, mostly) == pytest.approx(judge / judge.mean(), rel=1e-5)
    shares = sums({"two": 3.0}, "dataset", subject)
    assert shares[:2] == pytest.approx(shares[1:3])
    assert shares[3] == pytest.approx(shares[4])
    assert sum(shares[3:]) == pytest.approx(3 * sum(shares[:3]), rel=1e-4)
    each = sums({"one": 2.0}, "patient", subject)
    assert each[0] / each[-1] == pytest.approx(2)
    with pytest.raises(ValueError, match="found 'beat'"):
        often(beats, {}, "beat", mostly)
    only = np.flatnonzero(beats.label == 0)
    assert np.array_equal(often(beats, {}, "class", only), np.ones(len(only), np.float32))


def test_beats_come_as_often_as_they_are_to() -> None:
    """Each once where each is to; others in the mean, whole times and once more by chance."""
    side, random = np.arange(3, 4_003), np.random.default_rng(0)
    assert np.array_equal(draw_positions(side, np.ones(4_000, np.float32), random), side)
    times = np.tile(np.array([0.25, 2.5], np.float32), 2_000)
    index = draw_positions(side, times, random)
    assert np.all(np.diff(index) >= 0)
    count = np.bincount(index - 3, minlength=4_000).reshape(-1, 2)
    assert count.mean(axis=0) == pytest.approx([0.25, 2.5], abs=0.05)
    assert set(count[:, 0]) == {0, 1}
    assert set(count[:, 1]) == {2, 3}


@pytest.mark.slow
def test_a_training_learns_from_what_is_drawn(beats: LabelledBeats, tiny_network: str) -> None:
    """A network that is only shown AF finds it everywhere, and goes on from a checkpoint alike."""
    index = np.arange(len(beats))
    sides = index[index % 3 != 0], index[index % 3 == 0]
    config = TrainingConfig(epochs=3, batch=32, learning_rate=2e-2, seed=5)

    def only_af(side: np.ndarray) -> np.ndarray:
        return np.asarray(2 * beats.label[side], np.float32)

    kept: list[Checkpoint] = []
    model, state = fit(tiny_network, beats, sides, config, Course(None, kept.append), only_af)
    again, _ = fit(tiny_network, beats, sides, config, Course(kept[0]), only_af)
    assert all(map(np.array_equal, model.get_weights(), again.get_weights()))
    assert state.history["val_accuracy"][-1] == 1
    answers = predict(model, beats.waveform[sides[1]])
    assert answers.min() > 0.5
    evenly, _ = fit(tiny_network, beats, sides, config)
    assert predict(evenly, beats.waveform[sides[1]]).min() < 0.5
