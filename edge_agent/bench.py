"""`holter-edge bench`: what a model costs on this device, without a server."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.facts import facts
from edge_agent.measure import BATCH, measure
from storage.errors import ModelError
from storage.files import read_json
from storage.golden_beats import GOLDEN, read_golden
from storage.model_files import LITERT, MANIFEST
from storage.testset import TestSet
from tasks.litert import LiteRT
from tasks.runtimes import files_of, open_runtime

BATCHES = (1, 8, 32, 128, 512)
BEATS = 4_096
#: Compared by default; Keras is the published way, which no device needs.
USUAL_RUNTIMES = ("litert-float32", "litert-int8")
#: Rows of a runtime's throughput, and calls of its latency.
RUNTIME_ROWS, SINGLES = 512, 200


def bench(
    model: Path,
    kind: Mapping[str, Any],
    beats: int = BEATS,
    runtimes: Sequence[str] = USUAL_RUNTIMES,
) -> dict[str, Any]:
    """Latency, throughput, memory, cold start and energy of a .tflite file.

    Parameters
    ----------
    model : Path
        The file, or a release's folder, whose golden beats are then what is run; normal noise
        otherwise.
    kind : mapping
        The device kind, for its sensors.
    beats : int
        Rows (beats, or windows of them) a measurement runs.
    runtimes : sequence of str
        Which of a release's runtimes to compare.

    Returns
    -------
    dict
        `costs` by metric name; `throughput_beats_per_cpu_s` by threads and batch; `runtimes` of a
        release compared; `facts`.
    """
    file = model / LITERT if model.is_dir() else model
    data = file.read_bytes()
    network = LiteRT(data)
    if (file.parent / GOLDEN).exists():
        few = read_golden(file.parent / GOLDEN)[0]
        inputs = {k: np.resize(v, (beats, *v.shape[1:])) for k, v in few.items()}
    else:
        rng = np.random.default_rng(0)
        inputs = {
            name: rng.normal(size=(beats, *shape)).astype(np.float32)
            for name, shape in network.inputs.items()
        }
    none = np.repeat("", beats)
    testset = TestSet(inputs, np.zeros(beats, np.int8), none, none, np.zeros(beats, np.int64))
    costs = measure(data, testset, kind).costs
    costs["model_bytes"] = float(len(data))
    threads = sorted({1, os.cpu_count() or 1})
    return {
        "costs": costs,
        "throughput_beats_per_cpu_s": {
            str(count): {str(batch): _rate(data, inputs, count, batch) for batch in BATCHES}
            for count in threads
        },
        "runtimes": compared(model, inputs, runtimes) if model.is_dir() else {},
        "facts": facts(dict(kind)),
    }


def compared(
    release: Path, inputs: Mapping[str, NDArray[np.float32]], names: Sequence[str]
) -> dict[str, Any]:
    """Latency and throughput of a release's runtimes, on one thread; what is missing is said."""
    manifest = read_json(release / MANIFEST)
    files = files_of(manifest)
    out: dict[str, Any] = {}
    for name in names:
        if name not in files:
            out[name] = "not in this release"
            continue
        try:
            network = open_runtime(release, manifest, name)
        except ModelError as error:
            out[name] = str(error)
            continue
        part = {key: array[:RUNTIME_ROWS] for key, array in inputs.items()}
        one = {key: array[:1] for key, array in inputs.items()}
        network.predict(part, BATCH)
        began = time.process_time()
        network.predict(part, BATCH)
        spent = time.process_time() - began
        latency_ms = np.empty(SINGLES)
        for i in range(SINGLES):
            start = time.perf_counter_ns()
            network.predict(one)
            latency_ms[i] = (time.perf_counter_ns() - start) / 1e6
        out[name] = {
            "latency_p50_ms": float(np.median(latency_ms)),
            "latency_p99_ms": float(np.percentile(latency_ms, 99)),
            "throughput_rows_per_cpu_s": len(next(iter(part.values()))) / max(spent, 1e-9),
            "bytes": (release / files[name]).stat().st_size,
        }
    return out


def _rate(
    model: bytes, inputs: Mapping[str, NDArray[np.float32]], threads: int, batch: int
) -> float:
    """Beats per CPU second over all threads, after one pass of warm-up."""
    network = LiteRT(model, threads)
    few = {name: array[:batch] for name, array in inputs.items()}
    network.predict(few, batch)
    n = len(next(iter(inputs.values()))) // batch * batch
    part = {name: array[:n] for name, array in inputs.items()}
    began = time.process_time()
    network.predict(part, batch)
    return n / max(time.process_time() - began, 1e-9)
