"""Patient folds: every subject tests once, in as many repeats as asked for.

A recording that is there by two names is one patient's: its subjects are in one fold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.errors import SplitError
from storage.tables.content import Copy
from tasks.learning.splits import (
    Column,
    Split,
    Subjects,
    assert_no_copy,
    assert_no_leak,
    deal,
    from_sides,
    tally,
)

#: Rules of folds beside a count of them.
PATIENT, DATASET = FOLD_RULES = ("patient", "dataset")
#: Beats of a subject that are not AF, and that are.
ClassCounts = tuple[int, int]


@dataclass(frozen=True)
class Fold:
    """Whom a network learns from, and whom it then answers: sorted subjects, DATASET/NAME."""

    learn: Subjects
    test: Subjects


def refuse_unless_fold_rule(text: str) -> None:
    """Raise ValueError where folds cannot be dealt by that."""
    if text not in FOLD_RULES and not (
        text.isascii() and text.isdecimal() and len(text) < 10 and int(text)
    ):
        raise ValueError(
            f"folds: found {text!r}; expected a count of them (1 or more), patient or dataset"
        )


def deal_folds(
    tested: Mapping[str, ClassCounts],
    background: Collection[str],
    rule: str,
    seed: int,
    pairs: Collection[Copy] = (),
) -> list[Fold]:
    """Deal the tested subjects to folds; each fold learns from all who are not in it.

    Parameters
    ----------
    tested : mapping of str to pair of int
        The subjects that test once, DATASET/NAME, with their beats of each class.
    background : collection of str
        The subjects that are learnt from in every fold.
    rule : str
        How many folds, of subjects that are alike in beats and share of AF; "patient" for one each,
        "dataset" for all of a data set together.
    seed : int
        Seed of the drawing.
    pairs : collection of Copy
        Records that are the same recording: their subjects are dealt as one.

    Raises
    ------
    SplitError
        More folds than subjects, nobody to learn from, or a recording on both sides.
    """
    refuse_unless_fold_rule(rule)
    groups = join_copies(tested, pairs)
    if rule == DATASET:
        names = dict.fromkeys(name.partition("/")[0] for name in tested)
        test_sides = [[n for n in tested if n.partition("/")[0] == dataset] for dataset in names]
    elif rule == PATIENT:
        test_sides = [list(group) for group in groups]
    else:
        test_sides = _deal_groups(tested, groups, int(rule), seed)
    people = {*tested, *background}
    folds = [Fold(tuple(sorted(people - set(test))), tuple(sorted(test))) for test in test_sides]
    for number, fold in enumerate(folds, 1):
        if not fold.learn:
            raise SplitError(
                f"fold {number} of {len(folds)} tests every patient: found nobody to learn from; "
                "expected more folds, or data sets beside"
            )
        split = _split_of(fold, seed)
        assert_no_leak(split)
        assert_no_copy(split, pairs)
    return folds


def _split_of(fold: Fold, seed: int) -> Split:
    """A fold as a split of subjects, without their beats."""
    empty = np.empty(0, np.int64)
    return Split("interpatient", seed, empty, empty, empty, fold.learn, (), fold.test)


def _deal_groups(
    counts: Mapping[str, ClassCounts], groups: list[Subjects], k: int, seed: int
) -> list[list[str]]:
    """Deal groups of subjects to `k` folds, which differ by one group at most."""
    if k > len(groups):
        raise SplitError(f"{k} folds need as many patients; found {len(groups)}")
    table = np.array([np.sum([counts[name] for name in group], axis=0) for group in groups])
    sizes = tuple(len(groups) // k + (fold < len(groups) % k) for fold in range(k))
    folds = deal(table, sizes, np.random.default_rng(seed), weight=(1,) * k)
    return [[name for place in fold for name in groups[place]] for fold in folds]


def join_copies(subjects: Iterable[str], pairs: Iterable[Copy]) -> list[Subjects]:
    """Subjects in groups: those whose recordings are the same are in one."""
    group_of = {name: [name] for name in subjects}
    for first, second in ((a.subject, b.subject) for a, b in pairs):
        if first in group_of and second in group_of and group_of[first] is not group_of[second]:
            group_of[first] += group_of[second]
            for name in group_of[second]:
                group_of[name] = group_of[first]
    return list(dict.fromkeys(tuple(group) for group in group_of.values()))


def patient_folds(
    subject: Column,
    label: NDArray[np.int8],
    seed: int,
    k: int = 5,
    repeats: int = 1,
    validation_fraction: float = 0.2,
) -> Iterator[Split]:
    """Deal the subjects into `k` folds, `repeats` times, and let each fold test once.

    Folds differ by one subject at most and are chosen as in `interpatient`; `k` equal to the
    number of subjects leaves one patient out at a time. Each repeat draws anew from the seed.

    Yields
    ------
    Split
        Of paradigm "interpatient", `fold` saying which; validation from the training subjects.

    Raises
    ------
    SplitError
        Fewer subjects than folds, or none left to train on.
    ValueError
        As `interpatient`, or fewer than two folds.
    """
    names, place, counts = tally(subject, label, 0.5, validation_fraction)
    if k < 2 or repeats < 1:
        raise ValueError(f"needs two folds and one repeat at least, got {k} and {repeats}")
    if k > len(names):
        raise SplitError(f"{k} folds need as many subjects; found {len(names)}")
    sizes = tuple(len(names) // k + (fold < len(names) % k) for fold in range(k))
    for repeat in range(repeats):
        random = np.random.default_rng([seed, repeat])
        folds = deal(counts, sizes, random, weight=(1,) * k)
        for fold, test in enumerate(folds):
            rest = np.setdiff1d(np.arange(len(names)), test)
            n_validation = (
                max(1, round(validation_fraction * len(rest))) if validation_fraction else 0
            )
            if n_validation >= len(rest):
                raise SplitError(f"{len(names)} subjects leave none to train on in {k} folds")
            inner = deal(
                counts[rest], (len(rest) - n_validation, n_validation), random, weight=(2, 1)
            )
            dealt_three = (rest[inner[0]], rest[inner[1]], test)
            sides = [np.flatnonzero(np.isin(place, side)) for side in dealt_three]
            title = f"repeat {repeat + 1}, fold {fold + 1} of {k}"
            yield from_sides("interpatient", seed, subject, sides, title)
