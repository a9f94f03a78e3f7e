"""Training of the rhythm networks: windows of augmented records, AdamW, one cycle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.models import build, known_models
from tasks.rhythm import BACKWARD, TWO_SIDED, RhythmRecord, random_windows, rr_features
from tasks.rhythm_augment import augmented, simulated_sinus


@dataclass(frozen=True)
class RhythmConfig:
    """How a rhythm network is trained.

    Attributes
    ----------
    epochs, steps, batch, beats : int
        Rounds of fresh augmentation; optimiser steps of each; windows of a step; beats of a window.
    learning_rate : float
        Peak of the one cycle (Smith & Topin 2019, doi:10.1117/12.2520589): linear up over the
        first quarter, cosine down to a hundredth.
    weight_decay : float
        AdamW's.
    augment : bool
        Whether records are augmented.
    simulated : int
        Simulated sinus records drawn each epoch beside the real ones.
    seed : int
        Seed of initial weights, augmentation and windows.
    """

    epochs: int = 5
    steps: int = 100
    batch: int = 8
    beats: int = 640
    learning_rate: float = 6e-3
    weight_decay: float = 1e-3
    augment: bool = True
    simulated: int = 4
    seed: int = 0


def fit_rhythm(
    name: str,
    records: Sequence[RhythmRecord],
    config: RhythmConfig,
    teacher: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    model: Any = None,
) -> Any:
    """Train a rhythm network on whole records; gives the Keras model."""
    model = prepared(name, config) if model is None else model
    restart(model, name, config.seed)
    causal = known_models()[name].causal
    for epoch in range(config.epochs):
        random = np.random.default_rng([config.seed, epoch])
        x, y = draw(records, config, random, causal)
        known = (y >= 0).astype(np.float32)
        target = np.maximum(y, 0).astype(np.float32)
        if teacher is not None:
            target = 0.3 * target + 0.7 * teacher(x)
        history = model.fit(
            x,
            target[..., None],
            sample_weight=known,
            batch_size=config.batch,
            epochs=1,
            shuffle=False,
            verbose=0,
        )
        if on_epoch:
            on_epoch(epoch, {"loss": float(history.history["loss"][0])})
    return model


def prepared(name: str, config: RhythmConfig) -> Any:
    """A compiled model, its learning rate running one cycle over the whole training."""
    import keras

    steps = config.epochs * config.steps
    model = build(name, seed=config.seed)
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 25,
        decay_steps=steps - steps // 4,
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=steps // 4,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", jit_compile=False)
    return model


def restart(model: Any, name: str, seed: int) -> None:
    """Set a compiled model back to the untrained state of `seed`: tracing it again is dear."""
    model.set_weights(build(name, seed=seed).get_weights())
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))


def draw(
    records: Sequence[RhythmRecord],
    config: RhythmConfig,
    random: np.random.Generator,
    causal: bool,
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """The windows of one epoch."""
    seen = [augmented(r, random) if config.augment else r for r in records]
    seen += [simulated_sinus(k, 40_000, random) for k in range(config.simulated)]
    features = [rr_features(r.rr_s, causal=causal) for r in seen]
    return random_windows(
        features,
        [r.label for r in seen],
        [r.weight for r in seen],
        config.beats,
        config.steps * config.batch,
        random,
    )


def predict_rhythm(model: Any, record: RhythmRecord, *, causal: bool) -> NDArray[np.float32]:
    """P(AF) of every beat of a record by Keras itself, shape (n,)."""
    windows = BACKWARD if causal else TWO_SIDED
    x = windows.cut(rr_features(record.rr_s, causal=causal))
    answers = [np.asarray(model(x[k : k + 32], training=False)) for k in range(0, len(x), 32)]
    return windows.join(np.concatenate(answers)[..., 0], len(record))
