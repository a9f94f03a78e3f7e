"""The rhythm networks: dilated temporal convolutions over RR features, one answer a beat.

Residual blocks of one dilated convolution each, the dilation doubling (Bai, Kolter & Koltun 2018,
arXiv:1803.01271), with batch normalisation and without bias before it. Where no beat is, what
every convolution gives is zero again: nothing grows beyond a record's ends, so that a strip of ten
seconds is as sure of its ends as a record of ten days.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tasks.features.rhythm import FEATURES, WINDOW_BEATS, WITHOUT_MASK
from tasks.networks.models import Layer, Model, model

DILATIONS = (2, 4, 8, 16, 32, 64)
#: A reach of 63 beats to each side.
FEWER_DILATIONS = DILATIONS[:-1]
KERNEL = 3


def temporal(
    name: str, filters: int, dilations: tuple[int, ...] = DILATIONS, *, causal: bool = False
) -> Model:
    """Build a rhythm network, from an input "rhythm" (640, 5) to (640, 1): P(AF).

    It sees one beat more than the dilations' sum to each side, or twice as far back for a causal
    one.
    """
    import keras
    from keras import layers

    padding = "causal" if causal else "same"

    def convolve(x: Layer, dilation: int) -> Layer:
        x = layers.Conv1D(filters, KERNEL, dilation_rate=dilation, padding=padding, use_bias=False)(
            x
        )
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        return layers.Multiply()([x, beat])

    start = layers.Input((WINDOW_BEATS, FEATURES), name="rhythm")
    beat = columns()(WITHOUT_MASK, FEATURES)(start)
    x = convolve(columns()(0, WITHOUT_MASK)(start), 1)
    for dilation in dilations:
        x = layers.Add()([x, convolve(x, dilation)])
    answer = layers.Dense(1, activation="sigmoid", name="af")(x)
    return keras.Model(start, answer, name=name)


@cache
def columns() -> Any:
    """The layer that takes some columns of its input; Keras is imported only to build."""
    import keras

    class Columns(keras.layers.Layer):  # type: ignore[misc] # Keras ships no types
        """Columns `first` to before `stop` of (beats, columns)."""

        def __init__(self, first: int, stop: int, **settings: Any) -> None:
            super().__init__(**settings)
            self.first, self.stop = first, stop

        def call(self, values: Any) -> Any:
            """Take them."""
            return values[..., self.first : self.stop]

        def get_config(self) -> dict[str, Any]:
            """What it is built again from."""
            return {**super().get_config(), "first": self.first, "stop": self.stop}

    return Columns


@model("rhythm", ("rhythm",))
def rhythm() -> Model:
    """Build the two-sided network of 5,265 parameters: it sees 127 beats to each side."""
    return temporal("rhythm", 16)


@model("rhythm_tiny", ("rhythm",))
def rhythm_tiny() -> Model:
    """Build the two-sided network of 995 parameters: it sees 63 beats to each side."""
    return temporal("rhythm_tiny", 7, FEWER_DILATIONS)


@model("rhythm_causal", ("rhythm",), causal=True)
def rhythm_causal() -> Model:
    """Build the network for live use, of 5,265 parameters: it sees 254 beats back, none to come."""
    return temporal("rhythm_causal", 16, causal=True)
