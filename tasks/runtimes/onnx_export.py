"""ONNX: a Keras network as an ONNX file, layer by layer, byte for byte the same each time.

Convolutions stand channels first, as ONNX wants them (https://onnx.ai/onnx/operators/), and a
tensor is transposed only where a layer needs the other order. What normalisation folds into what is
left to the runtime. Keras's own `export(format="onnx")` needs tf2onnx, names tensors otherwise
each time, and transposes around every convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import ModelError

#: Understood by ONNX Runtime 1.12 and later, and TensorRT 8.5 and later.
OPSET, IR = 17, 8
#: Order of a tensor's axes: channels last, as in Keras, or right after the axis of beats.
LAST, FIRST = "last", "first"
#: ONNX's operator of an activation; none changes nothing.
ACTIVATIONS = {"linear": "", "relu": "Relu", "sigmoid": "Sigmoid", "softmax": "Softmax"}


class Graph:
    """An ONNX graph that grows: nodes, weights, and the names of Keras's tensors in each order."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._names: dict[int, dict[str, str]] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; gives the name of its output."""
        from onnx import helper

        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def weight(self, values: Any) -> str:
        """Add an array of the network; gives its name."""
        from onnx import numpy_helper

        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def enter(self, tensor: Any, order: str, name: str) -> None:
        """A Keras tensor is `name` from now on, its axes in that order."""
        orders = (LAST, FIRST) if len(tensor.shape) < 3 else (order,)
        self._names[id(tensor)] = dict.fromkeys(orders, name)

    def name(self, tensor: Any, order: str) -> str:
        """A Keras tensor's name in that order, transposed where it has only the other."""
        known = self._names[id(tensor)]
        if order not in known:
            n = len(tensor.shape)
            perm = (0, n - 1, *range(1, n - 1)) if order == FIRST else (0, *range(2, n), 1)
            (other,) = known.values()
            known[order] = self.add("Transpose", other, perm=perm)
        return known[order]

    def activated(self, layer: Any, name: str) -> str:
        """A layer's activation after it."""
        word = layer.activation.__name__
        if word not in ACTIVATIONS:
            raise _unknown(layer, f"the activation {word}")
        return self.add(ACTIVATIONS[word], name) if ACTIVATIONS[word] else name


Step = Callable[[Graph, Any, list[str]], str]
#: What makes a layer's nodes, by its kind, and the order of axes that it reads and answers in.
LAYERS: dict[str, tuple[str, Step]] = {}


def layer(*kinds: str, order: str) -> Callable[[Step], Step]:
    """Enter a function of graph, layer and names of inputs, to that of the output, in `LAYERS`."""

    def enter(function: Step) -> Step:
        LAYERS.update(dict.fromkeys(kinds, (order, function)))
        return function

    return enter


def to_onnx(model: Any, _rows: object = None) -> bytes:
    """Convert a functional Keras model to a float32 ONNX file.

    Inputs keep their names and their order of axes, the output is named as the layer that gives
    it; the first axis of each, the beats, may have any length.

    Raises
    ------
    ModelError
        A layer of a kind, or with a setting, that is not known here.
    """
    from onnx import TensorProto, checker, helper

    graph = Graph()
    for entry in model.inputs:
        graph.enter(entry, LAST, entry.name)
    for one in model.layers:
        kind = type(one).__name__
        if kind == "InputLayer":
            continue
        if kind not in LAYERS:
            raise _unknown(one, f"no {kind}; there are {', '.join(sorted(LAYERS))}")
        order, step = LAYERS[kind]
        inputs = one.input if isinstance(one.input, list) else [one.input]
        names = [graph.name(tensor, order) for tensor in inputs]
        graph.enter(one.output, order, step(graph, one, names))
    (output,) = model.outputs
    answer = model.output_names[0]
    found = graph.name(output, LAST)
    graph.nodes.append(helper.make_node("Identity", [found], [answer], answer))

    def told(name: str, tensor: Any) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *tensor.shape[1:]])

    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            model.name,
            [told(entry.name, entry) for entry in model.inputs],
            [told(answer, output)],
            graph.weights,
        ),
        producer_name="holter-af",
        ir_version=IR,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString(deterministic=True))


def _unknown(one: Any, what: str) -> ModelError:
    return ModelError(f"ONNX: layer {one.name}: {what}")


def _pads(one: Any, kernel: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    """Zeros before every axis, then after every axis, as Keras's padding lays them."""
    before, after = [], []
    dilations = getattr(one, "dilation_rate", (1,) * len(kernel))
    for size, k, stride, dilation in zip(
        one.input.shape[1:-1], kernel, strides, dilations, strict=True
    ):
        reach = (k - 1) * dilation
        same = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        total = {"valid": 0, "same": same, "causal": reach}[one.padding]
        before.append(total if one.padding == "causal" else total // 2)
        after.append(total - before[-1])
    return before + after


@layer("Conv1D", "Conv2D", "DepthwiseConv1D", order=FIRST)
def _convolution(graph: Graph, one: Any, names: list[str]) -> str:
    kernel: NDArray[np.float32] = one.kernel.numpy()  # (..., in, out)
    if type(one).__name__.startswith("Depthwise"):
        groups = kernel.shape[-2]
        kernel = kernel.reshape(*kernel.shape[:-2], 1, -1)
    else:
        groups = one.groups
    weights = [graph.weight(np.moveaxis(kernel, (-1, -2), (0, 1)))]
    if one.use_bias:
        weights.append(graph.weight(one.bias.numpy()))
    found = graph.add(
        "Conv",
        *names,
        *weights,
        kernel_shape=one.kernel_size,
        strides=one.strides,
        dilations=one.dilation_rate,
        group=groups,
        pads=_pads(one, one.kernel_size, one.strides),
    )
    return graph.activated(one, found)


@layer("BatchNormalization", order=FIRST)
def _normalisation(graph: Graph, one: Any, names: list[str]) -> str:
    mean, variance = one.moving_mean.numpy(), one.moving_variance.numpy()
    gamma = one.gamma.numpy() if one.scale else np.ones_like(mean)
    beta = one.beta.numpy() if one.center else np.zeros_like(mean)
    weights = [graph.weight(values) for values in (gamma, beta, mean, variance)]
    return graph.add("BatchNormalization", *names, *weights, epsilon=one.epsilon)


@layer("ReLU", order=FIRST)
def _relu(graph: Graph, one: Any, names: list[str]) -> str:
    if one.max_value is not None or one.negative_slope or one.threshold:
        raise _unknown(one, "a ReLU with a largest value, a slope or a threshold")
    return graph.add("Relu", *names)


@layer("Activation", order=LAST)
def _activation(graph: Graph, one: Any, names: list[str]) -> str:
    return graph.activated(one, names[0])


@layer("Add", order=FIRST)
def _add(graph: Graph, _one: Any, names: list[str]) -> str:
    first, *others = names
    for other in others:
        first = graph.add("Add", first, other)
    return first


@layer("Concatenate", order=FIRST)
def _concatenate(graph: Graph, one: Any, names: list[str]) -> str:
    if one.axis not in (-1, len(one.output.shape) - 1):
        raise _unknown(one, f"joins axis {one.axis}; expected the last")
    return graph.add("Concat", *names, axis=1)


@layer("InTurn", order=LAST)
def _mean_of_members(graph: Graph, _one: Any, names: list[str]) -> str:
    return graph.add("ReduceMean", *names, axes=[-1], keepdims=1)


@layer("MaxPooling1D", order=FIRST)
def _max_pooling(graph: Graph, one: Any, names: list[str]) -> str:
    pads = _pads(one, one.pool_size, one.strides)
    return graph.add("MaxPool", *names, kernel_shape=one.pool_size, strides=one.strides, pads=pads)


@layer("GlobalAveragePooling1D", order=FIRST)
def _average(graph: Graph, _one: Any, names: list[str]) -> str:
    return graph.add("Flatten", graph.add("GlobalAveragePool", *names))


@layer("Dense", order=LAST)
def _dense(graph: Graph, one: Any, names: list[str]) -> str:
    found = graph.add("MatMul", *names, graph.weight(one.kernel.numpy()))
    if one.use_bias:
        found = graph.add("Add", found, graph.weight(one.bias.numpy()))
    return graph.activated(one, found)


@layer("Reshape", order=LAST)
def _reshape(graph: Graph, one: Any, names: list[str]) -> str:
    shape = np.asarray([-1, *one.output.shape[1:]], np.int64)
    return graph.add("Reshape", *names, graph.weight(shape))
