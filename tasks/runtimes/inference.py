"""From a record's beats to a network's answers: the same on a server and on a device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from storage.errors import ModelError, TableError
from storage.tables.beats import BeatTable
from storage.tables.testset import Beats
from tasks.features.rhythm import RhythmRecord, spread
from tasks.networks.models import spec_of
from tasks.networks.sequence import features, reads_records, sequence_record, windows
from tasks.runtimes.litert import af_probability
from tasks.runtimes.runtimes import Network

#: Beats that are answered at once.
BLOCK = 4_096
#: Windows that are: a fused network's activations are 2 MB a window.
WINDOWS = 8


def answers(network: Network, inputs: Mapping[str, Beats]) -> NDArray[np.float32]:
    """P(AF) of beats (n,) or windows (n, beats), their inputs read block by block."""
    n = len(next(iter(inputs.values())))
    parts = [
        af_probability(network.predict({k: array[at : at + BLOCK] for k, array in inputs.items()}))
        for at in range(0, n, BLOCK)
    ]
    return np.concatenate(parts)


def of_record(network: Network, name: str, record: RhythmRecord) -> NDArray[np.float32]:
    """P(AF) of every beat of a record, its windows cut and answered a few at a time.

    Nothing of one stretch is seen from another: they stand as far apart as the network sees.

    A network from before a column was added reads the first ones. Where a column changes, the input
    gets another name.

    Raises
    ------
    ModelError
        The file reads other inputs than the network of that name does today.
    """
    _refuse_unless_read(network, name)
    cut = windows(name)
    places = cut.places(record.begins)
    n = int(places[-1]) + 1
    columns = {"columns": network.inputs["rhythm"][-1]} if "rhythm" in network.inputs else {}
    inputs = {
        k: spread(v[:, : network.inputs[k][-1]], places)
        for k, v in features(name, record, **columns).items()
    }
    parts = [
        af_probability(
            network.predict(
                {k: cut.cut(v, rows=range(at, at + WINDOWS)) for k, v in inputs.items()}
            )
        )
        for at in range(0, cut.count(n), WINDOWS)
    ]
    return np.asarray(cut.join(np.concatenate(parts), n)[places], np.float32)


def _refuse_unless_read(network: Network, name: str) -> None:
    """Raise where a file's inputs are not those of the network of that name today."""
    names, expected = set(network.inputs), set(spec_of(name).inputs)
    if names != expected:
        raise ModelError(
            f"{name}: the file reads {' and '.join(sorted(names))}; expected "
            f"{' and '.join(sorted(expected))}: "
            "it is of another release of Holter AF, train it anew"
        )


def probabilities(
    network: Network, name: str, table: BeatTable
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """P(AF) of every beat of a record, and where the network could say: else it is 0.

    Raises
    ------
    ModelError
        The file's inputs are not those of the network of that name.
    TableError
        The network reads waveforms, and the table has none.
    """
    if reads_records(name):
        return of_record(network, name, sequence_record(name, table)), np.ones(len(table), bool)
    _refuse_unless_read(network, name)
    if table.waveform is None:
        raise TableError(f"record {table.record}: found no waveform; expected what {name} reads")
    decidable = np.asarray(np.isfinite(table.waveform).all(axis=1))
    probability = np.zeros(len(table), np.float32)
    rows = np.flatnonzero(decidable)
    for at in range(0, len(rows), BLOCK):
        part = rows[at : at + BLOCK]
        beats = np.ascontiguousarray(table.waveform[part][..., None])
        probability[part] = af_probability(network.predict(beats))
    return probability, decidable
