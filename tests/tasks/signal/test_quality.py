"""Quality flags: right on signals made by hand, and there on real annotations that need them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.datasets.dataset import load_spec
from storage.recordings.check import uncovered_hours
from storage.recordings.records import Record, open_record
from storage.tables.beats import BeatTable, Quality
from tasks.learning.simulate import simulate_subject
from tasks.signal.beats import beat_tables
from tasks.signal.match import Counts
from tasks.signal.preprocessing import Policy, Preprocessing
from tasks.signal.quality import NOISY, cell_flags, cells_of, noise_index, rr_flags
from tests.tasks.signal.test_signal_path import ecg, reader
from tests.tasks.signal.test_signal_path import record as record_of

FS_HZ = 250
Signal = NDArray[np.float32]


def beats_of(
    x: Signal, record: Record, policy: Policy = "detected", **annotated: NDArray[np.int64]
) -> tuple[BeatTable, Counts]:
    none = {"beats": np.empty(0, np.int64)}
    beats = {**none, **annotated}["beats"]
    of = replace(record, beats=beats, symbols=np.full(len(beats), "N"))
    parts, counts, _ = beat_tables(of, reader(x), replace(Preprocessing(), policy=policy))
    (table,) = parts
    return table, counts


def flagged(table: BeatTable, flag: Quality) -> NDArray[np.bool_]:
    return np.asarray((table.quality & flag) != 0)


def touched(table: BeatTable, first: int, last: int) -> NDArray[np.bool_]:
    """Which beats' segments, R - RR1/3 to R + 2 RR2/3, reach into samples [first, last).

    Beside what was not recorded a beat reaches up to it.
    """
    start, stop = table.stretches_s.T * FS_HZ
    which = np.searchsorted(start, table.sample, side="right") - 1
    prev, after = (x * FS_HZ for x in (table.rr_prev_s, table.rr_next_s))
    low = np.where(np.isnan(prev), start[which] - 1, table.sample - prev / 3)
    high = np.where(np.isnan(after), stop[which], table.sample + 2 * after / 3)
    return np.asarray((high >= first) & (low < last))


@pytest.fixture(scope="module")
def clean() -> tuple[Signal, Record]:
    return ecg(120)


@pytest.mark.parametrize(
    ("flag", "value", "seconds"),
    [
        (Quality.GAP, np.nan, 0.2),
        (Quality.GAP, np.nan, 5.0),
        (Quality.FLAT, 0.0, 0.8),
        (Quality.FLAT, 0.0, 5.0),
        (Quality.FLAT, 10.0, 3.0),
        (Quality.SATURATED, 10.0, 3.0),
        (Quality.SATURATED, -10.0, 3.0),
        (Quality.SATURATED, 10.0, 0.2),
    ],
)
def test_a_stretch_is_flagged_where_it_is(
    clean: tuple[Signal, Record], flag: Quality, value: float, seconds: float
) -> None:
    """A gap, a flat lead and one at its limit flag the beats whose segments they touch, no others.

    Cells are 0.1 s wide, and a flat stretch claims the cell on either side of it.
    """
    x, record = clean[0].copy(), clean[1]
    first = 60 * FS_HZ
    last = first + round(seconds * FS_HZ)
    x[first:last] = value
    table, _ = beats_of(x, record)
    found = flagged(table, flag)
    wide = FS_HZ // 4
    assert found.any()
    assert found[touched(table, first, last)].all()
    assert not found[~touched(table, first - wide, last + wide)].any()
    assert not flagged(beats_of(clean[0], record)[0], flag).any()


def test_a_lead_that_is_off_is_flagged(clean: tuple[Signal, Record]) -> None:
    """A lead that falls off, at the rail with a little hum, is flagged to the end of it."""
    x, record = clean[0].copy(), clean[1]
    off = slice(50 * FS_HZ, 70 * FS_HZ)
    hum = 0.01 * np.sin(2 * np.pi * 50 * np.arange(20 * FS_HZ) / FS_HZ)
    x[off] = np.minimum(10 + hum, 10)
    table, _ = beats_of(x, record)
    inside = touched(table, off.start, off.stop)
    assert inside.any()
    bad = Quality.SATURATED | Quality.FLAT
    assert flagged(table, bad)[inside].all()


def test_noise_is_flagged(clean: tuple[Signal, Record]) -> None:
    """Most beats under muscle noise are flagged NOISY, and hardly any clean one."""
    x, record = clean[0].copy(), clean[1]
    rng = np.random.default_rng(0)
    noisy = slice(60 * FS_HZ, 90 * FS_HZ)
    x[noisy] += rng.normal(0, 0.6, 30 * FS_HZ).astype(np.float32)
    table, _ = beats_of(x, record)
    inside = touched(table, noisy.start + FS_HZ, noisy.stop - FS_HZ)
    outside = ~touched(table, noisy.start - FS_HZ, noisy.stop + FS_HZ)
    assert np.mean(flagged(table, Quality.NOISY)[inside]) > 0.7
    assert np.mean(flagged(table, Quality.NOISY)[outside]) < 0.05
    np.testing.assert_array_equal(flagged(table, Quality.NOISY), table.noise > NOISY)


def test_noise_index_is_free_of_scale() -> None:
    """The noise index does not depend on the lead's gain, and is NaN where there is no waveform."""
    shapes = np.random.default_rng(1).normal(size=(5, 300)).astype(np.float32)
    shapes[4] = np.nan
    found = noise_index(shapes)
    np.testing.assert_allclose(found[:4], noise_index(shapes * np.float32(8))[:4], rtol=1e-5)
    assert np.isnan(found[4])


def test_rr_range() -> None:
    """An interval outside 0.2 to 3.0 s on either side flags the beat; the two ends pass."""
    prev = np.array([np.nan, 0.8, 0.19, 0.2, 3.0, 3.01, 0.8], np.float32)
    after = np.array([0.8, 3.5, 0.8, 0.8, 0.8, 0.8, np.nan], np.float32)
    expected = [False, True, True, False, False, True, False]
    assert (rr_flags(prev, after) != 0).tolist() == expected


@pytest.mark.parametrize("hop", [100, 130, 5000])
def test_cells_do_not_depend_on_blocks(hop: int) -> None:
    """Cells measured in blocks of any whole number of cells give the flags of the whole signal."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=5003).astype(np.float32)
    x[960:1100] = 0.5
    x[2000:2050] = 9
    x[3000:3001] = np.nan
    width = 10
    parts = [x[at : at + hop] for at in range(0, len(x), hop)]
    found = cell_flags([cells_of(part, 100.0) for part in parts])
    np.testing.assert_array_equal(found, cell_flags([cells_of(x, 100.0)]))
    assert len(found) == -(-len(x) // width)
    assert (found[300] & Quality.GAP) != 0
    assert ((found[96:110] & Quality.FLAT) != 0).all()
    assert ((found[200:205] & Quality.SATURATED) != 0).all()


def test_annotation_that_leaves_out_a_stretch(clean: tuple[Signal, Record]) -> None:
    """Beats in a long pause of the annotation are kept, UNCOVERED and without a label."""
    x, record = clean
    beats = record.beats[(record.beats < 40 * FS_HZ) | (record.beats > 80 * FS_HZ)]
    for policy in get_args(Policy):
        table, counts = beats_of(x, record, policy, beats=beats)
        inside = (table.time_s > 43) & (table.time_s < 77)
        assert inside.sum() > 30
        assert flagged(table, Quality.UNCOVERED)[inside].all()
        assert (table.label[inside] == -1).all()
        outside = (table.time_s < 39) | (table.time_s > 81)
        assert not flagged(table, Quality.UNCOVERED)[outside].any()
        assert (table.label[outside] >= 0).all()
        assert counts.extra <= 8  # the few beside the pause's two ends
    of = replace(record, beats=beats)
    assert uncovered_hours(of) * 3600 == pytest.approx(40, abs=2)


def test_marks_off_the_beats_are_flagged() -> None:
    """Marks a third of a second off the beats, as in afdb's 07162, become no unflagged row."""
    made = simulate_subject(4, 120 / 3600, FS_HZ, "sinus")
    x = np.ascontiguousarray(made.signal_mv[:, 0])
    record = replace(record_of(len(x)), beats=made.beats)
    wrong = (record.beats > 40 * FS_HZ) & (record.beats < 60 * FS_HZ)
    beats = np.unique(np.where(wrong, record.beats + FS_HZ // 3, record.beats))
    table, counts = beats_of(x, record, "consensus", beats=beats)
    near = (table.time_s > 41) & (table.time_s < 59)
    assert (table.quality[near] & (Quality.MISSED | Quality.EXTRA) != 0).all()
    assert counts.missed >= 0.8 * wrong.sum()
    assert counts.extra >= 0.8 * wrong.sum()
    reference, _ = beats_of(x, record, "reference", beats=beats)
    near = (reference.time_s > 41) & (reference.time_s < 59)
    assert np.mean(flagged(reference, Quality.MISSED)[near]) > 0.8


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "hours"), [("04048", 0.49), ("06453", 0.03), ("07162", 0.23), ("07859", 0.0)]
)
def test_afdb_says_what_its_beats_do_not_cover(real_data: Path, name: str, hours: float) -> None:
    """Where afdb's beat marks end before its rhythm does, the hours without a beat are counted."""
    record = open_record(load_spec("afdb"), real_data / "afdb", name, signal=False)
    assert uncovered_hours(record) == pytest.approx(hours, abs=0.01)
    parts, counts, _ = beat_tables(record, None, Preprocessing())
    tables = list(parts)
    assert sum(map(len, tables)) == len(record.beats) == counts.annotated
    assert (counts.detected, counts.matched) == (0, 0)
    flags = np.concatenate([table.quality for table in tables])
    rr_s = np.diff(record.beats) / record.fs_hz
    bad = (rr_s < 0.2) | (rr_s > 3) & (rr_s <= 10)  # longer is no interval
    expected = np.append(bad, False) | np.append(False, bad)
    np.testing.assert_array_equal((flags & Quality.RR_RANGE) != 0, expected)
