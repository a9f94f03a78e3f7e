"""Trainings stream their beats: each once an epoch, shuffled by the seed, from where they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.errors import TableError
from storage.tables.checkpoint import Checkpoint
from storage.tables.labelled import LabelledBeats, Names, names_of, read_labelled
from storage.tables.testset import TestSet, read_testset, write_testset
from tasks.learning.epochs import in_order, pools, shuffled_batches
from tasks.learning.splits import interpatient, split_beats
from tasks.learning.training import Course, TrainingConfig, fit, predict, stale
from tests.tiny import tiny_dataset, tiny_table

RECORDS, BEATS, GROUPS = 6, 90, 3


@pytest.fixture
def beats(tmp_path: Path) -> LabelledBeats:
    """The beats of six records in three row groups each."""
    return read_labelled([tiny_dataset(tmp_path, RECORDS, BEATS, GROUPS)])


def epoch(beats: LabelledBeats, index: np.ndarray, seed: int, number: int = 0) -> np.ndarray:
    """What tells a beat from all others, in the order in which an epoch brings them."""
    random = np.random.default_rng([seed, number])
    batches = [x for x, _ in shuffled_batches(beats, index, 16, random)]
    assert {len(x) for x in batches[:-1]} == {16}
    return np.concatenate(batches)[:, 0, 0]


def test_every_beat_comes_once_an_epoch(beats: LabelledBeats) -> None:
    """An epoch over several records' tables holds each beat of its side once, with its label."""
    index = np.flatnonzero(np.arange(len(beats)) % 4 != 1)
    expected = beats.waveform[index][:, 0]
    for number in range(3):
        assert np.array_equal(np.sort(epoch(beats, index, 7, number)), np.sort(expected))
    for x, y in shuffled_batches(beats, index, 16, np.random.default_rng(0)):
        assert np.array_equal(y[:, 1], x[:, 1:].mean(axis=(1, 2)) > 0.5)
        assert np.array_equal(y.sum(axis=1), np.ones(len(x)))


def test_the_seed_and_the_epoch_give_the_order(beats: LabelledBeats) -> None:
    """The same seed and epoch bring the same order; another of either, another."""
    index = np.arange(len(beats))
    first = epoch(beats, index, 1)
    assert np.array_equal(first, epoch(beats, index, 1))
    assert not np.array_equal(first, epoch(beats, index, 2))
    assert not np.array_equal(first, epoch(beats, index, 1, number=1))


def test_pools_are_bounded_and_mixed() -> None:
    """However many beats there are, a pool holds `most`, of as many row groups as it needs."""
    starts, index = np.arange(0, 40_001, 400), np.arange(0, 40_000, 2)
    made = list(pools(starts, index, 3_000, np.random.default_rng(3)))
    assert [len(pool) for pool in made] == [3_000] * 6 + [2_000]
    assert np.array_equal(np.sort(np.concatenate(made)), index)
    for pool in made[:-1]:
        assert 15 <= len(np.unique(pool // 400)) <= 17
        assert len(np.unique(pool[:128] // 400)) > 10


def test_waveforms_come_in_the_order_asked_for(beats: LabelledBeats) -> None:
    """Any positions, repeated or not, give the rows that the tables hold there."""
    tables = np.concatenate([tiny_table(k, BEATS).waveform for k in range(RECORDS)])
    assert len(beats) == len(tables)
    for index in (np.array([400, 3, 3, 539, 0]), np.arange(540)[::-1], np.empty(0, np.int64)):
        assert np.array_equal(beats.waveform[index], tables[index])
    whole = np.concatenate([x for x, _ in in_order(beats, np.arange(540))])[..., 0]
    assert np.array_equal(whole, tables)


def test_a_table_that_changes_under_a_training_is_refused(
    beats: LabelledBeats, tmp_path: Path
) -> None:
    """A table that was written anew after its digest was checked is not read."""
    other = (tmp_path / "3.parquet").read_bytes()
    (tmp_path / "2.parquet").write_bytes(other)
    with pytest.raises(TableError, match=r"2\.parquet: found another file"):
        epoch(beats, np.arange(len(beats)), 0)
    assert len(epoch(beats, np.arange(2 * BEATS), 0)) == 2 * BEATS


def test_names_split_as_text_does(beats: LabelledBeats) -> None:
    """Splits by names and numbers are those by text, to the digest."""
    text = beats.subject[np.arange(len(beats))]
    assert np.array_equal(text, np.repeat([f"tiny/{k}" for k in range(RECORDS)], BEATS))
    assert isinstance(beats.subject, Names)
    assert beats.subject.among(np.array([5, 100, 6])) == ["tiny/0", "tiny/1"]
    for paradigm in ("interpatient", "intrapatient"):
        whole, short = (split_beats(paradigm, s, beats.label, 3) for s in (text, beats.subject))
        assert whole.digest() == short.digest()
    assert np.array_equal(names_of(text).code, beats.subject.code)


def test_a_test_set_is_written_from_disk_as_from_memory(
    beats: LabelledBeats, tmp_path: Path
) -> None:
    """A test set of beats on disk has the bytes of the one of the same beats in memory."""
    index = np.arange(50, 400, 7)
    chosen = beats.select(index)
    about = (beats.label[index], beats.record[index], beats.subject[index], beats.sample[index])
    one = write_testset(tmp_path / "one.npz", TestSet({"waveform": chosen}, *about))
    two = write_testset(tmp_path / "two.npz", TestSet({"waveform": chosen[:]}, *about))
    assert one.read_bytes() == two.read_bytes()
    assert np.array_equal(read_testset(one).inputs["waveform"][:], chosen[:])


@pytest.mark.slow
def test_a_training_goes_on_from_its_checkpoint_to_the_same_end(
    beats: LabelledBeats, tiny_network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training broken off after an epoch and taken up again ends with the weights of a whole.

    Its losses and accuracies are those of all beats, not of the last batch.
    """
    monkeypatch.setattr("tasks.learning.epochs.BLOCK", 50)
    split = interpatient(beats.subject, beats.label, 0)
    config = TrainingConfig(epochs=2, batch=32, learning_rate=2e-2, seed=5)
    sides = (split.train, split.validation)
    kept: list[Checkpoint] = []
    whole, state = fit(tiny_network, beats, sides, config, Course(keep=kept.append))
    again, resumed = fit(tiny_network, beats, sides, config, Course(kept[0]))
    assert [one.epoch for one in kept] == [1, 2]
    assert state.history == resumed.history
    assert set(state.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert state.history["accuracy"][-1] > 0.9
    pairs = zip(whole.get_weights(), again.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert state.best_loss == min(state.history["val_loss"])
    answered = np.concatenate([predict(whole, x) for x, _ in in_order(beats, split.validation)])
    label = beats.label[split.validation]
    right = np.where(label == 1, answered, 1 - answered)
    assert len(label) > 50
    # Answers next to 1 are known to float32's step there, and so is their logarithm.
    step = float(np.finfo(np.float32).epsneg)
    assert state.best_loss == pytest.approx(-np.log(right).mean(), rel=1e-4, abs=step)
    accuracy = state.history["val_accuracy"][state.best_epoch]
    assert accuracy == pytest.approx((right > 0.5).mean(), abs=1e-6)


def test_patience_and_nothing_to_learn(beats: LabelledBeats, tiny_network: str) -> None:
    """So many epochs without gain end a training; one without beats is refused."""
    stood = Checkpoint(4, [], [], [np.zeros(1)], 1, 0.5)
    assert stale(stood, 2)
    assert not stale(stood, 3)
    assert not stale(stood, 0)
    index = np.arange(len(beats))
    with pytest.raises(ValueError, match="cannot learn from 0 beats"):
        fit(tiny_network, beats, (index[:0], index), TrainingConfig())
