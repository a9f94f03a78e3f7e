"""The rhythm networks: dilated temporal convolutions over RR features, one answer a beat.

Residual blocks of one dilated convolution each, the dilation doubling (Bai, Kolter & Koltun 2018,
arXiv:1803.01271), with batch normalisation and without bias before it.
"""

from __future__ import annotations

from tasks.models import Layer, Model, model
from tasks.rhythm import FEATURES, WINDOW_BEATS

DILATIONS = (2, 4, 8, 16, 32, 64)
KERNEL = 3


def temporal(name: str, filters: int, *, causal: bool = False) -> Model:
    """Build a rhythm network, from an input "rhythm" (640, 3) to (640, 1): P(AF).

    It sees 255 beats: 127 to each side, or 254 back in time for a causal one.
    """
    import keras
    from keras import layers

    padding = "causal" if causal else "same"

    def convolved(x: Layer, dilation: int) -> Layer:
        x = layers.Conv1D(filters, KERNEL, dilation_rate=dilation, padding=padding, use_bias=False)(
            x
        )
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    start = layers.Input((WINDOW_BEATS, FEATURES), name="rhythm")
    x = convolved(start, 1)
    for dilation in DILATIONS:
        x = layers.Add()([x, convolved(x, dilation)])
    answer = layers.Dense(1, activation="sigmoid", name="af")(x)
    return keras.Model(start, answer, name=name)


@model("rhythm", ("rhythm",))
def rhythm() -> Model:
    """Build the two-sided network of 5,217 parameters."""
    return temporal("rhythm", 16)


@model("rhythm_tiny", ("rhythm",))
def rhythm_tiny() -> Model:
    """Build the two-sided network of 877 parameters."""
    return temporal("rhythm_tiny", 6)


@model("rhythm_causal", ("rhythm",), causal=True)
def rhythm_causal() -> Model:
    """Build the network for live use, of 5,217 parameters: it sees no beat to come."""
    return temporal("rhythm_causal", 16, causal=True)
