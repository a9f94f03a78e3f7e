"""A fleet on one MLflow server with PostgreSQL: what devices ask of it, idle and at work.

Devices speak the agent's own protocol, a thread each, without a network to run: they say that they
live, ask for requests, claim theirs, and deliver a report. One server of two workers and its
PostgreSQL share the machine with them, so what a server carries is calculated from its CPU time.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from bench.harness import Case, measure, workplace
from bench.tables import Cell, Table

DEVICES, SECONDS = 500, 240
#: An agent's own pause between two looks for requests, and between two signs of life.
PAUSES_S = (2.0, 10.0, 30.0)
SIGN_S = 5.0
#: What of a server's cores may be busy, and its cores.
BUSY, CORES = 0.7, 2
WORKERS = 2
#: Steps of one device in turn, of which their CPU time is known.
IN_TURN = 100
#: Seconds that MLflow may take to begin, beside other work.
START_S = 600
#: Looks, 3 s each, for the server to come to rest.
REST_LOOKS = 100
STEPS = ("sign of life", "look for requests", "claim", "report")
SERVED: list[tuple[str, int | None]] = [
    ("step", None),
    ("done", 0),
    ("p50 ms", 0),
    ("p95 ms", 0),
    ("largest ms", 0),
]


@dataclass
class Load:
    """What the devices did: seconds of each step, calls, and reports that were delivered."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STEPS})
    calls: Counter[str] = field(default_factory=Counter)
    reported: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        """Do a step and keep its time; a server that does not answer is counted."""
        from storage.errors import RegistryError

        start = time.perf_counter()
        try:
            result = work()
        except RegistryError as error:
            self.faults[f"{name}: {type(error).__name__}"] += 1
            return None
        self.seconds[name].append(time.perf_counter() - start)
        return result


def fleet(devices: int, seconds: float) -> dict[str, Any]:
    """Serve a request to each of so many devices, or until the time is up; what it took."""
    from bench.child import peak_mb

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(dir=workplace())))
        server, database = start_servers(stack, folder)
        names = [f"load-{number:04d}" for number in range(devices)]
        requests = put_requests(names, folder)
        load, stop = Load(), threading.Event()
        with_calls(load)
        before, begin_s, own = cpu_s(server, database), time.perf_counter(), time.process_time()
        threads = [
            threading.Thread(target=device, args=(name, load, stop, folder), daemon=True)
            for name in names
        ]
        for thread in threads:
            thread.start()
        while len(load.reported) < devices and time.perf_counter() - begin_s < seconds:
            time.sleep(1)
        stop.set()
        for thread in threads:
            thread.join(60)
        wall_s = time.perf_counter() - begin_s
        after, calls = cpu_s(server, database), sum(load.calls.values())
        client_cpu_s = time.process_time() - own
        settle(server, database)
        costs = step_costs(names[0], server, database)
        memory = {
            name: sum(p.memory_info().rss for p in tree(process)) / 2**20
            for name, process in (("mlflow_mb", server), ("postgres_mb", database))
        }
        return {
            "wall_s": wall_s,
            "client_cpu_s": client_cpu_s,
            "client_mb": peak_mb(),
            **{name: after[name] - before[name] for name in after},
            **memory,
            "calls": calls,
            "steps": {name: percentiles(values) for name, values in load.seconds.items()},
            "faults": dict(load.faults),
            "costs": costs,
            **whole(requests, load),
        }


def start_servers(stack: ExitStack, folder: Path) -> tuple[psutil.Process, psutil.Process]:
    """PostgreSQL and an MLflow server on it, on loopback: their processes."""
    from flows.services.servers import QUIET
    from flows.services.up_state import answers
    from tests.services import free_port, killable_postgres, running

    database = stack.enter_context(killable_postgres(folder, "mlflow"))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    env = {
        "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2://{database.at}/mlflow",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **QUIET,
    }
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    words += ["--port", str(port), "--workers", str(WORKERS)]
    words += ["--uvicorn-opts", "--timeout-worker-healthcheck 120"]  # beside other work
    words += ["--artifacts-destination", str(folder / "artifacts")]
    process = stack.enter_context(running(words, folder / "mlflow.log", 0, env))
    deadline = time.monotonic() + START_S
    while not answers(f"{address}/health"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError((folder / "mlflow.log").read_text()[-2000:])
        time.sleep(1)
    os.environ |= {"MLFLOW_TRACKING_URI": address, "HOLTER_HOME": str(folder / "home")}
    assert database.process is not None  # noqa: S101 - it was started above
    return psutil.Process(process.pid), psutil.Process(database.process.pid)


def put_requests(names: list[str], folder: Path) -> list[str]:
    """A made-up version, and a request to each device to evaluate it."""
    from storage.files import write_json
    from storage.registry import evaluations, tracking
    from storage.registry.model_files import LITERT, MANIFEST, WEIGHTS
    from storage.registry.signing import sign_release

    model = folder / "model"
    model.mkdir()
    for file in (LITERT, WEIGHTS):
        (model / file).write_bytes(b"a network")
    write_json(model / MANIFEST, {})
    sign_release(model)
    run_id = tracking.start_run("train/load", "load", {}, {})
    version = tracking.register_model(
        run_id, name="holter-load", folder=model, tags={"holter.threshold": "0.5"}, description=""
    )

    def put(name: str) -> str:
        return evaluations.request_evaluation(
            device=name,
            model=version,
            testset_run_id=run_id,
            testset_path="testset/testset.npz",
            testset_sha256="0" * 64,
            tags={},
        )

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(put, names))


def with_calls(load: Load) -> None:
    """Count every call to the server."""
    from storage.registry import client

    real = client._persistent

    def counted(method: str, *rest: Any) -> bytes:
        load.calls[method] += 1
        return real(method, *rest)

    client._persistent = counted  # type: ignore[assignment]


def device(name: str, load: Load, stop: threading.Event, folder: Path) -> None:
    """One device until the end: an agent's looks and signs, and its request when it comes."""
    from edge_agent.presence import Presence
    from storage.registry import evaluations

    presence, sign_s = Presence(name, f"agent-{name}", {"kind": "load"}), 0.0
    stop.wait(random.random() * PAUSES_S[0])  # noqa: S311 - so that not all begin at once
    while not stop.is_set():
        if time.monotonic() >= sign_s:
            load.step("sign of life", presence.beat)
            sign_s = time.monotonic() + SIGN_S
        waiting = load.step(
            "look for requests",
            lambda: evaluations.device_requests(name, *evaluations.WAITING),
        )
        for request in waiting or ():
            serve(name, request, load, folder)
        stop.wait(PAUSES_S[0])


def serve(name: str, request: Any, load: Load, folder: Path) -> None:
    """Claim a request, and deliver a report of no evaluation."""
    from storage.files import write_json
    from storage.registry import evaluations
    from storage.registry.client import server_time_s

    number = load.step("claim", lambda: evaluations.claim(request, f"agent-{name}"))
    if number is None:
        return
    report = folder / "reports" / request.request_id
    outcome = {"claim": number, "status": "FINISHED", "metrics": {"f1": 0.9}, "tags": {}}
    write_json(report / evaluations.OUTCOME, outcome | {"time_ms": int(1000 * server_time_s())})
    write_json(report / "report.json", {"per_record": dict.fromkeys(map(str, range(100)), 0.5)})
    if load.step("report", lambda: evaluations.deliver(request.request_id, report)) == "reported":
        load.reported.append(request.request_id)


def tree(leader: psutil.Process) -> list[psutil.Process]:
    """A process and all that it started."""
    return [leader, *leader.children(recursive=True)]


def cpu_s(server: psutil.Process, database: psutil.Process) -> dict[str, float]:
    """CPU seconds of the server and of its database so far."""
    pairs = (("mlflow_cpu_s", server), ("postgres_cpu_s", database))
    return {name: sum(sum(p.cpu_times()[:4]) for p in tree(one)) for name, one in pairs}


def settle(server: psutil.Process, database: psutil.Process) -> None:
    """Wait until they rest: a server that was overrun works on what no device awaits any more."""
    for _ in range(REST_LOOKS):
        before = sum(cpu_s(server, database).values())
        time.sleep(3)
        if sum(cpu_s(server, database).values()) - before < 0.3:
            return
    raise RuntimeError("the server does not come to rest")


def step_costs(name: str, server: psutil.Process, database: psutil.Process) -> dict[str, float]:
    """CPU milliseconds of server and database for one sign of life, and for one look."""
    from edge_agent.presence import Presence
    from storage.registry import evaluations

    presence = Presence(name, f"agent-{name}", {"kind": "load"})
    works: dict[str, Callable[[], Any]] = {
        "sign of life": presence.beat,
        "look for requests": lambda: evaluations.device_requests(name, *evaluations.WAITING),
    }
    costs = {}
    for step, work in works.items():
        before = sum(cpu_s(server, database).values())
        for _ in range(IN_TURN):
            work()
        costs[step] = 1e3 * (sum(cpu_s(server, database).values()) - before) / IN_TURN
    return costs


def whole(requests: list[str], load: Load) -> dict[str, int]:
    """How the requests stand on the server: finished once, lost, and claimed by two."""
    from storage.registry import evaluations

    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(evaluations.request_state, requests))
    finished = {state.request_id for state in states if state.status == "FINISHED"}
    return {
        "requests": len(requests),
        "finished": len(finished),
        "lost": len({*load.reported} - finished),
        "claimed_twice": sum(state.claims > 1 for state in states),
    }


def percentiles(values: list[float]) -> list[float]:
    """How many, and their median, 95th percentile and largest in ms."""
    if len(values) < 2:
        return [len(values), 0.0, 0.0, 0.0]
    cuts = quantiles(values, n=100, method="inclusive")
    return [len(values), 1e3 * cuts[49], 1e3 * cuts[94], 1e3 * max(values)]


def carried(costs: dict[str, float], pause_s: float) -> float:
    """Devices that a server of two cores carries while they wait for requests."""
    ms_a_second = costs["look for requests"] / pause_s + costs["sign of life"] / SIGN_S
    return BUSY * CORES * 1e3 / ms_a_second


def run() -> list[Table]:
    """Measure, and give the section's tables."""
    case = Case("bench.sections.fleet:fleet", (DEVICES, SECONDS), once=True)
    return tables(DEVICES, measure({"fleet": case})["fleet"].result)


def tables(devices: int, result: dict[str, Any]) -> list[Table]:
    """The tables of a run of so many devices."""
    steps: list[list[Cell]] = [[name, *result["steps"][name]] for name in STEPS]
    faults = ", ".join(f"{name} {count}" for name, count in result["faults"].items()) or "none"
    figures: list[list[Cell]] = [
        ["requests put", result["requests"]],
        ["reported and finished", result["finished"]],
        ["reported, not finished (lost)", result["lost"]],
        ["claimed by two", result["claimed_twice"]],
        ["steps that got no answer", faults],
        ["wall s", round(result["wall_s"])],
        ["calls to the server", result["calls"]],
        ["calls a second", f"{result['calls'] / result['wall_s']:.1f}"],
        ["MLflow, CPU s", f"{result['mlflow_cpu_s']:.1f}"],
        ["PostgreSQL, CPU s", f"{result['postgres_cpu_s']:.1f}"],
        ["the devices themselves, CPU s", f"{result['client_cpu_s']:.1f}"],
        ["MLflow, MB", round(result["mlflow_mb"])],
        ["PostgreSQL, MB (shared pages counted in each process)", round(result["postgres_mb"])],
    ]
    costs: list[list[Cell]] = [[name, value] for name, value in result["costs"].items()]
    plans: list[list[Cell]] = [[f"{p:g} s", carried(result["costs"], p)] for p in PAUSES_S]
    return [
        Table(f"{devices} devices, a request each, a look every 2 s", SERVED, steps),
        Table("What came of it, and what it took", [("figure", None), ("value", None)], figures),
        Table(
            f"CPU time of server and database, {IN_TURN} in turn from one device",
            [("step", None), ("CPU ms", 1)],
            costs,
        ),
        Table(
            f"Calculated from these, not run: devices that wait, {CORES} cores {BUSY:.0%} busy",
            [("a look every", None), ("devices", 0)],
            plans,
        ),
    ]
