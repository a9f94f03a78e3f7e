"""ONNX: a Keras network as an ONNX file, layer by layer, byte for byte the same each time.

Convolutions stand channels first, as ONNX wants them (https://onnx.ai/onnx/operators/), and a
tensor is transposed only where a layer needs the other order. What normalisation folds into what is
left to the runtime. Keras's own `export(format="onnx")` needs tf2onnx, names tensors otherwise
each time, and transposes around every convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
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
        by_order = self._names[id(tensor)]
        if order not in by_order:
            n = len(tensor.shape)
            perm = (0, n - 1, *range(1, n - 1)) if order == FIRST else (0, *range(2, n), 1)
            (source,) = by_order.values()
            by_order[order] = self.add("Transpose", source, perm=perm)
        return by_order[order]

    def activate(self, layer: Any, name: str) -> str:
        """A layer's activation after it."""
        word = layer.activation.__name__
        if word not in ACTIVATIONS:
            raise _unknown(layer, f"the activation {word}")
        return self.add(ACTIVATIONS[word], name) if ACTIVATIONS[word] else name


Step = Callable[[Graph, Any, list[str]], str]
#: What makes a layer's nodes, by its kind, and the order of axes that it reads and answers in.
LAYERS: dict[str, tuple[str, Step]] = {}


def converter(*kinds: str, order: str) -> Callable[[Step], Step]:
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
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "InputLayer":
            continue
        if kind not in LAYERS:
            raise _unknown(layer, f"no {kind}; there are {', '.join(sorted(LAYERS))}")
        order, step = LAYERS[kind]
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        names = [graph.name(tensor, order) for tensor in inputs]
        graph.enter(layer.output, order, step(graph, layer, names))
    (output,) = model.outputs
    answer = model.output_names[0]
    result = graph.name(output, LAST)
    graph.nodes.append(helper.make_node("Identity", [result], [answer], answer))

    def value_info(name: str, tensor: Any) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *tensor.shape[1:]])

    onnx_model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            model.name,
            [value_info(entry.name, entry) for entry in model.inputs],
            [value_info(answer, output)],
            graph.weights,
        ),
        producer_name="holter-af",
        ir_version=IR,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    checker.check_model(onnx_model, full_check=True)
    return bytes(onnx_model.SerializeToString(deterministic=True))


def _unknown(layer: Any, problem: str) -> ModelError:
    return ModelError(f"ONNX: layer {layer.name}: {problem}")


def _pads(layer: Any, kernel: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    """Zeros before every axis, then after every axis, as Keras's padding lays them."""
    before, after = [], []
    dilations = getattr(layer, "dilation_rate", (1,) * len(kernel))
    for size, k, stride, dilation in zip(
        layer.input.shape[1:-1], kernel, strides, dilations, strict=True
    ):
        reach = (k - 1) * dilation
        same = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        total = {"valid": 0, "same": same, "causal": reach}[layer.padding]
        before.append(total if layer.padding == "causal" else total // 2)
        after.append(total - before[-1])
    return before + after


@converter("Conv1D", "Conv2D", "DepthwiseConv1D", order=FIRST)
def _convolution(graph: Graph, layer: Any, names: list[str]) -> str:
    kernel: NDArray[np.float32] = layer.kernel.numpy()  # (..., in, out)
    if type(layer).__name__.startswith("Depthwise"):
        groups = kernel.shape[-2]
        kernel = kernel.reshape(*kernel.shape[:-2], 1, -1)
    else:
        groups = layer.groups
    weights = [graph.weight(np.moveaxis(kernel, (-1, -2), (0, 1)))]
    if layer.use_bias:
        weights.append(graph.weight(layer.bias.numpy()))
    name = graph.add(
        "Conv",
        *names,
        *weights,
        kernel_shape=layer.kernel_size,
        strides=layer.strides,
        dilations=layer.dilation_rate,
        group=groups,
        pads=_pads(layer, layer.kernel_size, layer.strides),
    )
    return graph.activate(layer, name)


@converter("BatchNormalization", order=FIRST)
def _normalisation(graph: Graph, layer: Any, names: list[str]) -> str:
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    gamma = layer.gamma.numpy() if layer.scale else np.ones_like(mean)
    beta = layer.beta.numpy() if layer.center else np.zeros_like(mean)
    weights = [graph.weight(values) for values in (gamma, beta, mean, variance)]
    return graph.add("BatchNormalization", *names, *weights, epsilon=layer.epsilon)


@converter("ReLU", order=FIRST)
def _relu(graph: Graph, layer: Any, names: list[str]) -> str:
    if layer.max_value is not None or layer.negative_slope or layer.threshold:
        raise _unknown(layer, "a ReLU with a largest value, a slope or a threshold")
    return graph.add("Relu", *names)


@converter("Activation", order=LAST)
def _activation(graph: Graph, layer: Any, names: list[str]) -> str:
    return graph.activate(layer, names[0])


@converter("Add", order=FIRST)
def _add(graph: Graph, _layer: Any, names: list[str]) -> str:
    return _fold(graph, "Add", names)


@converter("Multiply", order=FIRST)
def _multiply(graph: Graph, _layer: Any, names: list[str]) -> str:
    return _fold(graph, "Mul", names)


def _fold(graph: Graph, operator: str, names: list[str]) -> str:
    """An operator of two applied along its inputs."""
    return reduce(lambda first, second: graph.add(operator, first, second), names)


@converter("Columns", order=FIRST)
def _columns(graph: Graph, layer: Any, names: list[str]) -> str:
    bounds = ([layer.first], [layer.stop], [1])
    return graph.add("Slice", *names, *(graph.weight(np.asarray(b, np.int64)) for b in bounds))


@converter("Concatenate", order=FIRST)
def _concatenate(graph: Graph, layer: Any, names: list[str]) -> str:
    if layer.axis not in (-1, len(layer.output.shape) - 1):
        raise _unknown(layer, f"joins axis {layer.axis}; expected the last")
    return graph.add("Concat", *names, axis=1)


@converter("InTurn", order=LAST)
def _mean_of_members(graph: Graph, _layer: Any, names: list[str]) -> str:
    return graph.add("ReduceMean", *names, axes=[-1], keepdims=1)


@converter("MaxPooling1D", order=FIRST)
def _max_pooling(graph: Graph, layer: Any, names: list[str]) -> str:
    pads = _pads(layer, layer.pool_size, layer.strides)
    return graph.add(
        "MaxPool", *names, kernel_shape=layer.pool_size, strides=layer.strides, pads=pads
    )


@converter("GlobalAveragePooling1D", order=FIRST)
def _average(graph: Graph, _layer: Any, names: list[str]) -> str:
    return graph.add("Flatten", graph.add("GlobalAveragePool", *names))


@converter("Dense", order=LAST)
def _dense(graph: Graph, layer: Any, names: list[str]) -> str:
    name = graph.add("MatMul", *names, graph.weight(layer.kernel.numpy()))
    if layer.use_bias:
        name = graph.add("Add", name, graph.weight(layer.bias.numpy()))
    return graph.activate(layer, name)


@converter("Reshape", order=LAST)
def _reshape(graph: Graph, layer: Any, names: list[str]) -> str:
    shape = np.asarray([-1, *layer.output.shape[1:]], np.int64)
    return graph.add("Reshape", *names, graph.weight(shape))
