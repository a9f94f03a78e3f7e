"""Pyramids of minima and maxima: any stretch of a lead, from a day to a second, is drawn at once.

The lowest level has the least and the greatest value of every 64 samples, each level above those of
eight of the level below. They lie beside the beat table as one array on disk, of which a view reads
the rows that it draws. A row of NaN is a hole; one that is partly a hole shows the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from storage.errors import TableError
from storage.files import home, sha256_json, whole
from storage.places import Place
from storage.recordings.records import Record, read_lead

BLOCK, FACTOR = 64, 8
#: Samples that are read at a time: 4 MB, and a whole number of blocks of every level.
AT_ONCE = BLOCK * FACTOR**5 // 2
#: Changes where what a pyramid's file holds does.
VERSION = 1
Floats = NDArray[np.float32]
Read = Callable[[int, int], Floats]


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A lead's levels, the lowest first.

    Attributes
    ----------
    n_samples : int
        Samples of the lead.
    levels : tuple of float32, shape (k, 2)
        Least and greatest value of every `BLOCK * FACTOR**number` samples in mV.
    """

    n_samples: int
    levels: tuple[Floats, ...]


def level_sizes(n_samples: int) -> list[int]:
    """Rows of each level, the lowest first; the highest has at most `FACTOR`."""
    sizes = [-(-n_samples // BLOCK)]
    while sizes[-1] > FACTOR:
        sizes.append(-(-sizes[-1] // FACTOR))
    return sizes


def pyramid_path(record: Record, tables: Place) -> Path:
    """Where a lead's pyramid lies: beside its beat table, or in the state folder if that is away.

    Its name is a digest of the recording's files and the lead: another recording has another one.
    """
    # What has a digest for itself within a file, as a label in a table has, is no signal.
    files = {name: digest for name, digest in record.digests.items() if "#" not in name}
    key = sha256_json([VERSION, files, record.lead, record.n_samples])
    folder = tables / "pyramids" if isinstance(tables, Path) else home() / "pyramids"
    return folder / f"{key[:40]}.npy"


def make_pyramid(path: Path, n_samples: int, read: Read) -> Pyramid:
    """Read a lead once, in pieces, and write its pyramid, whole or not at all.

    Parameters
    ----------
    path : Path
        The file.
    n_samples : int
        Samples of the lead.
    read : callable
        Millivolts of samples `start` to `stop`, float32, NaN where there is none.
    """
    sizes = level_sizes(n_samples)
    with whole(path) as partial:
        rows = open_memmap(partial, "w+", np.float32, (sum(sizes), 2))
        for start in range(0, n_samples, AT_ONCE):
            part = extremes(read(start, min(start + AT_ONCE, n_samples)), BLOCK)
            rows[start // BLOCK : start // BLOCK + len(part)] = part
        below = 0
        for size, next_size in pairwise(sizes):
            rows[below + size : below + size + next_size] = _joined(rows[below : below + size])
            below += size
        rows.flush()
        del rows
    return open_pyramid(path, n_samples)


def open_pyramid(path: Path, n_samples: int) -> Pyramid:
    """Open a pyramid; its rows stay on disk until they are drawn.

    Raises
    ------
    TableError
        The file is damaged, or of a lead of another length.
    FileNotFoundError
        It is not there.
    """
    sizes = level_sizes(n_samples)
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise TableError(f"pyramid {path}: found a damaged file ({error})") from error
    if rows.shape != (sum(sizes), 2) or rows.dtype != np.float32:
        raise TableError(
            f"pyramid {path}: found {rows.dtype} {rows.shape}; expected float32 {(sum(sizes), 2)}"
        )
    edges = np.cumsum([0, *sizes]).tolist()
    levels = tuple(rows[a:b] for a, b in pairwise(edges))
    return Pyramid(n_samples, levels)


def lead_pyramid(record: Record, tables: Place, *, make: bool = True) -> Pyramid | None:
    """The pyramid of a record's lead, made if it is not there, or None where it is not to be.

    Parameters
    ----------
    record : Record
        Opened with the lead.
    tables : Place
        The folder of its data set's beat tables.
    """
    path = pyramid_path(record, tables)
    try:
        return open_pyramid(path, record.n_samples)
    except (FileNotFoundError, TableError):
        if not make:
            return None
    return make_pyramid(path, record.n_samples, lambda a, b: read_lead(record, a, b))


def extremes(values: Floats, width: int) -> Floats:
    """Least and greatest of every `width` values, shape (blocks, 2); the last may be of fewer."""
    pad = -len(values) % width
    if pad:
        values = np.concatenate([values, np.full(pad, np.nan, np.float32)])
    blocks = values.reshape(-1, width)
    out = np.stack([blocks.min(axis=1), blocks.max(axis=1)], axis=1)
    holes = np.isnan(out[:, 0])
    if holes.any():  # fmin is ten times as slow as min
        part = blocks[holes]
        out[holes] = np.stack([np.fmin.reduce(part, 1), np.fmax.reduce(part, 1)], axis=1)
    return out


def _joined(rows: Floats) -> Floats:
    """Each `FACTOR` rows of a level as one of the next."""
    low, high = extremes(rows[:, 0], FACTOR)[:, 0], extremes(rows[:, 1], FACTOR)[:, 1]
    return np.stack([low, high], axis=1)


def view(pyramid: Pyramid | None, read: Read, start: int, stop: int, bins: int) -> Floats:
    """What a drawing of `bins` columns shows of samples `start` to `stop`.

    Parameters
    ----------
    pyramid : Pyramid or None
        None: the samples themselves are read.
    read : callable
        As in `make_pyramid`.
    start, stop : int
        Samples of the lead, `start` before `stop`.
    bins : int
        Columns.

    Returns
    -------
    float32, shape (bins, 2)
        Least and greatest value of each column in mV; NaN where nothing was recorded.
    """
    if not 0 <= start < stop or bins < 1:
        raise ValueError(f"found samples {start} to {stop} in {bins} columns; expected some")
    per_bin, origin = (stop - start) / bins, start
    level = _level(pyramid, per_bin)
    if level is None or pyramid is None:
        rows = read(start, stop)
        rows, width = np.stack([rows, rows], axis=1), 1
    else:
        width = BLOCK * FACTOR**level
        rows = np.asarray(pyramid.levels[level][start // width : -(-stop // width)])
        start -= start % width
    edges = (origin + np.arange(bins) * per_bin - start) / width
    first = np.clip(edges.astype(np.int64), 0, len(rows) - 1)
    # A column of no more than one row has the row itself: reduceat takes it so.
    low = np.fmin.reduceat(rows[:, 0], first)
    high = np.fmax.reduceat(rows[:, 1], first)
    return np.stack([low, high], axis=1)


def _level(pyramid: Pyramid | None, per_bin: float) -> int | None:
    """The highest level of which a column has four rows at least; None: the samples."""
    levels = 0 if pyramid is None else len(pyramid.levels)
    fitting = [number for number in range(levels) if 4 * BLOCK * FACTOR**number <= per_bin]
    return fitting[-1] if fitting else None
