"""Export to LiteRT, allowed only where the exported model answers as Keras does."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import ParityError
from tasks.litert import LiteRT, af_probability
from tasks.training import predict

#: Largest difference in probability that a float32 export may show.
MOST_ERROR = 1e-3


@dataclass(frozen=True)
class Parity:
    """How an exported model's answers differ from Keras's on n beats.

    `flips` counts decisions at 0.5 that differ where Keras is farther than the largest allowed
    error from 0.5.
    """

    n: int
    max_abs_error: float
    flips: int


def to_litert(model: Any) -> bytes:
    """Convert a Keras model to a float32 LiteRT file, byte for byte the same each time."""
    import tensorflow as tf

    # from_concrete_functions on a Keras 3 model gives one that answers NaN.
    with redirect_stdout(io.StringIO()):  # Keras prints every tensor of the export
        return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def check_parity(
    model: Any, litert: bytes, x: NDArray[np.float32] | Mapping[str, NDArray[np.float32]]
) -> Parity:
    """Hold an exported model to its source on real beats.

    Parameters
    ----------
    model : keras.Model
        The source.
    litert : bytes
        The export.
    x : float32, shape (n, 300), or the model's inputs (n, ...) by name
        Beats, or windows of beats.

    Raises
    ------
    ParityError
        A probability differs by more than 1e-3, is NaN, or a decision flips beyond that.
    """
    bare = x if isinstance(x, Mapping) else {"": x[..., None] if x.ndim == 2 else x}
    rows = {name: np.ascontiguousarray(values) for name, values in bare.items()}
    n = len(next(iter(rows.values())))
    if not n:
        raise ValueError("parity needs at least one beat")
    expected = predict(model, rows)
    found = LiteRT(litert).predict(rows.get("", rows))
    if not np.isfinite(found).all():
        raise ParityError(f"{model.name}: the exported model answers NaN")
    probability = af_probability(found)
    error = np.abs(probability - expected)
    clear = np.abs(expected - 0.5) > MOST_ERROR
    flips = int(np.count_nonzero(clear & ((probability >= 0.5) != (expected >= 0.5))))
    parity = Parity(n, float(error.max()), flips)
    if parity.max_abs_error > MOST_ERROR or flips:
        raise ParityError(
            f"{model.name}: found {parity}; expected an error of at most {MOST_ERROR} and no flip"
        )
    return parity
