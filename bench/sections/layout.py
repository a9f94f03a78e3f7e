"""Parquet: how a waveform column is laid out, and how a shuffled epoch reads from many beats."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.harness import Case, measure, workplace
from bench.tables import Table

SAMPLES, GROUP, BEATS = 300, 4096, 16_384
LAYOUTS = ("fixed binary", "fixed list", "list", "300 columns")
COMPRESSIONS = ("lz4", "zstd", "none")
#: Files of the epoch; each is read again and again to stand for 20 million beats of data.
EPOCH_BEATS = 20_000_000
#: Row groups that are open at once, from which a batch draws its beats.
OPEN_GROUPS = 16


def beats(seed: int = 0) -> NDArray[np.float32]:
    """Waveforms as cleaned ECG has them: smooth, in float32, no two alike."""
    rng = np.random.default_rng(seed)
    at = np.arange(SAMPLES, dtype=np.float32)
    width, height = rng.uniform(3, 9, (2, BEATS, 1)).astype(np.float32)
    wave: NDArray[np.float32] = height / 6 * np.exp(-(((at - 100) / width) ** 2))
    wave += np.cumsum(rng.normal(0, 0.003, wave.shape), axis=1)
    return wave


def arrow_table(layout: str) -> Any:
    """The same beats in one of the layouts."""
    import pyarrow as pa

    rows = beats()
    flat = pa.array(rows.reshape(-1))
    columns: dict[str, Any] = {"sample": pa.array(np.arange(BEATS))}
    if layout == "fixed binary":
        kind = pa.binary(4 * SAMPLES)
        columns["waveform"] = pa.FixedSizeBinaryArray.from_buffers(
            kind, BEATS, [None, pa.py_buffer(rows)]
        )
    elif layout == "fixed list":
        columns["waveform"] = pa.FixedSizeListArray.from_arrays(flat, SAMPLES)
    elif layout == "list":
        offsets = pa.array(np.arange(BEATS + 1, dtype=np.int32) * SAMPLES)
        columns["waveform"] = pa.ListArray.from_arrays(offsets, flat)
    else:
        columns |= {f"v{i}": pa.array(np.ascontiguousarray(rows[:, i])) for i in range(SAMPLES)}
    return pa.table(columns)


def layouts(folder: str) -> list[tuple[str, str, float, float, float]]:
    """Milliseconds to write and to read, and megabytes, of every layout and compression."""
    import pyarrow.parquet as pq

    out = []
    for layout in LAYOUTS:
        table = arrow_table(layout)
        for compression in (*COMPRESSIONS, "default"):
            path = Path(folder) / "layout.parquet"
            options: dict[str, Any] = {
                "compression": compression,
                "use_dictionary": False,
                "write_statistics": False,
            }
            write_s, read_s = [], []
            for _ in range(3):
                start = time.process_time()
                if compression == "default":
                    pq.write_table(table, path)
                else:
                    pq.write_table(table, path, row_group_size=GROUP, **options)
                write_s.append(time.process_time() - start)
                start = time.process_time()
                pq.read_table(path, use_threads=False)
                read_s.append(time.process_time() - start)
            size = path.stat().st_size / 1e6
            out.append(
                (layout, compression, 1e3 * sorted(write_s)[1], 1e3 * sorted(read_s)[1], size)
            )
    return out


def epoch(folder: str) -> dict[str, float]:
    """Read `EPOCH_BEATS` beats in shuffled order by row groups; rows a second and memory growth."""
    import pyarrow.parquet as pq

    from bench.child import peak_mb

    path = Path(folder) / "epoch.parquet"
    table = arrow_table("fixed binary")
    pq.write_table(
        table, path, row_group_size=GROUP, compression="lz4", use_dictionary=False,
        write_statistics=False,
    )  # fmt: skip
    del table
    file, rng = pq.ParquetFile(path), np.random.default_rng(0)
    rows, early_mb, start, cpu = 0, 0.0, time.perf_counter(), time.process_time()
    for batch in _batches(file, rng):
        rows += len(batch)
        if not early_mb and rows > EPOCH_BEATS // 20:
            early_mb = peak_mb()
    return {
        "rows": rows,
        "rows_per_s": rows / (time.perf_counter() - start),
        "rows_per_cpu_s": rows / (time.process_time() - cpu),
        "early_mb": early_mb,
        "late_mb": peak_mb(),
    }


def _batches(file: Any, rng: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    """Batches of 128 from `OPEN_GROUPS` row groups drawn at random, their beats mixed."""
    rows = 0
    while rows < EPOCH_BEATS:
        groups = rng.integers(0, file.num_row_groups, OPEN_GROUPS)
        parts = [
            file.read_row_group(int(g), columns=["waveform"], use_threads=False) for g in groups
        ]
        mixed = np.concatenate(
            [
                np.frombuffer(chunk.buffers()[1], "<f4").reshape(-1, SAMPLES)
                for part in parts
                for chunk in part["waveform"].chunks
            ]
        )
        order = rng.permutation(len(mixed))
        for at in range(0, len(order), 128):
            yield mixed[order[at : at + 128]]
        rows += len(mixed)


def run() -> list[Table]:
    """Measure, and give the section's tables."""
    folder = str(workplace())
    results = measure(
        {
            "layouts": Case("bench.sections.layout:layouts", (folder,), once=True),
            "epoch": Case("bench.sections.layout:epoch", (folder,), once=True),
        }
    )
    rows = [
        [f"{layout}, {compression}", write, read, size]
        for layout, compression, write, read, size in results["layouts"].result
    ]
    columns = [("beats", 0), ("beats a CPU s", 0), ("beats a wall s", 0)]
    peaks = [("peak MB after a twentieth", 0), ("peak MB at the end", 0)]
    keys = ("rows", "rows_per_cpu_s", "rows_per_s", "early_mb", "late_mb")
    return [
        Table(
            f"{BEATS:,} beats, {BEATS * SAMPLES * 4 / 1e6:.0f} MB; CPU milliseconds",
            [("layout", None), ("write ms", 0), ("read ms", 0), ("MB", 1)],
            rows,
        ),
        Table(
            "A shuffled epoch",
            [*columns, *peaks],
            [[results["epoch"].result[key] for key in keys]],
        ),
    ]
