"""The fused network: a small convolution over each beat's shape, then one over the beats."""

from __future__ import annotations

from tasks.fused import FEATURES, SHAPE_SAMPLES
from tasks.models import Model, model
from tasks.rhythm import WINDOW_BEATS

DILATIONS = (2, 4, 8, 16, 32, 64)


def fused_network(name: str, encoder: tuple[int, int, int] | None, filters: int) -> Model:
    """Build a fused network from "context" (640, 12), and "shape" (640, 80), to (640, 1).

    Parameters
    ----------
    encoder : (int, int, int), optional
        Filters of the two convolutions along a beat, and what they sum a beat up to; without it the
        network reads no shapes.
    filters : int
        Filters of the convolutions along the beats; 255 beats of context.
    """
    import keras
    from keras import layers

    def normalised(x: Model) -> Model:
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    context = layers.Input((WINDOW_BEATS, FEATURES), name="context")
    given, x = [context], context
    if encoder:
        first, second, summary = encoder
        shape = layers.Input((WINDOW_BEATS, SHAPE_SAMPLES), name="shape")
        x = layers.Reshape((WINDOW_BEATS, SHAPE_SAMPLES, 1))(shape)
        x = normalised(layers.Conv2D(first, (1, 7), strides=(1, 3), use_bias=False)(x))
        x = normalised(layers.Conv2D(second, (1, 5), strides=(1, 3), use_bias=False)(x))
        x = layers.Reshape((WINDOW_BEATS, x.shape[-2] * second))(x)
        x = normalised(layers.Dense(summary, use_bias=False)(x))
        given, x = [context, shape], layers.Concatenate()([context, x])
    x = normalised(layers.Conv1D(filters, 3, padding="same", use_bias=False)(x))
    for dilation in DILATIONS:
        y = layers.Conv1D(filters, 3, dilation_rate=dilation, padding="same", use_bias=False)(x)
        x = layers.Add()([x, normalised(y)])
    answer = layers.Dense(1, activation="sigmoid", name="af")(x)
    return keras.Model(given if encoder else context, answer, name=name)


@model("fused", inputs=("context", "shape"))
def fused() -> Model:
    """Build the fused network: rhythm of 255 beats, and the shape of every beat."""
    return fused_network("fused", (8, 16, 12), 24)


@model("fused_cues", inputs=("context",))
def fused_cues() -> Model:
    """Build the fused network without its convolution along a beat: rhythm and cues alone."""
    return fused_network("fused_cues", None, 24)
