"""Other ways to make a network of one beat light: depthwise-separable, Ghost and Squeeze.

The method compares residual networks alone. These three are the known light families in one
dimension, at about the size of its smallest, so that the comparison can be made.
"""

from __future__ import annotations

from storage.tables.beats import WAVEFORM_SAMPLES
from tasks.networks.models import Layer, Model, model

#: Keras's own momentum of batch normalisation, 0.99, lags a short training by epochs.
MOMENTUM = 0.9


def _active(x: Layer) -> Layer:
    from keras import layers

    return layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))


def _start(filters: int, kernel: int) -> tuple[Layer, Layer]:
    """The input, and a first convolution that halves the beat's length."""
    from keras import layers

    start = layers.Input((WAVEFORM_SAMPLES, 1), name="waveform")
    x = layers.Conv1D(filters, kernel, strides=2, padding="same", use_bias=False)(start)
    return start, _active(x)


def _end(name: str, start: Layer, x: Layer) -> Model:
    import keras
    from keras import layers

    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(start, layers.Dense(2, activation="softmax", name="af")(x), name=name)


@model("mobile")
def mobile() -> Model:
    """Build depthwise-separable convolutions (Howard et al. 2017, arXiv:1704.04861)."""
    from keras import layers

    start, x = _start(16, 9)
    for filters, strides in ((24, 1), (32, 2), (48, 2), (64, 1)):
        x = _active(layers.DepthwiseConv1D(9, strides=strides, padding="same", use_bias=False)(x))
        x = _active(layers.Conv1D(filters, 1, use_bias=False)(x))
    return _end("mobile", start, x)


@model("ghost")
def ghost() -> Model:
    """Build Ghost modules: half the maps are cheap filters of the others.

    Han et al. 2020, doi:10.1109/CVPR42600.2020.00165; each pair of modules has a shortcut.
    """
    from keras import layers

    def module(x: Layer, filters: int) -> Layer:
        primary = _active(layers.Conv1D(filters // 2, 1, use_bias=False)(x))
        cheap = layers.DepthwiseConv1D(9, padding="same", use_bias=False)(primary)
        return layers.Concatenate()([primary, _active(cheap)])

    start, x = _start(16, 9)
    for filters in (24, 40, 48):
        shortcut = layers.Conv1D(filters, 1, use_bias=False)(x)
        x = layers.Add()([module(module(x, filters), filters), shortcut])
        x = layers.MaxPooling1D(2)(x)
    return _end("ghost", start, x)


@model("squeeze")
def squeeze() -> Model:
    """Build fire modules: squeeze to few maps, expand by kernels of 1 and 9.

    Iandola et al. 2016, arXiv:1602.07360.
    """
    from keras import layers

    def fire(x: Layer, squeezed: int, expanded: int) -> Layer:
        x = _active(layers.Conv1D(squeezed, 1, use_bias=False)(x))
        sides = [
            layers.Conv1D(expanded, kernel, padding="same", use_bias=False)(x) for kernel in (1, 9)
        ]
        return _active(layers.Concatenate()(sides))

    start, x = _start(16, 9)
    for squeezed, expanded in ((8, 16), (12, 24), (12, 24)):
        x = layers.MaxPooling1D(2)(fire(x, squeezed, expanded))
    return _end("squeeze", start, x)
