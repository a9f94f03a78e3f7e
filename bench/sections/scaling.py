"""Time a record-hour of single records from 1 to 1,000 hours, and a figure of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.harness import Case, measure, simulated_folder, workplace
from bench.tables import PAGES, Table

HOURS = (1, 3, 10, 30, 100, 300, 1000)
#: A shorter look: HOLTER_BENCH_HOURS=100 stops there.
MOST_HOURS = float(os.environ.get("HOLTER_BENCH_HOURS", "1000"))
FIGURE = PAGES / "scaling.png"


def write_long(folder: Path, hours: int) -> None:
    """Write a record of one lead, 250 Hz, format 16: ten simulated hours, again and again."""
    from storage.formats.wfdb_write import GAIN
    from storage.recordings.records import open_alone, read_lead

    lead = read_lead(open_alone(simulated_folder(1, 10) / "sim000"))
    adu = np.rint(lead * GAIN).astype("<i2")
    left = n = hours * 3600 * 250
    checksum = 0
    with (folder / "long.dat").open("wb") as file:
        while left:
            part = adu[:left]
            file.write(part.tobytes())
            checksum += int(part.sum(dtype=np.int64))
            left -= len(part)
    header = f"long.dat 16 {GAIN} 16 0 {adu[0]} {(checksum + 0x8000) % 0x10000 - 0x8000} 0 ECG1"
    (folder / "long.hea").write_text(f"long 1 250 {n}\n{header}\n")
    (folder / "dataset.toml").write_text(SPEC)


SPEC = """name = "long"
title = "One long simulated record"
version = "1"
licence = "Apache-2.0"
citation = "Made by this project's simulator; no person was recorded."

[source]
simulated = true

[records]
names = ["long"]

[annotations]
beats = ["detect"]

[leads]
prefer = ["ECG1"]

[rhythms]
af = ["AFIB"]
map = { N = "N", AFIB = "AFIB" }
unmarked = "N"
"""


def scaling(warm: str, folder: str, hours: int, out: str) -> dict[str, float]:
    """CPU milliseconds a record-hour, beats, and peak MB, of a record in a warm process."""
    from bench.child import peak_mb
    from bench.sections.signal import record_table

    record_table(warm, "sim000", out)
    start, wall = time.process_time(), time.perf_counter()
    beats = record_table(folder, "long", out)
    cpu_s, wall_s = time.process_time() - start, time.perf_counter() - wall
    return {"ms": 1e3 * cpu_s / hours, "wall_s": wall_s, "beats": beats, "peak_mb": peak_mb()}


def draw(rows: list[tuple[int, dict[str, float]]]) -> None:
    """The figure: milliseconds a record-hour and peak memory over hours, both from 0."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    hours = [row[0] for row in rows]
    for axis, key, label in zip(
        axes, ("ms", "peak_mb"), ("CPU ms a record-hour", "peak memory, MB"), strict=True
    ):
        values = [row[1][key] for row in rows]
        axis.plot(hours, values, marker="o")
        axis.set(xscale="log", xlabel="hours of the record", ylabel=label)
        axis.set_xticks(hours, [f"{hour:,}" for hour in hours])
        axis.set_ylim(0, 1.1 * max(values))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=120)
    plt.close(figure)


def run() -> list[Table]:
    """Measure, draw, and give the section's table."""
    out = workplace() / "out-scaling"
    out.mkdir(exist_ok=True)
    rows = []
    for hours in (count for count in HOURS if count <= MOST_HOURS):
        with TemporaryDirectory(dir=workplace()) as folder:
            write_long(Path(folder), hours)
            arguments = (str(simulated_folder(1, 1)), folder, hours, str(out))
            results = measure(
                {f"{hours} h": Case("bench.sections.scaling:scaling", arguments, once=True)}
            )
            (out / "long.parquet").unlink()
        rows.append((hours, results[f"{hours} h"].result))
    draw(rows)
    columns = [("hours", 0), ("CPU ms a record-hour", 0), ("beats", 0), ("peak MB", 0)]
    cells = [[hours, *(cost[key] for key in ("ms", "beats", "peak_mb"))] for hours, cost in rows]
    return [Table("One record of one lead, raw WFDB to Parquet", list(columns), cells)]
