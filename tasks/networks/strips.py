"""Strips of records: what calibration by length is measured on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from zlib import crc32

import numpy as np

from tasks.features.rhythm import RhythmRecord

#: Lengths of strips in beats, and how many of each are cut from a record.
STRIP_BEATS, STRIPS = (12, 24, 48, 96, 192, 384), 24


def strips_of(records: Iterable[RhythmRecord], seed: int) -> list[RhythmRecord]:
    """Strips of each record, the same ones for a name and a seed; none of one label's records."""
    drawn = (
        cut_strips(record, np.random.default_rng([seed, crc32(record.name.encode())]))
        for record in records
        if not record.labelled_whole
    )
    return [replace(strip, name=f"{strip.name} strips") for strip in drawn if strip is not None]


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
    size = np.repeat(lengths, STRIPS)
    start = random.integers(0, len(record) - size + 1)
    place = np.concatenate([np.arange(a, a + n) for a, n in zip(start, size, strict=True)])
    rr_s = record.rr_s[place]
    rr_s[np.cumsum(size) - size] = np.nan
    shape, flutter = (
        None if values is None else values[place] for values in (record.shape, record.flutter)
    )
    return replace(record, rr_s=rr_s, label=record.label[place], shape=shape, flutter=flutter)
