"""How often beats are drawn to learn from: data sets by weight, patients or classes evenly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from storage.tables.labelled import LabelledBeats
from tasks.features.rhythm import RhythmRecord

BALANCES = ("beats", "patient", "class", "dataset")

Index = NDArray[np.int64]
Floats = NDArray[np.float32]
#: How often beats at some positions are drawn: `often`, of a training's beats, weights and balance.
Weigh = Callable[[Index], Floats]


def refuse_unless_balance(by: str) -> None:
    """Raise ValueError where nothing is evenly drawn by that."""
    if by not in BALANCES:
        raise ValueError(f"balance by {', '.join(BALANCES)}; found {by!r}")


def balance_records(records: Sequence[RhythmRecord], by: str = "beats") -> list[RhythmRecord]:
    """Weigh records for the drawing of windows.

    Parameters
    ----------
    by : {"beats", "patient", "class", "dataset"}
        Every beat as likely as another; every patient, however long recorded; AF as often as not
        AF, by weighing patients with much of the rarer class higher; or every data set, and every
        patient of one. The records' own weights (their data set's) are kept as factors.
    """
    refuse_unless_balance(by)
    beats = np.array([max(len(r), 1) for r in records], np.float64)
    af = np.array([np.count_nonzero(r.label == 1) for r in records], np.float64)
    factor = np.ones(len(records))
    if by in ("patient", "dataset"):
        names, person = np.unique([r.subject for r in records], return_inverse=True)
        factor = beats.mean() / np.bincount(person, beats)[person]
        if by == "dataset":
            factor /= patients_beside(names.tolist())[person]
    elif by == "class" and 0 < (whole := float(af.sum() / beats.sum())) < 1:
        share = af / beats
        factor = share / (2 * whole) + (1 - share) / (2 * (1 - whole))
    return [replace(r, weight=r.weight * float(f)) for r, f in zip(records, factor, strict=True)]


def often(beats: LabelledBeats, weights: Mapping[str, float], by: str, side: Index) -> Floats:
    """How often each beat of a side is to be drawn in an epoch, in the mean; all of them, once.

    Parameters
    ----------
    beats : LabelledBeats
        All beats.
    weights : mapping of str to float
        How often beats of each data set are drawn, against 1 for those not named.
    by : {"beats", "patient", "class", "dataset"}
        Every beat alike; every patient, however long recorded; AF as often as not AF; or every data
        set, however many its patients.
    side : int64, shape (k,)
        Positions of the side's.

    Returns
    -------
    float32, shape (k,)
        Of mean 1.
    """
    refuse_unless_balance(by)
    person, label = beats.subject.code[side], beats.label[side]
    datasets = [name.split("/", 1)[0] for name in beats.subject.values.tolist()]
    factor = np.array([weights.get(name, 1.0) for name in datasets], np.float32)[person]
    if by in ("patient", "dataset"):
        factor /= np.bincount(person)[person]
        if by == "dataset":
            values, place = np.unique(person, return_inverse=True)
            factor /= patients_beside(beats.subject.values[values].tolist())[place]
    elif by == "class":
        factor /= np.bincount(label)[label]
    return np.asarray(factor / factor.mean(dtype=np.float64), np.float32)


def patients_beside(subjects: Sequence[str]) -> Floats:
    """Of each subject, DATASET/NAME, how many there are of its data set, itself included."""
    datasets = [name.partition("/")[0] for name in subjects]
    _, place = np.unique(datasets, return_inverse=True)
    return np.asarray(np.bincount(place)[place], np.float32)


def draw_positions(side: Index, times: Floats, random: np.random.Generator) -> Index:
    """Ascending positions, each as often as `often` says: its whole part, and once more by chance.

    Where every beat is to come once, every beat comes once.
    """
    return np.repeat(side, np.floor(times + random.random(len(times))).astype(np.int64))
