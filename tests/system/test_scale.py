"""Scale out: other runners, buckets, PostgreSQL, accounts; the same tables from each of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.context import FlowRunContext

from flows.ingest.flow import MOST_ROWS, Outcome, ingest, report
from flows.ingest.simulate import write_simulated
from flows.services import runners
from flows.services.runners import BATCH_RECORDS, batches, chosen_runner, in_flight, run_batches
from flows.services.servers import Servers, mlflow_server, prefect_command
from storage import places
from storage.errors import TableError
from storage.files import sha256_file, write_bytes
from storage.places import Place, Remote, place
from storage.tables.beats import read_beats
from storage.tables.beats_manifest import Manifest, read_manifest
from storage.tables.labelled import read_labelled
from tests.conftest import ROOT
from tests.services import dask_cluster, free_port, postgres, running, s3_server

SUBJECTS = 5
ADMIN = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "correct horse battery"}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five simulated records, the last one cut off."""
    toml = write_simulated(tmp_path_factory.mktemp("simulated"), SUBJECTS, 0.1, 5)
    signal = toml.parent / f"sim{SUBJECTS - 1:03d}.dat"
    signal.write_bytes(signal.read_bytes()[:1000])
    return toml


@pytest.fixture(scope="module")
def by_threads(simulated: Path, holter_servers: Servers) -> Manifest:
    """The same records through threads and a folder: what every other way must equal."""
    assert holter_servers.prefect_api
    return ingest(str(simulated), simulated.parent).manifest


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with (
        s3_server(tmp_path_factory.mktemp("s3"), "holter") as env,
        pytest.MonkeyPatch.context() as p,
    ):
        for name, value in env.items():
            p.setenv(name, value)
        places._system.cache_clear()
        yield env
    places._system.cache_clear()


def holter(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "flows", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_a_wrong_runner_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that is not there, and Dask without its scheduler, say what to set."""
    monkeypatch.setenv("HOLTER_RUNNER", "ray")
    with pytest.raises(ValueError, match="'ray': expected one of threads, processes, dask"):
        chosen_runner()
    monkeypatch.setenv("HOLTER_RUNNER", "dask")
    monkeypatch.delenv("HOLTER_DASK", raising=False)
    with pytest.raises(ValueError, match="HOLTER_DASK"):
        chosen_runner()


def test_small_records_share_a_task_and_large_ones_do_not(tmp_path: Path) -> None:
    """Batches hold every record once, in order, up to so many bytes or records."""
    names = [f"a/r{n:03d}" for n in range(150)] + ["big.1", "big.2"]
    (tmp_path / "a").mkdir()
    for name in names:
        (tmp_path / f"{name}.hea").write_bytes(b"x")
    for name in ("big.1", "big.2"):
        with (tmp_path / f"{name}.dat").open("wb") as file:
            file.truncate(30 << 20)
    found = batches(tmp_path, names)
    assert [name for batch in found for name in batch] == names
    assert [len(batch) for batch in found] == [BATCH_RECORDS, BATCH_RECORDS, 22, 1, 1]
    assert batches(tmp_path, []) == []
    unsafe = ["/etc/none/x", "../x", "big.1"]
    assert [name for batch in batches(tmp_path, unsafe) for name in batch] == unsafe


@dataclass
class Future:
    """A task that has ended, as a runner tells of it."""

    told: object
    task_run_id: UUID = field(default_factory=uuid4)

    def __hash__(self) -> int:
        return hash(self.task_run_id)

    def add_done_callback(self, done: Callable[[Future], None]) -> None:
        """It has ended already."""
        done(self)

    def result(self, raise_on_failure: bool) -> object:
        """What was told, or what the runner says of a task that it gave up."""
        assert not raise_on_failure
        if self.told == ["c"]:
            raise RuntimeError("all those workers died")
        return self.told


def test_a_task_that_its_runner_gives_up_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others' results come, its own is the reason, and Prefect is told of it; a batch that the
    runner does not take has failed as well."""
    told: dict[UUID, str] = {}
    monkeypatch.setattr(runners, "close_tasks", told.update)

    def submit(batch: list[str]) -> Future:
        if batch == ["b"]:
            raise RuntimeError("the pool is broken")
        return Future(batch)

    found = {
        names[0]: result for names, result in run_batches(submit, [["a"], ["b"], ["c"], ["d"]])
    }
    assert (found["a"], found["d"]) == (["a"], ["d"])
    assert str(found["b"]) == "the pool is broken"
    assert str(found["c"]) == "all those workers died"
    assert list(told.values()) == ["all those workers died"]


class Done:
    """A future that has ended, as a runner gives it."""

    def __init__(self, value: list[str]) -> None:
        self.value = value

    def add_done_callback(self, told: Callable[[Done], None]) -> None:
        """It has ended: it is told at once."""
        told(self)

    def result(self, *, raise_on_failure: bool) -> list[str]:
        """The batch."""
        assert not raise_on_failure
        return self.value


def test_prefect_keeps_nothing_of_tasks_that_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tasks there were, Prefect's links to their results are those in flight."""
    context = SimpleNamespace(run_results={}, task_runner=None)
    monkeypatch.setattr(FlowRunContext, "get", lambda: context)

    def submit(batch: list[str]) -> Done:
        context.run_results[batch[0]] = "a state"
        return Done(batch)

    work = [[f"r{n}"] for n in range(500)]
    kept = []
    for batch, result in run_batches(submit, work):
        assert batch == result
        kept.append(len(context.run_results))
    assert len(kept) == 500
    assert max(kept) <= in_flight()
    assert not context.run_results


def test_the_report_of_many_records_is_short_and_shows_what_failed() -> None:
    """Prefect's table of a hundred thousand records has a thousand rows, the failed ones first."""
    outcomes = [Outcome(f"r{n}", "built", 0.1) for n in range(3000)]
    assert len(report(outcomes[:MOST_ROWS], {})) == MOST_ROWS
    outcomes[2500] = Outcome("r2500", "failed", 0.0, error="no such file")
    rows = report(outcomes, {})
    assert len(rows) == MOST_ROWS
    assert rows[0]["record"] == "r2500"
    assert [row["record"] for row in rows[1:4]] == ["r0", "r1", "r2"]


@pytest.mark.slow
def test_a_failed_record_has_the_red_task(by_threads: Manifest, holter_servers: Servers) -> None:
    """The record's own task run is the failed one; its group's, and the flow's, tell how many."""

    def states(kind: str) -> dict[str, tuple[str, str]]:
        url = f"{holter_servers.prefect_api}/{kind}/filter"
        wanted = {"flow_runs": {"id": {"any_": [by_threads.flow_run_id]}}}
        found = httpx.post(url, json=wanted, timeout=60).raise_for_status().json()
        return {one["name"]: (one["state"]["type"], one["state"]["name"]) for one in found}

    said = f"1 of {SUBJECTS} records failed"
    assert states("flow_runs") == {"ingest-simulated": ("COMPLETED", said)}
    expected = {
        f"beats of {SUBJECTS} records": ("COMPLETED", said),
        f"beats-sim{SUBJECTS - 1:03d}": ("FAILED", "Failed"),
    }
    deadline = time.monotonic() + 240
    while states("task_runs") != expected:  # the server writes them down some time later
        assert time.monotonic() < deadline, states("task_runs")
        time.sleep(0.5)


@pytest.mark.slow
def test_a_bucket_holds_what_a_folder_holds(bucket: dict[str, str], tmp_path: Path) -> None:
    """What is written to a bucket reads back, digests the same, and its absence is an error."""
    assert bucket["AWS_ENDPOINT_URL"]
    here, there = tmp_path / "beats" / "x.bin", place("s3://holter/beats") / "x.bin"
    for one in (here, there):
        write_bytes(one, b"0123456789" * 1000)
    assert sha256_file(here) == sha256_file(there)
    assert there.read_bytes() == here.read_bytes()
    assert there.is_file()
    assert there.name == "x.bin"
    assert there.parent == place("s3://holter/beats")
    missing = there.parent / "y.parquet"
    assert not missing.is_file()
    with pytest.raises(TableError, match=r"s3://holter/beats/y\.parquet: found no file"):
        read_beats(missing)
    with pytest.raises(TableError, match="manifest s3://holter/beats/none: found no file"):
        read_manifest(there.parent / "none")


@pytest.mark.slow
def test_a_write_that_fails_leaves_nothing_in_a_bucket(bucket: dict[str, str]) -> None:
    """A table whose making fails half way is not there, and an old one stays as it was."""
    from storage.files import whole

    assert bucket
    file = place("s3://holter/half") / "x"
    write_bytes(file, b"old")

    def fail() -> None:
        with whole(file) as partial:
            partial.write_bytes(b"ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert file.read_bytes() == b"old"


def same_tables(
    done: subprocess.CompletedProcess[str], beats: Place, kept: int, by_threads: Manifest
) -> None:
    """The ingest failed the spoilt record alone, kept so many tables, and all are the threads'."""
    assert done.returncode == 3, done.stderr
    assert kept or "sim004, file sim004.dat: found 1000 bytes" in done.stderr
    assert f"({kept} kept from before, 1 failed)" in " ".join(done.stdout.split())
    path = beats / "dataset=simulated" / "manifest.json"
    made = read_manifest(path)
    assert made.digest() == by_threads.digest()
    assert made.failures == by_threads.failures
    assert len(read_labelled([path])) > 1000


@pytest.mark.slow
def test_processes_make_the_same_tables(
    simulated: Path, by_threads: Manifest, holter_servers: Servers, tmp_path: Path
) -> None:
    """Processes make the bytes that threads make; the spoilt record fails alone with its reason,
    and a second run keeps every table."""
    env = {"HOLTER_RUNNER": "processes", "HOLTER_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    env |= {"PREFECT_API_URL": holter_servers.prefect_api}
    env |= {"MLFLOW_TRACKING_URI": holter_servers.mlflow}
    for kept in (0, 4):
        done = holter("ingest", str(simulated), "--data", str(simulated.parent), **env)
        same_tables(done, place(str(tmp_path / "beats")), kept, by_threads)


@pytest.mark.slow
def test_an_altered_table_in_a_bucket_is_not_used(
    simulated: Path, by_threads: Manifest, bucket: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training refuses a table whose bytes changed in the bucket; a new ingest makes it again."""
    assert bucket
    monkeypatch.setenv("HOLTER_BEATS", "s3://holter/altered")
    done = ingest(str(simulated), simulated.parent)
    assert isinstance(done.path, Remote)
    assert done.manifest.digest() == by_threads.digest()
    file = done.path.parent / "sim001.parquet"
    good = file.read_bytes()
    write_bytes(file, good[:200] + bytes([good[200] ^ 1]) + good[201:])
    with pytest.raises(TableError, match=r"sim001\.parquet: found altered bytes"):
        read_labelled([done.path])
    states = {o.record: o.state for o in ingest(str(simulated), simulated.parent).outcomes}
    assert states == {f"sim00{n}": "kept" for n in range(4)} | {
        "sim001": "built",
        "sim004": "failed",
    }
    assert file.read_bytes() == good


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_job_on_a_team_s_servers(
    simulated: Path, by_threads: Manifest, bucket: dict[str, str], tmp_path: Path
) -> None:
    """Prefect and MLflow on PostgreSQL, accounts, artifacts and tables in a bucket, Dask workers:
    the tables are those that threads make, and the retraining keeps them, up to the device's
    report."""
    beats = place("s3://holter/team")
    with postgres(tmp_path, "prefect", "mlflow", "auth") as database:
        config = tmp_path / "auth.ini"
        config.write_text(
            "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
            f"database_uri = postgresql+psycopg2://{database}/auth\nadmin_username = admin\n"
            f"admin_password = {ADMIN['MLFLOW_TRACKING_PASSWORD']}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        words = ["--app-name", "basic-auth", "--artifacts-destination", "s3://holter/mlflow"]
        words += ["--backend-store-uri", f"postgresql+psycopg2://{database}/mlflow"]
        secret = {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": "test"}
        port = free_port()
        prefect = {"PREFECT_HOME": str(tmp_path / "prefect")}
        prefect["PREFECT_API_DATABASE_CONNECTION_URL"] = f"postgresql+asyncpg://{database}/prefect"
        with (
            mlflow_server(tmp_path, *words, env={**secret, **bucket}) as mlflow,
            running(prefect_command(port), tmp_path / "prefect.log", port, prefect),
        ):
            env = {
                "HOLTER_RUNNER": "dask",
                "HOLTER_HOME": str(tmp_path / "home"),
                **bucket,
                **ADMIN,
            }
            env |= {"HOLTER_BEATS": "s3://holter/team", "PYTHONPATH": str(ROOT)}
            env |= {
                "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
                "MLFLOW_TRACKING_URI": mlflow,
            }
            words = [str(simulated), "--data", str(simulated.parent)]
            with dask_cluster(tmp_path, env) as address:
                env["HOLTER_DASK"] = address
                same_tables(holter("ingest", *words, **env), beats, 0, by_threads)
                words += ["--epochs", "1", "--model", "resnet15"]
                done = holter("retrain", *words, **env)
        assert done.returncode == 3, done.stderr[-3000:]
        assert "4 kept from before" in " ".join(done.stdout.split())
        assert "holter-resnet15 version 1 (@candidate)" in done.stdout
