"""`holter-edge bench`: what a model costs on this device, without a server."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.facts import facts
from edge_agent.measure import measure
from storage.golden_beats import GOLDEN, read_golden
from storage.model_files import LITERT
from storage.testset import TestSet
from tasks.litert import LiteRT

BATCHES = (1, 8, 32, 128, 512)
BEATS = 4_096


def bench(model: Path, kind: Mapping[str, Any], beats: int = BEATS) -> dict[str, Any]:
    """Latency, throughput, memory, cold start and energy of a .tflite file.

    Parameters
    ----------
    model : Path
        The file, or a release's folder, whose golden beats are then what is run; normal noise
        otherwise.
    kind : mapping
        The device kind, for its sensors.
    beats : int
        Beats a measurement runs.

    Returns
    -------
    dict
        `costs` by metric name; `throughput_beats_per_cpu_s` by threads and batch; `facts`.
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
        "facts": facts(dict(kind)),
    }


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
