"""A rhythm network as its arithmetic: convolutions with normalisation folded in, and the answer.

It is read from a release's ONNX file, whose nodes stand in one order
(`tasks.runtimes.onnx_export`): nothing of a file is run, and no pickle is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import ModelError

Doubles = NDArray[np.float64]
#: Taps of every convolution.
KERNEL = 3
#: The operators of a rhythm network that its arithmetic rests on; others move or mask values.
WEIGHTED = ("Conv", "BatchNormalization", "MatMul", "Add")
PASSIVE = ("Transpose", "Slice", "Relu", "Mul", "Sigmoid", "Identity")


@dataclass(frozen=True, eq=False)
class Convolution:
    """A dilated convolution of three taps, then ReLU.

    Attributes
    ----------
    dilation : int
        Beats from tap to tap.
    kernel : float64, shape (3, inputs, outputs)
        Weights, the oldest beat's first.
    bias : float64, shape (outputs,)
    """

    dilation: int
    kernel: Doubles
    bias: Doubles


@dataclass(frozen=True, eq=False)
class RhythmNetwork:
    """A rhythm network (`tasks.networks.rhythm_models`): the first convolution, then residuals.

    Attributes
    ----------
    name : str
    causal : bool
        Whether it sees no beats to come.
    convolutions : tuple of Convolution
    answer : float64, shape (channels,)
        Weights of the log odds of AF.
    answer_bias : float
    """

    name: str
    causal: bool
    convolutions: tuple[Convolution, ...]
    answer: Doubles
    answer_bias: float

    @property
    def channels(self) -> int:
        """Channels of every layer."""
        return len(self.answer)

    @property
    def ahead(self) -> int:
        """Beats to come that an answer sees."""
        return 0 if self.causal else sum(layer.dilation for layer in self.convolutions)

    @property
    def parameters(self) -> int:
        """Weights and biases, normalisation folded in."""
        inside = sum(layer.kernel.size + layer.bias.size for layer in self.convolutions)
        return inside + self.channels + 1


def read_network(data: bytes, name: str) -> RhythmNetwork:
    """Read a rhythm network from a release's ONNX file.

    Raises
    ------
    ModelError
        The bytes are no ONNX file, or no network of this form.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        graph = onnx.load_model_from_string(data).graph
        weights = {w.name: numpy_helper.to_array(w).astype(np.float64) for w in graph.initializer}
        return _network(list(graph.node), weights, name)
    except (DecodeError, KeyError, ValueError, IndexError, TypeError) as error:
        raise ModelError(
            f"{name}: found no rhythm network in its ONNX file; expected dilated convolutions of "
            f"three taps, each normalised, and one answer: {error!r}"
        ) from error


def _network(nodes: list[Any], weights: Mapping[str, Doubles], name: str) -> RhythmNetwork:
    strange = sorted({node.op_type for node in nodes} - {*WEIGHTED, *PASSIVE})
    if strange:
        raise ValueError(f"operators {', '.join(strange)}")
    by_kind = {kind: [n for n in nodes if n.op_type == kind] for kind in WEIGHTED}
    pairs = zip(by_kind["Conv"], by_kind["BatchNormalization"], strict=True)
    layers = [_fold(conv, normal, weights) for conv, normal in pairs]
    causal = {_causal(conv) for conv in by_kind["Conv"]}
    (answer,) = by_kind["MatMul"]
    (bias,) = [n for n in by_kind["Add"] if n.input[1] in weights]
    column = weights[answer.input[1]]
    channels = len(layers[0].bias)
    shapes = [layer.kernel.shape for layer in layers]
    expected = [(KERNEL, shapes[0][1], channels), *[(KERNEL, channels, channels)] * len(layers[1:])]
    if len(causal) != 1 or shapes != expected or column.shape != (channels, 1):
        raise ValueError(f"kernels {shapes} and an answer {column.shape}")
    values = [*(layer.kernel for layer in layers), *(layer.bias for layer in layers), column]
    if not all(np.isfinite(value).all() for value in values):
        raise ValueError("a weight that is no number")
    (offset,) = weights[bias.input[1]].ravel().tolist()
    return RhythmNetwork(name, causal.pop(), tuple(layers), column[:, 0], offset)


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _causal(conv: Any) -> bool:
    """Whether a convolution looks back alone; else as far to both sides."""
    settings = _attributes(conv)
    (dilation,), (before, after) = settings["dilations"], settings["pads"]
    kinds = {(2 * dilation, 0): True, (dilation, dilation): False}
    return kinds[before, after]


def _fold(conv: Any, normal: Any, weights: Mapping[str, Doubles]) -> Convolution:
    """A convolution and the normalisation of what it gives, as one."""
    gamma, beta, mean, variance = (weights[name] for name in normal.input[1:5])
    scale = gamma / np.sqrt(variance + _attributes(normal)["epsilon"])
    kernel = weights[conv.input[1]]  # (out, in, taps)
    (dilation,) = _attributes(conv)["dilations"]
    return Convolution(dilation, kernel.transpose(2, 1, 0) * scale, beta - mean * scale)


def activations(network: RhythmNetwork, features: Doubles) -> list[Doubles]:
    """What each layer gives at every beat of one stretch.

    Parameters
    ----------
    network : RhythmNetwork
    features : float64, shape (n, 5)
        As `tasks.features.rhythm.rr_features`; the last column is 1 where there is an interval.

    Returns
    -------
    list of float64, shape (n, channels)
    """
    out: list[Doubles] = []
    x, mask = features[:, :-1], features[:, -1:]
    for layer in network.convolutions:
        fresh = np.maximum(convolve(x, layer.kernel, layer.dilation, network.causal), -layer.bias)
        fresh = (fresh + layer.bias) * mask
        x = fresh + x if out else fresh
        out.append(x)
    return out


def convolve(x: Doubles, kernel: Doubles, dilation: int, causal: bool) -> Doubles:
    """A dilated convolution of three taps, (n, inputs) to (n, outputs); zeros beyond the ends."""
    n = len(x)
    before = 2 * dilation if causal else dilation
    padded = np.pad(x, ((before, 2 * dilation - before), (0, 0)))
    rows = (padded[tap * dilation : tap * dilation + n] @ kernel[tap] for tap in range(KERNEL))
    return np.asarray(sum(rows))
