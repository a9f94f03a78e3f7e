"""Patient folds: every subject tests once, in as many repeats as asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from storage.errors import SplitError
from tasks.learning.splits import Column, Split, deal, from_sides, tally


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
