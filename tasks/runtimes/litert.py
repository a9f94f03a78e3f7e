"""LiteRT: run a .tflite model on arrays, the same way on a server and on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import ModelError

Inputs = NDArray[np.float32] | Mapping[str, NDArray[np.float32]]


class LiteRT:
    """A float32-in, float32-out .tflite model with one output, ready to answer.

    A server's parity check and a device's evaluation both go through this class, so equal inputs
    on one machine give equal probabilities.

    Parameters
    ----------
    model : bytes
        The whole .tflite file.
    threads : int
        Threads for one call.

    Attributes
    ----------
    inputs : dict of str to tuple of int
        Shape of each input without its first (beat) axis, by the name in the model's signature.
    outputs : tuple of int
        Shape of the output without its first axis.

    Raises
    ------
    ModelError
        The bytes are no such model, or the model's types or shapes are not as said above.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        # Imported here: only code that runs a model pays for the runtime.
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_content=model, num_threads=threads)
            entries, results = _signature(self._interpreter)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                f"{len(model)} bytes are not a model LiteRT can run: {error}"
            ) from error
        if len(results) != 1:
            raise ModelError(f"the model has outputs {sorted(results)}; expected exactly one")
        (result,) = results.values()
        for name, entry in {**entries, **results}.items():
            if entry["dtype"] is not np.float32:
                raise ModelError(f"{name} is {np.dtype(entry['dtype'])}; expected float32")
        self.inputs = {name: _tail(entry) for name, entry in entries.items()}
        self.outputs = _tail(result)
        self._index = {name: int(entry["index"]) for name, entry in entries.items()}
        self._output = int(result["index"])
        self._fixed = any(entry["shape_signature"][0] != -1 for entry in entries.values())
        self._rows = int(next(iter(entries.values()))["shape"][0])
        if self._fixed and self._rows != 1:
            raise ModelError(f"the model takes {self._rows} beats at a time; expected any number")

    def predict(self, inputs: Inputs, batch: int = 256) -> NDArray[np.float32]:
        """Run the model over n beats.

        Parameters
        ----------
        inputs : float32 array, shape (n, ...), or mapping of input name to such an array
            A bare array is for a model with one input.
        batch : int
            Beats per call of the interpreter.

        Returns
        -------
        float32, shape (n, ...)
            The model's output for each beat.

        Raises
        ------
        ModelError
            Names, shapes or types differ from the model's.
        """
        arrays = self._arrays(inputs)
        n = len(arrays[0][1])
        if n == 1:
            return self._call(arrays, 1)
        answer = np.empty((n, *self.outputs), np.float32)
        batch = 1 if self._fixed else batch
        for start in range(0, n, batch):
            part = [(index, array[start : start + batch]) for index, array in arrays]
            rows = min(batch, n - start)
            answer[start : start + rows] = self._call(part, rows)
        return answer

    def _call(
        self, arrays: list[tuple[int, NDArray[np.float32]]], rows: int
    ) -> NDArray[np.float32]:
        interpreter = self._interpreter
        if rows != self._rows:
            for index, array in arrays:
                interpreter.resize_tensor_input(index, array.shape)
            interpreter.allocate_tensors()
            self._rows = rows
        for index, array in arrays:
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        answer: NDArray[np.float32] = interpreter.get_tensor(self._output)
        return answer

    def _arrays(self, inputs: Inputs) -> list[tuple[int, NDArray[np.float32]]]:
        """Tensor index and array of every input."""
        arrays = inputs_by_name(inputs, self.inputs)
        return [(self._index[name], array) for name, array in arrays.items()]


def inputs_by_name(
    inputs: Inputs, shapes: Mapping[str, tuple[int, ...]]
) -> Mapping[str, NDArray[np.float32]]:
    """A model's inputs by name, as its shapes (without the beat axis) say.

    Raises
    ------
    ModelError
        Names, shapes or types differ from the model's, or a value is NaN or infinite.
    """
    if isinstance(inputs, np.ndarray):
        if len(shapes) != 1:
            raise ModelError(f"one array given; the model's inputs are {sorted(shapes)}")
        inputs = dict.fromkeys(shapes, inputs)
    if inputs.keys() != shapes.keys():
        raise ModelError(f"inputs {sorted(inputs)} given; the model's are {sorted(shapes)}")
    n = {len(array) for array in inputs.values()}
    for name, array in inputs.items():
        if array.dtype != np.float32 or array.shape[1:] != shapes[name] or len(n) != 1:
            raise ModelError(
                f"input {name} is {array.dtype} {array.shape}; "
                f"expected float32 (n, {', '.join(map(str, shapes[name]))}), one n for all"
            )
    refuse_missing(inputs)
    return inputs


def refuse_missing(inputs: Mapping[str, NDArray[np.float32]]) -> None:
    """Raise ModelError where a value is NaN or infinite: what is missing is masked before.

    LiteRT with its delegate, LiteRT without, ONNX Runtime and Keras each make something else of
    such a value in pooling and rectifiers.
    """
    for name, array in inputs.items():
        if not np.isfinite(array).all():
            missing = int((~np.isfinite(array)).sum())
            raise ModelError(
                f"input {name}: found {missing} values of {array.size} that are NaN or infinite; "
                "expected what is missing to be masked before the network"
            )


def af_probability(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of AF from a model's output.

    Parameters
    ----------
    output : float32, shape (n, 2) or (n, 1), or (n, beats, 2) or (n, beats, 1)
        Softmax over not AF and AF, or a sigmoid for AF; of beats, or of windows beat by beat.

    Returns
    -------
    float32, shape (n,) or (n, beats)

    Raises
    ------
    ModelError
        Another shape, or values that are no probabilities.
    """
    if output.ndim not in (2, 3) or output.shape[-1] not in (1, 2):
        raise ModelError(f"the model answers {output.shape}; expected (n, 1) or (n, 2)")
    probability = output[..., -1]
    if not bool(np.all((probability >= 0) & (probability <= 1))):
        raise ModelError("the model answers NaN or values outside 0 to 1; expected probabilities")
    return probability


def _tail(entry: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in entry["shape"][1:])


def _signature(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Details of inputs and outputs by signature name; the runner must die before allocation."""
    runner = interpreter.get_signature_runner()
    return runner.get_input_details(), runner.get_output_details()
