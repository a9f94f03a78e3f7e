"""The test set that a device runs: arrays in one .npz, read without pickle and within limits.

The inputs stay on disk and are read block by block: 200,000 beats are 240 MB.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from storage.errors import TableError
from storage.files import whole
from storage.tables.npz import archive_errors, layout, members, read_array
from storage.tables.waveforms import ChosenBeats

#: Columns larger than this unpacked are refused before they are read: a device has 8 GB. The inputs
#: lie in the file as they are, and stay there.
MOST_BYTES = 1 << 30
#: Kind of each column's values (numpy's letter), and how many axes it may have.
_COLUMNS = {"label": ("i", (1, 2)), "record": ("U", (1,)), "subject": ("U", (1,))}
_COLUMNS |= {"sample": ("i", (1, 2))}
INPUT = "input."


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

    def select_counted(
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
        countable = self.label[rows] >= 0
        return self.label[rows][countable], probability[rows][countable]


def without_subjects(testset: TestSet, people: Collection[str]) -> TestSet:
    """A test set without the rows of some subjects, DATASET/NAME; its inputs are in memory."""
    others = ~np.isin(testset.subject, [*people])
    inputs = {
        name: np.concatenate(
            [
                np.empty((0, *array.shape[1:]), np.float32),
                *(
                    array[at : at + BLOCK][others[at : at + BLOCK]]
                    for at in range(0, len(array), BLOCK)
                ),
            ]
        )
        for name, array in testset.inputs.items()
    }
    columns = {name: getattr(testset, name)[others] for name in _COLUMNS}
    return TestSet(inputs=inputs, **columns)


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
    title = f"test set {path.name}"
    with archive_errors(title), path.open("rb") as file:
        entries = members(file)
        of_inputs = {name: entry for name, entry in entries.items() if name.startswith(INPUT)}
        columns = {name: entry for name, entry in entries.items() if name not in of_inputs}
        size = sum(entry.file_size for entry in columns.values())
        if size > most_bytes:
            raise TableError(f"{title}: columns of {size} bytes unpacked; at most {most_bytes}")
        inputs = {
            name.removeprefix(INPUT): _on_disk(path, file, entry)
            for name, entry in of_inputs.items()
        }
        arrays = {name: read_array(file, columns[name]) for name in _COLUMNS if name in columns}
    missing = [name for name in _COLUMNS if name not in arrays]
    if missing or not inputs:
        raise TableError(f"{title}: found no {', '.join(missing) or 'inputs'}")
    for name, (kind, dimensions) in _COLUMNS.items():
        array = arrays[name]
        if array.dtype.kind != kind or array.ndim not in dimensions:
            raise TableError(
                f"{title}: {name} is {array.dtype} {array.shape}; "
                f"expected kind {kind}, {dimensions}"
            )
    lengths = {len(array) for array in arrays.values()} | {len(rows) for rows in inputs.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise TableError(f"{title}: found columns of lengths {sorted(lengths)}")
    label, sample = arrays["label"], arrays["sample"]
    if sample.shape != label.shape or label.min(initial=0) < -1 or label.max(initial=0) > 1:
        raise TableError(
            f"{title}: found labels {label.shape} and samples {sample.shape}; expected "
            "as many of each, and labels of -1, 0 and 1"
        )
    return TestSet(inputs=inputs, **{name: arrays[name] for name in _COLUMNS})


def _on_disk(path: Path, file: IO[bytes], entry: zipfile.ZipInfo) -> DiskArray:
    """Where a member's float32 rows lie in the file."""
    rows = layout(file, entry)
    if rows.fortran or rows.dtype != np.float32 or not rows.shape:
        raise ValueError(f"{entry.filename} is {rows.dtype} {rows.shape}; expected float32 rows")
    return DiskArray(path, rows.offset, rows.shape)
