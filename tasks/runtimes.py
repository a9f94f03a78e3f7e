"""Runtimes: what runs a released network. A new one is one decorated function.

Each function opens one file of a release and gives a network with `predict`. A package that is not
installed leaves its runtime out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from storage.errors import ModelError
from storage.model_files import LITERT
from tasks.litert import Inputs, LiteRT
from tasks.registry import find


class Network(Protocol):
    """A network that is ready to answer."""

    def predict(self, inputs: Inputs, batch: int = 256) -> NDArray[np.float32]:
        """Answers (n, ...) to n rows, as `tasks.litert.LiteRT.predict`."""


Opener = Callable[[Path, str, int], Network]


@dataclass(frozen=True)
class Runtime:
    """A runtime of the table: how a file is opened, and the package that it needs."""

    open: Opener
    package: str

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.package) is not None


RUNTIMES: dict[str, Runtime] = {}


def runtime(name: str, package: str) -> Callable[[Opener], Opener]:
    """Enter an opening function, of a file, the network's name and threads, into `RUNTIMES`."""

    def enter(function: Opener) -> Opener:
        RUNTIMES[name] = Runtime(function, package)
        return function

    return enter


@runtime("litert-float32", package="ai_edge_litert")
def litert_float32(file: Path, _name: str, threads: int) -> Network:
    """LiteRT with float32 arithmetic."""
    return LiteRT(file.read_bytes(), threads)


@runtime("litert-int8", package="ai_edge_litert")
def litert_int8(file: Path, _name: str, threads: int) -> Network:
    """LiteRT with int8 arithmetic; what goes in and comes out is float32."""
    return LiteRT(file.read_bytes(), threads)


@runtime("keras-hdf5", package="keras")
def keras_hdf5(file: Path, name: str, _threads: int) -> Network:
    """Keras `predict` on HDF5 weights: the published way, for comparison; no device needs it."""
    return _Keras(file, name)


class _Keras:
    """Keras behind the same `predict`."""

    def __init__(self, file: Path, name: str) -> None:
        from tasks.models import build

        self._model = build(name)
        self._model.load_weights(file)

    def predict(self, inputs: Inputs, batch: int = 256) -> NDArray[np.float32]:
        """Answers to n rows."""
        if not isinstance(inputs, np.ndarray):
            named = [inputs[entry.name] for entry in self._model.inputs]
            rows: Any = named[0] if len(named) == 1 else named
        else:
            rows = inputs
        return np.asarray(self._model.predict(rows, batch_size=batch, verbose=0), np.float32)


def files_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The file of each runtime that a release holds; one that names none holds LiteRT's alone."""
    told = manifest.get("runtimes", {"litert-float32": {"file": LITERT}})
    return {name: str(about["file"]) for name, about in told.items() if "file" in about}


def open_runtime(folder: Path, manifest: Mapping[str, Any], name: str, threads: int = 1) -> Network:
    """Open a release's network in a runtime.

    Raises
    ------
    ModelError
        The release has no file for it, or its package is not installed.
    """
    chosen, files = find(RUNTIMES, "runtime", name), files_of(manifest)
    if name not in files or not (folder / files[name]).is_file():
        raise ModelError(f"release: found no file for {name}; it has {', '.join(files)}")
    if not chosen.installed:
        raise ModelError(f"{name} needs the package {chosen.package}, which is not installed")
    return chosen.open(folder / files[name], str(manifest.get("name")), threads)
