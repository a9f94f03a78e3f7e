"""The rhythm family: features, windows, augmentation, networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from storage.errors import ModelError
from tasks.features.rhythm import (
    BACKWARD,
    FEATURES,
    TWO_SIDED,
    WINDOW_BEATS,
    RhythmRecord,
    nearest_median,
    random_windows,
    rr_features,
    running_median,
)
from tasks.learning.rhythm_augment import (
    BLOCK_BEATS,
    PASTED_BEATS,
    SHORT_BEATS,
    augment_rhythm,
    cut_short,
    detector_errors,
    ectopy,
    even_out,
    paste_stretches,
    quantise,
    simulated_sinus,
)
from tasks.learning.rhythm_drawing import draw_rhythm
from tasks.learning.rhythm_training import predict_beats
from tasks.networks.models import build, with_weights
from tasks.runtimes.inference import of_record
from tasks.runtimes.litert import LiteRT
from tasks.signal.stream import RhythmStream
from tests.conftest import ROOT

FAMILY = {"rhythm": 5_265, "rhythm_causal": 5_265, "rhythm_tiny": 995}


def record(n: int = 2_000, seed: int = 0) -> RhythmRecord:
    random = np.random.default_rng(seed)
    rr_s = random.uniform(0.5, 1.1, n).astype(np.float32)
    rr_s[0] = np.nan
    return RhythmRecord("made/a", "made/a", rr_s, (random.random(n) < 0.5).astype(np.int8))


def test_features_are_those_of_the_formula() -> None:
    """Interval over both medians and the one before, median over 0.8 s, as logarithms."""
    rr_s = record().rr_s
    found = rr_features(rr_s)
    causal = rr_features(rr_s, causal=True)
    at = 1_000
    around = np.log(np.median(rr_s[at - 30 : at + 31]))
    past = np.log(np.median(rr_s[at - 60 : at + 1]))
    short = np.log(np.median(rr_s[at - 8 : at + 9]))
    short_past = np.log(np.median(rr_s[at - 16 : at + 1]))
    step = np.log(rr_s[at] / rr_s[at - 1])
    here = np.log(rr_s[at])
    both = [here - around, step, around - np.log(0.8), here - short, 1]
    of_the_past = [here - past, step, past - np.log(0.8), here - short_past, 1]
    np.testing.assert_allclose(found[at], both, atol=1e-6)
    np.testing.assert_allclose(causal[at], of_the_past, atol=1e-6)


def test_causal_features_see_no_beat_to_come() -> None:
    """Another future changes no causal feature of the past, but does change two-sided ones."""
    rr_s = record().rr_s
    other = rr_s.copy()
    other[1_000:] *= 1.3
    same = rr_features(rr_s, causal=True)[:1_000]
    assert np.array_equal(same, rr_features(other, causal=True)[:1_000])
    assert not np.array_equal(rr_features(rr_s)[:1_000], rr_features(other)[:1_000])


def test_features_are_finite_whatever_the_intervals() -> None:
    """Gaps, zeros and hours between two beats give finite features within -1 to 1."""
    rr_s = np.array([np.nan, 0.0, 4_000.0, np.nan, 0.8], np.float32)
    for values in (rr_s, rr_s[:1], rr_s[:0], np.full(3, np.nan, np.float32)):
        found = rr_features(values)
        assert found.shape == (len(values), FEATURES)
        assert np.isfinite(found).all()
        assert np.abs(found).max(initial=0) <= 1


@given(st.integers(1, 2_000))
def test_windows_give_every_beat_back_once(n: int) -> None:
    """Cut and joined, a record of any length is as it was."""
    values = np.arange(n, dtype=np.float32)
    for windows in (TWO_SIDED, BACKWARD):
        cut = windows.cut(values)
        assert cut.shape[1] == windows.beats == WINDOW_BEATS
        assert np.array_equal(windows.join(cut, n), values)
        few = [windows.cut(values, rows=range(at, at + 2)) for at in range(0, windows.count(n), 2)]
        assert np.array_equal(np.concatenate(few), cut)


def test_windows_are_drawn_by_length_and_weight() -> None:
    """A record of weight 0 is never drawn; beats beyond a record's end are labelled -1."""
    short, long = np.zeros((50, FEATURES), np.float32), np.ones((900, FEATURES), np.float32)
    labels = [np.zeros(50, np.int8), np.ones(900, np.int8)]
    random = np.random.default_rng(0)
    x, y = random_windows([short, long], labels, [0, 1], 640, 20, random)
    assert x.min() == 1
    assert y.min() == 1
    x, y = random_windows([short, long], labels, [1, 0], 640, 20, random)
    assert (y[:, :50] == 0).all()
    assert (y[:, 50:] == -1).all()


@pytest.mark.parametrize("seed", range(5))
def test_ectopy_moves_beats_and_keeps_time(seed: int) -> None:
    """A full pause makes up for a premature beat; no interval becomes negative."""
    made = record(3_000)
    rr_s = np.nan_to_num(made.rr_s, nan=0.8)
    random = np.random.default_rng(seed)
    out, label = ectopy(rr_s, made.label, random, most=1.0)
    assert len(out) == len(label) >= len(rr_s)
    assert (out > 0).all()
    assert not np.array_equal(out[:100], rr_s[:100]) or not np.array_equal(out, rr_s)
    assert out.sum() <= rr_s.sum() * 1.001


def test_detector_errors_keep_the_time_and_every_label_that_stays() -> None:
    """Missed and extra beats split and join intervals, so that the record's length stays."""
    made = record(5_000)
    rr_s = np.nan_to_num(made.rr_s, nan=0.8)
    out, label = detector_errors(rr_s, made.label, np.random.default_rng(0), rate=0.05)
    assert out.sum() == pytest.approx(rr_s.sum(), rel=1e-3)
    assert len(out) == len(label) != len(rr_s)
    clean, same = detector_errors(rr_s, made.label, np.random.default_rng(0), rate=0.0)
    assert np.array_equal(clean, rr_s)
    assert np.array_equal(same, made.label)


def test_augmentation_repeats_with_its_seed() -> None:
    """The same generator state gives the same record, another one another."""
    made = record()
    one, same, other = (augment_rhythm(made, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one.rr_s, same.rr_s)
    assert np.array_equal(one.label, same.label)
    assert not np.array_equal(one.rr_s[:100], other.rr_s[:100])
    assert (quantise(one.rr_s, np.random.default_rng(0)) >= 0.1).all()


def test_af_is_evened_out_and_nothing_else_is() -> None:
    """Intervals in AF come nearer their median, by a factor that holds for a while; others stay."""
    label = np.repeat([0, 1], 20_000).astype(np.int8)
    rr_s = np.random.default_rng(0).normal(0.8, 0.1, len(label)).astype(np.float32)
    out = even_out(rr_s, label, np.random.default_rng(1))
    assert np.array_equal(out[:20_000], rr_s[:20_000])
    part = [float(out[at : at + 900].std()) for at in range(21_050, 39_000, 1_000)]
    assert 0.65 * 0.1 < min(part) < max(part) < 1.05 * 0.1
    assert np.ptp(part) > 0.015
    assert float(out.mean()) == pytest.approx(0.8, abs=0.01)


def test_pasting_lets_rhythms_meet_and_parts_no_interval_from_its_label() -> None:
    """Two long rhythms meet at many more beats; the original is not touched."""
    label = np.repeat([0, 1], 10_000).astype(np.int8)
    rr_s = np.where(label == 1, 0.5, 0.9).astype(np.float32)
    whole = RhythmRecord("made/a", "made/a", rr_s, label)
    made = paste_stretches(whole, np.random.default_rng(0))
    assert len(made) == len(whole)
    assert np.array_equal(made.label == 1, made.rr_s < 0.7)
    assert np.count_nonzero(np.diff(made.label)) > 10
    assert np.count_nonzero(np.diff(whole.label)) == 1
    short = record(PASTED_BEATS[1])
    assert paste_stretches(short, np.random.default_rng(0)) is short


def test_simulated_sinus_is_no_af_and_physiological() -> None:
    """Every beat is labelled not AF; the mean rate lies between 35 and 200 a minute."""
    made = simulated_sinus(3, 5_000, np.random.default_rng(3))
    assert not made.label.any()
    assert made.subject == "simulated/3"
    assert 0.3 < float(made.rr_s.mean()) < 1.7


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_rhythm_networks_are_small_and_answer_every_beat(name: str) -> None:
    """Each has the parameters stated and gives a probability a beat."""
    model = build(name, seed=0)
    assert model.count_params() == FAMILY[name]
    made = record(1_000)
    probability = predict_beats(model, made)
    assert probability.shape == (1_000,)
    assert (probability >= 0).all()
    assert (probability <= 1).all()


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_answers_do_not_depend_on_where_windows_fall(name: str) -> None:
    """A beat far from the record's ends has the same answer when the record starts elsewhere."""
    model = build(name, seed=1)
    made = record(2_000)
    whole = predict_beats(model, made)
    later = RhythmRecord(made.name, made.subject, made.rr_s[101:], made.label[101:])
    part = predict_beats(model, later)
    np.testing.assert_allclose(part[400:-400], whole[501:-400], atol=1e-5)


def test_a_causal_network_sees_no_beat_to_come() -> None:
    """Another future changes no answer of the past."""
    model = build("rhythm_causal", seed=2)
    made = record(1_500)
    other = RhythmRecord(made.name, made.subject, made.rr_s.copy(), made.label)
    other.rr_s[1_000:] *= 1.4
    before, after = (predict_beats(model, r)[:1_000] for r in (made, other))
    np.testing.assert_allclose(before, after, atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n", [0, 1, 30, 62, 3_000])
def test_the_running_median_is_scipys(n: int, causal: bool) -> None:
    """Bit for bit what scipy's filter gives, ties, short records and ends of a block included."""
    values = np.round(np.random.default_rng(n).normal(size=n), 1).astype(np.float32)
    found = running_median(values, 61, causal=causal)
    assert found.dtype == np.float32
    if n:
        by_scipy = median_filter(values, 61, mode="nearest", origin=30 if causal else 0)
        np.testing.assert_array_equal(found, by_scipy)
    assert len(found) == n


class OfThreeColumns:
    """A network from before the last column: it answers by the third."""

    inputs: dict[str, tuple[int, ...]] = {"rhythm": (WINDOW_BEATS, 3)}  # noqa: RUF012 - as runtimes have it

    def predict(self, inputs: Any, batch: int = 256) -> Any:  # noqa: ARG002 - as runtimes have it
        """One answer a beat."""
        assert inputs["rhythm"].shape[1:] == self.inputs["rhythm"]
        return np.abs(inputs["rhythm"][..., 2:])


def test_a_version_from_before_a_column_reads_the_first_ones() -> None:
    """What was registered with three columns answers as it did."""
    made = record(1_000)
    found = of_record(OfThreeColumns(), "rhythm", made)
    log_rr = np.log(np.where(np.isfinite(made.rr_s), made.rr_s, np.float32(0.8)))
    median = median_filter(log_rr, 61, mode="nearest")
    np.testing.assert_allclose(found, np.abs(median - np.log(0.8)), atol=1e-6)
    both = rr_features(made.rr_s, columns=4)
    np.testing.assert_allclose(both[:, 0], np.clip(log_rr - median, -1, 1), atol=1e-6)
    np.testing.assert_array_equal(both[:, :3], rr_features(made.rr_s, columns=3))


def test_a_file_from_before_the_mask_reads_what_it_learnt_from() -> None:
    """The frozen file's answers are those of the columns as they were, at a record's ends too."""
    network = LiteRT((ROOT / "tests" / "golden" / "rhythm-untrained.tflite").read_bytes())
    assert network.inputs["rhythm"] == (WINDOW_BEATS, 3)
    made = record(700)
    windows = TWO_SIDED.cut(rr_features(made.rr_s, columns=3))
    expected = TWO_SIDED.join(network.predict({"rhythm": windows})[..., 0], 700)
    np.testing.assert_allclose(of_record(network, "rhythm", made), expected, atol=1e-6)
    assert not np.allclose(rr_features(made.rr_s)[:, :4], rr_features(made.rr_s, columns=4))


@pytest.mark.parametrize("columns", [3, 4, 5])
def test_a_stream_reads_what_a_record_does(columns: int) -> None:
    """Beats that come a few at a time are read as those of the whole record, whichever columns."""
    random = np.random.default_rng(columns)
    sample = np.cumsum(random.integers(120, 300, 500))
    rr_s = (np.diff(sample, prepend=np.nan) / 250).astype(np.float32)
    expected = rr_features(rr_s, causal=True, columns=columns)
    stream, at = RhythmStream(250.0, columns), 0
    while at < len(sample):
        several = int(random.integers(1, 60))
        window, place = stream.window(sample[at : at + several])
        np.testing.assert_allclose(window[0, place], expected[at : at + several], atol=1e-6)
        past = window[0, max(place.start - at, 0) : place.start]
        np.testing.assert_allclose(past, expected[at - len(past) : at], atol=1e-6)
        at += several
    assert not window[0, place.stop :].any()


@given(st.lists(st.floats(-1, 1, width=32), max_size=40), st.booleans())
def test_medians_are_over_what_is_there(values: list[float], causal: bool) -> None:
    """Each is the median of the nine nearest values, or of the last nine; of all where fewer."""
    array = np.array(values, np.float32)
    for at, found in enumerate(nearest_median(array, 9, causal=causal)):
        first = max(at - 8, 0) if causal else min(max(at - 4, 0), max(len(array) - 9, 0))
        near = np.sort(array[first : at + 1 if causal else first + 9])
        assert found == near[len(near) // 2]


def test_a_first_beat_has_no_interval_of_its_own() -> None:
    """Both ways the 0.8 s of the first column's past are gone: it reads the next, or is missing."""
    rr_s = np.array([np.nan, 1.2, 1.2, 1.2], np.float32)
    two_sided, causal = rr_features(rr_s), rr_features(rr_s, causal=True)
    assert np.array_equal(two_sided[0], two_sided[1])
    assert not two_sided[:, [0, 1, 3]].any()
    assert two_sided[:, 4].all()
    assert not causal[0].any()
    assert np.array_equal(causal[1:], two_sided[1:])


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_what_is_beyond_a_strip_does_not_matter(name: str) -> None:
    """A strip has the same answers at the edge of a window and amid what is missing."""
    model, random = build(name, seed=1), np.random.default_rng(0)
    model.set_weights([w + random.uniform(-0.2, 0.2, w.shape) for w in model.get_weights()])
    strip = rr_features(record(40).rr_s, causal="causal" in name)
    windows = np.zeros((3, WINDOW_BEATS, FEATURES), np.float32)
    for row, at in enumerate((0, 300, WINDOW_BEATS - 40)):
        windows[row, at : at + 40] = strip
    answers = np.asarray(model(windows, training=False))[..., 0]
    found = [answers[row, at : at + 40] for row, at in enumerate((0, 300, WINDOW_BEATS - 40))]
    assert np.ptp(found[0]) > 1e-3
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_a_strip_agrees_with_the_record_where_it_knows_as_much(name: str) -> None:
    """As far from a strip's ends as network and medians see, its answers are the record's."""
    model, made, causal = build(name, seed=1), record(2_000), "causal" in name
    strip = replace(made, rr_s=made.rr_s[700:1_300].copy(), label=made.label[700:1_300])
    strip.rr_s[0] = np.nan
    reach = 254 + 60 if causal else 127 + 30
    inside = slice(reach + 1, None if causal else -reach - 1)
    whole = predict_beats(model, made)[700:1_300]
    found = predict_beats(model, strip)
    np.testing.assert_allclose(found[inside], whole[inside], atol=1e-6)
    assert not np.allclose(found, whole, atol=1e-4)


def test_records_are_cut_to_all_lengths() -> None:
    """A fifth of the beats lie in strips of ten seconds to ten minutes; intervals stay or go."""
    made = record(120_000)
    cut = cut_short(made, np.random.default_rng(0))
    assert np.array_equal(cut.label, made.label)
    known = np.isfinite(cut.rr_s)
    assert np.array_equal(cut.rr_s[known], made.rr_s[known])
    lengths = np.array([len(stretch) for stretch in cut.stretches()])
    assert lengths.max() == BLOCK_BEATS
    assert 0.05 < lengths[lengths < SHORT_BEATS[1]].sum() / len(made) < 0.4
    assert (lengths < 30).sum() > 20


@pytest.mark.parametrize("name", ["rhythm", "rhythm_causal"])
def test_windows_to_learn_from_tell_what_is_missing(name: str) -> None:
    """Where the mask is zero so is all else; every beat counts but those beyond an end."""
    real, sinus = record(9_000), simulated_sinus(0, 7_000, np.random.default_rng(1))
    x, y = draw_rhythm(name, [real], [sinus], 40, np.random.default_rng(2))
    there = x[..., 4] == 1
    assert not x[~there].any()
    assert 0.3 < there.mean() < 0.99
    missing = (y >= 0) & ~there
    assert missing.any() == (name == "rhythm_causal")  # the first beat of a strip
    assert missing.sum() < 0.1 * there.sum()
    assert (y[there] >= 0).all()
    again = draw_rhythm(name, [real], [sinus], 40, np.random.default_rng(2))
    assert np.array_equal(again[0], x)
    assert np.array_equal(again[1], y)
    whole, _ = draw_rhythm(name, [real], [], 5, np.random.default_rng(2), augment=False)
    assert whole[..., 4].mean() > 0.99


def test_windows_are_of_records_by_their_weight() -> None:
    """A record of weight 0 is never drawn."""
    real = replace(record(2_000), weight=0)
    af = replace(real, label=np.ones(2_000, np.int8), weight=1)
    _, y = draw_rhythm("rhythm", [real, af], [], 8, np.random.default_rng(0))
    assert (y[y >= 0] == 1).all()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """Those of the same network come back; the error tells which network was expected."""
    learnt = build("rhythm_tiny", seed=3)
    learnt.save_weights(tmp_path / "tiny.weights.h5")
    data = (tmp_path / "tiny.weights.h5").read_bytes()
    again = with_weights("rhythm_tiny", data)
    assert all(map(np.array_equal, again.get_weights(), learnt.get_weights()))
    with pytest.raises(ModelError, match="rhythm: found weights that are not this network's"):
        with_weights("rhythm", data)
