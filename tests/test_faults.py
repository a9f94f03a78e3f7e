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
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import httpx
import numpy as np
import pytest
from prefect import task
from prefect.client.orchestration import get_client
from prefect.states import Running

from flows.alive import close_dead
from flows.servers import Servers
from flows.simulate import write_simulated
from storage.beats import read_beats
from storage.beats_manifest import Manifest, manifest_path, read_manifest
from tests.conftest import ROOT

RUNS = int(os.environ.get("HOLTER_FAULT_RUNS", "4"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 60 * RUNS)]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty simulated records of a quarter of an hour."""
    return write_simulated(tmp_path_factory.mktemp("simulated"), 20, 0.25, 11)


def start(
    here: Servers, home: Path, *words: str, before: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    """Start a command with a state folder of its own on the tests' servers."""
    env = {**os.environ, "HOLTER_HOME": str(home), "PREFECT_API_URL": here.prefect_api}
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
    said, _ = process.communicate(timeout=180)
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

    Prefect's server records the states of tasks a while after it is told of them.
    """
    deadline = time.monotonic() + 60
    while found := unended(here):
        assert time.monotonic() < deadline, found
        time.sleep(1)
        ended(start(here, home, "status"))


def kill_within(process: subprocess.Popen[str], home: Path, after_s: float) -> bool:
    """SIGKILL a command some time after its flow began; whether it was still running then."""
    deadline = time.monotonic() + 120
    while not list((home / "running").glob("*.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(after_s)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return alive


def test_ingest_killed_at_random_moments(
    holter_servers: Servers, simulated: Path, tmp_path: Path
) -> None:
    """After every SIGKILL the tables are whole; the next run keeps them, does the rest, and closes
    the dead run; the result is the undisturbed one."""
    calm = tmp_path / "calm"
    ended(start(holter_servers, calm, *ingest(simulated)))
    rng, home = np.random.default_rng(0), tmp_path / "home"
    built = 0
    for _ in range(RUNS):
        kill_within(start(holter_servers, home, *ingest(simulated)), home, rng.uniform(0, 1.5))
        folder = home / "beats" / "dataset=simulated"
        check_tables(folder)
        notes = list((folder / "entries").glob("*.json"))
        assert len(notes) >= built
        built = len(notes)
    said = ended(start(holter_servers, home, *ingest(simulated)))
    found = result(home)
    assert found.digest() == result(calm).digest()
    assert f"({built} kept from before, 0 failed)" in said
    all_ended(holter_servers, home)
    assert not list((home / "running").glob("*.json"))


def test_a_task_that_comes_up_after_its_flow_was_closed(
    holter_servers: Servers, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task run that Prefect writes down only after its killed flow was closed is closed too."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    killed = start(holter_servers, tmp_path, *ingest(simulated))
    assert kill_within(killed, tmp_path, 0.0)
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
    assert kept == [0, 20]
    assert len(result(home).entries) == 20


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
    assert len(result(home).entries) == 20
    all_ended(holter_servers, home)
