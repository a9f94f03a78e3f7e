"""Training of the fused network: windows of augmented records, some with shapes hidden."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.fused import FEATURES, SHAPE_SAMPLES, FusedRecord, inputs
from tasks.fused_augment import augmented
from tasks.models import build
from tasks.rhythm import FEATURES as RR_FEATURES
from tasks.rhythm import TWO_SIDED, WINDOW_BEATS

Floats = NDArray[np.float32]
#: A record with at least this share of AF beats counts as one with AF.
LEAST_AF = 0.02


@dataclass(frozen=True)
class FusedConfig:
    """How a fused network is trained.

    Attributes
    ----------
    epochs, steps, batch : int
        Rounds of fresh augmentation; optimiser steps of each; windows of a step.
    learning_rate, weight_decay : float
        AdamW's; the rate rises over the first fifth and falls to a hundredth as a cosine
        (Smith & Topin 2019, doi:10.1117/12.2520589).
    hidden : float
        Share of windows whose shapes are hidden, so that a record without a signal is nothing new.
    seed : int
        Seed of initial weights, augmentation and windows.
    """

    epochs: int = 8
    steps: int = 40
    batch: int = 8
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    hidden: float = 0.25
    seed: int = 0


def fit_fused(
    name: str,
    records: Sequence[FusedRecord],
    config: FusedConfig,
    start: Path | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> Any:
    """Train a fused network on whole records, from weights that are there already or from new."""
    import keras
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    model = build(name, seed=config.seed)
    if start is not None:
        model.load_weights(start)
    total = config.epochs * config.steps
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 25,
        decay_steps=total - total // 5,
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=total // 5,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", jit_compile=False)
    for epoch in range(config.epochs):
        x, shape, y = draw(records, config, np.random.default_rng([config.seed, epoch]))
        history = model.fit(
            {"context": x, "shape": shape},
            np.maximum(y, 0)[..., None].astype(np.float32),
            sample_weight=(y >= 0).astype(np.float32),
            batch_size=config.batch,
            shuffle=False,
            verbose=0,
        )
        if on_epoch:
            on_epoch(epoch, {"loss": float(history.history["loss"][0])})
    return model


def draw(
    records: Sequence[FusedRecord], config: FusedConfig, random: np.random.Generator
) -> tuple[Floats, Floats, NDArray[np.int8]]:
    """The windows of one epoch: context (k, 640, 10), shape (k, 640, 80), label (k, 640).

    Records are drawn by their weight alone, so that a long one has no more say than a short one.
    """
    count = config.steps * config.batch
    share = np.array([r.weight for r in records], np.float64)
    chosen = np.sort(random.choice(len(records), count, p=share / share.sum()))
    x = np.zeros((count, WINDOW_BEATS, FEATURES), np.float32)
    shape = np.zeros((count, WINDOW_BEATS, SHAPE_SAMPLES), np.float32)
    y = np.full((count, WINDOW_BEATS), -1, np.int8)
    for which, rows in zip(*_runs(chosen), strict=True):
        record = augmented(_stretch(records[which], random), random)
        context, shapes = inputs(record.rr_s, record.shape)
        for row in rows:
            at = int(random.integers(0, max(len(record) - WINDOW_BEATS, 0) + 1))
            part = slice(at, at + WINDOW_BEATS)
            n = len(record.label[part])
            x[row, :n], shape[row, :n], y[row, :n] = context[part], shapes[part], record.label[part]
    hide = random.random(count) < config.hidden
    x[hide, :, RR_FEATURES:], shape[hide] = 0, 0
    order = random.permutation(count)
    return x[order], shape[order], y[order]


#: A long record is augmented in a stretch of this many beats at a time.
STRETCH_BEATS = 6000


def _stretch(record: FusedRecord, random: np.random.Generator) -> FusedRecord:
    at = int(random.integers(0, max(len(record) - STRETCH_BEATS, 0) + 1))
    part = slice(at, at + STRETCH_BEATS)
    shape = None if record.shape is None else record.shape[part]
    return replace(record, rr_s=record.rr_s[part], label=record.label[part], shape=shape)


def _runs(chosen: NDArray[np.int64]) -> tuple[list[int], list[NDArray[np.int64]]]:
    values, first = np.unique(chosen, return_index=True)
    return values.tolist(), np.split(np.arange(len(chosen)), first[1:])


def predict_fused(model: Any, record: FusedRecord) -> NDArray[np.float32]:
    """P(AF) of every beat of a record, shape (n,)."""
    context, shape = (TWO_SIDED.cut(part) for part in inputs(record.rr_s, record.shape))
    answers = [
        np.asarray(
            model({"context": context[k : k + 4], "shape": shape[k : k + 4]}, training=False)
        )
        for k in range(0, len(context), 4)
    ]
    answer: NDArray[np.float32] = TWO_SIDED.join(np.concatenate(answers)[..., 0], len(record))
    return answer


def balanced(records: Sequence[FusedRecord], total: float, af: float = 2.0) -> list[FusedRecord]:
    """A data set's records with weights that sum to `total`, those with AF `af` times as heavy."""
    share = [(af if (r.label == 1).mean() > LEAST_AF else 1.0) for r in records]
    return [replace(r, weight=total * w / sum(share)) for r, w in zip(records, share, strict=True)]
