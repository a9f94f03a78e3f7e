"""What a record and a task cost Prefect, and the arithmetic up to 100,000 records of 24 h."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import Case, measure, rounds, simulated, table, workplace

TITLE = "Many records: tasks, database, memory"
RECORDS = (100, 1000)
SECONDS = 60
DAY_HOURS = 24.0
#: What one core of a cloud machine costs an hour, and a GB in object storage a month.
CORE_HOUR_USD, GB_MONTH_USD = 0.05, 0.023
PLANS = (1_000, 10_000, 100_000)
CORES = (2, 16, 64)


def flow(folder: str, batch_records: int, name: str) -> dict[str, Any]:
    """Ingest a folder through Prefect with so many records a task; what it left behind."""
    from bench.child import peak_mb
    from bench.dataset import _clocks, _figures, _fresh, server_cpu_s

    home = _fresh(name)
    os.environ["HOLTER_HOME"] = str(home)
    os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"  # not used, so not started
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"  # before Prefect is loaded
    from prefect.logging.handlers import APILogHandler

    from flows.ingest.flow import ingest
    from flows.services import runners
    from flows.services.servers import servers

    runners.BATCH_RECORDS = batch_records
    with servers() as here:
        empty = database(home)
        cpu, before, began = server_cpu_s(here.prefect_pid), peak_mb(), _clocks()
        done = ingest(dataset=folder, data=Path(folder))
        figures = _figures(began, 0, server_cpu_s(here.prefect_pid) - cpu)
        after = peak_mb()
        APILogHandler().flush()
        tasks = len(runners.batches(Path(folder), [one.record for one in done.outcomes]))
        deadline = time.monotonic() + 60  # the server writes them down after it was told
        while database(home)["task_run"] < tasks and time.monotonic() < deadline:
            time.sleep(0.5)
    full = database(home)
    grown = {key: full[key] - empty[key] for key in full}
    tables = sum(file.stat().st_size for file in home.rglob("*.parquet"))
    manifest = len(done.path.read_bytes())
    sizes = {"flow_mb": after - before, "tables": tables, "manifest": manifest}
    return figures | grown | sizes | {"records": len(done.outcomes)}


def database(home: Path) -> dict[str, int]:
    """Bytes of Prefect's SQLite in use, and rows of what the API was told."""
    file = home / "prefect" / "prefect.db"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)) as base:
        pages, free, size = (
            base.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        names = ("task_run", "events", "log")
        rows = [base.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names]  # noqa: S608 - fixed names
    return {"bytes": (pages - free) * size, **dict(zip(names, rows, strict=True))}


def one_day(folder: str) -> dict[str, float]:
    """A record of 24 h without Prefect: CPU seconds, bytes read, bytes written."""
    from time import process_time

    from flows.ingest.build import build_table
    from storage.datasets.dataset import load_spec
    from tasks.signal.preprocessing import Preprocessing

    spec, out = load_spec(folder), workplace() / "out-day"
    times = []
    for _ in range(2):
        began = process_time()
        entry = build_table(spec, Path(folder), "sim000", out, Preprocessing(), None, signal=True)
        times.append(process_time() - began)
    read = sum(file.stat().st_size for file in Path(folder).glob("sim000.*"))
    return {"cpu_s": times[-1], "read": read, "written": (out / entry[1].file).stat().st_size}


@dataclass(frozen=True)
class Costs:
    """Slopes between the two sizes: of one task, and of one record."""

    task_cpu_s: float
    task_bytes: float
    task_events: float
    record_mb: float
    record_manifest: float


def costs(single: list[dict[str, Any]], batched: list[dict[str, Any]]) -> Costs:
    """What a task costs beside its records: the difference between one record a task and many."""

    def cpu(one: dict[str, Any]) -> float:
        return float(one["cpu_s"] + one["server_cpu_s"])

    large, same = single[-1], batched[-1]
    tasks = large["task_run"] - same["task_run"]
    small = batched[0]
    records = same["records"] - small["records"]
    return Costs(
        task_cpu_s=(cpu(large) - cpu(same)) / tasks,
        task_bytes=(large["bytes"] - same["bytes"]) / tasks,
        task_events=(large["events"] - same["events"]) / tasks,
        record_mb=(large["flow_mb"] - single[0]["flow_mb"]) / records,
        record_manifest=(same["manifest"] - small["manifest"]) / records,
    )


def plan(records: int, cores: int, day: dict[str, float], cost: Costs) -> tuple[str, ...]:
    """One row of the arithmetic: records of 24 h, a task each, on so many cores."""
    cpu_s = records * (day["cpu_s"] + cost.task_cpu_s)
    stored = records * (day["read"] + day["written"]) / 1e9
    return (
        f"{records:,} on {cores} cores",
        _told(cpu_s / cores),
        f"{cpu_s / 3600:,.1f}",
        f"{cpu_s / 3600 * CORE_HOUR_USD:,.2f}",
        f"{records * day['read'] / 1e12:,.2f}",
        f"{records * day['written'] / 1e12:,.2f}",
        f"{stored * GB_MONTH_USD:,.0f}",
        f"{records * cost.task_bytes / 1e6:,.0f}",
        f"{cores * cost.task_events / (day['cpu_s'] + cost.task_cpu_s):,.0f}",
        f"{records * cost.record_mb:,.0f}",
        f"{records * cost.record_manifest / 1e6:,.1f}",
    )


def _told(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds > 3600 else f"{seconds / 60:,.0f} min"


def run() -> str:
    """Measure, and give the section's text."""
    folders = {count: str(simulated(count, SECONDS / 3600)) for count in RECORDS}
    cases = {
        f"{count} records, {size} a task": Case(
            "bench.load:flow", (folders[count], size, f"load-{count}-{size}"), once=True
        )
        for size in (1, 64)
        for count in RECORDS
    }
    cases["day"] = Case("bench.load:one_day", (str(simulated(1, DAY_HOURS)),), once=True)
    found = {name: one.result for name, one in measure(cases).items()}
    day = found.pop("day")
    ordered = list(found.values())
    cost = costs(ordered[: len(RECORDS)], ordered[len(RECORDS) :])
    rows = [
        (
            name,
            one["task_run"],
            f"{one['wall_s']:.1f}",
            f"{one['cpu_s']:.1f}",
            f"{one['server_cpu_s']:.1f}",
            f"{one['bytes'] / 1e6:.1f}",
            one["events"],
            f"{one['flow_mb']:.0f}",
        )
        for name, one in found.items()
    ]
    header = ("", "tasks", "wall s", "CPU s", "server CPU s", "database MB", "events", "memory MB")
    wide: tuple[str, ...] = (
        "24-h records",
        "time",
        "core hours",
        "USD for them",
        "TB read",
        "TB written",
    )
    wide += ("USD a month to keep both", "database MB", "events a second", "flow MB", "manifest MB")
    plans = [plan(records, cores, day, cost) for records in PLANS for cores in CORES]
    told = (
        f"So a task costs {1e3 * cost.task_cpu_s:.0f} ms of CPU, flow and server together, "
        f"{cost.task_bytes / 1e3:.1f} kB of database and {cost.task_events:.0f} events;\n"
        f"a record costs the flow's process {1e3 * cost.record_mb:.0f} kB. "
        f"A record of 24 h (250 Hz, two leads, {day['read'] / 1e6:.0f} MB) takes "
        f"{day['cpu_s']:.2f} CPU s\nand makes a table of {day['written'] / 1e6:.0f} MB."
    )
    return f"""\
Simulated records of {SECONDS} s through the ingest flow on threads, a local Prefect server with
SQLite, median of {rounds()}. "Memory" is by how much the flow's process grew.

{table(header, rows)}

{told}

From these slopes, not run: records of 24 h, one a task. Assumed: {CORE_HOUR_USD} USD a core hour,
{GB_MONTH_USD} USD a GB and month.

{table(wide, plans)}"""
