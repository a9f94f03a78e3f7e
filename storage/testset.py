"""The test set that a device runs: arrays in one .npz, read without pickle and within limits.

The inputs stay on disk and are read block by block: 200,000 beats are 240 MB.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storage.errors import TableError
from storage.files import whole
from storage.waveforms import ChosenBeats

#: Columns larger than this unpacked are refused before they are read: a device has 8 GB. The inputs
#: lie in the file as they are, and stay there.
MOST_BYTES = 1 << 30
_COLUMNS = ("label", "record", "subject", "sample")


@dataclass(frozen=True, eq=False)
class DiskArray:
    """A float32 array in a file, read by slices of its first axis."""

    path: Path
    offset: int
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"slices of step 1 are read, not {step}")
        width = int(np.prod(self.shape[1:], dtype=np.int64))
        count = max(stop - start, 0)
        array = np.fromfile(
            self.path, np.float32, count * width, offset=self.offset + 4 * start * width
        )
        return array.reshape(count, *self.shape[1:])


Beats: TypeAlias = NDArray[np.float32] | DiskArray | ChosenBeats
#: Rows that are in memory at once.
BLOCK = 4_096


@dataclass(frozen=True, eq=False)
class TestSet:
    """Beats to evaluate a model on: a row is one beat, or a window of successive beats.

    Attributes
    ----------
    inputs : mapping of str to float32 array, DiskArray or ChosenBeats, first axis n
        A model's inputs by name; those on disk are read by slices.
    label : int8, shape (n,) or (n, beats)
        1 AF, 0 not AF, -1 not to be counted (context around a window's core, rhythm unknown).
    record, subject : str, shape (n,)
        Where each row comes from, and from whom.
    sample : int64, shape of label
        R peak in its record; -1 beyond its ends.
    """

    __test__ = False  # not a test class, whatever its name begins with

    inputs: Mapping[str, Beats]
    label: NDArray[np.int8]
    record: NDArray[np.str_]
    subject: NDArray[np.str_]
    sample: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)

    def counted(
        self, probability: NDArray[np.float32], rows: NDArray[np.bool_] | slice = slice(None)
    ) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Label and probability, each (m,), of the beats in `rows` that are to be counted.

        Raises
        ------
        TableError
            The probabilities are not one a beat.
        """
        if probability.shape != self.label.shape:
            raise TableError(
                f"test set: found probabilities {probability.shape}; expected {self.label.shape}"
            )
        known = self.label[rows] >= 0
        return self.label[rows][known], probability[rows][known]


def write_testset(path: Path, testset: TestSet) -> Path:
    """Write a test set, whole or not at all, its inputs block by block."""
    with whole(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, array in testset.inputs.items():
            with archive.open(f"input.{name}.npy", "w", force_zip64=True) as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": array.shape}
                np.lib.format.write_array_header_1_0(file, header)
                for at in range(0, len(array), BLOCK):
                    block = np.ascontiguousarray(array[at : at + BLOCK], "<f4")
                    file.write(block.tobytes())
        for name in _COLUMNS:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, getattr(testset, name), allow_pickle=False)
    return path


def read_testset(path: Path, most_bytes: int = MOST_BYTES) -> TestSet:
    """Read a test set.

    Raises
    ------
    TableError
        Not such a file, columns larger unpacked than `most_bytes`, missing, or of other lengths.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        of_inputs = [one for one in members if one.filename.startswith("input.")]
        size = sum(one.file_size for one in members) - sum(one.file_size for one in of_inputs)
        if size > most_bytes:
            raise TableError(
                f"test set {path.name}: columns of {size} bytes unpacked; at most {most_bytes}"
            )
        with path.open("rb") as file:
            inputs = {
                one.filename.removeprefix("input.").removesuffix(".npy"): _on_disk(path, file, one)
                for one in of_inputs
            }
        with np.load(path, allow_pickle=False) as columns:
            arrays = {name: columns[name] for name in _COLUMNS if name in columns.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, struct.error) as error:
        raise TableError(f"test set {path.name}: found a damaged file ({error})") from error
    missing = [name for name in _COLUMNS if name not in arrays]
    if missing or not inputs:
        raise TableError(f"test set {path.name}: found no {', '.join(missing) or 'inputs'}")
    lengths = {len(array) for array in (*arrays.values(), *inputs.values())}
    if len(lengths) != 1:
        raise TableError(f"test set {path.name}: found columns of lengths {sorted(lengths)}")
    return TestSet(inputs=inputs, **{name: arrays[name] for name in _COLUMNS})


def _on_disk(path: Path, file: IO[bytes], entry: zipfile.ZipInfo) -> DiskArray:
    """Where an uncompressed member's array lies (APPNOTE.TXT 4.3.7: 30 bytes, name, extra)."""
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{entry.filename} is compressed; expected it stored")
    file.seek(entry.header_offset)
    name, extra = struct.unpack("<26x2H", file.read(30))
    start = entry.header_offset + 30 + name + extra
    file.seek(start)
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
    if header is None:
        raise ValueError(f"{entry.filename} has version {version}; expected 1.0")
    shape, fortran, dtype = header(file)
    size = int(np.prod(shape, dtype=np.int64)) * 4 + file.tell() - start
    if fortran or dtype != np.float32 or not shape or size != entry.file_size:
        raise ValueError(f"{entry.filename} is {dtype} {shape}; expected float32 rows")
    return DiskArray(path, file.tell(), shape)
