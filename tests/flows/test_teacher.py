"""Distillation: a student learns from a registered teacher that knows none of its test subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from flows.train.teacher import Teacher, refuse_unless_fit, teaching_of
from storage.errors import ModelError, SplitError
from storage.registry.model_files import inputs_of
from storage.tables.checkpoint import Checkpoint
from storage.tables.labelled import read_labelled
from tasks.features.rhythm import RhythmRecord
from tasks.learning.distillation import Teaching, distillation_loss, label_targets
from tasks.learning.rhythm_training import RhythmConfig, fit_rhythm
from tasks.learning.training import Course, TrainingConfig, fit, predict
from tasks.networks.models import build
from tests.tiny import tiny_dataset


def teaching(name: str, weight: float = 0.5, temperature: float = 1.0) -> Teaching:
    """An untrained teacher: its answers differ from the labels."""
    return Teaching(name, partial(predict, build(name, seed=9), batch=32), weight, temperature)


def weights(model: object) -> np.ndarray:
    return np.concatenate([w.ravel() for w in model.get_weights()])  # type: ignore[attr-defined]


def test_the_loss_is_the_papers() -> None:
    """By hand: labels and softened answers by their weights, T squared; labels alone where none."""
    label, q, p = np.array([[1, 0], [0.9, 0.2], [0.6, 0.3]], np.float32)
    taught = Teaching("squeeze", lambda _: q, weight=0.3, temperature=2.0)
    target = taught.targets(label, {"waveform": np.zeros((2, 300, 1), np.float32)})

    def soft(x: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + ((1 - x) / x) ** 0.5))

    def entropy(t: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.asarray(-(t * np.log(x) + (1 - t) * np.log(1 - x)))

    np.testing.assert_allclose(target, np.stack([label, soft(q)], 1), atol=1e-6)
    expected = 0.7 * entropy(label, p) + 0.3 * 4 * entropy(soft(q), soft(p))
    loss = distillation_loss(0.3, 2.0)
    answers = np.stack([1 - p, p], 1)
    np.testing.assert_allclose(np.asarray(loss(target, answers)), expected, rtol=1e-5)
    found = np.asarray(loss(label_targets(label), answers))
    np.testing.assert_allclose(found, entropy(label, p), rtol=1e-5)
    for weight, temperature, told in ((0.0, 1.0, "found 0"), (1.1, 1.0, "1.1"), (0.5, 0.5, "0.5")):
        with pytest.raises(ValueError, match=told):
            Teaching("squeeze", lambda _: q, weight, temperature)


@pytest.mark.slow
def test_a_fused_teacher_teaches_a_student_of_the_rhythm() -> None:
    """The student with a teacher differs from one without; broken off, it ends the same.

    It reads the rhythm of the windows whose shapes the teacher reads, none of them hidden.
    """
    random = np.random.default_rng(0)
    label = np.repeat([0, 1], 700).astype(np.int8)
    rr_s = random.normal(0.8, np.where(label == 1, 0.15, 0.01)).astype(np.float32)
    shape = random.normal(0, 1, (1_400, 80)).astype(np.float32)
    records = [RhythmRecord("a", "a", rr_s, label, shape=shape)]
    config = RhythmConfig(2, 2, 2, simulated=0, augment=False, hidden=1.0)
    seen: list[Mapping[str, np.ndarray]] = []
    fused = teaching("fused")

    def answer(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        seen.append(inputs)
        return fused.answer(inputs)

    watched = replace(fused, answer=answer)
    kept: list[Checkpoint] = []
    taught, _ = fit_rhythm(
        "rhythm_tiny", records, config, course=Course(keep=kept.append, teaching=watched)
    )
    assert {key: x.shape for key, x in seen[0].items()} == {
        "cues": (4, 640, 12),
        "shape": (4, 640, 80),
    }
    assert all(x["shape"].any(axis=(1, 2)).all() for x in seen)
    alone, _ = fit_rhythm("rhythm_tiny", records, config)
    assert not np.allclose(weights(taught), weights(alone), atol=1e-4)
    again, _ = fit_rhythm("rhythm_tiny", records, config, course=Course(kept[0], teaching=fused))
    assert np.array_equal(weights(again), weights(taught))


@pytest.mark.slow
def test_a_teacher_of_single_beats(tmp_path: Path, tiny_network: str) -> None:
    """The same for single beats; the loss of the validation is of the labels alone."""
    beats = read_labelled([tiny_dataset(tmp_path, 4, 60)])
    sides = np.arange(180), np.arange(180, 240)
    config = TrainingConfig(epochs=2, batch=32, learning_rate=3e-3)
    taught = teaching(tiny_network, 1.0, 3.0)
    kept: list[Checkpoint] = []
    model, state = fit(
        tiny_network, beats, sides, config, Course(keep=kept.append, teaching=taught)
    )
    alone, _ = fit(tiny_network, beats, sides, config)
    assert not np.allclose(weights(model), weights(alone), atol=1e-4)
    again, _ = fit(tiny_network, beats, sides, config, Course(kept[0], teaching=taught))
    assert np.array_equal(weights(again), weights(model))
    p = predict(model, beats.waveform[sides[1]])
    right = np.where(beats.label[sides[1]] == 1, p, 1 - p)
    assert state.best_loss == pytest.approx(-np.log(right).mean(), rel=1e-3)
    assert state.history["val_accuracy"][state.best_epoch] == pytest.approx((right > 0.5).mean())


@pytest.mark.slow
def test_a_teacher_of_other_inputs_is_refused(tmp_path: Path) -> None:
    """Weights of four columns fit the network of five: they are refused by their manifest."""
    build("rhythm_tiny", seed=0).save_weights(tmp_path / "model.weights.h5")
    data = (tmp_path / "model.weights.h5").read_bytes()
    today = inputs_of(build("rhythm_tiny"))
    old = {"rhythm": [*today["rhythm"][:-1], 4]}
    teacher = Teacher("holter-x/1", "run", "rhythm_tiny", "0" * 64, data, {}, (), today)
    assert teaching_of(teacher).name == "rhythm_tiny"
    with pytest.raises(ModelError, match=r"holter-x/1 cannot teach: found inputs .* 4\]"):
        teaching_of(replace(teacher, inputs=old))


def test_a_teacher_that_knows_a_test_subject_is_refused() -> None:
    """The subjects are named, and by whom they were seen; so are networks that do not fit."""
    saw = {"d/1": "holter-fused/3", "d/2": "holter-rhythm/1"}
    fused = Teacher("holter-fused/3", "run", "fused", "0" * 64, b"", saw)
    refuse_unless_fit(fused, "rhythm_tiny", ["d/3"])
    with pytest.raises(SplitError, match=r"holter-rhythm/1 was trained or validated on d/2, whom"):
        refuse_unless_fit(fused, "rhythm_tiny", ["d/2", "d/3"])
    with pytest.raises(ValueError, match="fused reads whole records, squeeze not"):
        refuse_unless_fit(fused, "squeeze", [])
    with pytest.raises(ValueError, match="rhythm_causal is causal, fused not"):
        refuse_unless_fit(fused, "rhythm_causal", [])
