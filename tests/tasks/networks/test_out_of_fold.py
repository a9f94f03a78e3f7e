"""Out of fold: who learns, who is answered, and what is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import SplitError
from storage.tables.content import SIGNAL, Recording
from storage.tables.results import ArrayFolder
from tasks.features.rhythm import RhythmRecord
from tasks.learning import out_of_fold as module
from tasks.learning.folds import deal_folds, refuse_unless_fold_rule
from tasks.learning.out_of_fold import (
    fold_key,
    out_of_fold,
    record_digest,
)
from tasks.learning.rhythm_training import RhythmConfig

CONFIG = RhythmConfig(epochs=1, steps=2, batch=2, simulated=0)


def patient(name: str, subject: str = "", seed: int = 0) -> RhythmRecord:
    """A made-up record with two episodes."""
    label = np.repeat([0, 1, 0, 1], 50).astype(np.int8)
    spread = np.where(label == 1, 0.15, 0.01)
    rr_s = np.random.default_rng(seed).normal(0.8, spread).astype(np.float32)
    rr_s[0] = np.nan
    return RhythmRecord(name, subject or name, rr_s, label)


class Trainings:
    """Stands for Keras: tells who learnt, and answers with how many records that were."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.learnt: list[list[str]] = []
        self.prepared = 0
        monkeypatch.setattr(module, "fit_rhythm", self._fit)
        monkeypatch.setattr(module, "prepare_learner", self._prepare)
        monkeypatch.setattr(module, "predict_records", self._predict)

    def _prepare(self, *_: Any) -> str:
        self.prepared += 1
        return "learner"

    def _fit(self, _: str, records: list[RhythmRecord], *__: Any, **more: Any) -> tuple[int, None]:
        assert more["model"] == "learner"
        self.learnt.append([record.name for record in records])
        return len(records), None

    def _predict(
        self, model: int, _: str, records: list[RhythmRecord]
    ) -> Iterator[NDArray[np.float32]]:
        for record in records:
            yield np.full(len(record), model, np.float32)


def test_no_patient_is_answered_by_a_network_that_saw_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither another record, nor another lead or set beside, of a fold's patient is learnt from.

    A patient of no fold is learnt from in all of them, and not answered; one graph serves all.
    """
    trainings = Trainings(monkeypatch)
    records = [patient("a/1"), patient("a/2", "a/1"), patient("a/3"), patient("a/4")]
    beside = [patient("a/3"), patient("b/1")]
    answers = out_of_fold("rhythm_tiny", records, CONFIG, [{"a/3"}, {"a/1"}], beside)
    assert trainings.learnt == [["a/1", "a/2", "a/4", "b/1"], ["a/3", "a/4", "a/3", "b/1"]]
    assert trainings.prepared == 1
    assert {name: p[0] for name, p in answers.items()} == {"a/1": 4, "a/2": 4, "a/3": 4}
    assert list(answers) == ["a/1", "a/2", "a/3"]


def test_a_killed_run_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Folds whose answers are kept are not learnt again; a damaged file is made anew."""
    records = [patient(f"a/{k}", seed=k) for k in range(3)]
    folds = [{"a/0"}, {"a/1"}, {"a/2"}]
    keep = ArrayFolder(tmp_path / "folds")
    trainings = Trainings(monkeypatch)
    expected = out_of_fold("rhythm_tiny", records, CONFIG, folds[:2], keep=keep)
    answers = out_of_fold("rhythm_tiny", records, CONFIG, folds, keep=keep)
    assert trainings.learnt == [["a/1", "a/2"], ["a/0", "a/2"], ["a/0", "a/1"]]
    assert all(np.array_equal(answers[name], p) for name, p in expected.items())
    for path in keep.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-30])
    out_of_fold("rhythm_tiny", records, CONFIG, folds, keep=keep)
    assert len(trainings.learnt) == 6


@pytest.mark.parametrize(
    "spoilt",
    [{}, {"a/1": np.zeros(3, np.float32)}, {"a/1": np.zeros(200)}, {"b": np.zeros(200)}],
)
def test_kept_answers_of_other_beats_are_not_believed(
    monkeypatch: pytest.MonkeyPatch, spoilt: dict[str, NDArray[Any]]
) -> None:
    """What is kept counts where it is of every beat of every record of the fold, in float32."""

    class Spoilt:
        def read(self, _: str) -> Mapping[str, NDArray[Any]]:
            return spoilt

        def write(self, *_: Any) -> None:
            return None

    trainings = Trainings(monkeypatch)
    records = [patient("a/1"), patient("a/2")]
    out_of_fold("rhythm_tiny", records, CONFIG, [{"a/1"}], keep=Spoilt())
    assert trainings.learnt == [["a/2"]]


def test_the_key_of_a_fold_is_of_all_that_its_answers_depend_on() -> None:
    """Network, settings, sides, and every array, weight and subject of a record change it."""
    record = replace(patient("a/1"), shape=np.zeros((200, 80), np.float32))
    other = replace(record, rr_s=record.rr_s + np.float32(0.01))
    variants = [
        record,
        other,
        replace(record, label=1 - record.label),
        replace(record, weight=2.0),
        replace(record, subject="a/2"),
        replace(record, shape=None),
        replace(record, shape=np.ones((200, 80), np.float32)),
    ]
    digests = [record_digest(variant) for variant in variants]
    assert len(set(digests)) == len(variants)
    keys = {
        fold_key("rhythm_tiny", CONFIG, digests[:2], digests[2:]),
        fold_key("rhythm", CONFIG, digests[:2], digests[2:]),
        fold_key("rhythm_tiny", replace(CONFIG, seed=1), digests[:2], digests[2:]),
        fold_key("rhythm_tiny", CONFIG, digests[:3], digests[3:]),
        fold_key("rhythm_tiny", CONFIG, digests[1::-1], digests[2:]),
    }
    assert len(keys) == 5


def test_folds_that_leak_or_test_nobody_are_refused() -> None:
    """A subject in two folds, a fold without records, one that leaves none to learn, one name."""
    records = [patient("a/1"), patient("a/2")]
    refused: list[tuple[list[set[str]], str]] = [
        ([{"a/1"}, {"a/1", "a/2"}], "in two folds: subject a/1"),
        ([{"a/1"}, {"a/7"}], "fold 2: found no record of a/7"),
        ([{"a/1", "a/2"}], "without a/1, a/2: found no beat with a known rhythm"),
    ]
    for folds, message in refused:
        with pytest.raises(SplitError, match=message):
            out_of_fold("rhythm_tiny", records, CONFIG, folds)
    with pytest.raises(ValueError, match="records of one name: found a/1; expected each once"):
        out_of_fold("rhythm_tiny", [*records, records[0]], CONFIG, [{"a/2"}])
    with pytest.raises(ValueError, match="patience: found 3; expected 0"):
        out_of_fold("rhythm_tiny", records, replace(CONFIG, patience=3), [{"a/2"}])


@pytest.mark.slow
def test_folds_in_any_order_answer_alike() -> None:
    """One graph for all folds and seeds: bit for bit what a fold's own network answers."""
    from tasks.learning.rhythm_training import fit_rhythm, predict_beats, prepare_learner

    records = [patient(f"a/{k}", seed=k) for k in range(3)]
    learner = prepare_learner("rhythm_tiny", CONFIG)
    config = replace(CONFIG, seed=7)
    folds = [{"a/2"}, {"a/0"}]
    answers = out_of_fold("rhythm_tiny", records, config, folds, learner=learner)
    again = out_of_fold("rhythm_tiny", records, config, folds[::-1], learner=learner)
    model, _ = fit_rhythm("rhythm_tiny", records[1:], config)
    assert np.array_equal(answers["a/0"], predict_beats(model, records[0]))
    assert all(np.array_equal(answers[name], again[name]) for name in ("a/0", "a/2"))


def test_strips_are_answered_and_never_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is only to be answered is so by the network that did not see its patient."""
    trainings = Trainings(monkeypatch)
    records = [patient("a"), patient("b")]
    strips = [replace(record, name=f"{record.name} strips") for record in records]
    answers = out_of_fold("rhythm", records, CONFIG, [["a"], ["b"]], also=strips)
    assert trainings.learnt == [["b"], ["a"]]
    assert list(answers) == ["a", "b", "a strips", "b strips"]


def counted(dataset: str, subjects: int) -> dict[str, tuple[int, int]]:
    """Subjects of a data set; the odd ones have AF."""
    return {f"{dataset}/{k}": (100 - 50 * (k % 2), 50 * (k % 2)) for k in range(subjects)}


def copy_of(first: str, second: str) -> tuple[Recording, Recording]:
    """Two names of one recording."""
    prints = {SIGNAL: frozenset({"a"})}
    recordings = [Recording(name, name, prints, {}, has_signal=True) for name in (first, second)]
    return recordings[0], recordings[1]


@pytest.mark.parametrize(("rule", "count"), [("5", 5), ("patient", 12), ("dataset", 2), ("1", 1)])
def test_everybody_is_tested_once_and_never_learnt_from_then(rule: str, count: int) -> None:
    """By each rule: who is not in a fold is learnt from there, and who is beside always."""
    tested = counted("a", 7) | counted("b", 5)
    folds = deal_folds(tested, ["c/1", "c/2"], rule, seed=3)
    assert len(folds) == count
    assert sorted(name for fold in folds for name in fold.test) == sorted(tested)
    for fold in folds:
        assert sorted((*fold.test, *fold.learn)) == sorted((*tested, "c/1", "c/2"))
    assert deal_folds(tested, ["c/1", "c/2"], rule, seed=3) == folds
    if rule == "dataset":
        assert [{name[0] for name in fold.test} for fold in folds] == [{"a"}, {"b"}]
    if rule == "5":
        assert all(sum(tested[name][1] for name in fold.test) for fold in folds)
        assert deal_folds(tested, ["c/1", "c/2"], rule, seed=4) != folds


def test_a_recording_of_two_names_is_in_one_fold() -> None:
    """Among the tested its subjects are dealt as one; beside what is learnt it is refused."""
    tested = counted("a", 6)
    pairs = [copy_of("a/0", "a/3"), copy_of("a/3", "a/5")]
    for rule in ("2", "patient"):
        for fold in deal_folds(tested, (), rule, 0, pairs):
            assert len({"a/0", "a/3", "a/5"} & {*fold.test}) in (0, 3)
    with pytest.raises(SplitError, match=r"a/0 \(test\) and b/7 \(train\)"):
        deal_folds(tested, ["b/7"], "patient", 0, [copy_of("a/0", "b/7")])
    with pytest.raises(SplitError, match="the same recording is on two sides"):
        deal_folds(counted("a", 3) | counted("b", 3), (), "dataset", 0, [copy_of("a/0", "b/1")])


def test_folds_that_cannot_be_dealt_are_refused() -> None:
    """More folds than patients, nobody to learn from, and what is no rule."""
    with pytest.raises(SplitError, match="5 folds need as many patients; found 3"):
        deal_folds(counted("a", 3), (), "5", 0)
    for rule in ("1", "dataset"):
        with pytest.raises(SplitError, match="found nobody to learn from"):
            deal_folds(counted("a", 3), (), rule, 0)
    for text in ("0", "-1", "2.5", "patients", "", "\u0665", "9" * 5000):
        with pytest.raises(ValueError, match="expected a count of them"):
            refuse_unless_fold_rule(text)
