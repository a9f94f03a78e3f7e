"""The networks: as published, in layers and in parameters."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys

import numpy as np
import pytest

from tasks.networks.cost import multiply_adds
from tasks.networks.models import build, known_models, refuse_unless_of_one_beat

PUBLISHED = {"resnet15": (15, 21_698), "resnet21": (21, 11_138), "resnet25": (25, 26_978)}
ONE_BEAT = ("waveform",)
#: Parameters and multiply-adds of a beat.
LIGHT = {
    "mobile": (8_330, 377_192),
    "ghost": (9_346, 543_864),
    "squeeze": (9_074, 605_568),
}


@pytest.mark.parametrize(("name", "layers", "parameters"), [(k, *v) for k, v in PUBLISHED.items()])
def test_reference_networks_are_as_published(name: str, layers: int, parameters: int) -> None:
    """Each network has the published count of layers (input included) and of parameters."""
    model = build(name)
    assert len(model.layers) == layers
    assert model.count_params() == parameters
    assert model.name == name


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_reference_networks_have_the_published_pooling(name: str) -> None:
    """The two larger networks have one max-pooling layer before the global one; all end alike."""
    kinds = [type(layer).__name__ for layer in build(name).layers]
    assert kinds[-2:] == ["GlobalAveragePooling1D", "Dense"]
    assert kinds.count("MaxPooling1D") == (name != "resnet15")
    assert kinds.count("Add") == (1 if name == "resnet15" else 2)


@pytest.mark.parametrize(("name", "parameters", "macs"), [(k, *v) for k, v in LIGHT.items()])
def test_light_networks_are_light(name: str, parameters: int, macs: int) -> None:
    """The light families have fewer parameters than resnet21, for under a quarter of its work."""
    model = build(name)
    assert model.count_params() == parameters < PUBLISHED["resnet21"][1]
    assert multiply_adds(model) == macs < multiply_adds(build("resnet21")) / 4


def test_multiply_adds_are_those_of_the_formula() -> None:
    """A residual network's multiply-adds are its kernels' sizes times the beat's 300 samples."""
    stem, block = 5 * 24, [5 * 24 * 24, 5 * 24 * 24, 5 * 24 * 24, 3 * 24 * 24]
    assert multiply_adds(build("resnet21")) == 300 * (stem + sum(block)) + 24 * 2


@pytest.mark.parametrize("name", [n for n, s in known_models().items() if s.inputs == ONE_BEAT])
def test_every_model_of_a_beat_gives_probabilities(name: str) -> None:
    """It takes "waveform" (300, 1) and gives two probabilities that sum to one."""
    model = build(name, seed=0)
    assert [tensor.name for tensor in model.inputs] == ["waveform"]
    assert model.input_shape == (None, 300, 1)
    beats = np.random.default_rng(0).normal(size=(4, 300, 1)).astype(np.float32)
    probability = np.asarray(model(beats, training=False))
    assert probability.shape == (4, 2)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-6)


def test_a_seed_gives_the_weights() -> None:
    """The same seed gives the same initial weights, another seed others."""
    one, same, other = (build("resnet21", seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", sorted(known_models()))
def test_a_seed_is_not_shared_with_other_threads(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others draw from Python's generator meanwhile, as Prefect's threads do, changes nothing.

    Every layer begins as Keras begins it, by name of its initializer.
    """
    undisturbed = build(name, seed=1)
    others = itertools.count(5)
    monkeypatch.setattr(random, "randint", lambda *_: next(others))
    disturbed = build(name, seed=1)
    for before, after in zip(undisturbed.weights, disturbed.weights, strict=True):
        np.testing.assert_array_equal(before, after)
    kinds = {
        type(value).__name__
        for layer in disturbed.layers
        for key, value in vars(layer).items()
        if key.endswith("_initializer") and value is not None
    }
    assert kinds <= {"GlorotUniform", "Zeros", "Ones"}


def test_layers_are_numbered_from_the_first() -> None:
    """With a seed a network's layers have the same names, whatever was built before it."""
    names = [[layer.name for layer in build("resnet15", seed=1).layers] for _ in range(2)]
    assert names[0] == names[1]


def test_an_unknown_name_gets_a_hint() -> None:
    """An unknown model is refused with the nearest name and the whole list."""
    offered = r"did you mean 'resnet21'\? there are .*resnet15, resnet21"
    with pytest.raises(ValueError, match=offered):
        build("resnet_21")


def test_names_need_no_keras() -> None:
    """Listing the models loads neither Keras nor TensorFlow."""
    code = (
        "import sys; from tasks.networks.models import available_models; available_models();"
        "print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_network_of_windows_is_not_trained_on_single_beats() -> None:
    """A family that reads windows is refused by name and reason; one of a beat passes."""
    with pytest.raises(ValueError, match="fused reads cues and shape"):
        refuse_unless_of_one_beat("fused")
    with pytest.raises(ValueError, match="rhythm reads rhythm"):
        refuse_unless_of_one_beat("rhythm")
    refuse_unless_of_one_beat("squeeze")
