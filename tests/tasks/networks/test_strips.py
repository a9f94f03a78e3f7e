"""Strips of records: what calibration by length is measured on."""

from __future__ import annotations

import numpy as np

from storage.recordings.stretches import slices
from tasks.features.rhythm import RhythmRecord
from tasks.networks.strips import STRIP_BEATS, STRIPS, cut_strips


def record_of(n: int) -> RhythmRecord:
    """A record whose every beat is told apart by its interval."""
    rr_s = np.linspace(0.5, 1.5, n, dtype=np.float32)
    rr_s[0] = np.nan
    label = (np.arange(n) % 2).astype(np.int8)
    flutter = np.arange(n) % 3 == 0
    shape = np.repeat(np.arange(n, dtype=np.float32)[:, None], 80, axis=1)
    return RhythmRecord("a/1", "a/s", rr_s, label, shape=shape, flutter=flutter)


def test_every_strip_is_successive_beats_of_the_record_and_a_stretch_of_its_own() -> None:
    """Interval, label, flutter and shape of a beat stay together; no interval before the first."""
    record = record_of(1000)
    strips = cut_strips(record, np.random.default_rng(0))
    assert strips is not None
    assert strips.shape is not None
    assert strips.flutter is not None
    assert record.flutter is not None
    parts = slices(strips.begins)
    sizes = [part.stop - part.start for part in parts]
    assert sizes == np.repeat(STRIP_BEATS, STRIPS).tolist()
    for part in parts:
        place = strips.shape[part, 0].astype(int)
        assert (np.diff(place) == 1).all()
        assert np.array_equal(strips.rr_s[part][1:], record.rr_s[place][1:])
        assert np.array_equal(strips.label[part], record.label[place])
        assert np.array_equal(strips.flutter[part], record.flutter[place])


def test_a_short_record_gives_short_strips_or_none() -> None:
    """A strip of more than half of a record would be the record."""
    strips = cut_strips(record_of(50), np.random.default_rng(0))
    assert strips is not None
    assert {part.stop - part.start for part in slices(strips.begins)} == {12, 24}
    assert cut_strips(record_of(23), np.random.default_rng(0)) is None
