"""Training: the method's settings by default, the same result for the same seed on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.models import build


@dataclass(frozen=True)
class TrainingConfig:
    """The method's settings: Adam, learning rate 1e-4, batches of 128, 100 epochs.

    Attributes
    ----------
    epochs, batch : int
        Passes over the training beats; beats of one step.
    learning_rate : float
        Adam's.
    seed : int
        Seed of initial weights and of the shuffling.
    """

    epochs: int = 100
    batch: int = 128
    learning_rate: float = 1e-4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained network, its history by name, and the epoch (from 0) whose weights it has."""

    model: Any
    history: dict[str, list[float]]
    best_epoch: int


def fit(
    name: str,
    x_train: NDArray[np.float32],
    y_train: NDArray[np.int8],
    x_validation: NDArray[np.float32],
    y_validation: NDArray[np.int8],
    config: TrainingConfig,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> TrainedModel:
    """Train a network on beats; the weights kept are those of the least validation loss.

    Parameters
    ----------
    name : str
        A network of `tasks.models`.
    x_train, x_validation : float32, shape (n, 300)
        Beats, without NaN.
    y_train, y_validation : int8, shape (n,)
        1 AF, 0 not AF.
    config : TrainingConfig
        How.
    on_epoch : callable, optional
        Told each epoch's number and values.

    Raises
    ------
    ValueError
        NaN in a beat, a label that is not 0 or 1, or no beats.
    """
    import keras
    import tensorflow as tf

    for x, y in ((x_train, y_train), (x_validation, y_validation)):
        if not len(x) or len(x) != len(y):
            raise ValueError(f"{len(x)} beats with {len(y)} labels cannot be learnt from")
        if not np.isfinite(x).all():
            raise ValueError("NaN in a beat: beats without a waveform must be left out")
        if not np.isin(y, (0, 1)).all():
            raise ValueError(f"labels must be 0 or 1, found {sorted(set(y.tolist()))}")
    tf.config.experimental.enable_op_determinism()
    model = build(name, seed=config.seed)
    model.compile(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss="binary_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    best: dict[str, Any] = {"loss": np.inf, "epoch": 0, "weights": model.get_weights()}

    def told(epoch: int, logs: dict[str, float]) -> None:
        values = {key: float(value) for key, value in logs.items()}
        if values["val_loss"] < best["loss"]:
            best.update(loss=values["val_loss"], epoch=epoch, weights=model.get_weights())
        if on_epoch:
            on_epoch(epoch, values)

    history = model.fit(
        x_train[..., None],
        np.eye(2, dtype=np.float32)[y_train],
        validation_data=(x_validation[..., None], np.eye(2, dtype=np.float32)[y_validation]),
        batch_size=config.batch,
        epochs=config.epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=told)],
    )
    model.set_weights(best["weights"])
    curves = {key: [float(v) for v in values] for key, values in history.history.items()}
    return TrainedModel(model, curves, best["epoch"])


def predict(
    model: Any, x: NDArray[np.float32] | Mapping[str, NDArray[np.float32]], batch: int = 1024
) -> NDArray[np.float32]:
    """P(AF) by Keras itself, of beats (n, 300), or of the model's own inputs (n, ...) by name."""
    arrays = dict(x) if isinstance(x, Mapping) else {"": x[..., None] if x.ndim == 2 else x}
    n = len(next(iter(arrays.values())))
    parts = []
    for at in range(0, n, batch):
        part = {name: values[at : at + batch] for name, values in arrays.items()}
        given = part if len(part) > 1 else part.popitem()[1]
        parts.append(np.asarray(model(given, training=False))[..., -1])
    return np.concatenate(parts) if parts else np.empty(0, np.float32)
