"""A tiny data set, of beats that are easily told apart; a record with gaps; a tiny network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from storage.files import sha256_file
from storage.tables.beats import BeatTable, Source, write_beats
from storage.tables.beats_manifest import Entry, Manifest, write_manifest
from tasks.features.rhythm import RhythmRecord
from tasks.networks.models import Model

SOURCE = Source(
    "tiny", "", "", "II", 250.0, 12_000, [[0, 12_000]], {}, {}, "", "", "", {}, simulated=True
)


def tiny_table(number: int, n: int) -> BeatTable:
    """Beats of one record, every other one AF and higher; the first sample is the beat's own."""
    random = np.random.default_rng(number)
    label = (np.arange(n) % 2).astype(np.int8)
    waveform = random.normal(0, 0.1, (n, 300)).astype(np.float32) + label[:, None]
    waveform[:, 0] = number + np.arange(n) / n
    return BeatTable(
        dataset="tiny",
        record=f"{number}",
        subject=f"{number}",
        sample=np.arange(n) * 200,
        time_s=np.arange(n, dtype=np.float64) * 0.8,
        rr_prev_s=np.where(np.arange(n) > 0, 0.8, np.nan).astype(np.float32),
        rr_next_s=np.full(n, 0.8, np.float32),
        symbol=np.full(n, "N"),
        rhythm=np.where(label == 1, "AFIB", "N"),
        label=label,
        quality=np.zeros(n, np.uint16),
        noise=np.zeros(n, np.float32),
        waveform=waveform,
        stretches_s=np.array([[0.0, 48.0]]),
    )


def tiny_dataset(
    folder: Path, records: int = 5, n: int = 60, groups: int = 1, dataset: str = "tiny"
) -> Path:
    """A data set of so many records of `n` beats in `groups` row groups; its manifest's path."""
    entries = []
    for number in range(records):
        table = replace(tiny_table(number, n), dataset=dataset)
        parts = [table.take(rows) for rows in np.array_split(np.arange(n), groups)]
        name = f"{number}"
        file = folder / f"{name}.parquet"
        write_beats(file, parts, replace(SOURCE, dataset=dataset, record=name, subject=name))
        entries.append(
            Entry(name, name, file.name, sha256_file(file), "", "II", 0.01, n, n // 2, 0, 0, {})
        )
    manifest = Manifest(dataset, "Tiny", "1", "", "", "", "", "", "", True, tuple(entries), {}, {})
    return write_manifest(folder / "manifest.json", manifest)


def record_with_gaps(seed: int = 8) -> RhythmRecord:
    """Stretches of 1, 2, 40, 700 and 157 beats, regular and as in AF; some of them lack a shape."""
    random = np.random.default_rng(seed)
    lengths = [1, 2, 40, 700, 157]
    n = sum(lengths)
    spread_s = np.where(np.arange(n) % 400 < 200, 0.02, 0.18)  # regular, then as in AF
    rr_s = np.clip(random.normal(0.8, spread_s), 0.35, 1.6).astype(np.float32)
    rr_s[np.cumsum([0, *lengths[:-1]])] = np.nan
    shape = random.normal(size=(n, 80)).astype(np.float32)
    shape[random.random(n) < 0.2] = np.nan
    return RhythmRecord("made-up", "made-up", rr_s, np.zeros(n, np.int8), shape=shape)


def two_layers() -> Model:
    """Build two convolutions: TensorFlow makes a step of them in a tenth of the usual time."""
    import keras
    from keras import layers

    x = start = layers.Input((300, 1), name="waveform")
    for filters in (8, 12):
        x = layers.Conv1D(filters, 9, strides=4, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(start, layers.Dense(2, activation="softmax", name="af")(x), name="tiny")
