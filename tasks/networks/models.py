"""The networks by name. A new one is one decorated function.

Each function builds an untrained `keras.Model` from beats to the probabilities of not AF and AF.
The three residual networks are the reference method's: convolutions "same" with bias, block =
conv, batch normalisation, ReLU, conv, batch normalisation, plus shortcut, ReLU (He et al. 2016,
doi:10.1109/CVPR.2016.90, in one dimension).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias
from warnings import catch_warnings

from storage.errors import ModelError
from storage.registry.model_files import WEIGHTS
from storage.tables.beats import WAVEFORM_SAMPLES
from tasks.networks.registry import find

# Keras ships no types and takes seconds to import, so only the functions that build import it.
Model: TypeAlias = Any
Layer: TypeAlias = Any
Builder: TypeAlias = Callable[[], Model]


@dataclass(frozen=True)
class ModelSpec:
    """A network of the table: how it is built, and what it reads.

    Attributes
    ----------
    build : callable
        Builds the untrained network.
    inputs : tuple of str
        Names of its inputs: "waveform" is one beat (300, 1); "rhythm" is a window of successive
        beats (beats, 4), which is answered beat by beat; so are "cues" (beats, 12), with or
        without "shape" (beats, 80), see `tasks.features.fused`.
    causal : bool
        Whether it reads no beat that is still to come.
    """

    build: Builder
    inputs: tuple[str, ...] = ("waveform",)
    causal: bool = False


MODELS: dict[str, ModelSpec] = {}
#: Modules that enter more networks; loaded when the table is first asked for one.
FAMILIES = (
    "tasks.networks.light_models",
    "tasks.networks.rhythm_models",
    "tasks.networks.fused_models",
)


def model(
    name: str, inputs: tuple[str, ...] = ("waveform",), *, causal: bool = False
) -> Callable[[Builder], Builder]:
    """Enter a building function into `MODELS`."""

    def enter(function: Builder) -> Builder:
        MODELS[name] = ModelSpec(function, inputs, causal)
        return function

    return enter


def known_models() -> dict[str, ModelSpec]:
    """Every network by name, those of the families included."""
    for family in FAMILIES:
        import_module(family)
    return MODELS


def spec_of(name: str) -> ModelSpec:
    """A network's entry in the table; an unknown name gets an error that offers the nearest."""
    return find(known_models(), "model", name)


def available_models() -> tuple[str, ...]:
    """Names that `build` knows, sorted."""
    return tuple(sorted(known_models()))


def refuse_unless_of_one_beat(name: str) -> None:
    """Raise a ValueError where the network reads other things than one beat's waveform."""
    reads = spec_of(name).inputs
    if reads != ("waveform",):
        raise ValueError(f"{name} reads {' and '.join(reads)}; this trains networks of one beat")


def build(name: str, seed: int | None = None) -> Model:
    """Build an untrained network.

    Parameters
    ----------
    name : str
        One of `available_models()`.
    seed : int, optional
        Seed of the initial weights (and of Keras's, numpy's and Python's global generators). Layers
        are then numbered from the first: a file's bytes do not depend on what was built before.
        Kernels begin by Glorot & Bengio 2010 (AISTATS, PMLR 9:249), Keras's default.

    Returns
    -------
    keras.Model
        Named `name`; from an input "waveform" (300, 1) to (2,) probabilities, not AF and AF, or
        from "rhythm" (640, 5) to (640, 1), AF at each beat.

    Raises
    ------
    ValueError
        The name is unknown; the message offers the nearest one.
    """
    builder = spec_of(name).build
    import keras

    if seed is None:
        return builder()
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = builder()
    # Keras takes the layers' seeds from Python's one generator, which other threads draw from too.
    generator = Random(seed)  # noqa: S311 - weights, not secrets
    for weight in model.weights:
        if len(weight.shape) > 1:
            begin = keras.initializers.GlorotUniform(generator.randint(1, 10**9))
            weight.assign(begin(weight.shape))
    return model


def with_weights(name: str, data: bytes) -> Model:
    """A network with the weights of a release's HDF5 file, which holds no code.

    Raises
    ------
    ModelError
        They are of another network: one that had that name before it was changed, perhaps.
    """
    network = build(name, seed=0)
    with TemporaryDirectory(prefix="holter-") as folder:  # Keras reads weights from a path alone
        file = Path(folder) / WEIGHTS
        file.write_bytes(data)
        try:
            with catch_warnings(action="error"):  # Keras warns of a layer that the file lacks
                network.load_weights(file)
        except (ValueError, UserWarning) as error:
            raise ModelError(
                f"{name}: found weights that are not this network's, which may have changed since "
                f"they were learnt; expected those of {network.count_params():,} parameters"
            ) from error
    return network


def _residual(
    name: str, stem: tuple[int, int], blocks: list[tuple[int, tuple[int, int]]], pool: bool
) -> Model:
    """Build a residual network.

    Parameters
    ----------
    stem : (filters, kernel)
        The first convolution.
    blocks : list of (filters, (kernel, kernel))
        The residual blocks; where `filters` differs from what comes in, the shortcut is a 1x1
        convolution with batch normalisation.
    pool : bool
        Whether a max-pooling layer stands before the global pooling.
    """
    import keras
    from keras import layers

    def normalise(x: Layer, filters: int, kernel: int) -> Layer:
        x = layers.Conv1D(filters, kernel, padding="same")(x)
        # Keras's own momentum, 0.99, lags a short training by epochs: decisions come out constant.
        return layers.BatchNormalization(momentum=0.9)(x)

    start = layers.Input((WAVEFORM_SAMPLES, 1), name="waveform")
    x = layers.ReLU()(normalise(start, *stem))
    for filters, (first, second) in blocks:
        shortcut = x if x.shape[-1] == filters else normalise(x, filters, 1)
        x = layers.ReLU()(normalise(x, filters, first))
        x = layers.Add()([normalise(x, filters, second), shortcut])
        x = layers.ReLU()(x)
    if pool:
        x = layers.MaxPooling1D(2)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(start, layers.Dense(2, activation="softmax", name="af")(x), name=name)


@model("resnet15")
def resnet15() -> Model:
    """Build the method's network of 15 layers and 21,698 parameters."""
    return _residual("resnet15", (12, 7), [(48, (7, 7))], pool=False)


@model("resnet21")
def resnet21() -> Model:
    """Build the method's network of 21 layers and 11,138 parameters."""
    return _residual("resnet21", (24, 5), [(24, (5, 5)), (24, (5, 3))], pool=True)


@model("resnet25")
def resnet25() -> Model:
    """Build the method's network of 25 layers and 26,978 parameters."""
    return _residual("resnet25", (12, 9), [(32, (9, 9)), (24, (9, 9))], pool=True)
