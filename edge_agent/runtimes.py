"""What each runtime of a release costs on this device, measured on its own golden windows.

Each runtime runs in a process of its own, which may crash, hang or answer wrongly: that is told in
its place of the table, and ends nothing else.
"""

from __future__ import annotations

import faulthandler
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.board.sensors import Energy, energy_costs, idle, meter_energy
from edge_agent.measure import BATCH, peak_memory_mb
from storage.errors import DeviceError, HolterError
from storage.registry.signing import read_unsigned
from storage.tables.golden_beats import GOLDEN, read_golden
from tasks.runtimes.litert import af_probability
from tasks.runtimes.releases import EXTRAS, check_answers
from tasks.runtimes.runtimes import RUNTIMES, Network, file_of, open_runtime

#: What is measured, and whether more threads of the processor may make it quicker.
CANDIDATES = {
    "litert-float32": True,
    "litert-int8": True,
    "onnx-cpu": True,
    "onnx-cuda": False,
    "onnx-tensorrt": False,
}
#: Seconds of a whole measurement: a runtime has an even share of what is left when it begins.
LIMIT_S = 180.0
#: Rows of a pass of a runtime's throughput, calls of a pass of its latency, passes at the least.
ROWS, SINGLES, PASSES = 512, 60, 4
#: Seconds of passes at the least where power is measured, so that there are samples enough.
POWER_S = 1.5
#: Most that answers to golden windows may differ from those of the release's own runtime: the
#: champion's policy of what devices run (storage/policies/champion.toml).
POLICY = {"p99_abs_error": 0.1, "mean_abs_error": 0.01, "f1_change": 0.005}
#: Seconds that a process has to end once it has told everything.
END_S = 10.0
#: Bytes of a line that a runtime's process answers with, at the most, and of a reason.
MOST_ANSWER, MOST_REASON = 1 << 16, 400

Costs = dict[str, Any]
#: Costs of each runtime and number of threads, or why there are none.
Table = dict[str, Costs | str]


def label(runtime: str, threads: int) -> str:
    """A row's name in the table."""
    return runtime if threads == 1 else f"{runtime} x{threads}"


def cores() -> int:
    """Cores that this process may use: a power mode turns some off."""
    return len(os.sched_getaffinity(0))


def measure_runtimes(
    release: Path,
    names: Sequence[str],
    most_threads: int,
    kind: Mapping[str, Any],
    engines: Path | None = None,
    limit_s: float = LIMIT_S,
    work: Callable[..., None] | None = None,
) -> Table:
    """What each runtime of a release costs here, by numbers of threads, or why it cannot be said.

    `work` is what a runtime's process does.
    """
    manifest, deadline = read_unsigned(release), time.monotonic() + limit_s
    resting = idle(kind)
    table: Table = {}
    for number, name in enumerate(names):
        try:
            missing = "" if file_of(manifest, name) else "not in this release"
        except ValueError as error:
            missing = str(error)
        if missing:
            table[name] = missing
            continue
        share_s = (deadline - time.monotonic()) / (len(names) - number)
        counts = range(1, 1 + (most_threads if CANDIDATES.get(name, False) else 1))
        order = (release, name, [*counts], dict(kind), resting, engines)
        table |= _in_a_process(work or measure_runtime, order, max(share_s, 1.0))
    return table


def _in_a_process(work: Callable[..., None], order: tuple[Any, ...], limit_s: float) -> Table:
    """The rows that a runtime's process tells until it ends, crashes, or its time is up."""
    name, table, deadline = order[1], Table(), time.monotonic() + limit_s
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(send, limit_s, *order), daemon=True)
    process.start()
    send.close()
    reason = ""
    with receive:
        while not reason:
            if not receive.poll(max(deadline - time.monotonic(), 0)):
                reason = f"took longer than {limit_s:.0f} s"
                break
            try:
                table |= _rows_of(receive.recv_bytes(MOST_ANSWER), name)
            except EOFError:
                break
            except (OSError, ValueError, TypeError, AttributeError) as error:
                reason = f"answered what cannot be read: {error}"
    process.join(0 if reason else END_S)
    if process.is_alive():
        reason = reason or "its process did not end"
        process.kill()
        process.join()
    if not reason and process.exitcode:
        reason = f"its process ended with {process.exitcode}"
    if reason and name in table:
        table[f"{name}, then"] = reason[:MOST_REASON]
    elif reason or not table:
        table[name] = (reason or "its process told nothing")[:MOST_REASON]
    return table


def _rows_of(answer: bytes, name: str) -> Table:
    """The rows of a process's answer; ValueError where they are none of this runtime."""
    rows = json.loads(answer)
    if not isinstance(rows, dict) or not all(key.startswith(name) for key in rows):
        raise ValueError("found no rows of its runtime")
    for row in rows.values():
        if isinstance(row, str):
            continue
        figures = [v for v in row.values() if isinstance(v, float)]
        if row.get("runtime") != name or not 1 <= row.get("threads", 0) <= cores():
            raise ValueError("found a row of another runtime")
        if "latency_p50_ms" not in row or not all(math.isfinite(v) for v in figures):
            raise ValueError("found figures that are no numbers")
    return dict(rows)


def measure_runtime(
    connection: Connection,
    limit_s: float,
    release: Path,
    name: str,
    threads: Sequence[int],
    *rest: Any,
) -> None:
    """What a runtime's process does: tell the costs of each number of threads, or the reason."""
    begin_s = time.perf_counter()
    faulthandler.dump_traceback_later(limit_s + 5, exit=True)  # the agent may be gone by then
    for count in threads:
        row = label(name, count)
        try:
            answer: Table = {row: _costs(release, name, count, begin_s, *rest)}
        except Exception as error:  # a provider's errors share no class
            kind_of = "" if isinstance(error, HolterError) else f"{type(error).__name__}: "
            answer = {row: f"{kind_of}{error}"[:MOST_REASON]}
        with suppress(OSError):
            connection.send_bytes(json.dumps(answer).encode()[:MOST_ANSWER])
        begin_s = time.perf_counter()
        if isinstance(answer[row], str):
            break
    connection.close()


def _costs(
    release: Path,
    name: str,
    threads: int,
    begin_s: float,
    kind: Mapping[str, Any],
    resting: Energy,
    engines: Path | None,
) -> Costs:
    """Costs of a runtime that answers the golden windows as it did where it was made."""
    manifest = read_unsigned(release)
    network = open_runtime(release, manifest, name, threads, engines)
    if RUNTIMES[name].extra in EXTRAS:  # a release has no golden answers of another
        check_answers(release, manifest, name, network)
    _refuse_beside_own(release, network)
    cold_s = time.perf_counter() - begin_s
    rows = _rows(release)
    row = {key: array[:1] for key, array in rows.items()}
    rates: list[float] = []
    done = 0
    with meter_energy(kind) as load:
        stop_s = time.perf_counter() + (POWER_S if resting.joules else 0)
        while len(rates) < PASSES or time.perf_counter() < stop_s:
            start = time.process_time()
            network.predict(rows, BATCH)
            rates.append(ROWS / max(time.process_time() - start, 1e-9))
            done += ROWS
    network.predict(row)
    latency_ms = np.empty((PASSES, SINGLES))
    for place in np.ndindex(latency_ms.shape):
        start_ns = time.perf_counter_ns()
        network.predict(row)
        latency_ms[place] = (time.perf_counter_ns() - start_ns) / 1e6
    costs: Costs = {
        "runtime": name,
        "threads": threads,
        "latency_p50_ms": float(np.median(latency_ms, axis=1).min()),  # the calmest pass's
        "latency_p99_ms": float(np.percentile(latency_ms, 99)),
        "throughput_rows_per_cpu_s": max(rates),
        "cold_start_ms": 1e3 * cold_s,
        "peak_memory_mb": peak_memory_mb(),
        "bytes": (release / str(file_of(manifest, name))).stat().st_size,
        "providers": [*getattr(network, "providers", ())],
    }
    energy = energy_costs(kind, resting, load, done)
    return costs | ({"energy_mj_per_row": energy["energy_mj_per_beat"]} if energy else {})


def _refuse_beside_own(release: Path, network: Network) -> None:
    """Raise DeviceError where answers to golden windows are not those of the release's own."""
    inputs, expected = read_golden(release / GOLDEN)
    error = np.abs(af_probability(network.predict(inputs)) - expected)
    found = {
        "p99_abs_error": float(np.percentile(error, 99)),
        "mean_abs_error": float(error.mean()),
    }
    for figure, value in found.items():
        if not value <= POLICY[figure]:
            raise DeviceError(
                f"golden windows: found {figure} {value:.2g} beside the release's own runtime; "
                f"expected at most {POLICY[figure]:g}"
            )


def _rows(release: Path) -> dict[str, NDArray[np.float32]]:
    """The release's golden windows, over and over."""
    golden = read_golden(release / GOLDEN)[0]
    return {name: np.resize(array, (ROWS, *array.shape[1:])) for name, array in golden.items()}
