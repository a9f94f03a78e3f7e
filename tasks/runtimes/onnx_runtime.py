"""ONNX Runtime: run a .onnx model on arrays, on TensorRT, CUDA or the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import ModelError
from tasks.runtimes.litert import Inputs, inputs_by_name

#: In order of preference, with their options: float32 stays float32 on CUDA.
PROVIDERS: dict[str, dict[str, str]] = {
    "TensorrtExecutionProvider": {},
    "CUDAExecutionProvider": {"use_tf32": "0"},
    "CPUExecutionProvider": {},
}
#: Log lines of its errors alone: a GPU library that is missing is seen in `providers`.
ERRORS = 3


class Onnx:
    """A float32-in, float32-out .onnx model with one output, ready to answer.

    Parameters
    ----------
    model : bytes
        The whole .onnx file.
    threads : int
        Threads of the processor for one call.

    Attributes
    ----------
    inputs : dict of str to tuple of int
        Shape of each input without its first (beat) axis, by name.
    outputs : tuple of int
        Shape of the output without its first axis.
    providers : list of str
        What runs it, in order; a provider whose libraries are missing is not in it.

    Raises
    ------
    ModelError
        The bytes are no such model.
    """

    def __init__(self, model: bytes, threads: int = 1) -> None:
        # Imported here: only a device that chose this runtime has it.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = ERRORS
        available = onnxruntime.get_available_providers()
        providers = [(name, settings) for name, settings in PROVIDERS.items() if name in available]
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:  # its errors share no other class
            raise ModelError(
                f"{len(model)} bytes are not a model ONNX Runtime can run: {error}"
            ) from error
        entries, results = self._session.get_inputs(), self._session.get_outputs()
        if len(results) != 1:
            raise ModelError(f"the model has {len(results)} outputs; expected exactly one")
        for entry in (*entries, *results):
            if entry.type != "tensor(float)" or isinstance(entry.shape[0], int):
                raise ModelError(
                    f"{entry.name} is {entry.type} {entry.shape}; expected float32, any n"
                )
        self.inputs = {entry.name: _tail(entry) for entry in entries}
        self.outputs = _tail(results[0])
        self.providers: list[str] = self._session.get_providers()

    def predict(self, inputs: Inputs, batch: int = 256) -> NDArray[np.float32]:
        """Answers (n, ...) to n rows, `batch` at a time, as `litert.LiteRT.predict`."""
        arrays = inputs_by_name(inputs, self.inputs)
        n = len(next(iter(arrays.values())))
        answer = np.empty((n, *self.outputs), np.float32)
        for start in range(0, n, batch):
            part = {name: array[start : start + batch] for name, array in arrays.items()}
            (answer[start : start + batch],) = self._session.run(None, part)
        return answer


def _tail(entry: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in entry.shape[1:])
