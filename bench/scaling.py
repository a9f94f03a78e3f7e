"""Time a record-hour from 1 to 1,000 hours of records, and a figure of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.harness import ROOT, Case, measure, simulated, table, workplace

TITLE = "Scaling: time a record-hour"
TOTAL_HOURS = (1, 3, 10, 30, 100, 300, 1000)
#: A shorter look: HOLTER_BENCH_HOURS=100 stops there.
MOST_HOURS = float(os.environ.get("HOLTER_BENCH_HOURS", "1000"))
FIGURE = ROOT / "docs" / "images" / "scaling.png"


def scaling(one_hour: str, ten_hours: str, out: str) -> list[list[float]]:
    """CPU milliseconds a record-hour, and peak MB, at growing totals of record-hours.

    Records of 1 h up to 3 h in all, of 10 h from there on, one after the other; the tables are
    written over and over, so that a disk of any size will do.
    """
    from bench.child import peak_mb
    from bench.signal import ours

    ours(one_hour, "sim000", out)
    rows = []
    for hours in (total for total in TOTAL_HOURS if total <= MOST_HOURS):
        folder, each = (one_hour, 1) if hours < 10 else (ten_hours, 10)
        began = time.process_time()
        for _ in range(hours // each):
            ours(folder, "sim000", out)
        rows.append([hours, 1e3 * (time.process_time() - began) / hours, peak_mb()])
    return rows


def draw(rows: list[list[float]]) -> None:
    """The figure: milliseconds a record-hour over hours, from 0."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
    axis.plot([row[0] for row in rows], [row[1] for row in rows], marker="o")
    axis.set(xscale="log", xlabel="record-hours in all", ylabel="CPU ms a record-hour")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=120)
    plt.close(figure)


def run() -> str:
    """Measure, draw, and give the section's text."""
    out = str(workplace() / "out-scaling")
    Path(out).mkdir(exist_ok=True)
    arguments = (str(simulated(1, 1)), str(simulated(1, 10)), out)
    found = measure({"scaling": Case("bench.scaling:scaling", arguments, once=True)})
    rows: list[list[float]] = found["scaling"].result
    draw(rows)
    cells = [(f"{hours:,.0f}", f"{ms:.0f}", f"{mb:.0f}") for hours, ms, mb in rows]
    return f"""\
One process, one record after the other, each from raw WFDB to its Parquet file.

{table(("record-hours", "CPU ms a record-hour", "peak MB so far"), cells)}

![CPU milliseconds a record-hour over record-hours](images/scaling.png)"""
