"""Run a test set on a network and measure: answers, latency, throughput, memory."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.board.sensors import Energy, energy_costs, idle, meter_energy
from edge_agent.board.throttling import Throttling, watch_throttling
from storage.errors import ModelError
from storage.tables.testset import TestSet
from tasks.runtimes.litert import af_probability
from tasks.runtimes.runtimes import Network

WARM_UP = 100
TIMED = 2_000
#: Rows of one call of the network: their activations stay in the cache.
BATCH = 32
#: Rows that are in memory at once.
BLOCK = 4_096


@dataclass(frozen=True, eq=False)
class Measurement:
    """P(AF), of the shape of the test set's labels; costs, by metric name; what throttled them."""

    probability: NDArray[np.float32]
    costs: dict[str, float]
    throttling: Throttling


def measure(
    open_network: Callable[[], Network], testset: TestSet, kind: Mapping[str, Any] | None = None
) -> Measurement:
    """Run every beat (`_run`), and watch meanwhile what holds the kind's clocks back."""
    with watch_throttling(kind) if kind else nullcontext(Throttling()) as throttling:
        probability, costs = _run(open_network, testset, kind)
    return Measurement(probability, costs, throttling)


def _run(
    open_network: Callable[[], Network], testset: TestSet, kind: Mapping[str, Any] | None
) -> tuple[NDArray[np.float32], dict[str, float]]:
    """Run every beat, batch-wise for the answers and one at a time for the latency.

    Latency is of single rows (a beat, or a window of beats) in the order of the test set after a
    warm-up of 100; throughput is of the beats that count in batches of 32 rows,
    reading from disk included; memory is the process's peak; energy is of the batches, above idle,
    where the kind's sensors measure it (`sensors`).
    """
    resting = idle(kind) if kind else None
    begin_s = time.perf_counter()
    network = open_network()
    refuse_other_shapes(network, testset)
    network.predict({name: array[:1] for name, array in testset.inputs.items()})
    cold_ms = 1e3 * (time.perf_counter() - begin_s)

    wall, cpu = time.perf_counter(), time.process_time()
    probability = np.empty(testset.label.shape, np.float32)
    with meter_energy(kind) if kind else nullcontext(Energy()) as load:
        for start in range(0, len(testset), BLOCK):
            part = {name: array[start : start + BLOCK] for name, array in testset.inputs.items()}
            probability[start : start + BLOCK] = af_probability(network.predict(part, BATCH))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu

    singles = [
        {name: array[i : i + 1] for name, array in testset.inputs.items()}
        for i in range(min(TIMED, len(testset)))
    ]
    for row in (singles * (1 + WARM_UP // len(singles)))[:WARM_UP]:
        network.predict(row)
    latency_ms = np.empty(len(singles))
    for i, row in enumerate(singles):
        start = time.perf_counter_ns()
        network.predict(row)
        latency_ms[i] = (time.perf_counter_ns() - start) / 1e6
    p50, p95, p99 = np.percentile(latency_ms, (50, 95, 99)).tolist()
    beats = int(np.count_nonzero(testset.label >= 0))
    costs = {
        "latency_p50_ms": p50,
        "latency_p95_ms": p95,
        "latency_p99_ms": p99,
        "cold_start_ms": cold_ms,
        "throughput_beats_per_s": beats / max(wall, 1e-9),
        "throughput_beats_per_cpu_s": beats / max(cpu, 1e-9),
        "peak_memory_mb": peak_memory_mb(),
    }
    if kind and resting:
        costs |= energy_costs(kind, resting, load, beats)
    return probability, costs


def refuse_other_shapes(network: Network, testset: TestSet) -> None:
    """Raise ModelError, before rows are read, where a test set's inputs are not a network's."""
    rows = {name: tuple(array.shape[1:]) for name, array in testset.inputs.items()}
    shapes = {name: tuple(shape) for name, shape in network.inputs.items()}
    if rows != shapes:
        raise ModelError(
            f"test set: found inputs {sorted(rows)} of shapes {sorted(rows.values())}; "
            f"the network takes {sorted(shapes)} of {sorted(shapes.values())}"
        )


def peak_memory_mb(status: Path = Path("/proc/self/status")) -> float:
    """This process's resident peak so far, in MiB.

    Linux tells it as VmHWM. `ru_maxrss` is second best: a process inherits that of the one that
    started it, across exec.
    """
    if status.is_file():
        match = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)
        if match:
            return int(match[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # no /proc, as in a chroot
