"""Laws of the signal path: what must not matter does not, and what comes in comes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from storage.datasets.dataset import load_spec
from storage.errors import TooFewBeats, UnusableSignal
from storage.recordings.records import Record, open_record, read_lead
from storage.tables.beats import R_INDEX, BeatTable, Quality, join_tables
from tasks.signal import beats, filters, spool
from tasks.signal.beats import beat_tables, clean_lead
from tasks.signal.preprocessing import Policy, Preprocessing
from tests.tasks.signal.test_signal_path import CONFIG, ecg, reader, record, tables

Signal = NDArray[np.float32]
FS_HZ = 250
#: The wavelet transform halves its rows from sample 0, and shrinkage sets its limit by the noise of
#: windows from there: in a record that begins elsewhere no waveform differs by more than the first,
#: and all but 5 % of its samples by less than the second.
WAVEFORM_MV = 0.2
TYPICAL_MV = 0.04
#: Where blocks fall matters by rounding alone; signals here reach 50 mV.
ROUNDING_MV = 1e-5


def plain(of: Record, n_samples: int | None = None) -> Record:
    """The record without annotated beats, as if to be detected, in one rhythm throughout."""
    return replace(
        record(of.n_samples if n_samples is None else n_samples, of.fs_hz),
        rhythm_start=np.zeros(1, np.int64),
    )


def shapes(table: BeatTable) -> Signal:
    assert table.waveform is not None
    return table.waveform


def rows_between(table: BeatTable, low: int, high: int) -> BeatTable:
    return table.take((table.sample >= low) & (table.sample < high))


def assert_same_rows(found: BeatTable, expected: BeatTable, moved: int = 0) -> None:
    """The same beats to the sample; waveforms within the tolerance that the module states."""
    np.testing.assert_array_equal(found.sample + moved, expected.sample)
    for name in ("rr_prev_s", "rr_next_s", "symbol", "rhythm", "label"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert_alike(found, expected)


def assert_alike(found: BeatTable, expected: BeatTable) -> None:
    a, b = shapes(found), shapes(expected)
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    away = np.abs(a - b)[~np.isnan(a)]
    assert away.max() < WAVEFORM_MV
    assert np.percentile(away, 95) < TYPICAL_MV


@settings(max_examples=8, deadline=None, derandomize=True)
@given(shift=st.integers(1, 5000), seed=st.integers(0, 3))
def test_shift_shifts_rows(shift: int, seed: int) -> None:
    """Without its first n samples a record has the same rows, n earlier, its ends aside; any n.

    R peaks to the sample, but for the 20 s in which thresholds are learnt.
    """
    x, of = ecg(150, seed=seed)
    before = tables(x, plain(of))
    after = tables(x[shift:], plain(of, len(x) - shift))
    low, high = shift + 20 * FS_HZ, len(x) - 3 * FS_HZ
    assert_same_rows(
        rows_between(after, low - shift, high - shift), rows_between(before, low, high), shift
    )


@pytest.mark.real
@pytest.mark.parametrize(("name", "shift"), [("100", 1), ("203", 10_824), ("222", 9143)])
def test_a_real_record_shifts_too(real_data: Path, name: str, shift: int) -> None:
    """R peaks of mitdb's records, noisy ones too, move with the record, from 60 s on to the sample.

    222 and 203 kept what was noise in their first seconds in mind for minutes once.
    """
    x = read_lead(open_record(load_spec("mitdb"), real_data / "mitdb", name))
    before, after = (
        clean_lead(record(len(part), 360.0), reader(part), CONFIG).peaks for part in (x, x[shift:])
    )
    low, high = shift + 60 * 360, len(x) - 3 * 360
    before, after = (r[(r >= low) & (r < high)] for r in (before, after + shift))
    assert len(before) > 1700
    np.testing.assert_array_equal(after, before)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(cut=st.integers(15_000, 35_000), seed=st.integers(0, 3))
def test_two_halves_join_to_the_whole(cut: int, seed: int) -> None:
    """Cut in two and joined, a record has the same rows 20 s from the seam, 3 s from its end."""
    x, of = ecg(200, seed=seed)
    away = 20 * FS_HZ
    whole = tables(x, plain(of))
    left = tables(x[:cut], plain(of, cut))
    right = tables(x[cut:], plain(of, len(x) - cut))
    assert_same_rows(rows_between(left, 0, cut - away), rows_between(whole, 0, cut - away))
    end = len(x) - 3 * FS_HZ
    assert_same_rows(
        rows_between(right, away, end - cut), rows_between(whole, cut + away, end), cut
    )


def in_blocks(
    x: Signal, hop: int, margin_s: float = filters.MARGIN_S, *, held: str = "memory"
) -> BeatTable:
    """The rows of a lead read in blocks of `hop` samples; held in memory, on a disk, nowhere."""

    def grid(n_samples: int, fs_hz: float) -> filters.Grid:
        return replace(filters.make_grid(n_samples, fs_hz), hop=hop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters, "MARGIN_S", margin_s)
        patch.setattr(beats, "make_grid", grid)
        patch.setattr(beats, "MOST_IN_MEMORY", beats.MOST_IN_MEMORY if held == "memory" else 0)
        patch.setattr(spool, "LEFT", spool.LEFT if held == "disk" else float("inf"))
        return tables(x, record(len(x), FS_HZ))


HOPS = st.integers(1_000, 128_000)
GAPS = st.lists(
    st.tuples(st.integers(0, 90_000), st.sampled_from([1, 50, 600, 2_500, 3_900, 4_200, 9_000])),
    max_size=4,
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    hop=HOPS,
    held=st.sampled_from(["memory", "disk", "nowhere"]),
    gaps=GAPS,
    flat=GAPS,
    seed=st.integers(0, 3),
    offset=st.sampled_from([0, 0, 50]),
)
def test_block_size_changes_nothing(
    hop: int,
    held: str,
    gaps: list[tuple[int, int]],
    flat: list[tuple[int, int]],
    seed: int,
    offset: float,
) -> None:
    """Whatever the block size, all rows and flags are the same, waveforms within 1e-5 mV.

    With flat stretches and gaps of any length, blocks that lie in them, and electrode offset; and
    where the lead is too long for memory, and lies on a disk or is filtered again for its tables.
    """
    x, _ = ecg(400, seed=seed + 1)
    x = x + np.float32(offset)
    for start, length in flat:
        x[start : start + length] = x[start]
    for start, length in gaps:
        x[start : start + length] = np.nan
    found, expected = in_blocks(x, hop, held=held), in_blocks(x, 28_672)
    for name, column in vars(expected).items():
        if name == "waveform":
            np.testing.assert_allclose(shapes(found), column, atol=ROUNDING_MV, rtol=0)
        elif name == "noise":
            np.testing.assert_allclose(found.noise, column, rtol=1e-3, atol=1e-4)
        elif isinstance(column, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)


def test_the_size_of_a_table_changes_nothing() -> None:
    """In tables of 64 beats a record has the same rows as in one, those at the seams too."""
    x, of = ecg(150)
    x = x.copy()
    x[20_000:20_300] = np.nan
    expected = tables(x, of)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beats, "TABLE_BEATS", 64)
        parts = list(beat_tables(of, reader(x), CONFIG)[0])
    assert [len(part) for part in parts[:-1]] == [64] * (len(parts) - 1)
    found = join_tables(parts)
    for name, column in vars(expected).items():
        if isinstance(column, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)


def test_the_block_law_can_fail() -> None:
    """With a margin that is shorter than the filters' memory, the block size does matter."""
    x, _ = ecg(400)
    found, expected = (shapes(in_blocks(x, hop, 1.0))[1:-1] for hop in (4096, 28_672))
    assert np.abs(found - expected).max() > 100 * ROUNDING_MV


def heart(fs_hz: float, seconds: float = 60.0) -> tuple[Signal, NDArray[np.float64]]:
    """An ECG as a formula of time, so that it can be sampled at any rate; and when R is."""
    rng = np.random.default_rng(5)
    r_s = np.cumsum(rng.uniform(0.7, 1.0, int(seconds)))
    r_s = r_s[r_s < seconds - 1]
    t = np.arange(round(seconds * fs_hz)) / fs_hz
    waves = ((-0.16, 0.12, 0.025), (-0.03, -0.1, 0.01), (0, 1.1, 0.012), (0.03, -0.2, 0.012))
    x = np.zeros(len(t))
    for beat in r_s:
        for delay, height, width in (*waves, (0.25, 0.3, 0.04)):
            x += height * np.exp(-0.5 * ((t - beat - delay) / width) ** 2)
    return x.astype(np.float32), r_s


@pytest.mark.parametrize("fs_hz", [128, 180, 200, 257, 360, 500, 512, 999, 1000])
def test_any_rate_gives_the_same_beat(fs_hz: int) -> None:
    """Sampled at 128 to 1000 Hz, one ECG gives the same beats: R within 12 ms, waveform alike.

    The waveform differs by less than 0.1 mV on average of the worst sample; at 128 Hz the R wave
    itself, 28 ms wide at half its height, is under four samples.
    """
    expected = tables(heart(250)[0], record(60 * 250, 250.0))
    x, r_s = heart(fs_hz)
    found = tables(x, record(len(x), float(fs_hz)))
    assert len(found) == len(expected) == len(r_s)
    assert np.abs(found.time_s - r_s).max() < 0.012
    mean, wanted = (shapes(table)[1:-1].mean(axis=0) for table in (found, expected))
    assert np.abs(mean - wanted).max() < 0.1
    assert np.corrcoef(mean, wanted)[0, 1] > 0.995


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("inside_s", [0.06, 0.09, 0.2])
def test_a_beat_near_the_end_is_found(inside_s: float, turned: bool) -> None:
    """A beat 60 ms from either end of the record is found; a complex cut at R or before is none."""
    x, r_s = heart(250)
    for inside, beats_more in ((inside_s, 1), (-0.004, 0), (-0.02, 0)):
        cut = x[: round((r_s[-1] + inside) * 250) + 1]
        found = tables(cut[::-1].copy() if turned else cut, record(len(cut), 250.0)).time_s
        found = (len(cut) - 1) / 250 - found[::-1] if turned else found
        assert len(found) == len(r_s) - 1 + beats_more
        assert np.abs(found - r_s[: len(found)]).max() < 0.012


def test_r_is_at_index_100_of_every_beat() -> None:
    """Index 100 of every waveform is the cleaned signal at the row's R peak, near its extremum."""
    x, r_s = heart(250)
    table = tables(x, record(len(x), 250.0))
    assert len(table) == len(r_s)
    beats = shapes(table)[1:-1]
    assert (np.abs(beats.argmax(axis=1) - R_INDEX) <= 2).all()
    assert (beats[:, R_INDEX] > 0.95 * beats.max(axis=1)).all()


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(0, 3000),
    value=st.one_of(st.floats(-5, 5, width=32), st.just(float("nan"))),
    spike=st.booleans(),
    fs_hz=st.sampled_from([128.0, 250.0, 1000.0]),
)
def test_degenerate_signals_are_our_errors(n: int, value: float, spike: bool, fs_hz: float) -> None:
    """An empty, constant, all-NaN or one-beat signal is an error of ours, never a crash.

    About a spike in perfect stillness the filters ring: what they make of it is all flagged FLAT.
    """
    x = np.full(n, value, np.float32)
    if spike and n > 10:
        x[n // 2] = 1.0
    try:
        rows = list(beat_tables(record(n, fs_hz), reader(x), CONFIG)[0])
    except (UnusableSignal, TooFewBeats) as error:
        rows, said = [], str(error)
    else:
        said = "record sim001"
        assert spike
    assert "record sim001" in said
    assert all(((table.quality & Quality.FLAT) != 0).all() for table in rows)


def test_policies_count_the_same_and_keep_different_rows() -> None:
    """All policies report one comparison; the rows are matched, annotated, or detected beats."""
    x, of = ecg(150)
    keep = np.ones(len(of.beats), bool)
    keep[[30, 31, 60]] = False
    of = replace(of, beats=of.beats[keep], symbols=of.symbols[keep])
    made = {}
    for policy in get_args(Policy):
        parts, counts, _ = beat_tables(of, reader(x), Preprocessing(policy=policy))
        made[policy] = (next(iter(parts)), counts)
    (counts,) = {counts for _, counts in made.values()}
    assert counts.annotated == counts.matched + counts.missed == len(of.beats)
    assert counts.extra >= 3
    rows = {policy: len(table) for policy, (table, _) in made.items()}
    uncovered = {
        policy: int(((table.quality & Quality.UNCOVERED) != 0).sum())
        for policy, (table, _) in made.items()
    }
    assert rows["consensus"] == counts.matched + uncovered["consensus"]
    assert rows["reference"] == counts.annotated + uncovered["reference"]
    assert rows["detected"] == counts.detected


@pytest.mark.real
def test_real_record_at_another_rate(real_data: Path) -> None:
    """Five minutes of mitdb 100, resampled from 360 to 250 Hz, have the same beats within 20 ms."""
    from scipy.signal import resample_poly

    x = read_lead(open_record(load_spec("mitdb"), real_data / "mitdb", "100"), 0, 300 * 360)
    slow = resample_poly(x.astype(np.float64), 25, 36).astype(np.float32)
    fast_table = tables(x, record(len(x), 360.0))
    slow_table = tables(slow, record(len(slow), 250.0))
    assert len(fast_table) == len(slow_table) > 350
    assert np.abs(fast_table.time_s - slow_table.time_s).max() < 0.02
    away = np.abs(shapes(fast_table)[1:-1] - shapes(slow_table)[1:-1])
    assert np.percentile(away, 95) < 0.05
