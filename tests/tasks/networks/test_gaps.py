"""Where signals are missing values: no network sees one, and every runtime answers the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import interpreter
from numpy.typing import NDArray

from storage.errors import ModelError
from storage.registry.boxed import BOXED, boxed_release
from tasks.networks.models import available_models, build
from tasks.networks.sequence import cut, input_windows, reads_records
from tasks.runtimes.convert import to_litert
from tasks.runtimes.inference import probabilities
from tasks.runtimes.litert import LiteRT, af_probability
from tasks.runtimes.onnx_runtime import Onnx
from tasks.runtimes.runtimes import Network, open_runtime
from tests import ROOT
from tests.tiny import record_with_gaps, tiny_table

GOLDEN = ROOT / "tests" / "golden"
#: Largest difference of two float32 runtimes; of int8 that of 99 % of beats, and the mean.
MOST_FLOAT, MOST_INT8 = 1e-4, (0.15, 0.02)


@pytest.fixture
def without_delegate(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make LiteRT compute by its built-in kernels from now on."""
    kernels = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    plain = partial(interpreter.Interpreter, experimental_op_resolver_type=kernels)
    return lambda: monkeypatch.setattr(interpreter, "Interpreter", plain)


def answers(network: Network, rows: dict[str, Any]) -> NDArray[np.float32]:
    """P(AF) of windows."""
    return af_probability(network.predict(rows))


@pytest.mark.parametrize("name", sorted(BOXED))
def test_the_box_answers_the_same_on_windows_with_gaps(
    name: str, without_delegate: Callable[[], None]
) -> None:
    """LiteRT with its delegate, without, and ONNX Runtime: one answer; int8 near them."""
    folder, manifest = boxed_release(name)
    record = record_with_gaps()
    rows = input_windows(name, record)
    assert all(np.isfinite(array).all() for array in rows.values())
    there = cut(name, record.begins, np.ones(len(record), bool)).astype(bool)
    runtimes = ("litert-float32", "litert-int8", "onnx")
    found = {r: answers(open_runtime(folder, manifest, r), rows)[there] for r in runtimes}
    np.testing.assert_allclose(found["onnx"], found["litert-float32"], atol=MOST_FLOAT)
    without_delegate()
    plain = {r: answers(open_runtime(folder, manifest, r), rows)[there] for r in runtimes[:2]}
    np.testing.assert_allclose(plain["litert-float32"], found["litert-float32"], atol=MOST_FLOAT)
    for int8 in (found["litert-int8"], plain["litert-int8"]):
        for other in (found["litert-float32"], found["litert-int8"]):
            error = np.abs(int8 - other)
            assert np.percentile(error, 99) <= MOST_INT8[0]
            assert error.mean() <= MOST_INT8[1]


def test_a_beat_with_a_gap_is_not_asked_of_a_network() -> None:
    """Its P(AF) is said to be unknown, and the others' are as without it, in every runtime."""
    table = tiny_table(1, 60)
    assert table.waveform is not None
    table.waveform[7, 250:], table.waveform[20] = np.nan, np.inf
    whole = [i for i in range(60) if i not in (7, 20)]
    for network in (
        LiteRT((GOLDEN / "resnet21-untrained.tflite").read_bytes()),
        Onnx((GOLDEN / "resnet21-untrained.onnx").read_bytes()),
    ):
        probability, decidable = probabilities(network, "resnet21", table)
        assert [*np.flatnonzero(decidable)] == whole
        expected = answers(network, {"waveform": table.waveform[whole][..., None]})
        np.testing.assert_allclose(probability[whole], expected, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_missing_value_never_reaches_a_network(value: float) -> None:
    """Every runtime refuses one, and says of which input: what each makes of it differs."""
    rows = np.zeros((2, 300, 1), np.float32)
    rows[1, 5] = value
    for network in (
        LiteRT((GOLDEN / "resnet21-untrained.tflite").read_bytes()),
        Onnx((GOLDEN / "resnet21-untrained.onnx").read_bytes()),
    ):
        with pytest.raises(ModelError, match="input waveform: found 1 values of 600 that are NaN"):
            network.predict(rows)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    "HOLTER_FAULT_RUNS" not in os.environ,
    reason="converting every network takes minutes: set HOLTER_FAULT_RUNS",
)
@pytest.mark.parametrize("name", available_models())
def test_every_network_answers_the_same_in_litert(
    name: str, without_delegate: Callable[[], None]
) -> None:
    """LiteRT with and without its delegate answers as Keras, on windows with gaps."""
    model, random = build(name, seed=1), np.random.default_rng(5)
    model.set_weights([w + random.uniform(-0.1, 0.1, w.shape) for w in model.get_weights()])
    if reads_records(name):
        rows = input_windows(name, record_with_gaps())
    else:
        shapes = {entry.name: (5, *entry.shape[1:]) for entry in model.inputs}
        rows = {k: random.normal(size=shape).astype(np.float32) for k, shape in shapes.items()}
    arrays = [rows[entry.name] for entry in model.inputs]
    expected = np.asarray(model(arrays if len(arrays) > 1 else arrays[0], training=False))
    data = to_litert(model)
    np.testing.assert_allclose(LiteRT(data).predict(rows), expected, atol=MOST_FLOAT)
    without_delegate()
    np.testing.assert_allclose(LiteRT(data).predict(rows), expected, atol=MOST_FLOAT)
