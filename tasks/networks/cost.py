"""What a network costs to run, counted from its layers."""

from __future__ import annotations

from math import prod
from typing import Any

#: Layers that multiply their kernel once for every position of their output.
MULTIPLYING = ("Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "Dense")


def multiply_adds(model: Any) -> int:
    """Multiply-accumulates that a network needs for one beat.

    Those of convolutions and dense layers are counted; normalisation folds into them, and what is
    left (additions, pooling, activations) is not multiplication. An axis without a fixed length
    is the axis of beats, and counts one.

    Raises
    ------
    ValueError
        A layer with weights is of a kind that is not counted here.
    """
    return sum(_of_layer(layer) for layer in model.layers)


def _of_layer(layer: Any) -> int:
    kind = type(layer).__name__
    if kind in MULTIPLYING:
        positions = prod(size or 1 for size in layer.output.shape[1:-1])
        return int(positions * prod(layer.kernel.shape))
    if layer.weights and kind != "BatchNormalization":
        raise ValueError(f"multiply-adds of a {kind} layer ({layer.name}) are not known")
    return 0
