"""What a record and a task cost Prefect, and the arithmetic up to 100,000 records of 24 h."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import Case, measure, simulated_folder, workplace
from bench.tables import Cell, Table

RECORDS = (100, 1000)
SECONDS = 60
DAY_HOURS = 24.0
#: What one core of a cloud machine costs an hour, and a GB in object storage a month.
CORE_HOUR_USD, GB_MONTH_USD = 0.05, 0.023
PLANS = (1_000, 10_000, 100_000)
CORES = (2, 16, 64)
INGESTED = (
    *(("records", None), ("tasks", 0), ("wall s", 1), ("CPU s", 1), ("server CPU s", 1)),
    *(("database MB", 1), ("events", 0), ("memory MB", 0)),
)
PLANNED = (
    *(("24-h records", None), ("time", None), ("core hours", 1), ("USD for them", 2)),
    *(("TB read", 2), ("TB written", 2), ("USD a month to keep both", 0), ("database MB", 0)),
    *(("events a second", 0), ("flow MB", 0), ("manifest MB", 1)),
)


def flow(folder: str, batch_records: int, name: str) -> dict[str, Any]:
    """Ingest a folder through Prefect with so many records a task; what it left behind."""
    from bench.child import peak_mb
    from bench.sections.dataset import _clocks, _figures, _fresh, server_cpu_s

    home = _fresh(name)
    os.environ["HOLTER_HOME"] = str(home)
    os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"  # not used, so not started
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"  # before Prefect is loaded
    from prefect.logging.handlers import APILogHandler

    from flows.ingest.flow import ingest
    from flows.services import runners
    from flows.services.servers import servers

    runners.BATCH_RECORDS = batch_records
    with servers() as running_servers:
        empty = database(home)
        cpu, before, start = server_cpu_s(running_servers.prefect_pid), peak_mb(), _clocks()
        result = ingest(dataset=folder, data=Path(folder))
        figures = _figures(start, 0, server_cpu_s(running_servers.prefect_pid) - cpu)
        after = peak_mb()
        APILogHandler().flush()
        tasks = len(runners.batches(Path(folder), [outcome.record for outcome in result.outcomes]))
        deadline = time.monotonic() + 60  # the server writes them down after it was told
        while database(home)["task_run"] < tasks and time.monotonic() < deadline:
            time.sleep(0.5)
    full = database(home)
    grown = {key: full[key] - empty[key] for key in full}
    tables = sum(file.stat().st_size for file in home.rglob("*.parquet"))
    manifest = len(result.path.read_bytes())
    sizes = {"flow_mb": after - before, "tables": tables, "manifest": manifest}
    return figures | grown | sizes | {"records": len(result.outcomes)}


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

    from flows.ingest.build import Plan, build_table
    from storage.datasets.dataset import load_spec
    from tasks.signal.preprocessing import Preprocessing

    spec, out = load_spec(folder), workplace() / "out-day"
    times = []
    for _ in range(2):
        start = process_time()
        entry = build_table(Plan(spec, Path(folder), out, Preprocessing(), True), "sim000")
        times.append(process_time() - start)
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

    def cpu(figures: dict[str, Any]) -> float:
        return float(figures["cpu_s"] + figures["server_cpu_s"])

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


def plan(records: int, cores: int, day: dict[str, float], cost: Costs) -> list[Cell]:
    """One row of the arithmetic: records of 24 h, a task each, on so many cores."""
    cpu_s = records * (day["cpu_s"] + cost.task_cpu_s)
    stored = records * (day["read"] + day["written"]) / 1e9
    return [
        f"{records:,} on {cores} cores",
        duration(cpu_s / cores),
        cpu_s / 3600,
        cpu_s / 3600 * CORE_HOUR_USD,
        records * day["read"] / 1e12,
        records * day["written"] / 1e12,
        stored * GB_MONTH_USD,
        records * cost.task_bytes / 1e6,
        cores * cost.task_events / (day["cpu_s"] + cost.task_cpu_s),
        records * cost.record_mb,
        records * cost.record_manifest / 1e6,
    ]


def duration(seconds: float) -> str:
    """Hours, or minutes below one."""
    return f"{seconds / 3600:,.1f} h" if seconds > 3600 else f"{seconds / 60:,.0f} min"


def run() -> list[Table]:
    """Measure, and give the section's tables."""
    folders = {count: str(simulated_folder(count, SECONDS / 3600)) for count in RECORDS}
    cases = {
        f"{count} records, {size} a task": Case(
            "bench.sections.load:flow", (folders[count], size, f"load-{count}-{size}"), once=True
        )
        for size in (1, 64)
        for count in RECORDS
    }
    cases["day"] = Case(
        "bench.sections.load:one_day", (str(simulated_folder(1, DAY_HOURS)),), once=True
    )
    results = {name: figures.result for name, figures in measure(cases).items()}
    day = results.pop("day")
    ordered = list(results.values())
    cost = costs(ordered[: len(RECORDS)], ordered[len(RECORDS) :])
    rows: list[list[Cell]] = [
        [
            name,
            *(figures[key] for key in ("task_run", "wall_s", "cpu_s", "server_cpu_s")),
            figures["bytes"] / 1e6,
            figures["events"],
            figures["flow_mb"],
        ]
        for name, figures in results.items()
    ]
    slopes: list[list[Cell]] = [
        ["CPU of a task, flow and server, ms", 1e3 * cost.task_cpu_s],
        ["database of a task, kB", cost.task_bytes / 1e3],
        ["events of a task", cost.task_events],
        ["memory of the flow for a record, kB", 1e3 * cost.record_mb],
        ["a record of 24 h: MB read", day["read"] / 1e6],
        ["a record of 24 h: CPU s", day["cpu_s"]],
        ["a record of 24 h: MB written", day["written"] / 1e6],
    ]
    plans = [plan(records, cores, day, cost) for records in PLANS for cores in CORES]
    assumed = f"{CORE_HOUR_USD} USD a core hour, {GB_MONTH_USD} USD a GB and month"
    return [
        Table(f"Records of {SECONDS} s through the ingest flow", list(INGESTED), rows),
        Table("Slopes of these", [("figure", None), ("value", 2)], slopes),
        Table(f"Calculated from the slopes, not run: {assumed}", list(PLANNED), plans),
    ]
