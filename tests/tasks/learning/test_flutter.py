"""Atrial flutter in training: neither AF nor its contrary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tasks.features.rhythm import RhythmRecord, rhythm_record
from tasks.learning.rhythm_augment import (
    TARGETS,
    augment_rhythm,
    classes,
)
from tests.tiny import tiny_table


def sinus(n: int = 4_000, seed: int = 0) -> RhythmRecord:
    """Even intervals near 0.8 s."""
    rr_s = np.random.default_rng(seed).normal(0.8, 0.02, n).astype(np.float32)
    return RhythmRecord(f"made/{seed}", f"made/{seed}", rr_s, np.zeros(n, np.int8))


def test_a_beat_table_tells_where_flutter_is() -> None:
    """Its mapped rhythm does; a table without any has no array of it."""
    table = tiny_table(0, 20)
    assert rhythm_record(table).flutter is None
    rhythm = table.rhythm.astype("U8")
    rhythm[4:8] = "AFL"
    record = rhythm_record(replace(table, rhythm=rhythm))
    assert record.flutter is not None
    assert np.flatnonzero(record.flutter).tolist() == [4, 5, 6, 7]
    part = record.part(slice(6, 12))
    assert part.flutter is not None
    assert np.flatnonzero(part.flutter).tolist() == [0, 1]


def test_flutter_is_a_class_of_its_own_where_its_label_is_not_af() -> None:
    """Beats that a data set counts as AF, or whose label is unknown, stay what they are."""
    label = np.array([0, 0, 1, -1, 0, 1], np.int8)
    flutter = np.array([0, 1, 1, 1, 1, 0], bool)
    record = RhythmRecord("a", "a", np.full(6, 0.8, np.float32), label, flutter=flutter)
    assert classes(record).label.tolist() == [0, 2, 1, -1, 2, 1]
    assert record.label.tolist() == label.tolist()
    assert classes(replace(record, flutter=None)).label.tolist() == label.tolist()


def test_flutter_is_aimed_at_between_not_af_and_af() -> None:
    """A later answer "cannot tell" is to catch it, and the nearer decision is not AF."""
    not_af, af, flutter = TARGETS.tolist()
    assert (not_af, af) == (0, 1)
    assert 0.2 < flutter < 0.5


def test_augmentation_keeps_every_class() -> None:
    """A beat that is added has its neighbour's; none turns into another."""
    label = np.repeat(np.array([0, 1, 2, -1], np.int8), 1_000)
    record = replace(sinus(), label=label)
    for seed in range(4):
        augmented = augment_rhythm(record, np.random.default_rng(seed)).label
        changes = augmented[np.flatnonzero(np.diff(augmented)) + 1].tolist()
        assert [int(augmented[0]), *changes] == [0, 1, 2, -1]


@pytest.mark.slow
def test_a_network_learns_to_doubt_flutter() -> None:
    """Where flutter was learnt from, P(AF) of it is neither near 0 nor near 1; AF's stays high."""
    from tasks.learning.rhythm_training import RhythmConfig, fit_rhythm, predict_beats

    random = np.random.default_rng(3)
    ratios = [np.repeat(random.choice([2, 3, 4], 300), 10) for _ in range(3)]
    made = [
        RhythmRecord(
            f"made/{k}",
            f"made/{k}",
            (0.22 * ratio + random.normal(0, 0.004, 3_000)).astype(np.float32),
            np.zeros(3_000, np.int8),
            flutter=np.ones(3_000, bool),
        )
        for k, ratio in enumerate(ratios)
    ]
    af = [
        replace(sinus(seed=k), rr_s=random.gamma(9, 0.09, 4_000).astype(np.float32))
        for k in range(2)
    ]
    af = [replace(r, label=np.ones(len(r), np.int8)) for r in af]
    config = RhythmConfig(epochs=6, steps=20, batch=8, simulated=0)
    model, _ = fit_rhythm("rhythm_tiny", [*made[:2], *af[:1], sinus()], config)
    assert 0.15 < np.median(predict_beats(model, made[2])) < 0.6
    assert np.median(predict_beats(model, af[1])) > 0.8
    assert np.median(predict_beats(model, sinus(seed=9))) < 0.1
