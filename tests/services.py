"""Real services for tests: PostgreSQL, an S3 server, a Dask cluster; or a skip that says why."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.servers import QUIET

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
    deadline = time.monotonic() + 60
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


@contextmanager
def postgres(folder: Path, *databases: str) -> Iterator[str]:
    """PostgreSQL with databases of these names; yields its address up to the database's name."""
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
    try:
        if as_user:
            shutil.chown(data, "postgres")
        yield from _postgres(found[-1], data, folder, as_user, databases)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _postgres(
    initdb: Path, data: Path, folder: Path, as_user: list[str], databases: tuple[str, ...]
) -> Iterator[str]:
    bin_folder, port, log = initdb.parent, free_port(), folder / "postgres.log"
    init = [str(initdb), "-D", str(data / "db"), "-U", "holter", "--auth=trust", "-E", "UTF8"]
    subprocess.run([*as_user, *init], check=True, capture_output=True, cwd="/")
    words = [str(bin_folder / "postgres"), "-D", str(data / "db"), "-p", str(port), "-h"]
    words += ["127.0.0.1", "-k", str(data)]
    with running([*as_user, *words], log, port):
        for name in databases:
            make = [
                str(bin_folder / "createdb"),
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "-U",
                "holter",
            ]
            for _ in range(50):  # it listens before it serves
                done = subprocess.run([*make, name], capture_output=True)
                if done.returncode == 0:
                    break
                time.sleep(0.2)
            assert done.returncode == 0, done.stderr
        yield f"holter@127.0.0.1:{port}"


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
def dask_cluster(folder: Path, env: Mapping[str, str], workers: int = 2) -> Iterator[str]:
    """A Dask scheduler and worker processes on loopback; yields the scheduler's address."""
    pytest.importorskip("distributed")
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    with running(scheduler, folder / "scheduler.log", port, env):
        words = [*dask, "worker", address, "--host", "127.0.0.1", "--nthreads", "1"]
        words += ["--no-nanny", "--no-dashboard", "--local-directory", str(folder)]
        with _several([[*words, "--name", f"w{n}"] for n in range(workers)], folder, env):
            yield address


@contextmanager
def _several(commands: list[list[str]], folder: Path, env: Mapping[str, str]) -> Iterator[None]:
    if not commands:
        yield
        return
    log = folder / f"worker{len(commands)}.log"
    with running(commands[0], log, 0, env), _several(commands[1:], folder, env):
        yield
