"""One beat of `resnet21` in LiteRT: what the interpreter takes, and what is around it."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from bench.harness import Case, measure
from bench.tables import Cell, Table

CALLS = 4000


def p50_us(call: Callable[[], object], calls: int = CALLS) -> float:
    """Median wall microseconds of a call, after some to warm up."""
    for _ in range(calls // 20):
        call()
    taken = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - start)
    return median(taken) / 1e3


def parts(runtime: str) -> dict[str, float]:
    """Microseconds of a whole answer, and of the interpreter's work alone."""
    from tasks.networks.cost import multiply_adds
    from tasks.networks.models import build
    from tasks.runtimes.convert import EXPORTS
    from tasks.runtimes.runtimes import RUNTIMES

    random = np.random.default_rng(0)
    rows = {"waveform": random.normal(size=(200, 300, 1)).astype(np.float32)}
    model = build("resnet21", seed=0)
    network: Any = RUNTIMES[runtime].open(EXPORTS[runtime].make(model, rows), "resnet21", 1)
    row = {name: array[:1] for name, array in rows.items()}
    network.predict(row)
    return {
        "whole": p50_us(lambda: network.predict(row)),
        "interpreter": p50_us(network._interpreter.invoke),
        "multiply_adds": multiply_adds(model),
    }


def run() -> list[Table]:
    """Measure, and give the section's table."""
    place = "bench.sections.beat:"
    names = ("litert-float32", "litert-int8")
    cases = {name: Case(f"{place}parts", (name,), once=True) for name in names}
    figures = {name: result.result for name, result in measure(cases).items()}
    rows: list[list[Cell]] = []
    for name, result in figures.items():
        whole, inside, count = (result[k] for k in ("whole", "interpreter", "multiply_adds"))
        rows.append([f"`{name}`", whole, inside, whole - inside, count / inside / 1e3])
    columns = [
        ("runtime", None),
        ("p50, us", 1),
        ("in the interpreter, us", 1),
        ("around it, us", 1),
        ("1e9 multiply-adds a s", 1),
    ]
    count = figures[names[0]]["multiply_adds"]
    return [Table(f"One beat: {count / 1e6:.2f} M multiply-adds", list(columns), rows)]
