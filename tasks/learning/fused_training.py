"""Windows of records with shapes to train on: augmented, some with their shapes hidden."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.features.fused import FEATURES, RR_FEATURES, SHAPE_SAMPLES, inputs
from tasks.features.rhythm import FEATURES as RHYTHM_FEATURES
from tasks.features.rhythm import WINDOW_BEATS, RhythmRecord, rr_features
from tasks.learning.fused_augment import augment_record

Floats = NDArray[np.float32]
#: Columns of what may be drawn; the rhythm is for a student that reads it alone.
WIDTHS = {"cues": FEATURES, "shape": SHAPE_SAMPLES, "rhythm": RHYTHM_FEATURES}
#: A long record is augmented in a stretch of this many beats at a time.
STRETCH_BEATS = 6000


def draw_fused(
    records: Sequence[RhythmRecord],
    count: int,
    random: np.random.Generator,
    names: Collection[str] = ("cues", "shape"),
    *,
    augment: bool = True,
    masks: tuple[float, float] = (0.25, 0.0),
) -> tuple[dict[str, Floats], NDArray[np.int8]]:
    """Draw windows, records by their length times their weight.

    Parameters
    ----------
    names : collection of str
        Names of the inputs to draw; the windows are the same ones whichever they are.
    masks : pair of float
        Share of windows whose shapes are hidden with all that is made of them, so that a record
        without a signal is nothing new; and of those whose shapes alone are hidden.

    Returns
    -------
    dict of str to float32
        Of cues (count, 640, 12), shape (count, 640, 80) and rhythm (count, 640, 5), what is wanted.
    int8, shape (count, 640)
        Labels, -1 beyond a record's end.
    """
    share = np.array([r.weight * len(r) for r in records], np.float64)
    picks = np.sort(random.choice(len(records), count, p=share / share.sum()))
    x = {name: np.zeros((count, WINDOW_BEATS, WIDTHS[name]), np.float32) for name in names}
    y = np.full((count, WINDOW_BEATS), -1, np.int8)
    for number, rows in zip(*_runs(picks), strict=True):
        record = _stretch(records[number], random)
        record = augment_record(record, random) if augment else record
        arrays = dict(zip(("cues", "shape"), inputs(record.rr_s, record.shape), strict=True))
        if "rhythm" in x:
            arrays["rhythm"] = rr_features(record.rr_s)
        for row in rows:
            at = int(random.integers(0, max(len(record) - WINDOW_BEATS, 0) + 1))
            part = slice(at, at + WINDOW_BEATS)
            n = len(record.label[part])
            y[row, :n] = record.label[part]
            for name, windows in x.items():
                windows[row, :n] = arrays[name][part]
    hide, alone = (random.random(count) < share for share in masks)
    if "cues" in x:
        x["cues"][hide, :, RR_FEATURES:] = 0
    if "shape" in x:
        x["shape"][hide | alone] = 0
    order = random.permutation(count)
    return {name: windows[order] for name, windows in x.items()}, y[order]


def _stretch(record: RhythmRecord, random: np.random.Generator) -> RhythmRecord:
    at = int(random.integers(0, max(len(record) - STRETCH_BEATS, 0) + 1))
    return record.part(slice(at, at + STRETCH_BEATS))


def _runs(picks: NDArray[np.int64]) -> tuple[list[int], list[NDArray[np.int64]]]:
    values, first = np.unique(picks, return_index=True)
    return values.tolist(), np.split(np.arange(len(picks)), first[1:])
