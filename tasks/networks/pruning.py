"""Pruning while a network learns: its smallest weights become zero, more of them step by step.

Magnitude pruning on the cubic schedule of Zhu & Gupta 2017 (arXiv:1710.01878), as a constraint on
each kernel: after every step the smallest weights are zero, and one may come back by growing. How
many depends on the optimiser's count of steps alone, so a resumed training prunes alike.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from tasks.networks.quantised import kernel_layers


def ramp_epochs(epochs: int) -> int:
    """The epochs over which the share grows; in the others the network learns to do without."""
    return (epochs + 1) // 2


def prune_while_training(model: Any, optimizer: Any, share: float, steps: int) -> None:
    """Constrain every kernel but the last layer's to have `share` of its weights zero.

    Parameters
    ----------
    model : keras.Model
        The network.
    optimizer : keras.Optimizer
        Of its training, built.
    share : float
        Of a kernel's weights, from 0 to below 1.
    steps : int
        Over how many steps the share grows.

    Raises
    ------
    ValueError
        The share is out of range.
    """
    if not 0 <= share < 1:
        raise ValueError(f"sparsity must be from 0 to below 1, not {share}")
    for layer in kernel_layers(model)[:-1]:
        layer.kernel.constraint = _smallest_are_zero()(optimizer, share, steps)


def zero_weights(model: Any) -> int:
    """How many of a network's kernels' weights are zero."""
    return sum(int(np.sum(np.asarray(layer.kernel) == 0)) for layer in kernel_layers(model))


@cache
def _smallest_are_zero() -> Any:
    import keras
    from keras import ops

    class SmallestAreZero(keras.constraints.Constraint):  # type: ignore[misc] # no types in Keras
        """A kernel whose smallest weights are zero, by a share that grows."""

        def __init__(self, optimizer: Any, share: float, steps: int) -> None:
            self.optimizer, self.share, self.steps = optimizer, share, max(steps - 1, 1)

        def __call__(self, w: Any) -> Any:
            """The kernel after a step."""
            progress = ops.minimum(ops.cast(self.optimizer.iterations, "float32") / self.steps, 1.0)
            share = self.share * (1 - (1 - progress) ** 3)
            size = int(np.prod(w.shape))
            ordered = ops.sort(ops.reshape(ops.abs(w), (-1,)))
            limit = ops.take(ordered, ops.cast(ops.floor(share * size), "int32"))
            return w * ops.cast(ops.abs(w) >= limit, w.dtype)

    return SmallestAreZero
