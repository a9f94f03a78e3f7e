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
    path: Path, inputs: Mapping[str, NDArray[np.float32]], probability: NDArray[np.float32]
) -> None:
    """Write inputs by name, shape (n, ...), and P(AF), shape (n,); float32 survives as text."""
    answers = {"inputs": {name: array.tolist() for name, array in inputs.items()}}
    write_json(path, {**answers, "probability": probability.tolist()})


def read_golden(path: Path) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
    """Read what `write_golden` wrote; TableError if it is damaged."""
    try:
        found: Any = read_json(path)
        inputs = {k: np.asarray(v, np.float32) for k, v in found["inputs"].items()}
        return inputs, np.asarray(found["probability"], np.float32)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise TableError(f"golden beats {path.name}: found a damaged file ({error})") from error
