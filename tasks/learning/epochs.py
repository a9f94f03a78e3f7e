"""An epoch of beats that lie on disk: each beat once, shuffled, in memory that is flat."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from storage.tables.labelled import LabelledBeats

Index = NDArray[np.int64]
Batch = tuple[NDArray[np.float32], NDArray[np.float32]]

#: Batches of a pool: 65,536 beats of the method's batches, 79 MB, out of 16 row groups or more.
POOL_BATCHES = 512
#: Beats of a block that is read in order.
BLOCK = 1_024


def pools(starts: Index, index: Index, most: int, random: np.random.Generator) -> Iterator[Index]:
    """Positions of beats, each once, shuffled: row groups in drawn order, mixed a pool at a time.

    Parameters
    ----------
    starts : int64, shape (groups + 1,)
        The position of each row group's first beat, and the number of beats.
    index : int64, shape (k,)
        Ascending positions of the beats of the epoch.
    most : int
        Beats of a pool; the last has what is left.
    random : Generator
        What draws.

    Yields
    ------
    int64, shape (most,)
    """
    edges = np.searchsorted(index, starts)
    waiting = index[:0]
    for group in random.permutation(len(starts) - 1):
        waiting = np.concatenate([waiting, index[edges[group] : edges[group + 1]]])
        while len(waiting) >= most:
            yield random.permutation(waiting[:most])
            waiting = waiting[most:]
    if len(waiting):
        yield random.permutation(waiting)


def shuffled_batches(
    beats: LabelledBeats, index: Index, batch: int, random: np.random.Generator
) -> Iterator[Batch]:
    """The batches of an epoch: beats (batch, 300, 1), classes (batch, 2); the last is shorter."""
    for pool in pools(beats.waveform.starts, index, POOL_BATCHES * batch, random):
        x, y = beats.waveform[pool], beats.label[pool]
        for at in range(0, len(pool), batch):
            yield _batch(x[at : at + batch], y[at : at + batch])


def in_order(beats: LabelledBeats, index: Index) -> Iterator[Batch]:
    """The same beats in the tables' order, in blocks of 1,024."""
    for at in range(0, len(index), BLOCK):
        block = index[at : at + BLOCK]
        yield _batch(beats.waveform[block], beats.label[block])


def _batch(x: NDArray[np.float32], y: NDArray[np.int8]) -> Batch:
    return x[..., None], np.eye(2, dtype=np.float32)[y]
