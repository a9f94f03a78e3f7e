"""Real services for tests: PostgreSQL, an S3 server, a Dask cluster; or a skip that says why."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from flows.services.servers import QUIET

POSTGRES = Path("/usr/lib/postgresql")
#: Nobody's secrets: the services of the tests listen on loopback and hold made-up data.
S3 = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "eu-west-1",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something listens on a port of loopback; the log's end where nothing does."""
    deadline = time.monotonic() + 180
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.1)


@contextmanager
def running(
    words: list[str], log: Path, port: int = 0, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A service while the block runs; waits for its port where one is given."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            words, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **QUIET, **(env or {})}
        )
    try:
        if port:
            wait_for(port, process, log)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@dataclass
class Postgres:
    """PostgreSQL on loopback that can be killed, and started again on the same data folder."""

    bin_folder: Path
    data: Path
    log: Path
    as_user: list[str]
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def at(self) -> str:
        """Its address, up to the database's name."""
        return f"holter@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it on what it left; gives back when it takes connections again."""
        words = [str(self.bin_folder / "postgres"), "-D", str(self.data / "db")]
        words += ["-p", str(self.port), "-h", "127.0.0.1", "-k", str(self.data)]
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [*self.as_user, *words], stdout=file, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 180
        while self.tool("pg_isready", "-q").returncode:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.1)

    def tool(self, name: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        """One of PostgreSQL's own commands, on this server."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "holter"]
        return subprocess.run([self.bin_folder / name, *where, *words], capture_output=True)

    def kill(self) -> None:
        """SIGKILL of the postmaster and of every backend, which are in sessions of their own."""
        assert self.process is not None
        leader = psutil.Process(self.process.pid)
        every = [leader, *leader.children(recursive=True)]
        for one in every:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait(30)
        psutil.wait_procs(every, timeout=30)

    def stop(self) -> None:
        """End it as its administrator would, if it runs."""
        if self.process is not None and self.process.poll() is None:
            words = ["stop", "-D", str(self.data / "db"), "-m", "fast"]
            subprocess.run(
                [*self.as_user, str(self.bin_folder / "pg_ctl"), *words],
                check=True,
                capture_output=True,
                cwd="/",
            )
            self.process.wait(30)


@contextmanager
def killable_postgres(folder: Path, *databases: str) -> Iterator[Postgres]:
    """PostgreSQL with databases of these names, or a skip that says why."""
    found = sorted(POSTGRES.glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses root
        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL does not run as root, and runuser is not there")
        as_user = ["runuser", "-u", "postgres", "--"]
    # Not below pytest's own folder: another pytest that starts closes it to other users.
    data = Path(tempfile.mkdtemp(prefix="holter-pg-"))
    server = Postgres(found[-1].parent, data, folder / "postgres.log", as_user, free_port())
    try:
        if as_user:
            shutil.chown(data, "postgres")
        init = [str(found[-1]), "-D", str(data / "db"), "-U", "holter", "--auth=trust"]
        subprocess.run([*as_user, *init, "-E", "UTF8"], check=True, capture_output=True, cwd="/")
        server.start()
        for name in databases:
            done = server.tool("createdb", name)
            assert done.returncode == 0, done.stderr
        yield server
    finally:
        server.stop()
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def postgres(folder: Path, *databases: str) -> Iterator[str]:
    """PostgreSQL with databases of these names; yields its address up to the database's name."""
    with killable_postgres(folder, *databases) as server:
        yield server.at


@contextmanager
def s3_server(folder: Path, *buckets: str) -> Iterator[dict[str, str]]:
    """An S3 server with buckets; yields the environment that names it."""
    pytest.importorskip("moto")
    boto3 = pytest.importorskip("boto3")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(words, folder / "s3.log", port):
        client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="eu-west-1",
            **{"aws_access_key_id": "test", "aws_secret_access_key": "test"},
        )
        for bucket in buckets:
            client.create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
            )
        both = {"AWS_ENDPOINT_URL": address, "MLFLOW_S3_ENDPOINT_URL": address}
        yield {**S3, **both}


@contextmanager
def dask_scheduler(folder: Path, env: Mapping[str, str]) -> Iterator[str]:
    """A Dask scheduler on loopback; yields its address."""
    pytest.importorskip("distributed")
    port = free_port()
    words = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", str(port)]
    with running([*words, "--no-dashboard"], folder / "scheduler.log", port, env):
        yield f"tcp://127.0.0.1:{port}"


def dask_worker(
    address: str, folder: Path, env: Mapping[str, str]
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker process of that scheduler, with one thread, while the block runs."""
    words = [sys.executable, "-m", "dask", "worker", address, "--host", "127.0.0.1"]
    words += ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder)]
    return running(words, folder / f"worker-{uuid.uuid4().hex[:8]}.log", 0, env)


@contextmanager
def dask_cluster(folder: Path, env: Mapping[str, str], workers: int = 2) -> Iterator[str]:
    """A Dask scheduler and worker processes on loopback; yields the scheduler's address."""
    with dask_scheduler(folder, env) as address, ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(dask_worker(address, folder, env))
        yield address
