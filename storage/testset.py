"""The test set that a device runs: arrays in one .npz, read without pickle and within limits."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import TableError
from storage.files import whole

#: More than this unpacked is refused before it is read: a device has 8 GB.
MOST_BYTES = 2 << 30
_COLUMNS = ("label", "record", "subject", "sample")


@dataclass(frozen=True, eq=False)
class TestSet:
    """Beats to evaluate a model on.

    Attributes
    ----------
    inputs : mapping of str to float32 array, first axis n
        A model's inputs by name.
    label : int8, shape (n,)
        1 AF, 0 not AF.
    record, subject : str, shape (n,)
        Where each beat comes from, and from whom.
    sample : int64, shape (n,)
        R peak in its record.
    """

    __test__ = False  # not a test class, whatever its name begins with

    inputs: Mapping[str, NDArray[np.float32]]
    label: NDArray[np.int8]
    record: NDArray[np.str_]
    subject: NDArray[np.str_]
    sample: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)


def write_testset(path: Path, testset: TestSet) -> Path:
    """Write a test set, whole or not at all."""
    arrays = {f"input.{name}": array for name, array in testset.inputs.items()}
    arrays |= {name: getattr(testset, name) for name in _COLUMNS}
    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return path


def read_testset(path: Path, most_bytes: int = MOST_BYTES) -> TestSet:
    """Read a test set.

    Raises
    ------
    TableError
        Not such a file, larger unpacked than `most_bytes`, or columns missing or of other lengths.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > most_bytes:
            raise TableError(f"test set {path.name}: {size} bytes unpacked; at most {most_bytes}")
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise TableError(f"test set {path.name}: found a damaged file ({error})") from error
    inputs = {k.removeprefix("input."): v for k, v in arrays.items() if k.startswith("input.")}
    missing = [name for name in _COLUMNS if name not in arrays]
    if missing or not inputs:
        raise TableError(f"test set {path.name}: found no {', '.join(missing) or 'inputs'}")
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1:
        raise TableError(f"test set {path.name}: found columns of lengths {sorted(lengths)}")
    return TestSet(inputs=inputs, **{name: arrays[name] for name in _COLUMNS})
