"""Training: the method's settings by default, the same result for the same seed on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from storage.bounds import all_within
from storage.tables.checkpoint import Checkpoint
from storage.tables.labelled import LabelledBeats
from tasks.learning.balance import Weigh, draw_positions
from tasks.learning.distillation import Teaching, accuracy, distillation_loss, label_targets
from tasks.learning.epochs import Batch, Index, in_order, shuffled_batches
from tasks.networks.models import build
from tasks.networks.normalising import normalise_as_keras, normalise_in_one_pass
from tasks.networks.pruning import prune_while_training, ramp_epochs
from tasks.networks.quantised import plain_network, rounding_double


@dataclass(frozen=True)
class TrainingConfig:
    """The method's settings: Adam, learning rate 1e-4, batches of 128, 100 epochs.

    Attributes
    ----------
    epochs, batch : int
        Passes over the training beats; beats of one step.
    learning_rate : float
        Adam's.
    most_beats : int
        Learn from at most so many of the training beats, drawn once by the seed; 0 from all.
    patience : int
        Stop after this many epochs without a better validation loss; 0 never.
    sparsity : float
        Share of each kernel's weights that are pruned on the way, see `tasks.networks.pruning`.
    quantised : bool
        Learn under int8's rounding, see `tasks.networks.quantised`.
    seed : int
        Seed of initial weights and of the shuffling.
    """

    epochs: int = 100
    batch: int = 128
    learning_rate: float = 1e-4
    most_beats: int = 0
    patience: int = 0
    sparsity: float = 0.0
    quantised: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError where a number is out of its bound."""
        all_within(**vars(self))


@dataclass(frozen=True, eq=False)
class Course:
    """Where a training begins, who follows it, and who teaches.

    Attributes
    ----------
    start : Checkpoint, optional
        Where to go on from.
    keep : callable, optional
        Given the checkpoint after every epoch.
    teaching : Teaching, optional
        A trained network of the same kind, whose answers count beside the labels in training.
    """

    start: Checkpoint | None = None
    keep: Callable[[Checkpoint], None] | None = None
    teaching: Teaching | None = None


#: From the start, alone.
WHOLE_COURSE = Course()


def fit(
    name: str,
    beats: LabelledBeats,
    sides: tuple[Index, Index],
    config: TrainingConfig,
    course: Course = WHOLE_COURSE,
    weigh: Weigh | None = None,
) -> tuple[Any, Checkpoint]:
    """Train a network on beats; the weights kept are those of the least validation loss.

    Beats come from disk as they are needed, each once an epoch unless `weigh` says otherwise. Their
    order depends on the seed and the epoch's number alone, so a training that goes on from a
    checkpoint ends as one that was never interrupted.

    Parameters
    ----------
    name : str
        A network of `tasks.networks.models`.
    beats : LabelledBeats
        All beats.
    sides : pair of int64, shape (k,) each
        Ascending positions of those to learn from, and to measure the loss on after every epoch.
    config : TrainingConfig
        How.
    course : Course
        Where it begins, and who follows and teaches; the loss of the validation is of the labels
        alone.
    weigh : callable, optional
        How often beats at some positions are drawn in an epoch (`tasks.learning.balance.often`), in
        place of each once; those to validate on are drawn once, by the seed.

    Returns
    -------
    model : keras.Model
        With the weights to use.
    state : Checkpoint
        The last one, with the history.

    Raises
    ------
    ValueError
        No beats to learn from, or none to validate on.
    """
    import keras
    import tensorflow as tf

    (train, validation), teaching = sides, course.teaching
    if not len(train) or not len(validation):
        raise ValueError(f"cannot learn from {len(train)} beats with {len(validation)} to validate")
    tf.config.experimental.enable_op_determinism()
    if 0 < config.most_beats < len(train):
        random = np.random.default_rng(config.seed)
        train = np.sort(random.choice(train, config.most_beats, replace=False))
    if weigh:
        times = weigh(train)
        random = np.random.default_rng(config.seed)
        validation = draw_positions(validation, weigh(validation), random)
    model = build(name, seed=config.seed)
    optimizer = keras.optimizers.Adam(config.learning_rate)
    steps = -(-len(train) // config.batch)
    learner = compile_learner(model, optimizer, config, steps, ["accuracy"], teaching)
    state = course.start or EMPTY_CHECKPOINT
    if course.start:
        resume(learner, course.start)
    while state.epoch < config.epochs and not stale(state, config.patience):
        random = np.random.default_rng([config.seed, state.epoch])
        index = draw_positions(train, times, random) if weigh else train
        batches = shuffled_batches(beats, index, config.batch, random)
        tests = in_order(beats, validation)
        if teaching:
            batches = ((x, teaching.targets(y[:, 1], {"waveform": x})) for x, y in batches)
            tests = ((x, label_targets(y[:, 1])) for x, y in tests)
        training_values = _over(learner.train_on_batch, batches)
        measured = _over(learner.test_on_batch, tests)
        values = {**training_values, **{f"val_{name}": value for name, value in measured.items()}}
        state = next_checkpoint(state, learner, values, config)
        if course.keep:
            course.keep(state)
    learner.set_weights(state.best or state.weights)
    return network_of(learner, name, config), state


def _over(step: Callable[..., Mapping[str, float]], batches: Iterable[Batch]) -> dict[str, float]:
    """Loss and accuracy over all beats of the batches, each learnt from or tested on.

    Keras forgets the batches before: what it says of each is averaged here, by its beats.
    """
    sums: dict[str, float] = {}
    n = 0
    for x, y in batches:
        n += len(x)
        for name, value in step(x, y, return_dict=True).items():
            sums[name] = sums.get(name, 0.0) + len(x) * float(value)
    return {name: value / n for name, value in sums.items()}


EMPTY_CHECKPOINT = Checkpoint(0, [], [], [], 0, float("inf"))


class CompressionSettings(Protocol):
    """What the settings of every training say of pruning and rounding."""

    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def sparsity(self) -> float: ...  # noqa: D102
    @property
    def quantised(self) -> bool: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


def compile_learner(
    model: Any,
    optimizer: Any,
    config: CompressionSettings,
    steps: int,
    metrics: Sequence[str] = (),
    teaching: Teaching | None = None,
) -> Any:
    """What learns for a network: itself, or its rounding double; pruned on the way if asked.

    Parameters
    ----------
    steps : int
        Of an epoch.
    teaching : Teaching, optional
        Its targets are what is then learnt, in place of the labels.
    """
    learner = rounding_double(model) if config.quantised else model
    normalise_in_one_pass(learner)
    optimizer.build(learner.trainable_variables)
    if config.sparsity:
        ramp = ramp_epochs(config.epochs) * steps
        prune_while_training(model, optimizer, config.sparsity, ramp)
    # Two answers that sum to one are one binary cross-entropy. Named so, Keras 3 would take the
    # softmax's logits for those of two sigmoids, and teach other probabilities than are answered.
    kind = "categorical" if learner.output_shape[-1] == 2 else "binary"
    loss: Any = f"{kind}_crossentropy"
    measured: list[Any] = [*metrics]
    if teaching:
        loss = distillation_loss(teaching.weight, teaching.temperature)
        measured = [accuracy()] if metrics else []
    learner.compile(optimizer=optimizer, loss=loss, metrics=measured, jit_compile=False)
    return learner


def network_of(learner: Any, name: str, config: CompressionSettings) -> Any:
    """The network itself, of what learnt for it."""
    normalise_as_keras(learner)
    return plain_network(name, learner, config.seed) if config.quantised else learner


def resume(model: Any, state: Checkpoint) -> None:
    """Set a compiled model, its optimiser built, to where a training stands."""
    model.set_weights(state.weights)
    for variable, value in zip(model.optimizer.variables, state.optimizer, strict=True):
        variable.assign(value)


def stale(state: Checkpoint, patience: int) -> bool:
    """Whether the last `patience` epochs brought no better validation loss."""
    return bool(patience and state.best) and state.epoch > state.best_epoch + patience


def next_checkpoint(
    state: Checkpoint, model: Any, values: dict[str, float], config: CompressionSettings
) -> Checkpoint:
    """The checkpoint after one more epoch with these values.

    The best epoch of a network that is pruned is one in which it was wholly.
    """
    # Copies: Keras's arrays are views of what the next step changes.
    weights = [np.array(array) for array in model.get_weights()]
    loss = values.get("val_loss", float("inf"))
    whole = not config.sparsity or state.epoch + 1 >= ramp_epochs(config.epochs)
    better = whole and loss < state.best_loss
    return Checkpoint(
        epoch=state.epoch + 1,
        weights=weights,
        optimizer=[np.array(variable) for variable in model.optimizer.variables],
        best=weights if better else state.best,
        best_epoch=state.epoch if better else state.best_epoch,
        best_loss=loss if better else state.best_loss,
        history={key: [*state.history.get(key, []), value] for key, value in values.items()},
    )


def predict(
    model: Any, x: NDArray[np.float32] | Mapping[str, NDArray[np.float32]], batch: int = 1024
) -> NDArray[np.float32]:
    """P(AF) by Keras itself, of beats (n, 300), or of the model's own inputs (n, ...) by name."""
    arrays = dict(x) if isinstance(x, Mapping) else {"": x[..., None] if x.ndim == 2 else x}
    n = len(next(iter(arrays.values())))
    parts = []
    for at in range(0, n, batch):
        part = {name: values[at : at + batch] for name, values in arrays.items()}
        inputs = part if len(part) > 1 else part.popitem()[1]
        parts.append(np.asarray(model(inputs, training=False))[..., -1])
    return np.concatenate(parts) if parts else np.empty(0, np.float32)
