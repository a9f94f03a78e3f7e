"""Batch normalisation in one pass learns as Keras's does, and is Keras's in what is kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.learning.training import TrainingConfig, compile_learner, network_of
from tasks.networks.models import build
from tasks.networks.normalising import normalise_as_keras, normalise_in_one_pass

SHAPES = {"dense": (8, 5), "beats": (8, 30, 5), "shapes": (4, 6, 9, 5)}


def of_one_layer(shape: tuple[int, ...]) -> Any:
    start = keras.layers.Input(shape[1:])
    return keras.Model(start, keras.layers.BatchNormalization(momentum=0.9)(start))


def learn(model: Any, x: Any) -> list[np.ndarray]:
    """Answers, gradients and what is kept, after a step in training."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        answer = model(x, training=True)
        loss = tf.reduce_sum(answer**3)
    gradients = tape.gradient(loss, [x, *model.trainable_variables])
    return [np.asarray(value) for value in (answer, *gradients, *model.weights)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_one_pass_gives_what_keras_gives(shape: tuple[int, ...]) -> None:
    """Answers, gradients, means and variances differ in float32's last digits alone."""
    x = tf.constant(np.random.default_rng(0).normal(2, 3, shape).astype(np.float32))
    plain, quick = of_one_layer(shape), of_one_layer(shape)
    normalise_in_one_pass(quick)
    assert type(quick.layers[1]) is not keras.layers.BatchNormalization
    for expected, value in zip(learn(plain, x), learn(quick, x), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=2e-4)
    np.testing.assert_array_equal(quick(x), quick(x, training=False))


def test_a_step_normalises_in_one_operation_each_way() -> None:
    """A step has one operation a layer forwards and one backwards; the network is kept plain."""
    config = TrainingConfig()
    model = compile_learner(
        build("resnet15", seed=0), keras.optimizers.Adam(), config, 1, ["accuracy"]
    )
    layers = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    model.make_train_function()
    inputs = tf.zeros((2, 300, 1)), tf.one_hot([0, 1], 2)
    step = tf.function(lambda: model.train_step(inputs)).get_concrete_function()
    counts = Counter(
        operation.type
        for graph in (step.graph, *(f.graph for f in step.graph._functions.values()))
        for operation in graph.get_operations()
    )
    assert counts["FusedBatchNormV3"] == counts["FusedBatchNormGradV3"] == len(layers) == 4
    assert counts["SquaredDifference"] == 0
    kept = network_of(model, "resnet15", config)
    normal = keras.layers.BatchNormalization
    assert [type(x) for x in kept.layers if isinstance(x, normal)] == [normal] * 4
    normalise_as_keras(kept)
    assert kept.get_config() == build("resnet15", seed=0).get_config()
