"""A data set of AFDB's size and shape through the ingest flow, by runner.

`HOLTER_BENCH_BEFORE` names a checkout of an earlier commit, whose flow takes turns with these.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.harness import Case, measure, simulated_folder, workplace
from bench.sections.before import checkout, commit_of
from bench.tables import Table

RECORDS, HOURS, WORKERS = 23, 10.0, 2
FLOW = "Prefect, ThreadPoolTaskRunner (what the flow uses)"
RUNNERS = {
    "threads, no Prefect at all": "plain",
    FLOW: "threads",
    "Prefect, ProcessPoolTaskRunner": "processes",
}


def plain(folder: str) -> dict[str, Any]:
    """The flow's work on the same number of threads, without Prefect."""
    from flows.ingest.build import Plan, build_table
    from storage.datasets.dataset import load_spec, record_names
    from tasks.signal.preprocessing import Preprocessing

    spec, source, out = load_spec(folder), Path(folder), _fresh("plain")
    start = _clocks()

    def build(name: str) -> int:
        return build_table(Plan(spec, source, out, Preprocessing(), True), name)[1].beats

    with ThreadPoolExecutor(WORKERS) as pool:
        beats = sum(pool.map(build, record_names(spec, source)))
    return _figures(start, beats, 0.0)


def threads(folder: str) -> dict[str, Any]:
    """The ingest flow as it is."""
    from prefect.task_runners import ThreadPoolTaskRunner

    return _flow(folder, "threads", ThreadPoolTaskRunner(max_workers=WORKERS))


def processes(folder: str) -> dict[str, Any]:
    """The ingest flow on a pool of processes."""
    from prefect.task_runners import ProcessPoolTaskRunner

    return _flow(folder, "processes", ProcessPoolTaskRunner(max_workers=WORKERS))


def _flow(folder: str, name: str, runner: Any) -> dict[str, Any]:
    from prefect.logging.handlers import APILogHandler

    from flows.ingest.flow import ingest
    from flows.services.servers import servers

    os.environ["HOLTER_HOME"] = str(_fresh(name))
    os.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"  # not used, so not started
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "ERROR"
    with servers() as running_servers:
        before, start = server_cpu_s(running_servers.prefect_pid), _clocks()
        result = ingest.with_options(task_runner=runner)(dataset=folder, data=Path(folder))
        beats = sum(entry.beats for entry in result.manifest.entries)
        figures = _figures(start, beats, server_cpu_s(running_servers.prefect_pid) - before)
        APILogHandler().flush()  # else it asks a stopped server for a minute
    return figures


def server_cpu_s(pid: int) -> float:
    """CPU seconds of a server: its keeper's process, and those below it."""
    import psutil

    keeper = psutil.Process(pid)
    return sum(sum(p.cpu_times()[:2]) for p in (keeper, *keeper.children(recursive=True)))


def _fresh(name: str) -> Path:
    folder = workplace() / f"home-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _clocks() -> tuple[float, float]:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime


def _figures(start: tuple[float, float], beats: int, server_cpu_s: float) -> dict[str, Any]:
    wall, cpu = (now - then for now, then in zip(_clocks(), start, strict=True))
    return {"wall_s": wall, "cpu_s": cpu, "server_cpu_s": server_cpu_s, "beats": beats}


def _cpu_s(figures: dict[str, Any]) -> float:
    return float(figures["cpu_s"] + figures["server_cpu_s"])


def run() -> list[Table]:
    """Measure, and give the section's table."""
    folder = str(simulated_folder(RECORDS, HOURS))
    cases = {
        name: Case(f"bench.sections.dataset:{function}", (folder,), once=True)
        for name, function in RUNNERS.items()
    }
    earlier = checkout()
    before = f"the flow of {commit_of(earlier)}"
    cases[before] = Case("bench.dataset:threads", (folder,), once=True, tree=earlier)
    results = {name: figures.result for name, figures in measure(cases).items()}
    now, then = results[FLOW], results[before]
    base = results["threads, no Prefect at all"]
    columns = [("runner", None), ("wall s", 1), ("CPU s", 1), ("server CPU s", 1)]
    return [
        Table(
            f"{RECORDS} records of {HOURS:g} h, {base['beats']:,} beats",
            [*columns, ("CPU over no Prefect, %", 0)],
            [
                [
                    name,
                    *(figures[key] for key in ("wall_s", "cpu_s", "server_cpu_s")),
                    100 * (_cpu_s(figures) / base["cpu_s"] - 1),
                ]
                for name, figures in results.items()
            ],
        ),
        Table(
            f"The flow against {commit_of(earlier)}",
            [("figure", None), ("ratio", 2)],
            [
                ["wall", now["wall_s"] / then["wall_s"]],
                ["CPU, the server's included", _cpu_s(now) / _cpu_s(then)],
            ],
        ),
    ]
