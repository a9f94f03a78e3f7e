"""Results of trainings: arrays by name in one file, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.files import whole


def write_arrays(path: Path, arrays: dict[str, NDArray[np.generic]]) -> Path:
    """Write arrays of numbers or text as one compressed `.npz`."""
    with whole(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type] # numpy's stub takes **kwds for allow_pickle
    return path


def read_arrays(path: Path) -> dict[str, NDArray[np.generic]] | None:
    """Arrays that were written, or None where there is no file or it is damaged."""
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            return {name: file[name] for name in file.files}
    except Exception:  # the parsers of numpy, zipfile and zlib raise of all kinds
        return None
