"""The local servers: up on loopback, found by other commands, gone when told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from flows.servers import LOOPBACK, Kind, _answering, _listens, _start, answers, running
from storage.errors import ServerError
from tests.conftest import ROOT


def allowed_origin(api: str, origin: str) -> str:
    """What Prefect's server lets a web page of `origin` read."""
    reply = httpx.get(f"{api}/health", headers={"Origin": origin}, timeout=10)
    return str(reply.headers.get("Access-Control-Allow-Origin", ""))


def status_for(mlflow: str, **headers: str) -> int:
    """MLflow's answer to a question that comes with these headers, as a web page's would."""
    url = f"{mlflow}/api/2.0/mlflow/experiments/search"
    return httpx.post(url, json={"max_results": 1}, headers=headers, timeout=30).status_code


@pytest.mark.slow
def test_up_serves_and_stops_cleanly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`holter up` serves both pages on loopback until it is told to stop, and leaves nothing."""
    home = tmp_path / "home"
    monkeypatch.setenv("HOLTER_HOME", str(home))
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    assert running() is None
    with subprocess.Popen(
        [sys.executable, "-m", "flows", "up", "--foreground"], cwd=ROOT, env=dict(os.environ)
    ) as process:
        try:
            deadline = time.monotonic() + 150
            while (found := running()) is None:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.5)
            assert answers(f"{found.prefect_page}/")
            assert answers(f"{found.mlflow}/")
            assert allowed_origin(found.prefect_api, "https://evil.example") == ""
            assert allowed_origin(found.prefect_api, found.prefect_page) == found.prefect_page
            assert status_for(found.mlflow) == 200
            assert status_for(found.mlflow, Host="evil.example") == 403
            assert status_for(found.mlflow, Origin="https://evil.example") == 403
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


def page_server(folder: Path, port: int) -> list[str]:
    """The command of a server that takes no time to start."""
    return [sys.executable, "-m", "http.server", "--bind", LOOPBACK, "-d", str(folder), str(port)]


PAGES = Kind("Pages", 0, page_server, lambda *_: {}, "/")


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A server that ends at once is an error with the end of its log, not a wait."""
    words = [sys.executable, "-c", "import sys; sys.exit('no such database')"]
    kind = replace(PAGES, command=lambda *_: words)
    with ExitStack() as stack, pytest.raises(ServerError, match=r"(?s)ended with 1.*no such data"):
        _answering(stack, _start(stack, kind, tmp_path, 0), tmp_path)


def test_a_server_is_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another process takes the port meanwhile, ours answers on another one."""
    with ExitStack() as stack:
        other = _answering(stack, _start(stack, PAGES, tmp_path, 0), tmp_path)
        monkeypatch.setattr("flows.servers._free", lambda port: port or other.port)
        late = _start(stack, PAGES, tmp_path, other.port)
        monkeypatch.undo()
        assert late.port == other.port
        ours = _answering(stack, late, tmp_path)
        assert ours.port != other.port
        assert _listens(ours.process.pid, ours.port)
        assert not _listens(ours.process.pid, other.port)
    assert not answers(f"http://{LOOPBACK}:{ours.port}/")
    assert not answers(f"http://{LOOPBACK}:{other.port}/")


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_leaves_no_server(
    sign: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command ended while its servers run takes them along, killed by SIGKILL too."""
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
        process.send_signal(sign)
        assert process.wait(60) == {signal.SIGTERM: 128 + sign, signal.SIGKILL: -sign}[sign]
    assert not psutil.wait_procs(started, timeout=15)[1]
