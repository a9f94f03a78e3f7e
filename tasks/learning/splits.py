"""Which beats train, which validate and which test: the method's two paradigms.

A subject is a string that is unique over everything split at once: where several data sets are
joined, the caller puts the data set's name before it.

A paradigm has one rule for new splits. The name and version of the rule stand in the split. A
paradigm's earlier rules stay here, for splits that were sealed with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from storage.errors import SplitError
from storage.tables.content import Copy
from storage.tables.labelled import Names, names_of
from tasks.networks.registry import find

Index: TypeAlias = NDArray[np.int64]
Subjects: TypeAlias = tuple[str, ...]
#: A column of text with few values, whole or as names and numbers.
Column: TypeAlias = NDArray[np.str_] | Names

CANDIDATES = 2000  # drawn ways to deal subjects; enough to meet every way of up to six subjects
SIDES = ("train", "validation", "test")
#: Rules that deal beats: the best of `CANDIDATES` ways, scikit-learn's, and numpy's permutation.
BEST_OF, SKLEARN, PERMUTED = "best_of_2000/1", "train_test_split/1", "permutation/1"
#: Of a split that keeps the sides of a sealed one, of which somebody withdrew.
SEALED_SIDES = "sealed_sides/1"
#: The rule of a split that names none: it was made before splits named theirs.
FIRST_RULES = {"interpatient": BEST_OF, "intrapatient": PERMUTED}
#: Pairs of records that an error names.
MOST_PAIRS = 6


@dataclass(frozen=True, eq=False)
class Split:
    """Three sides of a set of beats.

    Attributes
    ----------
    paradigm : str
        The paradigm: whether a subject has one side.
    seed : int
        Seed it was made with.
    train, validation, test : int64, shape (k,)
        Ascending positions of each side's beats.
    train_subjects, validation_subjects, test_subjects : tuple of str
        Sorted subjects of each side.
    fold : str
        Which of several folds this is ("repeat 1, fold 2 of 5"), or "".
    rule : str
        Name and version of the rule that dealt the beats.
    """

    paradigm: str
    seed: int
    train: Index
    validation: Index
    test: Index
    train_subjects: Subjects
    validation_subjects: Subjects
    test_subjects: Subjects
    fold: str = ""
    rule: str = BEST_OF

    def digest(self) -> str:
        """SHA-256 of the three sides and of what made them; a first rule adds nothing."""
        content = [self.paradigm, self.seed, self.fold]
        content += [self.rule] if self.rule != FIRST_RULES[self.paradigm] else []
        content += [getattr(self, f"{side}_subjects") for side in SIDES]
        digest = hashlib.sha256(json.dumps(content).encode())
        for side in SIDES:
            beats: Index = getattr(self, side)
            digest.update(f"|{side} {len(beats)}|".encode() + beats.astype("<i8").tobytes())
        return digest.hexdigest()

    def description(self) -> dict[str, object]:
        """What is recorded of it beside its sides."""
        return {
            "paradigm": self.paradigm,
            "rule": self.rule,
            "seed": self.seed,
            "sha256": self.digest(),
        }


Paradigm: TypeAlias = Callable[[Column, NDArray[np.int8], int, float, float], Split]
#: What makes new splits, by paradigm.
PARADIGMS: dict[str, Paradigm] = {}
#: What made splits before, by paradigm and rule.
EARLIER: dict[str, Paradigm] = {}


Function = TypeVar("Function", bound=Paradigm)


def enter(table: dict[str, Paradigm], name: str) -> Callable[[Function], Function]:
    """Enter a splitting function into `PARADIGMS` or `EARLIER`."""

    def decorator(function: Function) -> Function:
        table[name] = function
        return function

    return decorator


def by_rule(paradigm: str, rule: str = "") -> str:
    """The name under which `split_beats` splits by a paradigm's rule; its first where none is."""
    earlier = f"{paradigm} {rule or FIRST_RULES.get(paradigm, '')}"
    return earlier if earlier in EARLIER else paradigm


def refuse_unless_paradigm(name: str) -> None:
    """Raise ValueError, with the names that there are, where a paradigm is not one of them."""
    if name not in EARLIER:
        find(PARADIGMS, "paradigm", name)


def split_beats(
    name: str,
    subject: Column,
    label: NDArray[np.int8],
    seed: int,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.2,
) -> Split:
    """Split by the paradigm of this name; an unknown name is a ValueError with a hint."""
    split = EARLIER.get(name) or find(PARADIGMS, "paradigm", name)
    return split(subject, label, seed, test_fraction, validation_fraction)


@enter(PARADIGMS, "interpatient")
def interpatient(
    subject: Column,
    label: NDArray[np.int8],
    seed: int,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.2,
) -> Split:
    """Put every subject wholly on one side.

    The fractions count subjects, rounded, at least one a side. 2,000 ways are drawn with the seed.
    The best leaves the fewest sides without one of the two classes: train before test before
    validation. Of ways alike in that, its sides come nearest to the fractions in beats, and to the
    whole in share of AF. No model has a part in the choice.

    scikit-learn deals subjects less evenly. `GroupShuffleSplit` does not look at the classes. The
    folds of `StratifiedGroupKFold` are the same for every seed, and may leave a side without AF.
    `tests/tasks/networks/test_splits.py` holds the three against each other.

    Parameters
    ----------
    subject : str, shape (n,), or Names
        Subject of every beat.
    label : int8, shape (n,)
        1 AF, 0 not AF.
    seed : int
        Seed of the drawing.
    test_fraction : float
        Share of all subjects that test.
    validation_fraction : float
        Share of the other subjects that validate; 0 for none.

    Raises
    ------
    SplitError
        Fewer subjects than sides.
    ValueError
        Shapes differ, a label is not 0 or 1, or a fraction is out of range.
    """
    names, place, counts = tally(subject, label, test_fraction, validation_fraction)
    n_test = max(1, round(test_fraction * len(names)))
    rest = len(names) - n_test
    n_validation = max(1, round(validation_fraction * rest)) if validation_fraction else 0
    sizes = (rest - n_validation, n_validation, n_test)
    if sizes[0] < 1:
        raise SplitError(
            f"an inter-patient split needs at least {2 + bool(n_validation)} subjects, "
            f"one a side; found {len(names)}: {', '.join(names)}"
        )
    groups = deal(counts, sizes, np.random.default_rng(seed), weight=(4, 1, 2))
    sides = [np.flatnonzero(np.isin(place, side)) for side in groups]
    return from_sides("interpatient", seed, subject, sides)


@enter(PARADIGMS, "intrapatient")
def intrapatient(
    subject: Column,
    label: NDArray[np.int8],
    seed: int,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.2,
) -> Split:
    """Shuffle beats without regard to the subject, each class in the same proportions.

    By scikit-learn's `train_test_split`, stratified by class. Neighbouring beats of one subject
    come to lie on different sides, so results say little about people never seen. Parameters and
    errors as `interpatient`, the fractions counting beats.
    """
    from sklearn.model_selection import train_test_split  # slow, and no part of a device

    tally(subject, label, test_fraction, validation_fraction)

    def part(beats: Index, fraction: float) -> tuple[Index, Index]:
        classes = label[beats]
        try:
            rest, side = train_test_split(
                beats, test_size=fraction, stratify=classes, random_state=seed
            )
        except ValueError as error:
            problem = f"{len(label)} beats are too few: none is left for a side ({error})"
            raise SplitError(problem) from error
        return np.sort(rest), np.sort(side)

    train, test = part(np.arange(len(label)), test_fraction)
    validation = test[:0]
    if validation_fraction:
        train, validation = part(train, validation_fraction)
    return from_sides("intrapatient", seed, subject, [train, validation, test], rule=SKLEARN)


@enter(EARLIER, f"intrapatient {PERMUTED}")
def permutation_split(
    subject: Column,
    label: NDArray[np.int8],
    seed: int,
    test_fraction: float = 0.2,
    validation_fraction: float = 0.2,
) -> Split:
    """Deal beats as the intra-patient paradigm did at first, each class by numpy's permutation."""
    tally(subject, label, test_fraction, validation_fraction)
    random = np.random.default_rng(seed)
    side = np.zeros(len(label), np.int64)
    for value in (0, 1):
        beats = random.permutation(np.flatnonzero(label == value))
        n_test = round(test_fraction * len(beats))
        side[beats[:n_test]] = 2
        n_validation = round(validation_fraction * (len(beats) - n_test))
        side[beats[n_test : n_test + n_validation]] = 1
    sides = [np.flatnonzero(side == number) for number in range(3)]
    return from_sides("intrapatient", seed, subject, sides, rule=PERMUTED)


def assert_no_leak(split: Split, subject: Column | None = None) -> None:
    """Make sure that no beat, and but for the intra-patient paradigm no subject, has two sides.

    Parameters
    ----------
    split : Split
        The split to check.
    subject : str, shape (n,), or Names, optional
        Subject of every beat: checks the beats themselves and not only the split's own lists.

    Raises
    ------
    SplitError
        Naming the sides and the subjects, or the number of beats, that are on both.
    """
    for first, second in combinations(SIDES, 2):
        if beats := _overlap(getattr(split, first), getattr(split, second)):
            raise SplitError(f"{beats} beats are on both sides, {first} and {second}")
        if split.paradigm == "intrapatient":
            continue
        people = [set(getattr(split, f"{side}_subjects")) for side in (first, second)]
        if subject is not None:
            for side, subjects in zip((first, second), people, strict=True):
                subjects.update(names_of(subject).among(getattr(split, side)))
        if common := people[0] & people[1]:
            raise SplitError(
                f"on both sides, {first} and {second}: subject {', '.join(sorted(common))}"
            )


def assert_no_copy(split: Split, pairs: Iterable[Copy]) -> list[Copy]:
    """Make sure that no recording is on two sides by two names.

    Parameters
    ----------
    split : Split
        The split to check.
    pairs : iterable of Copy
        Records that are the same recording.

    Returns
    -------
    list of Copy
        Those whose beats are on one side: they count twice there.

    Raises
    ------
    SplitError
        Naming the records and their sides.
    """
    sides = {side: set(getattr(split, f"{side}_subjects")) for side in SIDES}
    leaks, together = [], []
    for pair in pairs:
        places = [
            [side for side in SIDES if recording.subject in sides[side]] for recording in pair
        ]
        if len({*places[0], *places[1]}) > 1:
            texts = (
                f"{recording.name} ({' and '.join(record_sides) or 'no side'})"
                for recording, record_sides in zip(pair, places, strict=True)
            )
            leaks.append(" and ".join(texts))
        elif places[0] and places[1]:
            together.append(pair)
    if leaks:
        more = f"; and {len(leaks) - MOST_PAIRS} more" if len(leaks) > MOST_PAIRS else ""
        raise SplitError(
            f"the same recording is on two sides: {'; '.join(leaks[:MOST_PAIRS])}{more}; expected "
            "each recording once: leave one out ([records] exclude), or give two records of a data "
            "set one subject ([subjects] map)"
        )
    return together


def _overlap(first: Index, second: Index) -> int:
    """How many positions are in both: a bit a beat, where sorting them would take 40 bytes."""
    ends = [int(side.max()) + 1 for side in (first, second) if len(side)]
    present = np.zeros(max(ends, default=0), bool)
    present[first] = True
    return int(present[second].sum())


def tally(
    subject: Column, label: NDArray[np.int8], test: float, validation: float
) -> tuple[list[str], NDArray[np.int32], Index]:
    """Check the input; give subjects, each beat's subject number, and counts (subjects, 2)."""
    if label.ndim != 1 or len(subject) != len(label):
        raise ValueError(f"{len(subject)} subjects and label {label.shape} must be two (n,) arrays")
    if not np.isin(label, (0, 1)).all():
        raise ValueError("labels must be 0 or 1: leave unknown beats out before splitting")
    if not (0 < test < 1 and 0 <= validation < 1):
        raise ValueError(f"fractions must lie between 0 and 1, got {test} and {validation}")
    names = names_of(subject)
    cell = 2 * names.code + label
    counts = np.bincount(cell, minlength=2 * len(names.values)).reshape(-1, 2)
    return names.values.tolist(), names.code, counts


def deal(
    counts: Index, sizes: tuple[int, ...], random: np.random.Generator, weight: tuple[int, ...]
) -> list[Index]:
    """Deal subjects to sides of these sizes, the best of `CANDIDATES` drawn ways.

    Parameters
    ----------
    counts : int64, shape (subjects, 2)
        Beats of each class.
    weight : tuple of int
        How bad it is that a side lacks a class.
    """
    order = random.permuted(np.tile(np.arange(len(counts)), (CANDIDATES, 1)), axis=1)
    ends = np.concatenate(([0], np.cumsum(sizes)))
    total = counts.sum()
    cost = np.zeros(CANDIDATES)
    for (start, end), heavy in zip(pairwise(ends), weight, strict=True):
        if start == end:
            continue
        side_counts = counts[order[:, start:end]].sum(1)
        beats = side_counts.sum(1)
        cost += 1000.0 * heavy * (side_counts == 0).sum(1)
        cost += np.abs(beats / total - (end - start) / len(counts))
        cost += np.abs(side_counts[:, 1] / np.maximum(beats, 1) - counts[:, 1].sum() / total)
    best = order[np.argmin(cost)]
    return [np.sort(best[start:end]) for start, end in pairwise(ends)]


def from_sides(
    name: str,
    seed: int,
    subject: Column,
    sides: list[Index],
    fold: str = "",
    rule: str = BEST_OF,
) -> Split:
    """Make the checked split of these three sides' beats."""
    train, validation, test = sides
    people: list[Subjects] = [tuple(names_of(subject).among(beats)) for beats in sides]
    split = Split(name, seed, train, validation, test, people[0], people[1], people[2], fold, rule)
    assert_no_leak(split)
    return split
