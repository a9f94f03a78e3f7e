"""The rhythm family: features, windows, augmentation, networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from storage.errors import ModelError
from tasks.features import rhythm
from tasks.features.rhythm import (
    BACKWARD,
    FEATURES,
    TWO_SIDED,
    WINDOW_BEATS,
    RhythmRecord,
    random_windows,
    rr_features,
    running_median,
)
from tasks.learning.rhythm_augment import (
    PASTED_BEATS,
    augment_rhythm,
    detector_errors,
    ectopy,
    paste_stretches,
    quantise,
    simulated_sinus,
)
from tasks.learning.rhythm_training import predict_beats
from tasks.networks.models import build, with_weights
from tasks.runtimes.inference import of_record

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
    both = [here - around, step, around - np.log(0.8), here - short]
    of_the_past = [here - past, step, past - np.log(0.8), here - short_past]
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
def test_the_running_median_needs_no_scipy(
    n: int, causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device without it has the bits of a server with it, ties and short records included."""
    values = np.round(np.random.default_rng(n).normal(size=n), 1).astype(np.float32)
    assert rhythm._scipys_median() is median_filter
    by_scipy = running_median(values, 61, causal=causal)
    monkeypatch.setattr(rhythm, "_scipys_median", lambda: None)
    mine = running_median(values, 61, causal=causal)
    assert mine.dtype == by_scipy.dtype
    np.testing.assert_array_equal(mine, by_scipy)


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
    np.testing.assert_array_equal(found, np.abs(rr_features(made.rr_s)[:, 2]))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """Those of the same network come back; the error tells which network was expected."""
    learnt = build("rhythm_tiny", seed=3)
    learnt.save_weights(tmp_path / "tiny.weights.h5")
    data = (tmp_path / "tiny.weights.h5").read_bytes()
    again = with_weights("rhythm_tiny", data)
    assert all(map(np.array_equal, again.get_weights(), learnt.get_weights()))
    with pytest.raises(ModelError, match="rhythm: found weights that are not this network's"):
        with_weights("rhythm", data)
