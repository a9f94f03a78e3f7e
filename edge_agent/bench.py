"""`holter-edge bench`: what a model costs on this device, without a server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.board.facts import facts
from edge_agent.choice import pick
from edge_agent.measure import measure
from edge_agent.runtimes import CANDIDATES, cores, measure_runtimes
from storage.registry.model_files import LITERT
from storage.registry.signing import read_unsigned
from storage.tables.golden_beats import GOLDEN, read_golden
from storage.tables.testset import TestSet
from tasks.features.rhythm import WINDOW_BEATS
from tasks.runtimes.runtimes import RUNTIMES, Network, open_runtime, usual

BATCHES = (1, 8, 32, 128, 512)
BEATS = 4_096
#: Windows of a measurement at the least.
LEAST_WINDOWS = 64

Rows = Mapping[str, NDArray[np.float32]]


def bench(
    model: Path,
    kind: Mapping[str, Any],
    beats: int = BEATS,
    runtimes: Sequence[str] = tuple(CANDIDATES),
) -> dict[str, Any]:
    """Latency, throughput, memory, cold start and energy of a .tflite file or a release.

    Parameters
    ----------
    model : Path
        The file, or a release's folder, whose golden beats are then what is run; normal noise
        otherwise.
    kind : mapping
        The device kind, for its sensors.
    beats : int
        What a measurement runs; of windows 64 at least.
    runtimes : sequence of str
        Which of a release's runtimes to compare; Keras, the published way, only where it is named.

    Returns
    -------
    dict
        `costs` by metric name; `throughput_beats_per_cpu_s` by threads and batch; `runtimes` of a
        release compared, and the `choice` that an agent would make of them; `facts`.
    """
    file = model / LITERT if model.is_dir() else model
    open_network: Callable[[int], Network]
    if model.is_dir():
        manifest = read_unsigned(model)
        open_network = partial(open_runtime, model, manifest, usual(manifest))
    else:
        open_network = partial(RUNTIMES["litert-float32"].open, file.read_bytes(), file.stem)
    network = open_network(1)
    inputs = _rows(file.parent, network, beats)
    answers = network.predict({name: array[:1] for name, array in inputs.items()})
    rows = len(next(iter(inputs.values())))
    label = np.zeros((rows, *answers.shape[1:-1]), np.int8)
    no_names = np.repeat("", rows)
    testset = TestSet(inputs, label, no_names, no_names, np.zeros(rows, np.int64))
    costs = measure(partial(open_network, 1), testset, kind).costs
    costs["model_bytes"] = float(file.stat().st_size)
    threads = sorted({1, os.cpu_count() or 1})
    table = measure_runtimes(model, runtimes, cores(), kind) if model.is_dir() else {}
    return {
        "costs": costs,
        "throughput_beats_per_cpu_s": {
            str(count): {
                str(batch): _rate(open_network(count), inputs, batch)
                for batch in BATCHES
                if batch <= rows
            }
            for count in threads
        },
        "runtimes": table,
        "choice": pick(table, read_unsigned(model)).words if table else "",
        "facts": facts(dict(kind)),
    }


def _rows(folder: Path, network: Network, beats: int) -> Rows:
    """Beats, or windows of about as many: the folder's golden ones over and over, or else noise."""
    shapes = network.inputs
    n = beats if "waveform" in shapes else max(beats // WINDOW_BEATS, LEAST_WINDOWS)
    if (folder / GOLDEN).exists():
        golden = read_golden(folder / GOLDEN)[0]
        return {name: np.resize(array, (n, *array.shape[1:])) for name, array in golden.items()}
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(n, *shape)).astype(np.float32) for name, shape in shapes.items()}


def _rate(network: Network, inputs: Rows, batch: int) -> float:
    """Beats per CPU second over all threads, after one batch of warm-up."""
    network.predict({name: array[:batch] for name, array in inputs.items()}, batch)
    n = len(next(iter(inputs.values()))) // batch * batch
    part = {name: array[:n] for name, array in inputs.items()}
    begin_s = time.process_time()
    network.predict(part, batch)
    return n / max(time.process_time() - begin_s, 1e-9)
