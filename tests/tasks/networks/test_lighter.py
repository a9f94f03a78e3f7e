"""Lighter networks: pruned while they learn, and taught under int8's rounding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.tables.checkpoint import Checkpoint
from storage.tables.labelled import read_labelled
from tasks.features.rhythm import RhythmRecord
from tasks.learning.rhythm_training import RhythmConfig, fit_rhythm
from tasks.learning.training import EMPTY_CHECKPOINT, Course, TrainingConfig, fit, next_checkpoint
from tasks.networks.models import available_models, build
from tasks.networks.pruning import prune_while_training, ramp_epochs, zero_weights
from tasks.networks.quantised import (
    kernel_layers,
    plain_network,
    rounded_kernel,
    rounded_values,
    rounding_double,
)
from tests.tiny import tiny_dataset


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_kernel_has_255_steps_a_channel(depthwise: bool) -> None:
    """A channel's largest weight stays, the others lie on whole parts of its 127th."""
    kernel = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    found = np.asarray(rounded_kernel(kernel, depthwise=depthwise))
    channel = 1 if depthwise else 2
    others = tuple(axis for axis in range(3) if axis != channel)
    step = np.abs(kernel).max(axis=others, keepdims=True) / 127
    np.testing.assert_allclose(found / step, np.round(kernel / step), atol=1e-4)
    assert not np.allclose(found, kernel, atol=1e-5)
    np.testing.assert_allclose(
        np.asarray(rounded_kernel(found, depthwise=depthwise)), found, atol=1e-6
    )
    assert not np.asarray(rounded_kernel(np.zeros((1, 2, 3)), depthwise=depthwise)).any()


def test_values_have_256_steps_with_zero_and_gradients_pass() -> None:
    """Values move by half a step at most, zero not at all; the slope is one everywhere."""
    import tensorflow as tf

    x = np.append(np.random.default_rng(1).uniform(-0.3, 2, 500), 0).astype(np.float32)
    found = np.asarray(rounded_values(x))
    step = (x.max() - x.min()) / 255
    assert np.abs(found - x).max() <= step * 0.51
    assert found[-1] == 0
    assert 200 < len(np.unique(found)) <= 256
    variable = tf.Variable(x)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(rounded_values(variable) * 3.0)
    np.testing.assert_allclose(np.asarray(tape.gradient(total, variable)), 3.0)


@pytest.mark.parametrize("name", available_models())
def test_every_network_has_a_rounding_double(name: str) -> None:
    """The double works on the very same weights in the same order, and rounds what it answers."""
    model = build(name, seed=0)
    double = rounding_double(model)
    assert all(a is b for a, b in zip(model.weights, double.weights, strict=True))
    assert double.name == name
    random = np.random.default_rng(0)
    x = [random.normal(size=(2, *one.shape[1:])).astype(np.float32) for one in model.inputs]
    if model.inputs[0].name == "rhythm":
        x[0][..., -1] = x[0][..., -1] > -1  # the mask: a beat is there, or is not
    given = x if len(x) > 1 else x[0]
    answers = [np.asarray(one(given, training=False)) for one in (model, double)]
    error = np.abs(answers[0] - answers[1]).max()
    assert 0 < error < 0.2
    assert rounding_double(model).count_params() == model.count_params()


def test_pruning_is_refused_out_of_range_and_ends_before_the_best_epoch() -> None:
    """A share of 1 is refused; an epoch that is not wholly pruned is never the best one."""
    model = build("squeeze", seed=0)
    with pytest.raises(ValueError, match="sparsity must be from 0 to below 1, not 1"):
        prune_while_training(model, None, 1.0, 10)
    assert [ramp_epochs(n) for n in (1, 2, 3, 10)] == [1, 1, 2, 5]

    class Stopped:
        optimizer = type("", (), {"variables": ()})()

        def get_weights(self) -> list[np.ndarray]:
            return [np.zeros(1)]

    state = EMPTY_CHECKPOINT
    for loss in (0.1, 0.5, 0.4, 0.6):
        config = TrainingConfig(epochs=4, sparsity=0.5)
        state = next_checkpoint(state, Stopped(), {"val_loss": loss}, config)
    assert (state.best_epoch, state.best_loss) == (2, 0.4)


@pytest.mark.slow
def test_a_pruned_network_has_its_share_of_zeros_and_resumes(
    tmp_path: Path, tiny_network: str
) -> None:
    """Half of every kernel's weights but the last's are zero, taught under rounding or not.

    Broken off after an epoch, such a training ends with the same weights.
    """
    beats = read_labelled([tiny_dataset(tmp_path, 6, 160, 2)])
    flip = np.random.default_rng(0).random(len(beats)) < 0.15  # answers between 0 and 1
    beats.label[flip] = 1 - beats.label[flip]
    index = np.arange(len(beats))
    sides = index[:800], index[800:]
    plain = TrainingConfig(epochs=4, batch=40, learning_rate=3e-3, sparsity=0.5)
    kept: list[Checkpoint] = []
    for config in (plain, replace(plain, quantised=True)):
        kept.clear()
        model, _ = fit(tiny_network, beats, sides, config, Course(keep=kept.append))
        kernels = [np.asarray(layer.kernel) for layer in kernel_layers(model)]
        assert all(0.45 < (kernel == 0).mean() <= 0.6 for kernel in kernels[:-1])  # rounded too
        assert (kernels[-1] == 0).mean() < 0.2
        assert zero_weights(model) == sum(int((kernel == 0).sum()) for kernel in kernels)
    again, _ = fit(tiny_network, beats, sides, replace(plain, quantised=True), Course(kept[0]))
    pairs = zip(model.get_weights(), again.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow
def test_a_rhythm_network_can_be_pruned_and_rounded() -> None:
    """The same options hold for networks of whole records."""
    random = np.random.default_rng(0)
    rr_s = random.normal(0.8, 0.1, 1_500).astype(np.float32)
    record = RhythmRecord("a", "a", rr_s, (np.arange(1_500) > 700).astype(np.int8), 1.0)
    config = RhythmConfig(2, 2, 2, simulated=0, augment=False, sparsity=0.4, quantised=True)
    model, state = fit_rhythm("rhythm_tiny", [record], config)
    assert state.epoch == 2
    kernels = [np.asarray(layer.kernel) for layer in kernel_layers(model)]
    assert all((kernel == 0).mean() > 0.3 for kernel in kernels[:-1])
    same = plain_network("rhythm_tiny", model, 0)
    pairs = zip(model.get_weights(), same.get_weights(), strict=True)
    assert all(np.allclose(a, b, atol=1e-6) for a, b in pairs)
