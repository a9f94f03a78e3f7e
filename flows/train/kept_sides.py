"""Kept sides: a training again in which every subject stays on the side of a sealed version.

A split is drawn anew where one subject fewer is there, and two versions would then share no test
patient. So a version that is made again without a person keeps the sides of all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from storage.errors import SplitError
from storage.tables.labelled import names_of
from tasks.learning.splits import MOST_PAIRS, SEALED_SIDES, SIDES, Column, Split, from_sides

_KEPT: list[Mapping[str, str]] = []


@contextmanager
def keep_sides(split: Mapping[str, Any]) -> Iterator[None]:
    """Have trainings in the block keep the sides of a sealed split.

    Parameters
    ----------
    split : mapping
        Of each side the `subjects`, as a version's chain has them.
    """
    _KEPT.append({person: side for side in SIDES for person in split[side]["subjects"]})
    try:
        yield
    finally:
        _KEPT.pop()


def kept_split(paradigm: str, subject: Column, seed: int) -> Split | None:
    """The split of kept sides; None where none are kept, or a subject may be on several.

    Parameters
    ----------
    paradigm : str
        The paradigm; sides are of subjects in "interpatient" alone.
    subject : str, shape (n,), or Names
        Subject of every beat.
    seed : int
        Seed of the training.

    Raises
    ------
    SplitError
        A subject was on no side, or nobody is left to train or to test on.
    """
    if not _KEPT or paradigm != "interpatient":
        return None
    side_of, names = _KEPT[-1], names_of(subject)
    people = [str(name) for name in names.values]
    if strangers := [name for name in people if name not in side_of]:
        more = f" and {len(strangers) - MOST_PAIRS} more" if len(strangers) > MOST_PAIRS else ""
        raise SplitError(
            f"sides that are kept: found {', '.join(strangers[:MOST_PAIRS])}{more} on none; "
            "expected the subjects of the sealed version"
        )
    place = np.array([SIDES.index(side_of[name]) for name in people])[names.code]
    sides = [np.flatnonzero(place == number) for number in range(len(SIDES))]
    for name, beats in zip(SIDES, sides, strict=True):
        if not len(beats) and name != "validation":
            raise SplitError(f"sides that are kept: found nobody left on the {name} side")
    return from_sides(paradigm, seed, subject, sides, rule=SEALED_SIDES)
