"""ONNX Runtime: run a .onnx model on arrays, on TensorRT, CUDA or the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import ModelError
from tasks.runtimes.litert import Inputs, inputs_by_name

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
#: In order of preference, with their options: float32 stays float32 on CUDA.
PROVIDERS: dict[str, dict[str, str]] = {TENSORRT: {}, CUDA: {"use_tf32": "0"}, CPU: {}}
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
    provider : str, optional
        The provider that must run it; what it lacks runs on those after it. By default the first
        that is there.
    engines : Path, optional
        Where TensorRT keeps the engines that it builds, so that the next start is quick.

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
        The bytes are no such model, or the provider cannot run it here.
    """

    def __init__(
        self,
        model: bytes,
        threads: int = 1,
        provider: str | None = None,
        engines: Path | None = None,
    ) -> None:
        # Imported here: only a device that chose this runtime has it.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = ERRORS
        available = onnxruntime.get_available_providers()
        if provider and provider not in available:
            raise ModelError(f"ONNX Runtime: found no {provider}; it has {', '.join(available)}")
        names = list(PROVIDERS)[list(PROVIDERS).index(provider) if provider else 0 :]
        kept = {TENSORRT: engine_settings(engines)} if engines and TENSORRT in available else {}
        providers = [(n, {**PROVIDERS[n], **kept.get(n, {})}) for n in names if n in available]
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:  # its errors share no other class
            raise ModelError(
                f"{len(model)} bytes are not a model ONNX Runtime can run: {error}"
            ) from error
        self.providers: list[str] = self._session.get_providers()
        if provider and self.providers[0] != provider:
            raise ModelError(f"ONNX Runtime: {provider} does not start: a library of it is missing")
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

    def predict(self, inputs: Inputs, batch: int = 256) -> NDArray[np.float32]:
        """Answers (n, ...) to n rows, `batch` at a time, as `litert.LiteRT.predict`."""
        arrays = inputs_by_name(inputs, self.inputs)
        n = len(next(iter(arrays.values())))
        answer = np.empty((n, *self.outputs), np.float32)
        for start in range(0, n, batch):
            part = {name: array[start : start + batch] for name, array in arrays.items()}
            (answer[start : start + batch],) = self._session.run(None, part)
        return answer


def engine_settings(folder: Path) -> dict[str, str]:
    """TensorRT's options that keep engines, and the times of kernels, in a folder, made here."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
    }


def _tail(entry: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in entry.shape[1:])
