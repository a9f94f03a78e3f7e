"""Exports of a network for each runtime, allowed only where they answer as Keras does."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import ParityError
from tasks.runtimes.onnx_export import to_onnx
from tasks.scores.metrics import beat_metrics

Inputs = Mapping[str, NDArray[np.float32]]
#: Rows that fix the ranges of int8's numbers.
CALIBRATION_ROWS = 200


@dataclass(frozen=True)
class Parity:
    """How an exported network's answers differ from Keras's.

    Attributes
    ----------
    beats : int
        Beats compared.
    max_abs_error, p99_abs_error, mean_abs_error : float
        Of the probability of AF.
    f1_change : float
        F1 of AF of the export less Keras's, at the release's threshold.
    """

    beats: int
    max_abs_error: float
    p99_abs_error: float
    mean_abs_error: float
    f1_change: float


@dataclass(frozen=True)
class Limits:
    """The largest values of a `Parity`, F1's change either way, that an export may show."""

    max_abs_error: float
    p99_abs_error: float
    mean_abs_error: float
    f1_change: float


@dataclass(frozen=True)
class Export:
    """How a runtime's file is made of a Keras model and rows of input, and what it must hold."""

    make: Callable[[Any, Inputs], bytes]
    file: str
    limits: Limits


def compare(
    expected: NDArray[np.float32],
    actual: NDArray[np.float32],
    label: NDArray[np.int8],
    threshold: float,
) -> Parity:
    """Compare P(AF) of Keras and of an export, both of `label`'s shape; -1 is not counted.

    Raises
    ------
    ParityError
        The export answers NaN.
    """
    if wrong := int((~np.isfinite(actual)).sum()):
        raise ParityError(f"an export: {wrong} answers of {actual.size} are no numbers")
    labelled = label >= 0
    error = np.abs(actual - expected)[labelled]
    if not len(error):
        raise ValueError("parity needs at least one beat")
    f1 = [beat_metrics(label[labelled], p[labelled], threshold)["f1"] for p in (expected, actual)]
    change = float(np.nan_to_num(f1[1]) - np.nan_to_num(f1[0]))
    p99 = float(np.percentile(error, 99))
    return Parity(len(error), float(error.max()), p99, float(error.mean()), change)


def check(runtime: str, parity: Parity) -> None:
    """Hold an export to its limits.

    Raises
    ------
    ParityError
        A value beyond its limit, or not a number.
    """
    limits = asdict(EXPORTS[runtime].limits)
    over = [
        f"{name} {value:.2g} (at most {limits[name]:g})"
        for name, value in asdict(parity).items()
        if name in limits and not abs(value) <= limits[name]
    ]
    if over:
        raise ParityError(f"{runtime}: found {', '.join(over)} on {parity.beats} beats")


def to_litert(model: Any, _rows: Inputs | None = None) -> bytes:
    """Convert a Keras model to a float32 LiteRT file, byte for byte the same each time."""
    # from_concrete_functions on a Keras 3 model gives one that answers NaN.
    return _convert(model)


def to_litert_int8(model: Any, rows: Inputs) -> bytes:
    """Convert a Keras model to a LiteRT file that computes in int8; its ends stay float32.

    Weights are quantised by channel, activations by the ranges seen in `rows` (Jacob et al. 2018,
    arXiv:1712.05877). `rows` must come from training patients alone.
    """
    import tensorflow as tf

    def samples() -> Iterator[dict[str, NDArray[np.float32]]]:
        for row in range(min(CALIBRATION_ROWS, len(next(iter(rows.values()))))):
            yield {name: array[row : row + 1] for name, array in rows.items()}

    return _convert(
        model,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=samples,
        **{"target_spec.supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
    )


def _convert(model: Any, **settings: Any) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for name, value in settings.items():
        owner, _, attribute = name.rpartition(".")
        setattr(getattr(converter, owner) if owner else converter, attribute, value)
    # Keras prints every tensor of the export; the converter warns of what it does by itself.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bytes(converter.convert())


FLOAT32 = Limits(1e-3, 1e-3, 1e-3, 1e-3)
#: By runtime. int8 has no limit on a single beat's error, which at a steep sigmoid says little.
EXPORTS: dict[str, Export] = {
    "litert-float32": Export(to_litert, "model.litert-float32.tflite", FLOAT32),
    "litert-int8": Export(
        to_litert_int8, "model.litert-int8.tflite", Limits(1.0, 0.1, 0.01, 0.005)
    ),
    "onnx": Export(to_onnx, "model.onnx", FLOAT32),
}
