"""The fused family: shapes in real time, cues, records without a signal, augmentation, network."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flows.decide import drift, evaluate
from storage.errors import ModelError, TableError
from storage.files import sha256_file
from storage.registry import client
from storage.registry.models import ModelVersion
from storage.registry.tags import NETWORK_TAG
from storage.tables.beats import BeatTable, join_tables
from tasks.analysis.analyse import decided_beats
from tasks.features.fused import (
    BEFORE_QRS,
    CUES,
    FEATURES,
    QRS,
    RR_FEATURES,
    SHAPE_SAMPLES,
    TIMES_S,
    between_usual,
    cues,
    fused_record,
    inputs,
    normalise,
    real_time,
    tables_with_shapes,
)
from tasks.features.rhythm import WINDOW_BEATS, RhythmRecord
from tasks.learning.fused_augment import (
    augment_record,
    simulate_shapes,
    ventricular_shape,
    with_ectopy,
)
from tasks.learning.fused_training import draw_fused
from tasks.learning.rhythm_training import RhythmConfig, fit_rhythm, predict_beats
from tasks.learning.training import predict
from tasks.networks.cost import multiply_adds
from tasks.networks.fused_models import MEMBERS, in_turn
from tasks.networks.models import build
from tasks.networks.sequence import features
from tasks.runtimes.convert import to_litert
from tasks.runtimes.inference import of_record
from tasks.runtimes.litert import LiteRT
from tasks.signal.segment import segment
from tests.conftest import ROOT

FS_HZ = 250.0
HAS_SHAPE = RR_FEATURES + CUES


def bare(n: int = 800, seed: int = 0) -> RhythmRecord:
    """A record without shapes, AF in its second half."""
    random = np.random.default_rng(seed)
    label = (np.arange(n) >= n // 2).astype(np.int8)
    rr_s = np.where(label, random.uniform(0.4, 1.2, n), random.normal(0.8, 0.02, n))
    return RhythmRecord(f"made/{seed}", f"made/{seed}", rr_s.astype(np.float32), label)


def with_shapes(n: int = 800, seed: int = 0) -> RhythmRecord:
    made = simulate_shapes(bare(n, seed), np.random.default_rng(seed))
    assert made.shape is not None
    return replace(made, shape=normalise(made.shape))


def shapes(record: RhythmRecord) -> NDArray[np.float32]:
    assert record.shape is not None
    return record.shape


def test_shapes_are_the_signal_in_real_time() -> None:
    """A shape is the signal around R at 100 Hz whatever the heart rate, to a segment's seam."""
    random = np.random.default_rng(1)
    rr = random.integers(110, 300, 60)
    r = 500 + np.cumsum(rr)
    time_s = np.arange(r[-1] + 500) / FS_HZ
    clean = (np.sin(2 * np.pi * 1.3 * time_s) + 0.3 * np.sin(2 * np.pi * 4 * time_s)).astype(
        np.float32
    )
    before, after = np.append(0, np.diff(r)), np.append(np.diff(r), 0)
    waveform = segment(clean, 0, r, before, after)
    seconds = [np.where(x > 0, x / FS_HZ, np.nan).astype(np.float32) for x in (before, after)]
    found = real_time(waveform, *seconds)
    assert np.isnan(found[[0, -1]]).all()
    for beat in range(2, 58):
        low, high = -seconds[0][beat], seconds[1][beat]
        near = (low < TIMES_S) & (TIMES_S < high)  # noqa: SIM300 - low, value, high
        expected = np.interp(r[beat] / FS_HZ + TIMES_S[near], time_s, clean)
        np.testing.assert_allclose(found[beat][near], expected, atol=0.06)


def stretches(n: int, size: int) -> Iterator[BeatTable]:
    """A made-up record's beat tables, one after another; some beats have no waveform."""
    random = np.random.default_rng(3)
    rr_s = random.uniform(0.3, 1.4, n + 1).astype(np.float32)
    rr_s[[0, -1]] = np.nan
    none, time_s = np.repeat("", n), np.cumsum(np.nan_to_num(rr_s[:-1]), dtype=np.float64)
    for at in range(0, n, size):
        rows = slice(at, min(at + size, n))
        count = rows.stop - at
        waveform = random.normal(size=(count, 300)).astype(np.float32)
        waveform[random.random(count) < 0.02] = np.nan
        yield BeatTable(
            dataset="made",
            record="up",
            subject="up",
            sample=(time_s[rows] * FS_HZ).astype(np.int64),
            time_s=time_s[rows],
            rr_prev_s=rr_s[:-1][rows],
            rr_next_s=rr_s[1:][rows],
            symbol=none[rows],
            rhythm=none[rows],
            label=np.zeros(count, np.int8),
            quality=np.zeros(count, np.uint16),
            noise=np.zeros(count, np.float32),
            waveform=waveform,
            stretches_s=np.array([[0.0, time_s[-1]]]),
        )


@pytest.mark.parametrize("size", [1, 7, 512, 2_000])
def test_shapes_of_stretches_are_those_of_the_record(size: int) -> None:
    """However a record is cut, its shapes are the same to the byte, and no waveform is left."""
    n = 1_300 if size > 1 else 5
    whole = join_tables(list(stretches(n, size)))
    assert whole.waveform is not None
    expected = real_time(whole.waveform, whole.rr_prev_s, whole.rr_next_s)
    tables, found = zip(*tables_with_shapes(stretches(n, size)), strict=True)
    assert np.concatenate(found).tobytes() == expected.tobytes()
    assert all(table.waveform is None for table in tables)
    assert join_tables(tables).sample.tolist() == whole.sample.tolist()


def test_cues_alone_are_decided_as_keras_does() -> None:
    """A device makes the cues of stretches as they come, and needs no shapes for the network."""
    model = build("fused_cues", seed=0)
    tables = list(stretches(1_000, 300))
    _, probability, _ = decided_beats(LiteRT(to_litert(model)), "fused_cues", iter(tables))
    expected = predict_beats(model, fused_record(join_tables(tables)))
    np.testing.assert_allclose(probability, expected, atol=1e-4)


def test_a_record_is_decided_in_little_memory() -> None:
    """Deciding 40,000 beats takes less memory than their waveforms alone, 48 MB."""
    network = LiteRT((ROOT / "tests" / "golden" / "fused-untrained.tflite").read_bytes())
    tracemalloc.start()
    table, probability, _ = decided_beats(network, "fused", stretches(40_000, 4_096))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(table) == len(probability) == 40_000
    assert peak < 40_000 * 300 * 4


def test_a_gain_changes_nothing() -> None:
    """A lead twice as high, as another device's gain gives it, has the same shapes and cues."""
    shape = shapes(simulate_shapes(bare(), np.random.default_rng(2)))
    one, other = normalise(shape), normalise(2 * shape)
    np.testing.assert_allclose(one, other, atol=1e-4)
    np.testing.assert_allclose(cues(one), cues(other), atol=1e-3)


def test_cues_tell_sinus_from_af_and_ectopy() -> None:
    """What precedes the QRS repeats itself in sinus rhythm and not in AF; a PVC's QRS differs."""
    found = {0: 0.0, 1: 0.0}
    for seed in range(8):
        record = with_shapes(seed=seed)
        of = cues(shapes(record))
        for value in (0, 1):
            found[value] += float(np.median(of[record.label == value, 3])) / 8
    assert found[0] > found[1] + 0.3
    shape = shapes(with_shapes()).copy()
    shape[100] = ventricular_shape(np.random.default_rng(0))
    of = cues(shape)
    assert of[100, 0] < np.percentile(of[:, 0], 1) + 1e-6
    assert of[100, 2] > np.median(of[:, 2]) + 0.1


def test_what_leans_before_the_qrs_is_no_p_wave() -> None:
    """A T wave's end, alike before every beat, or wander: what precedes the QRS says the same."""
    shape = shapes(with_shapes())
    slope = np.random.default_rng(6).normal(0.4, 0.3, (len(shape), 1))
    leaning = np.where(BEFORE_QRS, shape + 0.1 + slope * TIMES_S, shape).astype(np.float32)
    np.testing.assert_allclose(cues(leaning)[:, 3:], cues(shape)[:, 3:], atol=2e-3)


def test_ectopy_left_out_leaves_a_regular_rhythm() -> None:
    """Every third beat premature: sinus rhythm is regular without them, and AF is not."""
    random = np.random.default_rng(4)
    spread = {}
    for name, swing in (("sinus", 0.01), ("AF", 0.2)):
        rr_s = (0.8 * np.exp(random.normal(0, swing, 300))).astype(np.float32)
        same = np.full(300, 0.98, np.float32)
        here = np.arange(2, 298, 3)
        taken = rr_s[here] * np.float32(0.4)
        rr_s[here] -= taken
        rr_s[here + 1] += taken
        same[here] = 0.2
        inside = slice(40, -40)  # a running median's ends are of few values
        spread[name] = between_usual(rr_s, same)[inside, 1]
        plain = between_usual(rr_s, np.ones(300, np.float32))[inside, 1]
        assert (spread[name] < plain).all(), name
    assert spread["sinus"].max() + 1 < spread["AF"].min()


def test_the_rhythm_of_usual_beats_is_the_rhythm_where_all_are() -> None:
    """Its change is that of the interval's logarithm; gaps, and too few beats, change nothing."""
    rr_s = np.random.default_rng(5).uniform(0.5, 1.2, 40).astype(np.float32)
    every = np.ones(40, np.float32)
    found = between_usual(rr_s, every)[:, 0]
    np.testing.assert_allclose(found[2:], np.diff(np.log(rr_s))[1:], atol=1e-5)
    steady = np.full(40, 0.7, np.float32)
    steady[20] = np.nan
    assert not between_usual(steady, every)[:, 0].any()
    early, same = np.full(40, 0.8, np.float32), every.copy()
    early[20:22], same[20] = (0.12, 1.48), 0  # however early: its pause makes up for it
    np.testing.assert_allclose(between_usual(early, same)[:, 0], 0, atol=1e-6)
    apart = every.copy()
    apart[10:14] = 0
    assert between_usual(rr_s, apart)[8:16, 0].nonzero()[0].tolist() == [0, 1]
    for few in ([], [3], [3, 9]):
        same = np.zeros(40, np.float32)
        same[few] = 1
        assert not between_usual(rr_s, same).any()


def test_a_record_without_signal_reads_as_zeros_and_says_so() -> None:
    """No shapes, and shapes that are all missing, give equal inputs with the mark at 0."""
    record = bare(100)
    context, shape = inputs(record.rr_s, None)
    missing = inputs(record.rr_s, np.full((100, SHAPE_SAMPLES), np.nan, np.float32))
    assert np.array_equal(context, missing[0])
    assert np.array_equal(shape, missing[1])
    assert context.shape == (100, FEATURES)
    assert not context[:, RR_FEATURES:].any()
    assert not shape.any()
    full = inputs(record.rr_s, shapes(with_shapes(100)))
    assert full[0][:, HAS_SHAPE].all()
    assert np.array_equal(full[0][:, :RR_FEATURES], context[:, :RR_FEATURES])
    assert (np.ptp(full[0], axis=0) > 0).sum() == FEATURES - 1


def test_one_missing_beat_leaves_the_others() -> None:
    """A beat without a waveform has no shape, and its neighbours' inputs stay finite."""
    n = 50
    rr = np.full(n, 0.8, np.float32)
    waveform = np.random.default_rng(0).normal(0, 1, (n, 300)).astype(np.float32)
    waveform[20] = np.nan
    context, shape = inputs(rr, normalise(real_time(waveform, rr, rr)))
    assert np.isfinite(context).all()
    assert np.isfinite(shape).all()
    assert np.flatnonzero(context[:, HAS_SHAPE] == 0).tolist() == [20]


@pytest.mark.parametrize("seed", range(6))
def test_augmentation_keeps_beats_and_labels_together(seed: int) -> None:
    """An augmented record has as many labels as intervals and shapes, all of them finite."""
    for record in (bare(seed=seed), with_shapes(seed=seed)):
        made = augment_record(record, np.random.default_rng(seed))
        assert len(made.rr_s) == len(made.label)
        assert (made.rr_s > 0).all()
        if made.shape is not None:
            assert made.shape.shape == (len(made.label), SHAPE_SAMPLES)
            assert np.isfinite(made.shape).all()
            assert np.array_equal(made.label, record.label)


def test_inserted_ectopy_is_early_and_wide() -> None:
    """Inserted beats come early; some get another QRS; the originals are not touched."""
    record = with_shapes()
    before = shapes(record).copy()
    changed = 0
    for seed in range(10):
        rr_s, shape = with_ectopy(record.rr_s, shapes(record), np.random.default_rng(seed))
        early = rr_s < record.rr_s - 1e-4
        assert early.any()
        changed += int((np.abs(shape - before)[early][:, QRS].max(axis=1) > 0.3).sum())
    assert changed > 10
    assert np.array_equal(shapes(record), before)


def test_windows_are_of_the_seed_and_hide_shapes() -> None:
    """The same seed gives the same windows, and hidden windows hold RR features alone."""
    records = [bare(seed=1), with_shapes(seed=2)]
    made, label = draw_fused(records, 6, np.random.default_rng(3), masks=(1.0, 0.0))
    same, labels = draw_fused(records, 6, np.random.default_rng(3), masks=(1.0, 0.0))
    context, shape = made["cues"], made["shape"]
    assert np.array_equal(context, same["cues"])
    assert np.array_equal(label, labels)
    assert context.shape == (6, WINDOW_BEATS, FEATURES)
    assert not shape.any()
    assert not context[..., RR_FEATURES:].any()
    assert set(np.unique(label).tolist()) <= {-1, 0, 1}
    fewer, _ = draw_fused(
        records, 6, np.random.default_rng(3), ("rhythm", "cues"), masks=(1.0, 0.0)
    )
    assert set(fewer) == {"rhythm", "cues"}
    assert np.array_equal(fewer["cues"], context)
    assert fewer["rhythm"].shape == (6, WINDOW_BEATS, 5)
    assert np.array_equal(fewer["rhythm"][..., 4] == 1, label >= 0), "the mask tells what is there"
    alone, _ = draw_fused(records[1:], 6, np.random.default_rng(3), masks=(0.0, 1.0))
    assert not alone["shape"].any()
    assert alone["cues"][..., HAS_SHAPE].all()


@pytest.mark.parametrize(
    ("name", "parameters", "cost"), [("fused", 13_599, 17_628), ("fused_cues", 10_119, 9_108)]
)
def test_the_network_is_small(name: str, parameters: int, cost: int) -> None:
    """Its parameters, at most 26,978, and its multiply-adds a beat."""
    model = build(name)
    assert model.count_params() == parameters <= 26_978
    assert multiply_adds(model) / WINDOW_BEATS == cost


def test_members_learn_in_turn_and_answer_together() -> None:
    """In training each beat is the next member's alone; an answer is the mean of their log-odds."""
    logits = np.random.default_rng(7).normal(0, 2, (2, 7, MEMBERS)).astype(np.float32)
    layer = in_turn()()
    together = np.asarray(layer(logits, training=False))
    np.testing.assert_allclose(together, logits.mean(axis=-1, keepdims=True), atol=1e-6)
    learning = np.asarray(layer(logits, training=True))
    expected = [[row[beat % MEMBERS]] for one in logits for beat, row in enumerate(one)]
    np.testing.assert_array_equal(learning.reshape(-1, 1), expected)


def test_a_file_that_reads_something_else_is_refused() -> None:
    """A release from before what a network reads was changed gets a sentence, and no answers."""
    other = LiteRT((ROOT / "tests" / "golden" / "rhythm-untrained.tflite").read_bytes())
    with pytest.raises(ModelError, match="fused: the file reads rhythm; expected cues and shape"):
        of_record(other, "fused", with_shapes())


@pytest.mark.parametrize("tagged", [False, True])
@pytest.mark.parametrize(
    ("name", "read"), [("fused", True), ("fused_cues", True), ("resnet21", True), ("rhythm", False)]
)
def test_an_evaluation_reads_the_waveforms_that_a_network_needs(
    name: str, read: bool, tagged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shapes and cues are made of waveforms: without them fused networks answer by rhythm alone.

    A registered model may have any name; its tag says which network it is.
    """
    (tmp_path / "r.parquet").write_bytes(b"")
    entry = SimpleNamespace(file="r.parquet", sha256=sha256_file(tmp_path / "r.parquet"))
    manifest = SimpleNamespace(dataset="d", entries=[entry])
    tags = {"holter.sha256.model.tflite": "", "holter.threshold": "0.5"}
    named = ModelVersion(f"holter-{name}", 1, "0" * 32, tags)
    model = replace(named, name="ward7", tags={**tags, NETWORK_TAG: name}) if tagged else named
    asked: list[bool] = []

    def asked_for(_path: Path, *, waveform: bool) -> None:
        asked.append(waveform)
        raise TableError("enough")

    for flow in (drift, evaluate):
        monkeypatch.setattr(flow, "read_beats", asked_for)
    monkeypatch.setattr(drift, "LiteRT", lambda _file: None)
    monkeypatch.setattr(evaluate, "registered_network", lambda *_: None)
    monkeypatch.setattr(drift, "model_bytes", lambda _model: b"")
    monkeypatch.setattr(evaluate, "work_folder", lambda _run: tmp_path)
    monkeypatch.setattr(client, "fetch_model_file", lambda *_: tmp_path / "r.parquet")
    place: Any = tmp_path / "manifest.json"
    made: Any = SimpleNamespace(path=place, manifest=manifest)
    version: Any = SimpleNamespace(model=model)
    with pytest.raises(TableError, match="enough"):
        evaluate.score_dataset.fn(version.model, made, 1)
    with pytest.raises(TableError, match="enough"):
        list(drift.profiles_of(version, made.manifest, place))
    assert asked == [read, read]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fused", "fused_cues"])
def test_it_learns_and_answers_on_a_device(name: str) -> None:
    """A short training lowers the loss; the LiteRT file answers as Keras does, shapes or none."""
    records = [with_shapes(2_000, seed) for seed in range(4)] + [bare(2_000, 9)]
    config = RhythmConfig(3, 5, 4, learning_rate=5e-3, weight_decay=1e-2, simulated=0)
    model, state = fit_rhythm(name, records, config)
    losses = state.history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    network = LiteRT(to_litert(model))
    for record in (records[0], records[-1]):
        answer = predict_beats(model, record)
        assert answer.shape == (2_000,)
        given = {key: x[None, :WINDOW_BEATS] for key, x in features(name, record).items()}
        expected = predict(model, given)[..., None]
        found = network.predict(given)
        np.testing.assert_allclose(found, expected, atol=1e-4)
