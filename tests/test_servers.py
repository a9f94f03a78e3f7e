"""The local servers: up on loopback, found by other commands, gone when told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows.servers import answers, running
from tests.conftest import ROOT


@pytest.mark.slow
def test_up_serves_and_stops_cleanly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`holter up` serves both pages on loopback until it is told to stop, and leaves nothing."""
    home = tmp_path / "home"
    monkeypatch.setenv("HOLTER_HOME", str(home))
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    assert running() is None
    with subprocess.Popen(
        [sys.executable, "-m", "flows", "up"], cwd=ROOT, env=dict(os.environ)
    ) as process:
        try:
            deadline = time.monotonic() + 150
            while (found := running()) is None:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.5)
            assert answers(f"{found.prefect_page}/")
            assert answers(f"{found.mlflow}/")
            ports = {int(url.rpartition(":")[2]) for url in (found.prefect_page, found.mlflow)}
            listening = {
                c.laddr.ip
                for c in psutil.net_connections("inet")
                if c.status == psutil.CONN_LISTEN and c.laddr.port in ports
            }
            assert listening == {"127.0.0.1"}
            again = subprocess.run(
                [sys.executable, "-m", "flows", "up"], cwd=ROOT, capture_output=True, text=True
            )
            assert "Already up" in again.stderr
            assert again.returncode == 0
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
    assert running() is None
    assert not psutil.pid_exists(found.prefect_pid)
    assert not psutil.pid_exists(found.mlflow_pid)
    assert not (home / "servers.json").exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A server that ends at once is an error with the end of its log, not a wait."""
    from flows.servers import _process, _wait
    from storage.errors import ServerError

    log = tmp_path / "server.log"
    words = [sys.executable, "-c", "import sys; sys.exit('no such database')"]
    with _process(words, {}, log) as process, pytest.raises(ServerError, match="no such database"):
        _wait(process, "http://127.0.0.1:9/health", log, "MLflow")


@pytest.mark.slow
def test_a_command_that_is_ended_leaves_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command ended by SIGTERM while its servers run stops them before it goes."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    words = [sys.executable, "-m", "flows", "edge", "status"]
    with subprocess.Popen(words, cwd=ROOT, env=dict(os.environ)) as process:
        log = tmp_path / "home" / "logs" / "mlflow.log"
        deadline = time.monotonic() + 60
        while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.1)
        started = psutil.Process(process.pid).children(recursive=True)
        assert started
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not psutil.wait_procs(started, timeout=15)[1]
