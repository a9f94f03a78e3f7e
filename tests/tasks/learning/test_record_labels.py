"""Records of one label each, of whose beats AF may fill a part: what training makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.recordings.marks import LABEL
from storage.tables.beats_manifest import read_manifest, write_manifest
from storage.tables.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from tasks.features.rhythm import RhythmRecord, join_records
from tasks.learning import rhythm_training
from tasks.learning.rhythm_augment import augment_rhythm
from tasks.learning.rhythm_drawing import SHEET_BEATS, bag_label, draw_rhythm, sheets
from tasks.learning.rhythm_training import (
    RhythmConfig,
    fit_rhythm,
    label_bags,
    log_loss,
    predict_beats,
    predict_records,
)
from tasks.learning.training import Course
from tasks.networks.models import build
from tests.tiny import tiny_dataset


def strip(number: int, n: int = 40, *, af: bool = False, weight: float = 1.0) -> RhythmRecord:
    """A strip of n beats with one label; its first interval is unknown."""
    random = np.random.default_rng(number)
    rr_s = random.normal(0.8, 0.15 if af else 0.01, n).astype(np.float32)
    rr_s[0] = np.nan
    label = np.full(n, int(af), np.int8)
    name = f"made/{number}"
    return RhythmRecord(name, name, rr_s, label, weight, labelled_whole=True)


def strips(count: int = 60) -> list[RhythmRecord]:
    """Every third of them AF, 20 to 60 beats long."""
    return [strip(k, 20 + 7 * k % 41, af=k % 3 == 0) for k in range(count)]


def test_the_beats_of_the_greater_probability_count_as_af_and_half_at_least() -> None:
    """The others of a record of AF count nowhere; all of one that is not AF count so."""
    one, none = np.ones(6, np.int8), np.zeros(6, np.int8)
    p = np.array([0.1, 0.9, 0.2, 0.3, 0.05, 0.4], np.float32)
    assert bag_label(one, p).tolist() == [-1, 1, -1, 1, -1, 1]
    assert bag_label(one, p + 0.35).tolist() == [-1, 1, 1, 1, -1, 1]
    assert bag_label(one, np.full(6, 0.2, np.float32)).tolist() == [1] * 6
    assert bag_label(one, np.full(6, 0.9, np.float32)).tolist() == [1] * 6
    assert bag_label(none, p).tolist() == [0] * 6
    assert bag_label(none - np.int8(1), p).tolist() == [-1] * 6


def test_joined_records_are_stretches_that_keep_apart() -> None:
    """A network answers of each as it answers of it alone; the records joined stay as they are."""
    few = strips(7)
    joined = join_records(few)
    assert [len(part) for part in joined.stretches()] == [len(one) for one in few]
    assert np.array_equal(joined.label, np.concatenate([one.label for one in few]))
    model = build("rhythm_tiny", seed=1)
    together = list(predict_records(model, "rhythm_tiny", few))
    for record, answer in zip(few, together, strict=True):
        np.testing.assert_allclose(answer, predict_beats(model, record), atol=1e-6)
    assert list(predict_records(model, "rhythm_tiny", [])) == []
    shaped = replace(few[1], shape=np.ones((len(few[1]), 80), np.float32))
    fluttering = replace(few[2], flutter=np.ones(len(few[2]), bool))
    joined = join_records([few[0], shaped, fluttering])
    assert joined.shape is not None
    assert joined.flutter is not None
    assert np.isfinite(joined.shape[:, 0]).sum() == len(shaped)
    assert joined.flutter.sum() == len(fluttering)


def test_augmentation_keeps_stretches_apart() -> None:
    """Beats come and go; no stretch does, and each keeps its label from end to end."""
    few = strips()
    joined = join_records(few)
    lengths = set()
    for seed in range(5):
        augmented = augment_rhythm(joined, np.random.default_rng(seed))
        parts = augmented.stretches()
        assert [int(part.label[0]) for part in parts] == [int(one.label[0]) for one in few]
        assert all(len(np.unique(part.label)) == 1 for part in parts)
        lengths.add(len(augmented))
    assert len(lengths) > 1


def test_strips_share_windows_to_learn_from() -> None:
    """Several lie in a window, as far apart as a record's stretches; none is lost on the way."""
    few = strips()
    x, y = draw_rhythm("rhythm", few, [], 20, np.random.default_rng(0))
    there = x[..., 4] == 1
    begins = (np.diff(there.astype(int), axis=1) == 1).sum(axis=1)
    assert begins.max() >= 2
    assert (y[there] >= 0).all()
    assert 0.1 < (y[there] == 1).mean() < 0.6
    made = sheets(few, np.random.default_rng(0))
    assert sum(map(len, made)) == sum(map(len, few))
    assert all(len(sheet) <= SHEET_BEATS for sheet in made)
    longer = sheets([strip(k, 400) for k in range(30)], np.random.default_rng(0))
    assert len(longer) == 6
    assert [len(sheet) for sheet in sheets([strip(0, 9_000)] * 2, np.random.default_rng(0))] == [
        9_000
    ] * 2


def test_strips_are_drawn_by_their_weights() -> None:
    """One of three times the others' weight is there three times as often; of none, never."""
    few = [strip(0, 31, weight=3.0), strip(1, 37), strip(2, 41, weight=0.0), strip(3, 43)]
    count = dict.fromkeys((31, 37, 41, 43), 0)
    for seed in range(200):
        for sheet in sheets(few, np.random.default_rng(seed)):
            for part in sheet.stretches():
                count[len(part)] += 1
    assert count[41] == 0
    assert count[31] / count[37] == pytest.approx(3, rel=0.2)


def test_only_records_of_one_label_are_labelled_anew() -> None:
    """Those of AF lose their doubtful half in doubt; in validation they count the same way."""
    model = build("rhythm_tiny", seed=1)
    few = strips(12)
    labelled = {record.name: record for record in label_bags(model, "rhythm_tiny", few)}
    for record in few:
        expected = bag_label(record.label, predict_beats(model, record))
        assert np.array_equal(labelled[record.name].label, expected)
    known = sum(int((r.label >= 0).sum()) for r in labelled.values())
    assert known < sum(map(len, few))
    alone = [log_loss(model, [record]) for record in labelled.values()]
    sizes = [int((record.label >= 0).sum()) for record in labelled.values()]
    assert log_loss(model, few) == pytest.approx(np.average(alone, weights=sizes), rel=1e-5)


@pytest.mark.slow
def test_strips_are_labelled_anew_each_epoch_and_a_training_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts as AF follows from the checkpoint alone; what is learnt tells AF's half."""
    mixed = [join_records([strip(k, 60, af=True), strip(k + 99, 50)]) for k in range(20)]
    for record in mixed:
        record.rr_s[60] = 0.8
        record.label[:] = 1
    learn = [*mixed, *(strip(k, 110) for k in range(200, 230))]
    config = RhythmConfig(epochs=6, steps=12, batch=8, simulated=0, augment=False)
    counted: list[int] = []

    def counting(model: Any, name: str, bags: Sequence[RhythmRecord]) -> list[RhythmRecord]:
        labelled = label_bags(model, name, bags)
        counted.append(sum(int((record.label == 1).sum()) for record in labelled))
        return labelled

    monkeypatch.setattr(rhythm_training, "label_bags", counting)
    kept: list[Checkpoint] = []
    model, _ = fit_rhythm("rhythm_tiny", learn, config, course=Course(keep=kept.append))
    answers = list(predict_records(model, "rhythm_tiny", learn))
    assert min(answer[10:50].mean() for answer in answers[:20]) > 0.8
    assert max(answer.mean() for answer in answers[20:]) < 0.3
    assert len(counted) == 6
    assert 20 * 55 <= min(counted) < 20 * 110
    write_checkpoint(tmp_path / "c.npz", kept[2])
    start = read_checkpoint(tmp_path / "c.npz")
    again, _ = fit_rhythm("rhythm_tiny", learn, config, course=Course(start))
    assert counted[6:] == counted[3:6]
    pairs = zip(model.get_weights(), again.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.filterwarnings("default")  # Prefect's own, at import
def test_a_training_is_told_which_records_have_one_label(tmp_path: Path) -> None:
    """The manifest's word for what told a record's rhythm becomes the record's own."""
    from flows.ingest.flow import IngestResult
    from flows.train.records import read
    from flows.train.settings import RecordSettings, train_settings

    path = tiny_dataset(tmp_path, records=6)
    manifest = read_manifest(path)
    entries = [
        replace(entry, label_source=LABEL if k % 2 else "annotation")
        for k, entry in enumerate(manifest.entries)
    ]
    manifest = replace(manifest, entries=tuple(entries))
    path = write_manifest(path, manifest)
    settings = train_settings(datasets=[{"dataset": "afdb"}], model="rhythm_tiny")
    assert isinstance(settings, RecordSettings)
    recipe = read(settings, [IngestResult(path, manifest, ())], ["rhythm_tiny"])
    assert [record.labelled_whole for record in recipe.records] == [False, True] * 3
