"""Runtimes: what runs a released network. A new one is one decorated function.

Each function opens the bytes of one file of a release and gives a network with `predict`. A package
that is not installed leaves its runtime out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from storage.errors import DigestMismatch, ModelError
from storage.files import sha256_bytes
from storage.registry.model_files import LITERT
from tasks.networks.registry import find
from tasks.runtimes.litert import Inputs, LiteRT, refuse_missing
from tasks.runtimes.onnx_runtime import CPU, CUDA, TENSORRT, Onnx

#: The runtime that is compared with Keras's answers most closely, and the one of old releases.
REFERENCE = "litert-float32"


class Network(Protocol):
    """A network that is ready to answer; its inputs' shapes by name, without the beat axis."""

    inputs: dict[str, tuple[int, ...]]

    def predict(self, inputs: Inputs, batch: int = 256) -> NDArray[np.float32]:
        """Answers (n, ...) to n rows, as `tasks.runtimes.litert.LiteRT.predict`."""


class Opener(Protocol):
    """Opens a file's bytes; TensorRT keeps the engines that it builds in the folder, if any."""

    def __call__(
        self, data: bytes, name: str, threads: int, engines: Path | None = None, /
    ) -> Network:
        """The network of that name, ready to answer with so many threads."""


@dataclass(frozen=True)
class Runtime:
    """A runtime of the table.

    Attributes
    ----------
    open : Opener
        How a file's bytes are opened.
    package, extra : str
        What it needs, and the extra of holter-af that brings it.
    export : str
        Whose file of a release it runs; several providers run one.
    """

    open: Opener
    package: str
    extra: str
    export: str

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.package) is not None


RUNTIMES: dict[str, Runtime] = {}


def runtime(name: str, package: str, extra: str, export: str = "") -> Callable[[Opener], Opener]:
    """Enter an opening function into `RUNTIMES`; it runs its own export, or the one that is named.

    The function takes bytes, the network's name, threads, and where engines may be kept.
    """

    def enter(function: Opener) -> Opener:
        RUNTIMES[name] = Runtime(function, package, extra, export or name)
        return function

    return enter


@runtime("litert-float32", package="ai_edge_litert", extra="edge")
def litert_float32(data: bytes, _name: str, threads: int, _engines: Path | None = None) -> Network:
    """LiteRT with float32 arithmetic."""
    return LiteRT(data, threads)


@runtime("litert-int8", package="ai_edge_litert", extra="edge")
def litert_int8(data: bytes, _name: str, threads: int, _engines: Path | None = None) -> Network:
    """LiteRT with int8 arithmetic; what goes in and comes out is float32."""
    return LiteRT(data, threads)


@runtime("onnx", package="onnxruntime", extra="onnx")
def onnx(data: bytes, _name: str, threads: int, engines: Path | None = None) -> Network:
    """ONNX Runtime on the first of TensorRT, CUDA and the processor that is there."""
    return Onnx(data, threads, None, engines)


@runtime("onnx-cpu", package="onnxruntime", extra="onnx", export="onnx")
def onnx_cpu(data: bytes, _name: str, threads: int, _engines: Path | None = None) -> Network:
    """ONNX Runtime on the processor."""
    return Onnx(data, threads, CPU)


@runtime("onnx-cuda", package="onnxruntime", extra="onnx", export="onnx")
def onnx_cuda(data: bytes, _name: str, threads: int, _engines: Path | None = None) -> Network:
    """ONNX Runtime on CUDA, or not at all."""
    return Onnx(data, threads, CUDA)


@runtime("onnx-tensorrt", package="onnxruntime", extra="onnx", export="onnx")
def onnx_tensorrt(data: bytes, _name: str, threads: int, engines: Path | None = None) -> Network:
    """ONNX Runtime on TensorRT, or not at all."""
    return Onnx(data, threads, TENSORRT, engines)


@runtime("keras-hdf5", package="keras", extra="server")
def keras_hdf5(data: bytes, name: str, _threads: int, _engines: Path | None = None) -> Network:
    """Keras `predict` on HDF5 weights: the published way, for comparison; no device needs it."""
    return _Keras(data, name)


class _Keras:
    """Keras behind the same `predict`."""

    def __init__(self, data: bytes, name: str) -> None:
        from tasks.networks.models import with_weights

        self._model = with_weights(name, data)
        self.inputs = {entry.name: tuple(entry.shape[1:]) for entry in self._model.inputs}

    def predict(self, inputs: Inputs, batch: int = 256) -> NDArray[np.float32]:
        """Answers to n rows."""
        if isinstance(inputs, np.ndarray):
            inputs = dict.fromkeys(self.inputs, inputs)
        refuse_missing(inputs)
        arrays = [inputs[entry.name] for entry in self._model.inputs]
        rows: Any = arrays[0] if len(arrays) == 1 else arrays
        return np.asarray(self._model.predict(rows, batch_size=batch, verbose=0), np.float32)


def files_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The file of each runtime that a release holds; one that names none holds LiteRT's alone."""
    entries = manifest.get("runtimes", {REFERENCE: {"file": LITERT}})
    return {name: str(entry["file"]) for name, entry in entries.items() if "file" in entry}


def file_of(manifest: Mapping[str, Any], name: str) -> str | None:
    """The file of a release that a runtime of the table runs; None where there is none."""
    return files_of(manifest).get(find(RUNTIMES, "runtime", name).export)


def usual(manifest: Mapping[str, Any]) -> str:
    """The runtime that a release is scored in, and that devices run where none is asked for."""
    return str(manifest.get("runtime", REFERENCE))


def installed_runtime(name: str) -> Runtime:
    """A runtime of the table whose package is installed.

    Raises
    ------
    ModelError
        It is not; the message says what brings it.
    """
    runtime = find(RUNTIMES, "runtime", name)
    if not runtime.installed:
        raise ModelError(
            f"{name} needs the package {runtime.package}, which is not installed; "
            f"the extra {runtime.extra} of holter-af brings it"
        )
    return runtime


def open_runtime(
    folder: Path,
    manifest: Mapping[str, Any],
    name: str | None = None,
    threads: int = 1,
    engines: Path | None = None,
) -> Network:
    """Open a release's network in a runtime, by default its own (`usual`).

    TensorRT keeps the engines that it builds in `engines`.

    Raises
    ------
    ModelError
        The release has no file for it, or its package is not installed.
    DigestMismatch
        The file is not the one of the manifest.
    """
    name = name or usual(manifest)
    runtime, file = installed_runtime(name), file_of(manifest, name)
    if file is None or not (folder / file).is_file():
        names = ", ".join(files_of(manifest))
        raise ModelError(f"release: found no file for {name}; it has {names}")
    data = (folder / file).read_bytes()
    expected = manifest.get("files", {}).get(file, {}).get("sha256")
    if sha256_bytes(data) != expected:
        raise DigestMismatch(
            f"{file}: found SHA-256 {sha256_bytes(data)}; the manifest says {expected}"
        )
    return runtime.open(data, str(manifest.get("name")), threads, engines)
