"""Training of networks over whole records: windows of augmented records, AdamW, one cycle."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.bounds import all_within
from storage.tables.checkpoint import Arrays, Checkpoint
from tasks.features.rhythm import RhythmRecord, join_records
from tasks.learning.distillation import Teaching
from tasks.learning.fused_training import draw_fused
from tasks.learning.rhythm_augment import TARGETS, classes, simulated_sinus
from tasks.learning.rhythm_drawing import bag_label, by_beats, draw_rhythm
from tasks.learning.training import (
    EMPTY_CHECKPOINT,
    WHOLE_COURSE,
    Course,
    compile_learner,
    network_of,
    next_checkpoint,
    predict,
    resume,
    stale,
)
from tasks.networks.models import build, spec_of
from tasks.networks.sequence import as_read_by, input_windows, reads_shapes, windows

SIMULATED_BEATS = 10_000
#: Records of fewer beats are answered together.
BEATS_TOGETHER = 20_000
#: Usual peaks of the one cycle; of networks that read shapes no higher one was tried.
RATE, RATE_WITH_SHAPES = 1.2e-2, 6e-3
AVERAGED_WITH_SHAPES = 0.5


@dataclass(frozen=True)
class RhythmConfig:
    """How a rhythm network is trained.

    Attributes
    ----------
    epochs, steps, batch : int
        Rounds of fresh augmentation; optimiser steps of each; windows of a step.
    learning_rate : float
        Peak of the one cycle (Smith & Topin 2019, doi:10.1117/12.2520589): linear up over the
        first quarter, cosine down to a hundredth.
    weight_decay : float
        AdamW's (Loshchilov & Hutter 2019, arXiv:1711.05101).
    augment : bool
        Whether records are augmented.
    simulated : int
        Simulated sinus records drawn each epoch beside the real ones.
    hidden : float
        Share of windows whose shapes are hidden from a network that reads shapes, and their cues.
    cues_alone : float
        Share of windows that keep their cues and hide their shapes: a shape is learnt by heart with
        the patient it is of.
    patience : int
        Stop after this many epochs without a better validation loss; 0 never stops early and keeps
        the last weights, which is where the one cycle ends.
    averaged : float
        The weights to use are the mean over this share of the epochs, the last ones, batch
        statistics too (Izmailov et al. 2018, arXiv:1803.05407); 0 takes the last epoch's.
    sparsity, quantised : float, bool
        As `tasks.learning.training.TrainingConfig`.
    seed : int
        Seed of initial weights, augmentation and windows.
    """

    epochs: int = 20
    steps: int = 150
    batch: int = 16
    learning_rate: float = RATE
    weight_decay: float = 1e-3
    augment: bool = True
    simulated: int = 16
    hidden: float = 0.25
    cues_alone: float = 0.5
    patience: int = 0
    averaged: float = 0.0
    sparsity: float = 0.0
    quantised: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its bound, or weights cannot be averaged so."""
        all_within(**vars(self))
        if self.averaged and (self.patience or self.sparsity):
            raise ValueError(
                "weights are averaged without early stopping and pruning, not with them"
            )


def fit_rhythm(
    name: str,
    records: Sequence[RhythmRecord],
    config: RhythmConfig,
    validation: Sequence[RhythmRecord] = (),
    course: Course = WHOLE_COURSE,
    model: Any = None,
) -> tuple[Any, Checkpoint]:
    """Train a network on whole records.

    A record's stretches are learnt from as records of their own. Of a record of one label, those
    beats count that the network of the epoch before answers so (`bag_label`). Every epoch's windows
    depend on the seed, the epoch's number and the weights before it alone, so a training that goes
    on from a checkpoint ends as one that was never interrupted.

    Parameters
    ----------
    name : str
        A network of the rhythm or the fused family.
    records, validation : sequence of RhythmRecord
        To learn from; to measure the loss on after every epoch (needed where `patience` is set).
    config : RhythmConfig
        How.
    course : Course
        Where it begins, and who follows and teaches. Beats whose rhythm is unknown count nowhere.
        A teacher that reads shapes sees them in every window; a student of the rhythm alone gets
        the rhythm of the same windows.
    model : keras.Model, optional
        From `prepare_learner` with the same network and config: saves tracing it once more.

    Returns
    -------
    model : keras.Model
        With the weights to use.
    state : Checkpoint
        The last one, with the history.

    Raises
    ------
    ValueError
        Nothing to learn from, or `patience` without validation.
    """
    import tensorflow as tf

    bags = [
        classes(record) for record in records if record.labelled_whole and (record.label >= 0).any()
    ]
    records = [
        classes(stretch)
        for record in records
        if not record.labelled_whole
        for stretch in record.stretches()
    ]
    if not sum(int((record.label >= 0).sum()) for record in [*records, *bags]):
        raise ValueError("no beat with a known rhythm to learn from")
    if config.patience and not validation:
        raise ValueError("early stopping needs validation records")
    tf.config.experimental.enable_op_determinism()
    teaching = course.teaching
    model = prepare_learner(name, config, teaching) if model is None else model
    restart(model, name, config.seed)
    state = course.start or EMPTY_CHECKPOINT
    if course.start:
        resume(model, course.start)
    names = read_by(name, teaching)
    while state.epoch < config.epochs and not stale(state, config.patience):
        sources = [*records, *label_bags(model, name, bags)]
        inputs, y = draw(name, names, sources, student_config(name, config), state.epoch)
        label = TARGETS[np.maximum(y, 0)]
        target = teaching.targets(label, inputs) if teaching else label[..., None]
        x = as_read_by(name, inputs)
        del inputs
        loss = model.fit(
            x if len(x) > 1 else x.popitem()[1],
            target,
            sample_weight=(y >= 0).astype(np.float32),
            batch_size=config.batch,
            epochs=1,
            shuffle=False,
            verbose=0,
        ).history["loss"][0]
        del x, target
        values = {"loss": float(loss)}
        if validation:
            values["val_loss"] = log_loss(model, validation)
        mean = state.mean
        state = next_checkpoint(state, model, values, config)
        state = replace(state, mean=mean_weights(mean, state, config))
        if course.keep:
            course.keep(state)
    model.set_weights(state.best if config.patience else state.mean or state.weights)
    return network_of(model, name, config), state


def mean_weights(mean: Arrays, state: Checkpoint, config: RhythmConfig) -> Arrays:
    """The mean of the last epochs' weights with one more of them; none before the first of them."""
    k = state.epoch - config.epochs + round(config.averaged * config.epochs)
    if k <= 1:
        return state.weights if k == 1 else []
    pairs: Iterable[tuple[Any, Any]] = zip(mean, state.weights, strict=True)
    return [m + (w - m) / np.float32(k) for m, w in pairs]


def usual_rate(name: str) -> float:
    """The learning rate of a training that names none."""
    return RATE_WITH_SHAPES if reads_shapes(name) else RATE


def usual_averaged(name: str, patience: int = 0, sparsity: float = 0.0) -> float:
    """The share of the epochs that a training averages over where it names none.

    Networks that read shapes differ from epoch to epoch: their few patients with AF are as good as
    learnt by heart, and what the network makes of others is chance. Those of the rhythm alone had
    the same figures with and without.
    """
    return AVERAGED_WITH_SHAPES if reads_shapes(name) and not (patience or sparsity) else 0.0


def read_by(name: str, teaching: Teaching | None = None) -> set[str]:
    """The inputs that a network and its teacher read."""
    return {*spec_of(name).inputs, *(spec_of(teaching.name).inputs if teaching else ())}


def student_config(name: str, config: RhythmConfig) -> RhythmConfig:
    """Shapes are hidden for the student's sake: none are where it reads none."""
    return config if reads_shapes(name) else replace(config, hidden=0.0, cues_alone=0.0)


def prepare_learner(name: str, config: RhythmConfig, teaching: Teaching | None = None) -> Any:
    """A compiled model, its learning rate running one cycle over the whole training."""
    import keras

    steps = config.epochs * config.steps
    model = build(name, seed=config.seed)
    rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 25,
        decay_steps=max(steps - steps // 4, 1),
        alpha=0.01,
        warmup_target=config.learning_rate,
        warmup_steps=steps // 4,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)
    return compile_learner(model, optimizer, config, config.steps, teaching=teaching)


def restart(model: Any, name: str, seed: int) -> None:
    """Set a compiled model back to the untrained state of `seed`: tracing it again is dear."""
    model.set_weights(build(name, seed=seed).get_weights())
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))


def draw(
    name: str,
    names: Collection[str],
    records: Sequence[RhythmRecord],
    config: RhythmConfig,
    epoch: int,
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int8]]:
    """The windows of one epoch: what is wanted (k, 640, ...) by name, and labels (k, 640)."""
    random = np.random.default_rng([config.seed, epoch])
    count = config.steps * config.batch
    if "cues" in names:
        plain = [stretch for record in records for stretch in record.stretches()]
        sources = [*plain, *sinus_records(config.simulated, random)]
        return draw_fused(
            sources,
            count,
            random,
            names,
            augment=config.augment,
            masks=(config.hidden, config.cues_alone),
        )
    simulated = sinus_records(config.simulated, random)
    x, y = draw_rhythm(name, records, simulated, count, random, augment=config.augment)
    return {"rhythm": x}, y


def sinus_records(count: int, random: np.random.Generator) -> list[RhythmRecord]:
    """Simulated sinus records."""
    return [simulated_sinus(k, SIMULATED_BEATS, random) for k in range(count)]


def label_bags(model: Any, name: str, bags: Sequence[RhythmRecord]) -> list[RhythmRecord]:
    """Records of one label each, beats labelled by what a network answers of them."""
    af = [bag for bag in bags if (bag.label == 1).any()]
    answers = predict_records(model, name, af)
    return [
        *(bag for bag in bags if not (bag.label == 1).any()),
        *(
            replace(bag, label=bag_label(bag.label, answer))
            for bag, answer in zip(af, answers, strict=True)
        ),
    ]


def predict_records(
    model: Any, name: str, records: Sequence[RhythmRecord]
) -> Iterator[NDArray[np.float32]]:
    """P(AF) of every beat of each record, shape (n,) each; short records share windows."""
    for group in by_beats(records, BEATS_TOGETHER):
        answer = _predict(model, name, group[0] if len(group) == 1 else join_records(group))
        yield from np.split(answer, np.cumsum([len(record) for record in group[:-1]]))


def predict_beats(model: Any, record: RhythmRecord) -> NDArray[np.float32]:
    """P(AF) of every beat of a record by Keras itself, shape (n,)."""
    return _predict(model, model.name, record)


def _predict(model: Any, name: str, record: RhythmRecord) -> NDArray[np.float32]:
    answer = predict(model, input_windows(name, record), batch=32)
    cut = windows(name)
    places = cut.places(record.begins)
    return np.asarray(cut.join(answer, int(places[-1]) + 1)[places])


def log_loss(model: Any, records: Sequence[RhythmRecord]) -> float:
    """Mean binary cross-entropy of the beats with a known rhythm, as training counts them.

    In a record of one label the beats of `bag_label` count.
    """
    total, count = 0.0, 0
    for record, probability in zip(
        records, predict_records(model, model.name, records), strict=True
    ):
        label = bag_label(record.label, probability) if record.labelled_whole else record.label
        right = np.where(label == 1, probability, 1 - probability)[label >= 0]
        total -= float(np.log(np.clip(right, 1e-7, 1)).sum(dtype=np.float64))
        count += len(right)
    return total / max(count, 1)
