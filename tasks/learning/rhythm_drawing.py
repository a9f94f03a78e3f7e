"""Windows of the rhythm to train on: passages of records, augmented, some cut to strips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tasks.features.rhythm import (
    FEATURES,
    WINDOW_BEATS,
    RhythmRecord,
    Windows,
    join_records,
    random_windows,
    spread,
)
from tasks.learning.balance import draw_positions
from tasks.learning.rhythm_augment import augment_rhythm, cut_short, paste_stretches
from tasks.networks.sequence import features, windows

Floats = NDArray[np.float32]
#: A record is augmented in a passage of so many beats for each window drawn of it, and no fewer
#: than of six thousand: its rhythms are to meet in it.
BEATS_PER_WINDOW, PASSAGE_BEATS = 960, 6000
#: Records of one label each are learnt from so many beats together, which then share windows.
SHEET_BEATS = 2000


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
        Classes of `tasks.learning.rhythm_augment.TARGETS`; -1 where there is no beat.
    """
    by = windows(name)
    if bags := [r for r in records if r.labelled_whole]:
        records = [*(r for r in records if not r.labelled_whole), *sheets(bags, random)]
    sources = [*records, *simulated]
    share = np.array([_places(r, by) * r.weight for r in sources], np.float64)
    picks = random.choice(len(sources), count, p=share / share.sum())
    x = np.zeros((count, WINDOW_BEATS, FEATURES), np.float32)
    y = np.full((count, WINDOW_BEATS), -1, np.int8)
    for number in np.unique(picks).tolist():
        rows = np.flatnonzero(picks == number)
        record = sources[number]
        if augment:
            record = _passage(record, max(BEATS_PER_WINDOW * len(rows), PASSAGE_BEATS), random)
            if number < len(records):
                whole = record.labelled_whole
                record = record if whole else paste_stretches(record, random)
                record = augment_rhythm(record, random)
            record = cut_short(record, random)
        places = by.places(record.begins)
        values = spread(features(name, record)["rhythm"], places)
        label = spread(record.label, places, -1)
        x[rows], y[rows] = random_windows([values], [label], [1], WINDOW_BEATS, len(rows), random)
    return x, y


def sheets(bags: Sequence[RhythmRecord], random: np.random.Generator) -> list[RhythmRecord]:
    """Records of one label each, joined in random order to a few that are long enough to draw.

    Each is there once, or as often as its weight says against the others'.
    """
    weight = np.array([record.weight for record in bags])
    times = np.asarray(weight / weight.mean(), np.float32)
    chosen = random.permutation(draw_positions(np.arange(len(bags)), times, random))
    groups = by_beats([bags[k] for k in chosen], SHEET_BEATS)
    return [replace(join_records(group), weight=float(weight.mean())) for group in groups]


def by_beats(records: Sequence[RhythmRecord], beats: int) -> Iterator[list[RhythmRecord]]:
    """Records in groups of about so many beats, in their order; a longer record is one alone."""
    group: list[RhythmRecord] = []
    for record in records:
        if group and sum(map(len, group)) + len(record) > beats:
            yield group
            group = []
        group.append(record)
    if group:
        yield group


def bag_label(label: NDArray[np.int8], probability: Floats) -> NDArray[np.int8]:
    """What the beats of a record of one label count as, by what a network answers.

    In a record of AF those of the greater P(AF), at least half of them, are AF; the others count
    nowhere. This is multiple-instance learning (Andrews et al. 2002, NIPS 15, pages 577-584), a
    record a bag that AF fills by half or more.
    """
    doubtful = probability < min(float(np.median(probability)), 0.5)
    return np.where((label == 1) & doubtful, np.int8(-1), label)


def _places(record: RhythmRecord, by: Windows) -> int:
    """Beats that a record takes in windows, those between its stretches too."""
    return int(by.places(record.begins)[-1]) + 1 if record.labelled_whole else len(record)


def _passage(record: RhythmRecord, beats: int, random: np.random.Generator) -> RhythmRecord:
    """So many successive beats of a record, or all of it."""
    at = int(random.integers(0, max(len(record) - beats, 0) + 1))
    return record.part(slice(at, at + beats))
