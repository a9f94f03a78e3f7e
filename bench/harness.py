"""What every section shares: cases timed in turn in processes of their own, and data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent

#: One thread a process, and no telemetry: CPU seconds then mean the same for every case.
QUIET: Mapping[str, str] = {
    **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")},
    "PYTHONWARNINGS": "ignore",  # peers' deprecations
    "PYTHONDONTWRITEBYTECODE": "",  # a user's second command finds its modules compiled
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class Case:
    """A function to time, by name, with arguments that JSON can carry.

    Attributes
    ----------
    target : str
        "module:function".
    arguments : tuple
        What it is called with.
    scale : float
        Factor on the seconds, where a slow peer is run on a part of the work.
    cold : bool
        Time the first run of a fresh process, imports and interpreter included.
    once : bool
        No run to warm up: the function takes its own times, and gives them with a "wall_s".
    tree : Path
        The checkout whose code is run: this one, or an earlier commit's.
    """

    target: str
    arguments: tuple[Any, ...] = ()
    scale: float = 1.0
    cold: bool = False
    once: bool = False
    tree: Path = ROOT


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds, and what the function gave last."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    result: Any


def workplace() -> Path:
    """Where the benchmarks keep simulated records and outputs: HOLTER_BENCH, or a temporary one."""
    folder = Path(os.environ.get("HOLTER_BENCH", Path(tempfile.gettempdir()) / "holter-bench"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_child(case: Case, runs: int) -> tuple[dict[str, Any], float]:
    """Run a case in a process of its own; gives its figures and the wall seconds of it all."""
    words = [sys.executable, "-m", "bench.child", case.target]
    start = time.perf_counter()
    process = subprocess.run(  # noqa: S603 - our own modules, no shell
        [*words, json.dumps(case.arguments), str(runs)],
        cwd=case.tree,
        env={**os.environ, **QUIET, "PYTHONPATH": str(case.tree)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    figures: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return figures, time.perf_counter() - start


def process_cpu_s(
    tree: Path, words: list[str], env: Mapping[str, str] | None = None, *, check: bool = True
) -> float:
    """CPU seconds of Python with these words by the code of a checkout, and of what it starts."""
    before = os.times()
    subprocess.run(  # noqa: S603 - our own modules, no shell
        [sys.executable, *words],
        cwd=tree,
        env={**(os.environ if env is None else env), **QUIET, "PYTHONPATH": str(tree)},
        stdout=subprocess.DEVNULL,
        stderr=None if check else subprocess.DEVNULL,
        check=check,
    )
    after = os.times()
    ended = after.children_user + after.children_system
    return ended - before.children_user - before.children_system


def rounds() -> int:
    """How often each case is timed: 3, or HOLTER_BENCH_ROUNDS."""
    return int(os.environ.get("HOLTER_BENCH_ROUNDS", "3"))


def measure(cases: Mapping[str, Case]) -> dict[str, Figures]:
    """Time every case `rounds()` times, in turn, so that a busy minute falls on all of them.

    Each time is a fresh process: one run to warm up and one that counts, or the first alone where
    the case is cold.
    """
    results: dict[str, list[Figures]] = {name: [] for name in cases}
    for number in range(rounds()):
        for name, case in cases.items():
            print(f"  round {number + 1}/{rounds()}  {name}", file=sys.stderr, flush=True)
            figures, wall_s = run_child(case, 1 if case.cold or case.once else 2)
            cpu_s = figures["total_cpu_s"] if case.cold else figures["cpu_s"][-1]
            wall_s = wall_s if case.cold else figures["wall_s"][-1]
            results[name].append(
                Figures(
                    cpu_s * case.scale, wall_s * case.scale, figures["peak_mb"], figures["result"]
                )
            )
    return {
        name: Figures(
            median(run.cpu_s for run in runs),
            median(run.wall_s for run in runs),
            median(run.peak_mb for run in runs),
            _middle(runs),
        )
        for name, runs in results.items()
    }


def _middle(runs: list[Figures]) -> Any:
    """The result of the run in the middle by wall time."""
    return sorted(runs, key=lambda run: run.wall_s)[len(runs) // 2].result


def simulated_folder(subjects: int, hours: float, seed: int = 0) -> Path:
    """The folder of a simulated data set (250 Hz, two leads, format 212), made on first use."""
    from flows.ingest.simulate import write_simulated

    folder = workplace() / f"sim-{subjects}x{hours:g}h-{seed}"
    return write_simulated(folder, subjects, hours, seed).parent
