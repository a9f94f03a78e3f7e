"""What was not recorded is neither rhythm nor an RR interval, whatever stands in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from flows.ingest.simulate import write_simulated
from storage.datasets.dataset import load_spec
from storage.formats.leads import OpenRecording
from storage.formats.wfdb_annotation import QUALITY_CHANGE, Annotations
from storage.recordings import check
from storage.recordings.check import check_record
from storage.recordings.marks import _unreadable
from storage.recordings.records import Record, open_record
from storage.recordings.stretches import (
    NOWHERE,
    QUIET_MV,
    QUIET_WIDTH_S,
    analysable,
    common,
    find_unrecorded,
    slices,
    unite,
    whole_record,
    within,
    without,
)
from storage.tables.beats import BeatTable, Quality, join_tables
from tasks.features.fused import fused_record
from tasks.features.rhythm import TWO_SIDED, rhythm_record
from tasks.networks.sequence import features
from tasks.runtimes.inference import of_record
from tasks.scores.episodes import episodes
from tasks.scores.smoothing import decide
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing
from tests.tasks.signal.test_signal_path import ecg, reader

FS_HZ = 250
Signal = NDArray[np.float32]
SETTINGS = settings(max_examples=8, deadline=None)


def stretches_of(*pairs: tuple[int, int]) -> NDArray[np.int64]:
    return np.array(pairs, np.int64).reshape(-1, 2)


def inside(stretches: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    return within(np.arange(n), stretches)


pairs = st.lists(st.integers(0, 60), max_size=8, unique=True).map(
    lambda edges: np.array(sorted(edges)[: len(edges) // 2 * 2], np.int64).reshape(-1, 2)
)


@given(pairs, pairs)
def test_stretches_are_sets_of_samples(a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
    """What lies in any, in both or in one alone is what counting samples one by one gives."""
    these, those = inside(a, 61), inside(b, 61)
    for found, expected in (
        (unite(a, b), these | those),
        (common(a, b), these & those),
        (without(a, b), these & ~those),
    ):
        np.testing.assert_array_equal(inside(found, 61), expected)
        assert (np.diff(found) > 0).all()
        assert (found[1:, 0] >= found[:-1, 1]).all()


def noise(seconds: float, seed: int = 0) -> Signal:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * FS_HZ)).astype(np.float32)


@pytest.mark.parametrize("fs_hz", [100, 128, 250, 360, 1000])
@pytest.mark.parametrize(
    ("kind", "least_s"), [("invalid", 0.2), ("one value", 1.0), ("a few uV about", 3.0)]
)
def test_holes_still_and_quiet_stretches_are_found_to_the_sample(
    fs_hz: int, kind: str, least_s: float
) -> None:
    """From its least length on a stretch is found wherever it lies, and none that is shorter."""
    random = np.random.default_rng(1)
    for start in (0, 7 * fs_hz + 3, 9 * fs_hz + 50):
        for length in (int(np.ceil(least_s * fs_hz)) + 1, int(0.8 * least_s * fs_hz)):
            x = random.normal(0, 0.1, 20 * fs_hz).astype(np.float32)
            part = slice(start, start + length)
            x[part] = np.nan if kind == "invalid" else 0.3
            if kind == "a few uV about":
                x[part] += random.choice([0, 0.005, 0.01], length).astype(np.float32)
            expected = [[start, start + length]] if length > least_s * fs_hz else []
            assert find_unrecorded(x, fs_hz).tolist() == expected


def test_a_living_signal_has_no_holes() -> None:
    """Nothing of a simulated hour is taken for unrecorded; all of a dead one is."""
    assert len(find_unrecorded(ecg(3600)[0], FS_HZ)) == 0
    assert find_unrecorded(np.full(5000, np.nan, np.float32), FS_HZ).tolist() == [[0, 5000]]


def test_a_stretch_without_a_beat_for_long_cannot_be_analysed() -> None:
    """It ends with the last beat before and begins with the next; fewer than three are none."""
    beats = np.array([*range(100, 5000, 200), 9000, 9200, 9400, 15_000, 15_200])
    found = analysable(whole_record(30_000), beats, FS_HZ)
    assert found.tolist() == [[0, 4901], [9000, 9401]]
    assert len(analysable(whole_record(1000), np.array([100, 200]), FS_HZ)) == 0
    assert len(analysable(NOWHERE, np.array([100, 200, 300]), FS_HZ)) == 0


def table_of(x: Signal, of: Record) -> BeatTable:
    return join_tables(list(beat_tables(of, reader(x), Preprocessing())[0]))


@pytest.fixture(scope="module")
def whole() -> tuple[Signal, Record, BeatTable]:
    x, of = ecg(240, seed=5)
    of = replace(of, rhythm_start=np.array([0, 20_000]), rhythms=np.array(["N", "AFIB"]))
    return x, of, table_of(x, of)


def is_quiet(x: Signal, width: float) -> bool:
    """Whether 0.1 s of it, wherever they begin, stay within 20 uV; holes are not quiet."""
    windows = sliding_window_view(x, min(int(width), len(x)))
    return bool((np.ptp(windows, axis=1) <= QUIET_MV).all())


@SETTINGS
@example(50, 3.0, "flat")
@given(st.integers(20, 180), st.floats(1.2, 40), st.sampled_from(["hole", "flat", "toggling"]))
def test_figures_about_the_rest_stay(
    whole: tuple[Signal, Record, BeatTable], second: int, length_s: float, kind: str
) -> None:
    """Cut a stretch out, or let the lead hang: beats, intervals and labels of the rest are as were.

    No beat is in the stretch and no interval or episode over it; what is flat is the same as what
    is not there.
    """
    x, of, before = whole
    length_s = max(length_s, 3.2) if kind == "toggling" else length_s
    start, stop = second * FS_HZ, round((second + length_s) * FS_HZ)
    cut = x.copy()
    random = np.random.default_rng(0)
    cut[start:stop] = {
        "hole": np.nan,
        "flat": x[start],
        "toggling": x[start] + random.choice([0, 0.005], stop - start),
    }[kind]
    after = table_of(cut, of)
    found_s = after.stretches_s * FS_HZ
    edge, width = 0.05 * FS_HZ, QUIET_WIDTH_S * FS_HZ
    lost = slice(*np.rint([found_s[0, 1], found_s[1, 0]]).astype(int))
    assert lost.start < start + edge
    assert lost.stop > stop - edge
    # A quiet stretch takes in what beside it is as quiet, where the heart is between two waves.
    assert lost.start > start - edge or is_quiet(cut[lost.start : start], width)
    assert lost.stop < stop + edge or is_quiet(cut[stop : lost.stop], width)
    assert not ((after.sample >= start) & (after.sample < stop)).any()
    assert np.nanmax(after.rr_prev_s) < 2.5
    # The filters see a few seconds beyond a cut; beats farther off are the same to the sample.
    far = 3 * FS_HZ
    rest = [
        table.take((table.sample < start - far) | (table.sample >= stop + far))
        for table in (before, after)
    ]
    np.testing.assert_array_equal(rest[1].sample, rest[0].sample)
    np.testing.assert_array_equal(rest[1].label, rest[0].label)
    np.testing.assert_array_equal(rest[1].rr_prev_s, rest[0].rr_prev_s)
    truth = episodes(after.label == 1, after.time_s, after.stretches_s)
    assert not ((truth[:, 0] < start / FS_HZ - 0.1) & (truth[:, 1] > start / FS_HZ + 0.1)).any()


class Sum:
    """A network that answers from all that it reads: the mean of a window's inputs about a beat."""

    def __init__(self, inputs: Mapping[str, tuple[int, ...]]) -> None:
        self.inputs = dict(inputs)

    def predict(self, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Not AF and AF at every beat, shape (k, beats, 2)."""
        total = np.sum([np.abs(x).sum(axis=2) for x in inputs.values()], axis=0)
        reach = np.ones(2 * TWO_SIDED.before + 1)
        rows = [np.convolve(row, reach, "same") for row in total.astype(np.float64)]
        score = np.stack(rows)[..., None] / 1e4
        return np.concatenate([1 - score, score], axis=2).astype(np.float32)


@pytest.mark.parametrize("name", ["rhythm", "fused"])
def test_nothing_is_seen_across_a_hole(whole: tuple[Signal, Record, BeatTable], name: str) -> None:
    """Answers and decisions on one side are those of that side as a record of its own."""
    x, of, _ = whole
    cut = x.copy()
    cut[100 * FS_HZ : 110 * FS_HZ] = np.nan
    table = table_of(cut, of)
    make = fused_record if name == "fused" else rhythm_record
    record = make(table)
    first, second = slices(table.begins)
    network = Sum({key: values.shape[1:] for key, values in features(name, record).items()})
    answers = of_record(network, name, record)  # type: ignore[arg-type]  # duck-typed stand-in
    for part in (first, second):
        alone = of_record(network, name, make(table.take(part)))  # type: ignore[arg-type]
        np.testing.assert_allclose(answers[part], alone, rtol=1e-6)
    middle = float(np.median(answers))
    decided = decide(answers, middle, 1e-4, 3, table.begins)
    here = decide(answers[second], middle, 1e-4, 3, table.begins[second])
    np.testing.assert_array_equal(decided[second], here)


def test_hours_of_a_rhythm_are_recorded_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`data check` counts no rhythm over a hole, wherever its blocks of the signal end."""
    toml = write_simulated(tmp_path, 1, 0.1, seed=5)
    frames = np.fromfile(tmp_path / "sim000.dat", np.uint8).reshape(90_000, 3)  # format 212
    frames[30_000:60_000] = frames[30_000]
    frames.tofile(tmp_path / "sim000.dat")
    (tmp_path / "SHA256SUMS.txt").unlink()
    monkeypatch.setattr(check, "BLOCK_SAMPLES", 45_100)
    monkeypatch.setattr(check, "sample_sum", lambda *_: None)
    found = check_record(load_spec(toml), tmp_path, "sim000", signal=True)
    assert found.problem is None
    assert found.hours == pytest.approx(0.1)
    assert found.recorded_hours == pytest.approx(240 / 3600, abs=1e-4)
    assert sum(found.rhythm_hours.values()) == pytest.approx(found.recorded_hours)


def test_beats_beside_a_hole_have_no_interval_into_it(
    whole: tuple[Signal, Record, BeatTable],
) -> None:
    """They have no waveform either, and their flags say what is beside them."""
    x, of, _ = whole
    cut = x.copy()
    cut[100 * FS_HZ : 104 * FS_HZ] = np.nan
    table = table_of(cut, of)
    first, second = slices(table.begins)
    last, begin = first.stop - 1, second.start
    assert np.isnan([table.rr_next_s[last], table.rr_prev_s[begin]]).all()
    assert table.waveform is not None
    assert np.isnan(table.waveform[[last, begin]]).all()
    assert np.isfinite(table.waveform[[last - 1, begin + 1]]).all()
    assert ((table.quality[[last, begin]] & Quality.GAP) != 0).all()


def test_marks_that_no_signal_can_be_read_end_the_rhythm() -> None:
    """By -1 all signals, by the high bits those that they name; noise takes nothing away."""
    codes = np.array([1, QUALITY_CHANGE, QUALITY_CHANGE, QUALITY_CHANGE, 1], np.uint8)
    sample = np.array([10, 100, 200, 300, 500])
    opened = OpenRecording(250.0, 1000, 250.0, (), "r.hea", n_signals=2)
    for subtype, signals, expected in (
        (-1, 2, [[100, 200]]),
        (0x30, 2, [[100, 200]]),
        (0x10, 2, []),
        (0x10, 1, [[100, 200]]),
        (3, 2, []),
        (0x30, 0, []),
        (0x30, 12, []),
    ):
        marks = Annotations(sample, codes, {}, np.zeros(len(sample), np.int16), None, {1: subtype})
        found = _unreadable(marks, replace(opened, n_signals=signals))
        assert found.tolist() == expected


@pytest.mark.real
def test_unreadable_stretches_of_mitdb_hold_no_beat(real_data: Path) -> None:
    """Few records have any, none with a beat in it, and marks of noise leave every beat."""
    spec, names = load_spec("mitdb"), ("101", "104", "105", "203")
    found = {}
    for name in names:
        record = open_record(spec, real_data / "mitdb", name, signal=False)
        found[name] = len(record.unreadable)
        assert not within(record.beats, record.unreadable).any()
        tables = beat_tables(record, None, Preprocessing())[0]
        assert sum(map(len, tables)) == len(record.beats)
    assert found["101"] == 1
    assert found["104"] == 0
