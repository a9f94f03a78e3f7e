"""Results of trainings: arrays by name in one file, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class ArrayFolder:
    """A folder of arrays by name, a file for each key: what was done of a long work."""

    folder: Path

    def path(self, key: str) -> Path:
        """The file of a key, which is a digest."""
        return self.folder / f"{key}.npz"

    def read(self, key: str) -> dict[str, NDArray[np.generic]] | None:
        """The arrays of a key, or None where there are none that are whole."""
        return read_arrays(self.path(key))

    def write(self, key: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Keep the arrays of a key, whole or not at all."""
        write_arrays(self.path(key), dict(arrays))
