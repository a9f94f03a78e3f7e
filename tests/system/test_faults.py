"""Killed, crowded, without space: nothing half-written, nothing RUNNING for ever, the same result.

HOLTER_FAULT_RUNS says how many runs are killed: 4 by default, in CI's time; tens by night.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx
import numpy as np
import pytest
from prefect import task
from prefect.client.orchestration import get_client
from prefect.states import Running

from flows.ingest.simulate import write_simulated
from flows.services.alive import close_dead
from flows.services.servers import Servers
from storage.tables.beats import read_beats
from storage.tables.beats_manifest import Manifest, manifest_path, read_manifest
from tests.conftest import ROOT, Many
from tests.services import dask_scheduler, dask_worker

RUNS = int(os.environ.get("HOLTER_FAULT_RUNS", "4"))
#: Of those that cost more: as many where it says so.
FEW = int(os.environ.get("HOLTER_FAULT_RUNS", "1"))
RECORDS = 20
#: Every state folder that a command was started with.
HOMES: set[Path] = set()
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 240 * RUNS)]


@pytest.fixture(scope="module")
def holter_servers(own_servers: Servers) -> Servers:
    """Servers of this module's own: what still runs in them is counted."""
    return own_servers


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated records of a quarter of an hour."""
    return write_simulated(tmp_path_factory.mktemp("simulated"), RECORDS, 0.25, 11)


def noted(kind: str, what: str) -> None:
    """Count a kill, and what became of it, in the file that HOLTER_FAULT_LOG names."""
    if file := os.environ.get("HOLTER_FAULT_LOG"):
        with Path(file).open("a") as log:
            log.write(f"{kind}: {what}\n")


def start(
    here: Servers,
    home: Path,
    *words: str,
    before: Callable[[], None] | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start a command with a state folder of its own on the tests' servers."""
    HOMES.add(home)
    env = {**os.environ, **(env or {}), "HOLTER_HOME": str(home)}
    env |= {"PREFECT_API_URL": here.prefect_api}
    env |= {"MLFLOW_TRACKING_URI": here.mlflow, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "flows", *words],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=before,
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    return " ".join(said.split())


def ingest(simulated: Path) -> tuple[str, ...]:
    return ("ingest", str(simulated), "--data", str(simulated.parent))


def result(home: Path) -> Manifest:
    """The manifest that a run left; every table in the folder is whole, and no other file is."""
    path = manifest_path(home / "beats", "simulated")
    assert isinstance(path, Path)
    check_tables(path.parent)
    assert not list(path.parent.rglob("*.partial"))
    return read_manifest(path)


def check_tables(folder: Path) -> None:
    """Every table that has its name is one that can be read to its end."""
    for table in folder.glob("*.parquet"):
        assert len(read_beats(table)) > 0


def unended(here: Servers) -> list[str]:
    """What is still RUNNING in Prefect and in MLflow, by name."""
    states = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
    found = []
    for kind, which in (("flow_runs", "flow_runs"), ("task_runs", "task_runs")):
        reply = httpx.post(f"{here.prefect_api}/{kind}/filter", json={which: states}, timeout=30)
        found += [f"{kind} {one['name']}" for one in reply.json()]
    url = f"{here.mlflow}/api/2.0/mlflow/"
    experiments = httpx.get(f"{url}experiments/search", params={"max_results": 99}, timeout=30)
    ids = [one["experiment_id"] for one in experiments.json()["experiments"]]
    asked = {"experiment_ids": ids, "filter": "attributes.status = 'RUNNING'"}
    runs = httpx.post(f"{url}runs/search", json=asked, timeout=30).json()
    return found + [f"mlflow {one['info']['run_name']}" for one in runs.get("runs", [])]


def all_ended(here: Servers, home: Path) -> None:
    """Nothing is RUNNING, once Prefect has written down what it was told and `status` has looked.

    Prefect's server records the states of tasks a while after it is told of them: half a minute
    when the machine is busy, and then a test before this one may have left the run to be looked at.
    """
    deadline = time.monotonic() + 300
    while found := unended(here):
        assert time.monotonic() < deadline, found
        time.sleep(1)
        if time.monotonic() > deadline - 290:
            for one in {home} | {one for one in HOMES if any((one / "closed").glob("*.json"))}:
                ended(start(here, one, "status"))


def begun(process: subprocess.Popen[str], home: Path) -> None:
    """Wait until a flow of this command runs."""
    deadline = time.monotonic() + 300
    mine = f'"pid": {process.pid},'
    while not any(mine in note.read_text() for note in (home / "running").glob("*.json")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def built(home: Path) -> int:
    """How many records of an ingest have their table, and are known to."""
    return len(list((home / "beats" / "dataset=simulated" / "entries").glob("*.json")))


def built_more_than(count: int, process: subprocess.Popen[str], home: Path) -> int:
    """How many are built, once they are more than these, or once the command has ended."""
    deadline = time.monotonic() + 300
    while (found := built(home)) <= count and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def somewhere(
    rng: np.random.Generator, process: subprocess.Popen[str], home: Path, count: int
) -> None:
    """Wait until an ingest of so many records is at some moment between its begin and its end."""
    begun(process, home)
    built_more_than(int(rng.integers(built(home) - 1, count)), process, home)
    time.sleep(rng.uniform(0, 0.3))


def hit(process: subprocess.Popen[str]) -> str:
    """Whether what is killed now is killed under a command that runs."""
    return "killed" if process.poll() is None else "command had ended"


def killed(process: subprocess.Popen[str]) -> bool:
    """SIGKILL an ingest; whether it was still running."""
    process.kill()
    process.communicate()
    noted("a flow that ingests", "killed" if process.returncode else "had ended")
    return process.returncode == -signal.SIGKILL


def test_ingest_killed_at_random_moments(
    holter_servers: Servers, simulated: Path, tmp_path: Path
) -> None:
    """After every SIGKILL the tables are whole; the next run keeps them, does the rest, and closes
    the dead run; the result is the undisturbed one."""
    calm = tmp_path / "calm"
    ended(start(holter_servers, calm, *ingest(simulated)))
    rng, home = np.random.default_rng(0), tmp_path / "home"
    made = kills = 0
    for n in range(RUNS):
        process = start(holter_servers, home, *ingest(simulated))
        somewhere(rng, process, home, RECORDS)
        kills += killed(process)
        check_tables(home / "beats" / "dataset=simulated")
        assert built(home) >= made
        made = built(home)
        if made == RECORDS or n == RUNS - 1:  # nothing is left to be lost: from the start again
            said = ended(start(holter_servers, home, *ingest(simulated)))
            assert f"({made} kept from before, 0 failed)" in said
            assert result(home).digest() == result(calm).digest()
            all_ended(holter_servers, home)
            assert not list((home / "running").glob("*.json"))
            for _ in range(kills):
                noted("a flow that ingests", "healed")
            made, kills, home = 0, 0, tmp_path / f"home{n}"


def test_a_task_that_comes_up_after_its_flow_was_closed(
    holter_servers: Servers, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task run that Prefect writes down only after its killed flow was closed is closed too."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    process = start(holter_servers, tmp_path, *ingest(simulated))
    begun(process, tmp_path)
    assert killed(process)
    (closed,) = close_dead()
    with get_client(sync_client=True) as client:
        late = client.create_task_run(
            task(ingest), UUID(closed.flow_run_id), dynamic_key="late", state=Running()
        )
        assert close_dead() == []
        found = client.read_task_run(late.id).state
    assert found is not None
    assert found.is_crashed()
    all_ended(holter_servers, tmp_path)


def test_two_ingests_at_once(holter_servers: Servers, simulated: Path, tmp_path: Path) -> None:
    """Two flows on one data set: one does the work, the other keeps it; both give the same."""
    home = tmp_path / "home"
    both = [start(holter_servers, home, *ingest(simulated)) for _ in range(2)]
    said = [ended(process) for process in both]
    kept = sorted(int(text.partition("(")[2].partition(" kept")[0]) for text in said)
    assert kept == [0, RECORDS]
    assert len(result(home).entries) == RECORDS


def test_a_full_disk(holter_servers: Servers, simulated: Path, tmp_path: Path) -> None:
    """Tables that find no space fail with the reason and leave nothing; then they are made."""
    home = tmp_path / "home"

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    said = ended(start(holter_servers, home, *ingest(simulated), before=little), code=1)
    assert "File too large" in said
    folder = home / "beats" / "dataset=simulated"
    assert not list(folder.rglob("*.partial"))
    check_tables(folder)
    ended(start(holter_servers, home, *ingest(simulated)))
    assert len(result(home).entries) == RECORDS
    all_ended(holter_servers, home)


@dataclass
class Cluster:
    """A Dask scheduler, and workers that can be killed and joined by others."""

    address: str
    folder: Path
    stack: ExitStack
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def join(self, count: int) -> None:
        """Have so many workers, without waiting until they are ready."""
        while len(self.workers) < count:
            one = self.stack.enter_context(dask_worker(self.address, self.folder, {}))
            self.workers.append(one)

    def kill(self, which: int) -> None:
        """SIGKILL of a worker."""
        worker = self.workers.pop(which)
        worker.kill()
        worker.wait(30)

    def env(self, patience_s: float) -> dict[str, str]:
        """What a command is told, to run its tasks here."""
        patience = {"HOLTER_DASK_PATIENCE_S": str(patience_s)}
        return {"HOLTER_RUNNER": "dask", "HOLTER_DASK": self.address, **patience}


@pytest.fixture(scope="module")
def cluster(holter_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler; its workers know the tests' servers."""
    assert holter_servers.prefect_api
    folder = tmp_path_factory.mktemp("dask")
    with dask_scheduler(folder, {}) as address, ExitStack() as stack:
        yield Cluster(address, folder, stack)


def test_dask_workers_killed_under_an_ingest(
    cluster: Cluster, holter_servers: Servers, many: Many, tmp_path: Path
) -> None:
    """One of two workers is killed: the other goes on. It is killed as well, and another one joins:
    that one goes on. No record fails, the tables are the undisturbed ones, no task is left open."""
    rng, kind = np.random.default_rng(5), "a Dask worker"
    for n in range(FEW):
        home = tmp_path / f"home{n}"
        cluster.join(2)
        process = start(holter_servers, home, *ingest(many.toml), env=cluster.env(120))
        begun(process, home)
        built_more_than(int(rng.integers(-1, many.count // 2)), process, home)
        for _ in range(2):
            cluster.kill(int(rng.integers(len(cluster.workers))))
            noted(kind, hit(process))
            cluster.join(1)
            built_more_than(built(home), process, home)
        assert ", 0 failed)" in ended(process)
        assert result(home).digest() == many.digest
        all_ended(holter_servers, home)
        noted(kind, "healed: both")


def test_no_dask_worker_comes_back(
    cluster: Cluster, holter_servers: Servers, many: Many, tmp_path: Path
) -> None:
    """An ingest whose workers are all killed for good ends, with what it lacks in the report; the
    next run does only that, and no task run is left open."""
    kind = "every Dask worker, for good"
    for n in range(FEW):
        home = tmp_path / f"home{n}"
        cluster.join(1)
        process = start(holter_servers, home, *ingest(many.toml), env=cluster.env(2))
        begun(process, home)
        built_more_than(0, process, home)
        for _ in cluster.workers[:]:
            cluster.kill(0)
            noted(kind, hit(process))
        done = built(home)
        assert 0 < done < many.count
        said, _ = process.communicate(timeout=300)
        found = result(home)
        assert process.returncode == (3 if found.entries else 1), said
        assert f"no worker at {cluster.address} for 2 s" in " ".join(said.split())
        assert "Traceback" not in said
        assert len(found.entries) + len(found.failures) == many.count
        all_ended(holter_servers, home)
        cluster.join(1)
        said = ended(start(holter_servers, home, *ingest(many.toml), env=cluster.env(120)))
        assert f"({done} kept from before, 0 failed)" in said
        assert result(home).digest() == many.digest
        noted(kind, "healed")
