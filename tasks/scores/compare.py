"""Two models on the same patients: their beats matched one to one, and what each gets right.

Decisions are a DataFrame, a row a beat of the test set that counts:

=========  =====  ==============================================================
column     type   what
=========  =====  ==============================================================
record     str    whence the beat, under the data set's name
subject    str    whose it is, under the data set's name
sample     int64  R peak in its record
label      int8   1 AF, 0 not AF
decided    bool   whether it was decided AF
=========  =====  ==============================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.scores.bootstrap import (
    RATES,
    Interval,
    accuracy,
    bootstrap_difference,
    bootstrap_patients,
)

Counts = NDArray[np.float64]
#: What is counted of a patient's beats, in the order of `tasks.scores.bootstrap`.
CELLS = ["tp", "fp", "fn", "tn"]


def by_patient(decisions: pd.DataFrame) -> pd.DataFrame:
    """Beats of every patient as `tp`, `fp`, `fn` and `tn`, a row a patient, by name."""
    af, decided = decisions["label"] == 1, decisions["decided"]
    cells = (af & decided, ~af & decided, af & ~decided, ~af & ~decided)
    flags = pd.DataFrame(dict(zip(CELLS, cells, strict=True))).astype(np.float64)
    return flags.groupby(decisions["subject"]).sum()


@dataclass(frozen=True, eq=False)
class PairedBeats:
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


def pair(before: pd.DataFrame, after: pd.DataFrame) -> PairedBeats:
    """Match beats by record and R peak; no patient is left where the test sets share none."""
    place = ["record", "sample"]
    left, right = (side.drop_duplicates(place) for side in (before, after))
    matches = left.merge(right, on=place, suffixes=("", "_after"))
    same = matches["label"] == matches["label_after"]
    same_label = matches[same]
    columns_after = same_label[["label", "subject_after", "decided_after"]]
    first = by_patient(same_label)
    second = by_patient(columns_after.rename(columns=lambda name: name.removesuffix("_after")))
    patients = first.index.intersection(second.index).sort_values()
    return PairedBeats(
        tuple(map(str, patients)),
        first.loc[patients].to_numpy(),
        second.loc[patients].to_numpy(),
        int((~same).sum()),
    )


def figures(patients: pd.DataFrame, draws: int = 2_000, seed: int = 0) -> dict[str, float]:
    """The rates over patients with `_low` and `_high`, the worst patient's accuracy, how many.

    One patient gives no bounds.

    Parameters
    ----------
    patients : DataFrame
        As `by_patient` gives it.
    """
    table = patients[CELLS].to_numpy(np.float64)
    out = {"patients": float(len(table)), "beats": float(table.sum())}
    for name, rate in RATES.items():
        interval = bootstrap_patients(table, rate, draws, seed)
        out[name] = interval.value
        if len(table) > 1:
            out |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    out["worst_patient_accuracy"] = float(accuracy(table).min())
    return out
