"""Distillation: a small network learns from a larger one's answers beside the labels.

Hinton, Vinyals & Dean 2015, arXiv:1503.02531. A beat's loss is

    (1 - w) H(label, p) + w T^2 H(q_T, p_T)

with the binary cross-entropy H, the student's P(AF) p, the teacher's q, and the same softened by a
temperature T (their log-odds over T); T^2 keeps the second part's gradients as large as at T = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.bounds import all_within
from tasks.networks.sequence import as_read_by

Floats = NDArray[np.float32]
#: Probabilities are held this far from 0 and 1.
EDGE = 1e-6
#: Stands for the teacher's answer where there is none: the label alone counts.
NO_ANSWER = -1.0


@dataclass(frozen=True, eq=False)
class Teaching:
    """A teacher and how much it counts.

    Attributes
    ----------
    name : str
        The teacher's network, as in the table of networks.
    answer : callable
        P(AF) of its inputs by name, of the labels' shape.
    weight : float
        Of the teacher's answers in the loss, above 0 to 1; the labels have the rest.
    temperature : float
        That both answers are softened by, at least 1.
    """

    name: str
    answer: Callable[[Mapping[str, Floats]], Floats]
    weight: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        all_within(teacher_weight=self.weight, temperature=self.temperature)

    def targets(self, label: Floats, inputs: Mapping[str, Floats]) -> Floats:
        """Labels and the teacher's softened answers of what was drawn, (..., 2).

        Parameters
        ----------
        label : float32, shape (k,) or (k, beats)
            1 AF, 0 not AF.
        inputs : mapping of str to float32
            Inputs by name; the teacher takes those that it reads.
        """
        answer = self.answer(as_read_by(self.name, inputs))
        clipped = np.clip(answer.astype(np.float64), EDGE, 1 - EDGE)
        soft = 1 / (1 + ((1 - clipped) / clipped) ** (1 / self.temperature))
        return np.stack([label, soft.astype(np.float32)], axis=-1)


def label_targets(label: Floats) -> Floats:
    """Targets of labels alone, as validation has them."""
    return np.stack([label, np.full_like(label, NO_ANSWER)], axis=-1)


def distillation_loss(weight: float, temperature: float) -> Callable[[Any, Any], Any]:
    """The loss of answers (..., 1) or (..., 2), P(AF) last, from `targets` (..., 2)."""
    from keras import ops

    def entropy(target: Any, p: Any) -> Any:
        return -(target * ops.log(p) + (1 - target) * ops.log(1 - p))

    def loss(target: Any, answer: Any) -> Any:
        label, soft = target[..., 0], target[..., 1]
        p = ops.clip(answer[..., -1], EDGE, 1 - EDGE)
        odds = (ops.log(p) - ops.log(1 - p)) / temperature
        teacher_loss = entropy(soft, ops.clip(ops.sigmoid(odds), EDGE, 1 - EDGE))
        hard = entropy(label, p)
        mixture = (1 - weight) * hard + weight * temperature**2 * teacher_loss
        return ops.where(soft < 0, hard, mixture)

    return loss


def accuracy() -> Any:
    """Keras's accuracy, of answers beside such targets."""
    import keras
    from keras import ops

    def right(target: Any, answer: Any) -> Any:
        return ops.cast((answer[..., -1] >= 0.5) == (target[..., 0] >= 0.5), "float32")

    return keras.metrics.MeanMetricWrapper(right, name="accuracy")
