"""Checkpoints: where a training stands, so that a killed one goes on as if it had not been."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.files import parse_text, write_bytes
from storage.tables.npz import archive_errors, read_arrays

Arrays = list[NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training between two epochs.

    Attributes
    ----------
    epoch : int
        Epochs done.
    weights, optimizer : list of array
        Of the network and of its optimiser.
    best : list of array
        The weights of the best epoch so far.
    best_epoch, best_loss : int, float
        Which that was (from 0), and its validation loss.
    history : dict of str to list of float
        A value an epoch of each quantity.
    mean : list of array
        The mean of the last epochs' weights, where they are averaged and one of them is done.
    """

    epoch: int
    weights: Arrays
    optimizer: Arrays
    best: Arrays
    best_epoch: int
    best_loss: float
    history: dict[str, list[float]] = field(default_factory=dict)
    mean: Arrays = field(default_factory=list)


_ARRAYS = ("weights", "optimizer", "best", "mean")
_PROGRESS = ("epoch", "best_epoch", "best_loss", "history")


def write_checkpoint(path: Path, state: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    arrays = {f"{name}.{k}": a for name in _ARRAYS for k, a in enumerate(getattr(state, name))}
    progress = json.dumps({name: getattr(state, name) for name in _PROGRESS})
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, about=np.array(progress), **arrays)
    write_bytes(path, buffer.getvalue())


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Read a checkpoint; None where there is none.

    Raises
    ------
    TableError
        The file is damaged.
    """
    if not path.is_file():
        return None
    with archive_errors(f"checkpoint {path}"):
        arrays = read_arrays(path)
        progress = parse_text(str(arrays.pop("about")))
        lists: dict[str, Any] = {
            name: [arrays.pop(f"{name}.{k}") for k in range(_count(name, arrays))]
            for name in _ARRAYS
        }
        if arrays or not isinstance(progress, dict) or progress.keys() != set(_PROGRESS):
            raise ValueError(f"found {sorted(arrays)} and {progress!a:.200}; expected {_PROGRESS}")
        kinds: dict[str, Any] = {
            "epoch": int,
            "best_epoch": int,
            "best_loss": (int, float),
            "history": dict,
        }
        if not all(isinstance(progress[name], kind) for name, kind in kinds.items()):
            raise ValueError(f"found {progress!a:.200}; expected numbers and a history")
        if not all(_is_column(column) for column in progress["history"].values()):
            raise ValueError("found a history that is no lists of numbers")
        return Checkpoint(**progress, **lists)


def _count(name: str, arrays: dict[str, NDArray[Any]]) -> int:
    return sum(array.startswith(f"{name}.") for array in arrays)


def _is_column(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, int | float) for value in values)
