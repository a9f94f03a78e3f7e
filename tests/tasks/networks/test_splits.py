"""Splits: whole subjects, both classes, nothing on two sides."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

from storage.errors import SplitError
from tasks.learning.folds import patient_folds
from tasks.learning.splits import (
    BEST_OF,
    EARLIER,
    PARADIGMS,
    PERMUTED,
    SIDES,
    SKLEARN,
    Split,
    assert_no_leak,
    by_rule,
    interpatient,
    intrapatient,
    split_beats,
)


def _beats(
    n_subjects: int, with_af: int, seed: int = 0
) -> tuple[NDArray[np.str_], NDArray[np.int8]]:
    """Subjects of unequal length, the first `with_af` of which hold both classes."""
    random = np.random.default_rng(seed)
    subject, label = [], []
    for number in range(n_subjects):
        n = int(random.integers(50, 400))
        subject += [f"s{number:02}"] * n
        label += (random.random(n) < (0.5 if number < with_af else 0)).astype(int).tolist()
    return np.array(subject), np.array(label, np.int8)


def _covers(split: Split, n: int) -> bool:
    joined = np.concatenate([split.train, split.validation, split.test])
    return np.array_equal(np.sort(joined), np.arange(n))


@given(st.integers(3, 30), st.integers(0, 30), st.integers(0, 2**31))
@settings(max_examples=40)
def test_interpatient_keeps_subjects_whole(n_subjects: int, with_af: int, seed: int) -> None:
    """Every beat has exactly one side and every subject too, whatever the subjects."""
    subject, label = _beats(n_subjects, with_af, seed)
    split = interpatient(subject, label, seed)
    assert _covers(split, len(label))
    sides = [set(subject[getattr(split, side)]) for side in SIDES]
    assert sum(map(len, sides)) == n_subjects
    assert [tuple(sorted(side)) for side in sides] == [
        split.train_subjects,
        split.validation_subjects,
        split.test_subjects,
    ]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("n_subjects", "with_af"), [(3, 3), (6, 3), (47, 3), (47, 7), (200, 5)])
def test_interpatient_gives_every_side_both_classes(
    n_subjects: int, with_af: int, seed: int
) -> None:
    """Where enough subjects have AF, train, validation and test all hold both classes."""
    subject, label = _beats(n_subjects, with_af)
    split = interpatient(subject, label, seed)
    for side in SIDES:
        assert set(label[getattr(split, side)]) == {0, 1}, side


@pytest.mark.parametrize("seed", range(5))
def test_two_af_subjects_go_to_train_and_test(seed: int) -> None:
    """Where AF does not reach every side, training and test have it before validation."""
    subject, label = _beats(20, 2)
    split = interpatient(subject, label, seed)
    assert 1 in label[split.train]
    assert 1 in label[split.test]


def test_a_seed_gives_one_split() -> None:
    """The same seed gives the same split and digest, another seed another."""
    subject, label = _beats(20, 8)
    for make in PARADIGMS.values():
        one, same, other = (make(subject, label, seed, 0.2, 0.2) for seed in (1, 1, 2))
        assert one.digest() == same.digest() != other.digest()


def test_digest_sees_every_side() -> None:
    """A digest changes when one beat moves from one side to another."""
    subject, label = _beats(20, 8)
    split = interpatient(subject, label, 1)
    moved = dataclasses.replace(
        split, train=split.train[:-1], test=np.sort(np.append(split.test, split.train[-1]))
    )
    assert moved.digest() != split.digest()


@given(st.integers(0, 2**31), st.floats(0.05, 0.9))
@settings(max_examples=20)
def test_intrapatient_is_stratified(seed: int, af: float) -> None:
    """Each side has its share of the beats and of AF to within a beat a class."""
    label = (np.random.default_rng(seed).random(1000) < af).astype(np.int8)
    split = intrapatient(np.repeat(["a", "b"], 500), label, seed)
    assert _covers(split, 1000)
    for side, share in zip(SIDES, (0.64, 0.16, 0.2), strict=True):
        beats = getattr(split, side)
        for value in (0, 1):
            expected = share * (label == value).sum()
            assert abs((label[beats] == value).sum() - expected) <= 1.5


def test_a_split_names_its_rule() -> None:
    """The rule is in the split and its description; another rule gives another digest."""
    subject, label = _beats(20, 8)
    one, two = (make(subject, label, 1, 0.2, 0.2) for make in PARADIGMS.values())
    assert (one.rule, two.rule) == (BEST_OF, SKLEARN)
    assert two.description()["rule"] == SKLEARN
    assert two.digest() != dataclasses.replace(two, rule=PERMUTED).digest()


def test_a_split_of_an_earlier_rule_is_made_again() -> None:
    """A name without a rule is the paradigm's first, whose splits and digests stay as they were."""
    subject, label = _beats(20, 8)
    assert by_rule("interpatient") == by_rule("interpatient", BEST_OF) == "interpatient"
    assert by_rule("intrapatient", SKLEARN) == "intrapatient"
    assert (
        by_rule("intrapatient") == by_rule("intrapatient", PERMUTED) == f"intrapatient {PERMUTED}"
    )
    found = {
        name: split_beats(by_rule(name), subject, label, 3).digest()[:12] for name in PARADIGMS
    }
    # As the code computed them before splits named their rules.
    assert found == {"interpatient": "48cc54f1b9ce", "intrapatient": "54a9cf52c035"}
    # A scikit-learn that deals otherwise needs a rule of another name.
    assert intrapatient(subject, label, 3).digest()[:12] == "8f510160e0a0"
    old = split_beats(by_rule("intrapatient"), subject, label, 3)
    assert (old.paradigm, old.rule) == ("intrapatient", PERMUTED)
    assert list(EARLIER) == [f"intrapatient {PERMUTED}"]


def _unevenness(label: NDArray[np.int8], sides: list[NDArray[np.int64]]) -> float:
    """Mean distance of the sides' share of AF from the whole's; 1 for a side without beats."""
    return float(np.mean([abs(label[side].mean() - label.mean()) for side in sides]))


def test_patients_are_dealt_more_evenly_than_by_scikit_learn() -> None:
    """Shares of AF lie nearer to the whole's than `GroupShuffleSplit`'s and the stratified folds'.

    The stratified folds are moreover the same for every seed, so repeats would repeat nothing.
    """
    subject, label = _beats(25, 12, seed=4)
    place = np.unique(subject, return_inverse=True)[1]
    ours: list[float] = []
    shuffled: list[float] = []
    stratified: list[float] = []
    folds = set()
    for seed in range(5):
        split = interpatient(subject, label, seed)
        ours.append(_unevenness(label, [getattr(split, side) for side in SIDES]))
        for kept, of in (
            (shuffled, GroupShuffleSplit(1, test_size=0.2, random_state=seed)),
            (stratified, StratifiedGroupKFold(5, shuffle=True, random_state=seed)),
        ):
            rest, test = next(of.split(label, label, place))
            train, validation = next(of.split(label[rest], label[rest], place[rest]))
            kept.append(_unevenness(label, [rest[train], rest[validation], test]))
        every = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(label, label, place)
        folds.add(tuple(tuple(np.unique(subject[test])) for _, test in every))
    assert np.mean(ours) < np.mean(stratified) < np.mean(shuffled)
    assert len(folds) == 1


@pytest.mark.parametrize("k", [2, 5, 23])
def test_folds_test_every_subject_once(k: int) -> None:
    """Over the folds of one repeat every beat tests once, and folds differ by a subject at most."""
    subject, label = _beats(23, 16)
    splits = list(patient_folds(subject, label, seed=3, k=k, repeats=2))
    assert len(splits) == 2 * k
    for repeat in (splits[:k], splits[k:]):
        tested = np.concatenate([split.test for split in repeat])
        assert np.array_equal(np.sort(tested), np.arange(len(label)))
        sizes = [len(split.test_subjects) for split in repeat]
        assert max(sizes) - min(sizes) <= 1
    for split in splits:
        assert _covers(split, len(label))
        assert_no_leak(split, subject)
    if k == 5:
        assert splits[0].test_subjects != splits[5].test_subjects


def test_a_leak_names_its_subject() -> None:
    """A subject on two sides is an error that names it, found in the beats too."""
    subject, label = _beats(6, 3)
    split = interpatient(subject, label, 0)
    thief = split.test_subjects[0]
    listed = dataclasses.replace(split, train_subjects=(*split.train_subjects, thief))
    with pytest.raises(SplitError, match=f"train and test: subject {thief}"):
        assert_no_leak(listed)
    relabelled = subject.copy()
    relabelled[split.validation[0]] = thief
    assert_no_leak(split)
    with pytest.raises(SplitError, match=f"validation and test: subject {thief}"):
        assert_no_leak(split, relabelled)


@pytest.mark.parametrize("name", sorted(PARADIGMS))
def test_a_beat_on_two_sides_is_a_leak(name: str) -> None:
    """A beat on two sides is an error in every paradigm."""
    subject, label = _beats(6, 3)
    split = split_beats(name, subject, label, 0)
    assert_no_leak(split)
    both = dataclasses.replace(split, train=np.append(split.train, split.test[0]))
    with pytest.raises(SplitError, match="1 beats are on both sides, train and test"):
        assert_no_leak(both)


def test_too_few_subjects() -> None:
    """Fewer subjects than sides, or than folds, is an error that says how many there are."""
    subject, label = _beats(2, 2)
    with pytest.raises(SplitError, match=r"at least 3 subjects.*found 2: s00, s01"):
        interpatient(subject, label, 0)
    assert len(interpatient(subject, label, 0, validation_fraction=0).validation) == 0
    with pytest.raises(SplitError, match="found 2"):
        list(patient_folds(subject, label, 0, k=3))
    with pytest.raises(SplitError, match="none to train on"):
        list(patient_folds(subject, label, 0, k=2))
    with pytest.raises(SplitError, match="none is left"):
        intrapatient(subject[:2], label[:2], 0)


def test_misuse_is_refused() -> None:
    """Unknown names get a hint; unequal shapes, unknown labels and odd fractions are refused."""
    subject, label = _beats(6, 3)
    with pytest.raises(ValueError, match="did you mean 'interpatient'"):
        split_beats("inter-patient", subject, label, 0)
    with pytest.raises(ValueError, match="two"):
        interpatient(subject[1:], label, 0)
    with pytest.raises(ValueError, match="leave unknown beats out"):
        interpatient(subject, np.where(label == 1, -1, label).astype(np.int8), 0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        interpatient(subject, label, 0, test_fraction=1.5)
    with pytest.raises(ValueError, match="two folds"):
        list(patient_folds(subject, label, 0, k=1))
