"""Checkpoints: where a training stands, so that a killed one goes on as if it had not been."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from storage.errors import TableError
from storage.files import write_bytes

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
_ABOUT = ("epoch", "best_epoch", "best_loss", "history")


def write_checkpoint(path: Path, state: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    arrays = {f"{name}.{k}": a for name in _ARRAYS for k, a in enumerate(getattr(state, name))}
    about = json.dumps({name: getattr(state, name) for name in _ABOUT})
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, about=np.array(about), **arrays)
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
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
    except (OSError, ValueError, KeyError, BadZipFile, EOFError) as error:
        raise TableError(f"checkpoint {path}: found a damaged file ({error})") from error
    lists: dict[str, Any] = {
        name: [arrays[f"{name}.{k}"] for k in range(sum(a.startswith(f"{name}.") for a in arrays))]
        for name in _ARRAYS
    }
    return Checkpoint(**about, **lists)
