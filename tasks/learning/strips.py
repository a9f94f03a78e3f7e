"""Strips of records: what calibration by length is measured on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tasks.features.rhythm import RhythmRecord
from tasks.scores.rule_fit import STRIP_BEATS, STRIPS


def cut_strips(record: RhythmRecord, random: np.random.Generator) -> RhythmRecord | None:
    """Strips of every length from random places of a record, each a stretch of its own.

    Parameters
    ----------
    record : RhythmRecord
        A record of n beats.
    random : numpy.random.Generator
        Where it draws the places from.

    Returns
    -------
    RhythmRecord or None
        The strips, one after the other; None where the record is shorter than two of the shortest.
    """
    lengths = [length for length in STRIP_BEATS if 2 * length <= len(record)]
    if not lengths:
        return None
    rows, first = [], []
    for length in lengths:
        for start in random.integers(0, len(record) - length + 1, STRIPS).tolist():
            first.append(sum(map(len, rows)))
            rows.append(np.arange(start, start + length))
    place = np.concatenate(rows)
    rr_s = record.rr_s[place]
    rr_s[first] = np.nan
    shape = None if record.shape is None else record.shape[place]
    return replace(record, rr_s=rr_s, label=record.label[place], shape=shape)
