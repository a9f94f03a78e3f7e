"""Waveforms of labelled beats where they lie, in Parquet: read by row groups, never all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import TableError
from storage.places import Place
from storage.tables.beats import WAVEFORM_SAMPLES, read_waveforms

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RowGroup:
    """A row group of a beat table: its file, its number, and the rows of it that are beats to use.

    Attributes
    ----------
    file : Path or Remote
        The Parquet file, its digest checked.
    stamp : tuple of int
        Size, time and inode that the file had then; empty outside this machine.
    number : int
        The row group's number in the file.
    rows : int32, shape (n,)
        Ascending.
    """

    file: Place
    stamp: tuple[int, ...]
    number: int
    rows: NDArray[np.int32]

    def read(self, places: Index) -> NDArray[np.float32]:
        """The beats at these places of `rows`, shape (m, 300).

        Raises
        ------
        TableError
            The file is not the one that was checked, or is damaged.
        """
        if self.stamp != stamp_of(self.file):
            raise TableError(
                f"beat table {self.file}: found another file than the one that was checked; "
                "expected it to stay while it is read. Run the same again"
            )
        return np.asarray(read_waveforms(self.file, self.number)[self.rows[places]])


def stamp_of(file: Place) -> tuple[int, ...]:
    """What tells a file of this machine from another one under its name."""
    if not isinstance(file, Path):
        return ()
    try:
        status = file.stat()
    except FileNotFoundError:
        return (0,)
    return status.st_size, status.st_mtime_ns, status.st_ino


class Waveforms:
    """The waveforms of beats in the order of their row groups, read where they are asked for.

    Parameters
    ----------
    groups : sequence of RowGroup
        What the beats lie in.

    Attributes
    ----------
    starts : int64, shape (groups + 1,)
        The position of each row group's first beat, and the number of beats.
    """

    def __init__(self, groups: Sequence[RowGroup]) -> None:
        self._groups = tuple(groups)
        self.starts: Index = np.cumsum([0, *(len(group.rows) for group in groups)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, positions: Index) -> NDArray[np.float32]:
        """The beats at these positions, in their order, float32 (n, 300) without NaN."""
        out = np.empty((len(positions), WAVEFORM_SAMPLES), np.float32)
        order = np.argsort(positions, kind="stable")
        ascending = np.asarray(positions)[order]
        edges = np.searchsorted(ascending, self.starts)
        for k in np.flatnonzero(np.diff(edges)):
            part = slice(edges[k], edges[k + 1])
            out[order[part]] = self._groups[k].read(ascending[part] - self.starts[k])
        return out


@dataclass(frozen=True, eq=False)
class ChosenBeats:
    """Some of the beats as a network reads them, (n, 300, 1), by slices of the first axis."""

    waveform: Waveforms
    positions: Index

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array that all slices make."""
        return len(self.positions), WAVEFORM_SAMPLES, 1

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        return self.waveform[self.positions[rows]][..., None]
