"""Golden beats: a few beats and the answers a release gave to them, for a device's self-test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import TableError
from storage.files import read_json, write_json

GOLDEN = "golden.json"


def write_golden(
    path: Path,
    inputs: Mapping[str, NDArray[np.float32]],
    probability: NDArray[np.float32],
    by_runtime: Mapping[str, NDArray[np.float32]] | None = None,
) -> None:
    """Write inputs by name, shape (n, ...), and P(AF), shape (n,); float32 survives as text.

    `by_runtime` is P(AF) in the release's other runtimes, by their names.
    """
    values = {name: array.tolist() for name, array in inputs.items()}
    runtimes = {name: array.tolist() for name, array in (by_runtime or {}).items()}
    write_json(path, {"inputs": values, "probability": probability.tolist(), "runtimes": runtimes})


def read_golden(
    path: Path, runtime: str | None = None
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
    """Read what `write_golden` wrote: inputs, and P(AF) in another runtime where one is named.

    Raises
    ------
    TableError
        The file is damaged, or holds no answers of that runtime.
    """
    try:
        document: Any = read_json(path)
        inputs = {name: _finite(values) for name, values in document["inputs"].items()}
        if runtime is None:
            return inputs, _finite(document["probability"])
        answers = document.get("runtimes", {})
        if runtime not in answers:
            names = ", ".join(answers) or "none other"
            raise TableError(f"golden beats {path.name}: found no answers of {runtime}, of {names}")
        return inputs, _finite(answers[runtime])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
        raise TableError(f"golden beats {path.name}: found a damaged file ({error})") from error


def _finite(values: Any) -> NDArray[np.float32]:
    """Rows of numbers; ValueError or TypeError where they are none, or NaN or infinite."""
    with np.errstate(over="ignore"):
        array = np.asarray(values, np.float32)
    if array.ndim == 0 or not np.isfinite(array).all():
        raise ValueError("found a value that is no finite number")
    return array
