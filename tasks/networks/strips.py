"""Strips of records, and the rule that is fixed on a network's answers for both."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tasks.features.rhythm import RhythmRecord
from tasks.scores.rule import Rule
from tasks.scores.rule_fit import STRIP_BEATS, STRIPS, PatientAnswers, fit_rule


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


def rule_for(
    records: Sequence[RhythmRecord],
    strips: Sequence[RhythmRecord],
    answers: Sequence[NDArray[np.float32]],
    *,
    causal: bool,
    people: Container[str],
    aim: float,
) -> Rule:
    """The rule of a network by its answers for records, and after them for strips of them.

    Records of one label are strips as well, unless there are no others. `people` are those whom the
    network that answered did not learn from, `aim` is as of `fit_rule`.
    """
    items = [
        PatientAnswers(record.subject, record.label, answer, record.begins)
        for record, answer in zip((*records, *strips), answers, strict=True)
    ]
    long = [item for item, r in zip(items, records, strict=False) if not r.labelled_whole]
    whole = long or items[: len(records)]
    short = [item for item in items if item not in whole]
    unseen = [item for item in whole if item.patient in people]
    return fit_rule(whole, short, causal=causal, unseen=unseen, aim=aim)
