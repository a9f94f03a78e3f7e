"""The signal path, held against scipy, PyWavelets and the laws it must obey."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import pywt
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from storage.datasets.dataset import load_spec, record_names
from storage.errors import TooFewBeats, UnusableSignal
from storage.recordings.records import Record, open_record, read_lead
from storage.tables.beats import BeatTable, Quality
from tasks.learning.simulate import simulate_subject
from tasks.signal import filters
from tasks.signal.beats import beat_tables, clean_lead
from tasks.signal.filters import filtered_blocks, make_grid
from tasks.signal.match import match_beats
from tasks.signal.preprocessing import Preprocessing
from tasks.signal.qrs import REFRACTORY_S
from tasks.signal.segment import segment
from tasks.signal.wavelet import shrink

CONFIG = Preprocessing()
Signal = NDArray[np.float32]


def record(n_samples: int, fs_hz: float = 250.0) -> Record:
    return Record(
        dataset="sim",
        name="sim001",
        subject="s1",
        folder=Path(),
        fs_hz=fs_hz,
        n_samples=n_samples,
        lead="ECG1",
        beats=np.empty(0, np.int64),
        symbols=np.empty(0, "U1"),
        rhythm_start=np.zeros(1, np.int64),
        rhythms=np.array(["N"]),
        af=frozenset({"AFIB"}),
        digests={},
    )


def reader(x: Signal) -> partial[Signal]:
    return partial(lambda signal, start, stop: signal[start:stop], x)


def ecg(seconds: float = 300.0, fs_hz: float = 250.0, seed: int = 3) -> tuple[Signal, Record]:
    made = simulate_subject(seed, seconds / 3600, fs_hz, "paroxysmal")
    lead = np.ascontiguousarray(made.signal_mv[:, 0])
    return lead, replace(
        record(len(lead), fs_hz),
        beats=made.beats,
        symbols=made.symbols,
        rhythm_start=made.rhythm_start,
        rhythms=made.rhythms,
    )


def tables(x: Signal, of: Record, config: Preprocessing = CONFIG) -> BeatTable:
    parts = list(beat_tables(of, reader(x), config)[0])
    assert len(parts) == 1
    return parts[0]


@pytest.mark.parametrize("fs_hz", [128.0, 250.0, 360.0, 1000.0])
def test_band_pass_is_filtfilt(fs_hz: float) -> None:
    """Away from the ends, block-wise band-passing equals scipy's sosfiltfilt within 1e-3 mV."""
    x = np.random.default_rng(0).normal(size=round(150 * fs_hz)).astype(np.float32)
    grid = make_grid(len(x), fs_hz)
    sos = butter(2, (0.5, 50.0), "bandpass", fs=fs_hz, output="sos")
    expected = sosfiltfilt(sos, x.astype(np.float64))
    found = np.concatenate([b.band[b.inside] for b in filtered_blocks(reader(x), grid, CONFIG)])
    inside = slice(round(10 * fs_hz), -round(10 * fs_hz))
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-3)


@pytest.mark.parametrize("fs_hz", [128.0, 250.0, 1000.0])
def test_transforms_are_of_single_precision(fs_hz: float) -> None:
    """numpy filters a lead to the bits of scipy's float32, a block alone or with others."""
    x = np.random.default_rng(0).normal(3, 0.5, size=round(800 * fs_hz)).astype(np.float32)
    x[5000:5300] = np.nan
    grid = make_grid(len(x), fs_hz)
    together = list(filtered_blocks(reader(x), grid, CONFIG))
    (alone,) = filters.blocks_at(reader(x), grid, [grid.starts()[1]], CONFIG)
    np.testing.assert_array_equal(alone.slope, together[1].slope)
    np.testing.assert_array_equal(alone.band, together[1].band)
    assert alone.slope.dtype == alone.band.dtype == np.float32
    low, high = alone.raw.min(), alone.raw.max()
    raw = alone.raw - (low + (high - low) / 2)
    assert np.ptp(raw) < filters.MOST_RANGE_MV
    gain, _ = filters._gains(grid.length, fs_hz, CONFIG)
    expected = scipy.fft.irfft(scipy.fft.rfft(raw, norm="forward") * gain, grid.length)
    np.testing.assert_array_equal(alone.band, expected)


@pytest.mark.parametrize("height_mv", [1.0, 7.0, 40.0])
def test_an_artefact_takes_no_precision(height_mv: float) -> None:
    """About a step of any height a lead is filtered as in double precision, within 4e-6 mV."""
    x = np.random.default_rng(0).normal(0, 0.2, size=30_000).astype(np.float32)
    x[15_000:] += np.float32(height_mv)
    grid = make_grid(len(x), 250.0)
    found = next(filtered_blocks(reader(x), grid, CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters, "MOST_RANGE_MV", 0.0)
        exact = next(filtered_blocks(reader(x), grid, CONFIG))
    np.testing.assert_allclose(found.band, exact.band, atol=4e-6, rtol=0)


def textbook_shrinkage(
    x: NDArray[np.floating], inside: slice = slice(None)
) -> NDArray[np.floating]:
    """PyWavelets' soft threshold at Donoho's limit for the noise of the samples inside."""
    n = len(x[inside])
    parts = pywt.wavedec(x, "db4", mode="periodization", level=5)
    finest = np.repeat(parts[-1], 2)[inside][::2]
    limit = np.median(np.abs(finest)) / 0.6745 * np.sqrt(2 * np.log(n))
    soft = [parts[0], *(pywt.threshold(d, limit, "soft") for d in parts[1:])]
    return np.asarray(pywt.waverec(soft, "db4", mode="periodization"))


def test_shrinkage_is_the_textbook_one() -> None:
    """Wavelet shrinkage equals PyWavelets' soft threshold at Donoho's limit, 256 from the ends.

    The textbook's signal is periodic, ours is followed by zeros.
    """
    x = np.random.default_rng(1).normal(size=4096).astype(np.float32)
    inside = slice(256, -256)
    found, expected = shrink(x, "db4", 5, inside), textbook_shrinkage(x, inside)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-5)


@pytest.mark.parametrize(("fs_hz", "seconds"), [(250.0, 400.0), (360.0, 130.0), (128.0, 250.0)])
def test_clean_is_scipys_and_pywavelets(fs_hz: float, seconds: float) -> None:
    """The cleaned lead is sosfiltfilt's, each 120 s of it shrunk by the textbook: within 2e-4 mV.

    The record's last window is longer; ten seconds at its ends are left out, where filtfilt pads.
    """
    x, of = ecg(seconds, fs_hz)
    sos = butter(2, (0.5, 50.0), "bandpass", fs=fs_hz, output="sos")
    band = sosfiltfilt(sos, x.astype(np.float64))
    window, around = 64 * round(120 * fs_hz / 64), 1024
    starts = np.arange(max(len(x) // window, 1)) * window
    expected = np.empty(len(x))
    padded = np.pad(band, (around, around + 64), "reflect", reflect_type="odd")
    for start, stop in pairwise([*starts.tolist(), len(x)]):
        end = stop + 2 * around + -(stop - start) % 64
        shrunk = textbook_shrinkage(padded[start:end], slice(around, around + stop - start))
        expected[start:stop] = shrunk[around : around + stop - start]
    found = clean_lead(of, reader(x), CONFIG).clean(0, len(x))
    inside = slice(round(10 * fs_hz), -round(10 * fs_hz))
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-4)
    assert np.abs(found - band)[inside].max() > 0.01


def test_segment_is_linear_interpolation() -> None:
    """A segment equals numpy's interpolation at R - RR1/3 .. R + 2 RR2/3, with R at index 100."""
    x = np.random.default_rng(2).normal(size=2000).astype(np.float32)
    r, prev, after = (np.array([v], dtype=np.int64) for v in (700, 200, 311))
    found = segment(x, 0, r, prev, after)[0]
    at = np.concatenate(
        [700 - 200 / 3 * np.arange(100, 0, -1) / 100, 700 + 2 * 311 / 3 * np.arange(200) / 200]
    )
    np.testing.assert_allclose(found, np.interp(at, np.arange(2000), x), atol=1e-4)
    assert found[100] == x[700]


def test_ends_have_no_waveform() -> None:
    """The first and the last beat have one RR interval only, and no waveform."""
    x, of = ecg(60)
    table = tables(x, of)
    assert table.waveform is not None
    assert np.isnan(table.waveform[[0, -1]]).all()
    assert np.isfinite(table.waveform[1:-1]).all()
    assert np.isnan(table.rr_prev_s[0])
    assert np.isnan(table.rr_next_s[-1])


@settings(max_examples=8, deadline=None)
@given(gain=st.floats(0.05, 20), turned=st.booleans())
def test_scale_moves_no_beat(gain: float, turned: bool) -> None:
    """Scaling or turning over the signal changes no R position."""
    x, of = ecg(120)
    scale = np.float32(-gain if turned else gain)
    np.testing.assert_array_equal(tables(x * scale, of).sample, tables(x, of).sample)


@settings(max_examples=6, deadline=None)
@given(shift=st.integers(1, 2500))
def test_shift_shifts_beats(shift: int) -> None:
    """Shifting the signal by n samples shifts the beats by n, but for the first seconds."""
    x, of = ecg(200)
    plain = replace(of, beats=np.empty(0, np.int64), symbols=np.empty(0, "U1"))
    before = tables(x, plain).sample
    after = tables(x[shift:], replace(plain, n_samples=len(x) - shift)).sample + shift
    late = shift + 20 * 250
    np.testing.assert_array_equal(after[after > late], before[before > late])


def test_a_loose_electrode_s_hum_has_no_beats_within_the_refractory_period() -> None:
    """Of a hum's equal waves none is higher than those beside it: no rate of 700 beats a minute."""
    x, of = ecg(120)
    hum = 0.05 * np.sin(2 * np.pi * 50 * np.arange(60 * 250) / 250)
    x[60 * 250 :] = np.rint(1000 * hum) / 1000
    plain = replace(of, beats=np.empty(0, np.int64), symbols=np.empty(0, "U1"))
    assert np.median(np.diff(tables(x, plain).sample)) > REFRACTORY_S * 250


@pytest.mark.parametrize("artefact_mv", [5.0, 50.0])
@pytest.mark.parametrize("begins_s", [0, 100])
def test_an_artefact_hides_no_more_than_seconds(begins_s: int, artefact_mv: float) -> None:
    """Eight seconds of a loose electrode hide beats for 15 s more, not for the record's rest."""
    x, of = ecg(300)
    calm = replace(of, beats=np.empty(0, np.int64), symbols=np.empty(0, "U1"))
    there = slice(begins_s * 250, (begins_s + 8) * 250)
    loose = x.copy()
    loose[there] += artefact_mv * np.random.default_rng(1).normal(size=8 * 250).astype(np.float32)
    expected, found = tables(x, calm).sample, tables(loose, calm).sample
    away = there.stop + 15 * 250
    late = expected[expected > away]
    assert len(late) > 150
    np.testing.assert_array_equal(found[found > away], late)


def test_two_halves_make_the_whole() -> None:
    """Cutting a record in two changes no beat more than 20 s away from the seam."""
    x, of = ecg(400)
    cut = 250 * 200 + 1
    plain = replace(of, beats=np.empty(0, np.int64), symbols=np.empty(0, "U1"))
    whole = tables(x, plain).sample
    left = tables(x[:cut], replace(plain, n_samples=cut)).sample
    right = tables(x[cut:], replace(plain, n_samples=len(x) - cut)).sample + cut
    joined = np.concatenate([left, right])
    away = 250 * 20
    np.testing.assert_array_equal(
        joined[np.abs(joined - cut) > away], whole[np.abs(whole - cut) > away]
    )


@pytest.mark.parametrize("fs_hz", [128.0, 200.0, 360.0, 500.0, 1000.0])
def test_any_rate_finds_the_same_beats(fs_hz: float) -> None:
    """At 128 to 1000 Hz every beat of the same simulated subject is found, and none is made up."""
    x, of = ecg(300, fs_hz)
    found = clean_lead(of, reader(x), CONFIG).peaks
    partner = match_beats(of.beats, found, 0.15 * fs_hz)
    assert np.mean(partner >= 0) > 0.995
    assert len(found) - np.count_nonzero(partner >= 0) <= 0.01 * len(found)
    near = found[partner[partner >= 0]] - of.beats[partner >= 0]
    assert np.percentile(np.abs(near) / fs_hz, 90) < 0.03


@pytest.mark.parametrize(
    ("signal", "error"),
    [
        (np.full(25_000, np.nan, np.float32), UnusableSignal),
        (np.full(25_000, 0.3, np.float32), UnusableSignal),
        (np.zeros(0, np.float32), UnusableSignal),
        (np.sin(np.arange(400) / 300).astype(np.float32), TooFewBeats),
    ],
)
def test_useless_signals_are_named(signal: Signal, error: type[Exception]) -> None:
    """A lead that is NaN, constant, empty, or without three beats is an error naming the record."""
    with pytest.raises(error, match="record sim001") as caught:
        beat_tables(record(len(signal)), reader(signal), CONFIG)
    assert "=" not in str(caught.value), "in words, not as Python shows a value"


def test_gaps_and_flat_stretches_are_flagged() -> None:
    """Beats in invalid, flat or saturated stretches carry the flag; others do not."""
    x, of = ecg(200)
    x = x.copy()
    x[20_000:20_100] = np.nan
    x[30_000:30_500] = x[30_000]
    table = tables(x, replace(of, beats=np.empty(0, np.int64), symbols=np.empty(0, "U1")))
    gap = (table.quality & Quality.GAP) != 0
    flat = (table.quality & Quality.FLAT) != 0
    assert gap.any()
    assert flat.any()
    assert (np.abs(table.sample[gap] - 20_050) < 1000).all()
    assert (np.abs(table.sample[flat] - 30_250) < 1500).all()


def test_policies_compare_annotated_with_detected() -> None:
    """A missing and an invented annotation show in the counts, the policies and the flags."""
    x, of = ecg(120)
    beats = np.delete(of.beats, 40)
    symbols = np.delete(of.symbols, 40)
    invented = int(beats[60] + beats[61]) // 2
    at = int(np.searchsorted(beats, invented))
    beats, symbols = np.insert(beats, at, invented), np.insert(symbols, at, "N")
    changed = replace(of, beats=beats, symbols=symbols)
    counts = beat_tables(changed, reader(x), CONFIG)[1]
    true_counts = beat_tables(of, reader(x), CONFIG)[1]
    assert counts.extra == true_counts.extra + 1
    assert counts.missed == true_counts.missed + 1
    consensus = tables(x, changed)
    assert len(consensus) == counts.matched
    assert ((consensus.quality & Quality.MISSED) != 0).sum() >= 2
    reference = tables(x, changed, Preprocessing(policy="reference"))
    assert len(reference) == counts.annotated
    detected = tables(x, changed, Preprocessing(policy="detected"))
    assert len(detected) == counts.detected
    assert ((detected.quality & Quality.EXTRA) != 0).sum() == counts.extra


def test_uncovered_beats_get_no_label() -> None:
    """Beats after the annotation's early end are kept, flagged UNCOVERED, and have no label."""
    x, of = ecg(120)
    half = len(of.beats) // 2
    table = tables(x, replace(of, beats=of.beats[:half], symbols=of.symbols[:half]))
    uncovered = (table.quality & Quality.UNCOVERED) != 0
    assert uncovered.sum() > half // 2
    assert (table.label[uncovered] == -1).all()
    assert (table.label[~uncovered] >= 0).all()


def test_annotations_alone_give_rows_without_waveform() -> None:
    """A record without a signal gives its annotated beats, waveforms null."""
    _, of = ecg(60)
    (table,) = beat_tables(replace(of, lead=None), None, CONFIG)[0]
    assert table.waveform is None
    np.testing.assert_array_equal(table.sample, of.beats)
    assert set(table.label.tolist()) <= {0, 1}


@pytest.mark.real
@pytest.mark.slow
def test_mitdb_sensitivity_and_ppv(real_data: Path) -> None:
    """On all 48 mitdb records, 150 ms, flutter aside: at least 99.85 % and 99.88 % pooled."""
    spec, folder = load_spec("mitdb"), real_data / "mitdb"
    matched = annotated = detected = 0
    for name in record_names(spec, folder):
        of = open_record(spec, folder, name)
        found = clean_lead(of, partial(read_lead, of), CONFIG).peaks
        edges = np.append(of.rhythm_start, of.n_samples)
        flutter = [
            (low, high)
            for low, high, rhythm in zip(edges[:-1], edges[1:], of.rhythms, strict=True)
            if rhythm == "VFL"
        ]
        for low, high in flutter:
            found = found[(found < low) | (found >= high)]
        kept = of.beats
        for low, high in flutter:
            kept = kept[(kept < low) | (kept >= high)]
        matched += int((match_beats(kept, found, 0.15 * of.fs_hz) >= 0).sum())
        annotated, detected = annotated + len(kept), detected + len(found)
    assert annotated > 109_000
    assert matched / annotated >= 0.9985
    assert matched / detected >= 0.9988
