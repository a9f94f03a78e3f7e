"""Windows of the rhythm to train on: passages of records, augmented, some cut to strips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tasks.features.rhythm import FEATURES, WINDOW_BEATS, RhythmRecord, random_windows, spread
from tasks.learning.rhythm_augment import augment_rhythm, cut_short, paste_stretches
from tasks.networks.sequence import features, windows

Floats = NDArray[np.float32]
#: A record is augmented in a passage of so many beats for each window drawn of it, and no fewer
#: than of six thousand: its rhythms are to meet in it.
BEATS_PER_WINDOW, PASSAGE_BEATS = 960, 6000


def draw_rhythm(
    name: str,
    records: Sequence[RhythmRecord],
    simulated: Sequence[RhythmRecord],
    count: int,
    random: np.random.Generator,
    *,
    augment: bool = True,
) -> tuple[Floats, NDArray[np.int8]]:
    """Draw windows, records by their length times their weight; one record is held at a time.

    Parameters
    ----------
    name : str
        A network of the rhythm: the windows hold what it reads.
    records, simulated : sequences of RhythmRecord
        Real ones, to be augmented and cut to all lengths; and those that are cut alone.
    count : int
        How many windows.
    augment : bool
        Whether anything of this is done; else windows are of records as they are.

    Returns
    -------
    features : float32, shape (count, 640, 5)
    label : int8, shape (count, 640)
        -1 where there is no beat.
    """
    sources = [*records, *simulated]
    share = np.array([len(r) * r.weight for r in sources], np.float64)
    picks = random.choice(len(sources), count, p=share / share.sum())
    x = np.zeros((count, WINDOW_BEATS, FEATURES), np.float32)
    y = np.full((count, WINDOW_BEATS), -1, np.int8)
    by = windows(name)
    for number in np.unique(picks).tolist():
        rows = np.flatnonzero(picks == number)
        record = sources[number]
        if augment:
            record = _passage(record, max(BEATS_PER_WINDOW * len(rows), PASSAGE_BEATS), random)
            if number < len(records):
                record = augment_rhythm(paste_stretches(record, random), random)
            record = cut_short(record, random)
        places = by.places(record.begins)
        values = spread(features(name, record)["rhythm"], places)
        label = spread(record.label, places, -1)
        x[rows], y[rows] = random_windows([values], [label], [1], WINDOW_BEATS, len(rows), random)
    return x, y


def _passage(record: RhythmRecord, beats: int, random: np.random.Generator) -> RhythmRecord:
    """So many successive beats of a record, or all of it."""
    at = int(random.integers(0, max(len(record) - beats, 0) + 1))
    part = slice(at, at + beats)
    return replace(record, rr_s=record.rr_s[part], label=record.label[part])
