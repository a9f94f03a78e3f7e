"""Networks that read whole records: their inputs at every beat, cut into windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.tables.beats import BeatTable
from tasks.features import rhythm
from tasks.features.fused import fused_record, inputs
from tasks.features.rhythm import (
    RhythmRecord,
    Windows,
    rhythm_record,
    rr_features,
    spread,
    windows_of,
)
from tasks.networks.models import spec_of

Floats = NDArray[np.float32]


def _rhythm(
    record: RhythmRecord, *, causal: bool, columns: int = rhythm.FEATURES
) -> tuple[Floats, ...]:
    return (rr_features(record.rr_s, causal=causal, columns=columns),)


def _cues_and_shape(record: RhythmRecord, *, causal: bool) -> tuple[Floats, ...]:
    if causal:
        raise ValueError("no causal network reads shapes yet")
    return inputs(record.rr_s, record.shape)


def _cues(record: RhythmRecord, *, causal: bool) -> tuple[Floats, ...]:
    return _cues_and_shape(record, causal=causal)[:1]


#: What each kind of network reads, by the names of its inputs.
FEATURES_OF: Mapping[tuple[str, ...], Callable[..., tuple[Floats, ...]]] = {
    ("rhythm",): _rhythm,
    ("cues", "shape"): _cues_and_shape,
    ("cues",): _cues,
}


def reads_records(name: str) -> bool:
    """Whether a network reads whole records, not one beat at a time."""
    return spec_of(name).inputs in FEATURES_OF


def reads_shapes(name: str) -> bool:
    """Whether a network over whole records reads waveforms where there are some, or their cues."""
    return "cues" in spec_of(name).inputs


def reads_waveforms(name: str) -> bool:
    """Whether a network needs a beat table's waveforms: one beat's, or for shapes and cues."""
    return not reads_records(name) or reads_shapes(name)


def sequence_record(name: str, table: BeatTable, weight: float = 1.0) -> RhythmRecord:
    """What a network needs of a beat table: shapes only where it reads them."""
    return (fused_record if reads_shapes(name) else rhythm_record)(table, weight)


def features(name: str, record: RhythmRecord, **columns: int) -> dict[str, Floats]:
    """A network's inputs at every beat of a record, (n, ...) each, by name; stretch by stretch.

    `columns` says how many a network of the rhythm reads, where its file is from before the last.
    """
    spec = spec_of(name)
    read = FEATURES_OF[spec.inputs]
    parts = [read(stretch, causal=spec.causal, **columns) for stretch in record.stretches()]
    arrays = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    return dict(zip(spec.inputs, arrays, strict=True))


def as_read_by(name: str, arrays: Mapping[str, Floats]) -> dict[str, Floats]:
    """A network's inputs among those that were drawn, perhaps for another network."""
    return {key: arrays[key] for key in spec_of(name).inputs}


def windows(name: str) -> Windows:
    """How a record is cut for a network."""
    return windows_of(causal=spec_of(name).causal)


def cut(
    name: str, begins: NDArray[np.bool_], values: NDArray[Any], fill: float = 0.0
) -> NDArray[Any]:
    """Values of a record (n, ...) as a network's windows (k, 640, ...), its stretches apart."""
    by = windows(name)
    return by.cut(spread(values, by.places(begins), fill), fill)


def input_windows(name: str, record: RhythmRecord) -> dict[str, Floats]:
    """A network's inputs as windows (k, 640, ...), by name."""
    arrays = features(name, record)
    return {key: cut(name, record.begins, values) for key, values in arrays.items()}
