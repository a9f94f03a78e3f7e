"""Fused networks: a small convolution over each beat's shape, then members over the beats."""

from __future__ import annotations

from functools import cache
from typing import Any

from tasks.features.fused import FEATURES, SHAPE_SAMPLES
from tasks.features.rhythm import WINDOW_BEATS
from tasks.networks.models import Layer, Model, model

DILATIONS = (2, 4, 8, 16, 32, 64)
MEMBERS = 3


def fused_network(name: str, encoder: tuple[int, int, int] | None, filters: int) -> Model:
    """Build a fused network from "cues" (640, 12), and "shape" (640, 80), to (640, 1).

    Parameters
    ----------
    encoder : (int, int, int), optional
        Filters of the two convolutions along a beat, and what they sum a beat up to; without it the
        network reads no shapes.
    filters : int
        Filters of each member's convolutions along the beats; 255 beats of context.
    """
    import keras
    from keras import layers

    def normalise(x: Layer) -> Layer:
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    def member(x: Layer) -> Layer:
        x = normalise(layers.Conv1D(filters, 3, padding="same", use_bias=False)(x))
        for dilation in DILATIONS:
            y = layers.Conv1D(filters, 3, dilation_rate=dilation, padding="same", use_bias=False)(x)
            x = layers.Add()([x, normalise(y)])
        return layers.Dense(1)(x)

    cues = layers.Input((WINDOW_BEATS, FEATURES), name="cues")
    inputs, x = [cues], cues
    if encoder:
        first, second, summary = encoder
        shape = layers.Input((WINDOW_BEATS, SHAPE_SAMPLES), name="shape")
        x = layers.Reshape((WINDOW_BEATS, SHAPE_SAMPLES, 1))(shape)
        x = normalise(layers.Conv2D(first, (1, 7), strides=(1, 3), use_bias=False)(x))
        x = normalise(layers.Conv2D(second, (1, 5), strides=(1, 3), use_bias=False)(x))
        x = layers.Reshape((WINDOW_BEATS, x.shape[-2] * second))(x)
        x = normalise(layers.Dense(summary, use_bias=False)(x))
        inputs, x = [cues, shape], layers.Concatenate()([cues, x])
    logits = layers.Concatenate()([member(x) for _ in range(MEMBERS)])
    answer = layers.Activation("sigmoid", name="af")(in_turn()()(logits))
    return keras.Model(inputs if encoder else cues, answer, name=name)


@cache
def in_turn() -> Any:
    """The layer that makes one answer of the members'; Keras is imported only to build."""
    import keras
    from keras import ops

    class InTurn(keras.layers.Layer):  # type: ignore[misc] # Keras ships no types
        """Log-odds (beats, members) to (beats, 1): their mean; in training one member's.

        Each beat of a window is the next member's to answer. So every member learns to be right
        by itself, as networks that are trained apart do, and errs in another way than the others:
        their mean errs less than they do (Hansen & Salamon 1990, doi:10.1109/34.58871).
        """

        def call(self, logits: Any, training: bool = False) -> Any:
            """Answer of the members."""
            if not training:
                return ops.mean(logits, axis=-1, keepdims=True)
            beats, members = logits.shape[-2:]
            turn = ops.arange(beats)[:, None] % members == ops.arange(members)
            return ops.sum(logits * ops.cast(turn, logits.dtype), axis=-1, keepdims=True)

    return InTurn


@model("fused", inputs=("cues", "shape"))
def fused_with_shapes() -> Model:
    """Build the fused network: rhythm of 255 beats, and the shape of every beat."""
    return fused_network("fused", (8, 16, 12), 12)


@model("fused_cues", inputs=("cues",))
def fused_cues() -> Model:
    """Build the fused network without its convolution along a beat: rhythm and cues alone."""
    return fused_network("fused_cues", None, 12)
