"""Two models on the same patients: their beats matched one to one, and what each gets right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.scores.bootstrap import (
    RATES,
    Interval,
    accuracy,
    bootstrap_difference,
    bootstrap_patients,
)
from tasks.scores.evaluation import counted

Counts = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Decisions:
    """What a model decided of the beats of its test set that count.

    Attributes
    ----------
    record, subject : str, shape (n,)
        Whence each beat comes, and whose it is, under the data set's name.
    sample : int64, shape (n,)
        R peak in its record.
    label : int8, shape (n,)
        1 AF, 0 not AF.
    decided : bool, shape (n,)
        Whether it was decided AF.
    """

    record: NDArray[np.str_]
    subject: NDArray[np.str_]
    sample: NDArray[np.int64]
    label: NDArray[np.int8]
    decided: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> Decisions:
        """Some of the beats."""
        return Decisions(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def by_patient(self) -> dict[str, Counts]:
        """Beats of every patient as tp, fp, fn, tn."""
        return {
            str(name): counted(self.label[mine], self.decided[mine])
            for name in np.unique(self.subject)
            for mine in [self.subject == name]
        }


@dataclass(frozen=True, eq=False)
class Paired:
    """Beats that two models both decided, by patient.

    Attributes
    ----------
    patients : tuple of str
        Those with beats in both test sets.
    before, after : float64, shape (patients, 4)
        tp, fp, fn, tn of each model on the same beats.
    relabelled : int
        Beats of both that are left out, for their label changed in between.
    """

    patients: tuple[str, ...]
    before: Counts
    after: Counts
    relabelled: int

    def differences(self, draws: int = 2_000, seed: int = 0) -> dict[str, Interval]:
        """What each rate gains, with its paired interval over patients."""
        return {
            name: bootstrap_difference(self.before, self.after, rate, draws, seed)
            for name, rate in RATES.items()
        }


def pair(before: Decisions, after: Decisions) -> Paired:
    """Match beats by record and R peak; no patient is left where the test sets share none."""
    rows: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for name in np.intersect1d(before.record, after.record):
        here, there = np.flatnonzero(before.record == name), np.flatnonzero(after.record == name)
        _, i, j = np.intersect1d(before.sample[here], after.sample[there], return_indices=True)
        rows.append((here[i], there[j]))
    first, second = (
        np.concatenate([part[side] for part in rows] or [np.empty(0, np.int64)]) for side in (0, 1)
    )
    same = before.label[first] == after.label[second]
    one, two = before.take(first[same]).by_patient(), after.take(second[same]).by_patient()
    patients = tuple(sorted(one.keys() & two.keys()))
    empty = np.empty((0, 4))
    return Paired(
        patients,
        np.stack([one[p] for p in patients]) if patients else empty,
        np.stack([two[p] for p in patients]) if patients else empty,
        int(np.count_nonzero(~same)),
    )


def figures(counts: Mapping[str, Counts], draws: int = 2_000, seed: int = 0) -> dict[str, float]:
    """The rates over patients with `_low` and `_high`, the worst patient's accuracy, how many.

    One patient gives no bounds.
    """
    table = np.stack(list(counts.values()))
    out = {"patients": float(len(table)), "beats": float(table.sum())}
    for name, rate in RATES.items():
        found = bootstrap_patients(table, rate, draws, seed)
        out[name] = found.value
        if len(table) > 1:
            out |= {f"{name}_low": found.low, f"{name}_high": found.high}
    out["worst_patient_accuracy"] = float(accuracy(table).min())
    return out
