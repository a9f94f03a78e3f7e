"""Quantisation-aware training: a network learns under the rounding that int8 brings to it.

As the int8 export rounds (Jacob et al. 2018, arXiv:1712.05877): kernels to 255 steps a channel
around zero, values between layers to 256 steps over their range. Rounding has no slope, so
gradients pass it straight through (Bengio et al. 2013, arXiv:1308.3432). We differ in that a range
is the batch's own, not a running mean: the export measures ranges anew, and no state is added.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tasks.networks.models import build

#: Layers that read values which the int8 file holds in 8 bits; what is between fuses into them.
READING = (
    "Conv1D",
    "Conv2D",
    "DepthwiseConv1D",
    "Dense",
    "Add",
    "Multiply",
    "Concatenate",
    "GlobalAveragePooling1D",
)
SMALLEST = 1e-12


def rounded_kernel(kernel: Any, *, depthwise: bool) -> Any:
    """A kernel in 255 steps from minus to plus its largest weight, a channel at a time.

    Parameters
    ----------
    kernel : tensor, shape (..., inputs, outputs)
        A channel is an output; of a depthwise kernel, an input.
    """
    from keras import ops

    channel = len(kernel.shape) - (2 if depthwise else 1)
    axes = [axis for axis in range(len(kernel.shape)) if axis != channel]
    step = ops.maximum(ops.max(ops.abs(kernel), axis=axes, keepdims=True) / 127, SMALLEST)
    return _straight_through(kernel, ops.round(kernel / step) * step)


def rounded_values(x: Any) -> Any:
    """Values in 256 steps over their range, which holds zero exactly."""
    from keras import ops

    low, high = ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0)
    step = ops.maximum((high - low) / 255, SMALLEST)
    zero = ops.round(-low / step)
    return _straight_through(x, (ops.clip(ops.round(x / step) + zero, 0, 255) - zero) * step)


def _straight_through(x: Any, rounded: Any) -> Any:
    from keras import ops

    return x + ops.stop_gradient(rounded - x)


def rounding_double(model: Any) -> Any:
    """A network that rounds as int8 does, over the same weights in the same order."""
    import keras

    return keras.models.clone_model(
        model,
        clone_function=lambda layer: (
            _rounding_layer()(layer) if type(layer).__name__ in READING else layer
        ),
    )


def plain_network(name: str, double: Any, seed: int) -> Any:
    """The network itself with what its rounding double learnt, its kernels on int8's steps."""
    model = build(name, seed=seed)
    model.set_weights(double.get_weights())
    for layer in kernel_layers(model):
        layer.kernel.assign(rounded_kernel(layer.kernel, depthwise=_is_depthwise(layer)))
    return model


def kernel_layers(model: Any) -> list[Any]:
    """The layers that have a kernel."""
    return [layer for layer in model.layers if getattr(layer, "kernel", None) is not None]


def _is_depthwise(layer: Any) -> bool:
    return "Depthwise" in type(layer).__name__


@cache
def _rounding_layer() -> Any:
    """The layer around a layer; Keras is imported only where something is trained."""
    import keras

    class RoundingLayer(keras.layers.Wrapper):  # type: ignore[misc] # Keras ships no types
        """A layer that rounds what it reads and its kernel."""

        def __init__(self, layer: Any) -> None:
            super().__init__(layer, name=f"{layer.name}_rounded")

        def call(self, inputs: Any, mask: Any = None) -> Any:  # noqa: ARG002 - none is masked
            """Read rounded values through a rounded kernel."""
            values = keras.tree.map_structure(rounded_values, inputs)
            kernel = getattr(self.layer, "kernel", None)
            if kernel is None:
                return self.layer(values)
            rounded = rounded_kernel(kernel, depthwise=_is_depthwise(self.layer))
            if type(self.layer).__name__ == "Dense" and self.layer.use_bias:
                sums = rounded_values(keras.ops.matmul(values, rounded) + self.layer.bias)
                return self.layer.activation(sums)
            with keras.StatelessScope([(kernel, rounded)]):
                return self.layer(values)

        def compute_output_spec(self, inputs: Any, mask: Any = None) -> Any:  # noqa: ARG002
            """As the layer's own."""
            return self.layer.compute_output_spec(inputs)

    return RoundingLayer
