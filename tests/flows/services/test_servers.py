"""The local servers: up on loopback, found by other commands, gone when told."""

from __future__ import annotations

import getpass
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from flows.cli.ops import _start_beside
from flows.services.ports import known_port
from flows.services.prefect_server import LOCAL_NAMES, admits
from flows.services.servers import LOOPBACK, Kind, _answering, _listens, _settle_port, _start
from flows.services.up_state import Servers, answers, check_alive, log_bytes, running
from storage.errors import ServerError
from storage.files import write_bytes
from tests.conftest import ROOT


def allowed_origin(api: str, origin: str) -> str:
    """What Prefect's server lets a web page of `origin` read."""
    reply = httpx.get(f"{api}/health", headers={"Origin": origin}, timeout=10)
    return str(reply.headers.get("Access-Control-Allow-Origin", ""))


def status_for(mlflow: str, **headers: str) -> int:
    """MLflow's answer to a question that comes with these headers, as a web page's would."""
    url = f"{mlflow}/api/2.0/mlflow/experiments/search"
    return httpx.post(url, json={"max_results": 1}, headers=headers, timeout=30).status_code


def prefect_status(page: str, path: str, **headers: str) -> int:
    """Prefect's answer to a request with these headers: a question to its API, or for its page."""
    method, body = ("POST", b"{}") if path.startswith("/api") else ("GET", b"")
    sent = {"Content-Type": "application/json", **headers}
    url = f"{page}{path}"
    return httpx.request(method, url, content=body, headers=sent, timeout=60).status_code


def socket_status(api: str, **headers: str) -> int:
    """Prefect's answer to a page that opens the WebSocket of its events: 101 where it may."""
    shake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": b64encode(b"0" * 16).decode(), "Sec-WebSocket-Protocol": "prefect"}
    host, port = api.removeprefix("http://").removesuffix("/api").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    connection.request("GET", "/api/events/in", headers={**shake, **key, **headers})
    status = connection.getresponse().status
    connection.close()
    return status


OWN = [("host", "127.0.0.1:4200")]


@pytest.mark.parametrize(
    ("headers", "right"),
    [
        (OWN, True),
        ([("host", "LOCALHOST:4200")], True),
        ([("host", "[::1]:4200")], True),
        ([("host", "added.example")], True),
        ([*OWN, ("origin", "http://127.0.0.1:4200")], True),
        ([("host", "evil.example:4200")], False),
        ([("host", "127.0.0.1.evil.example")], False),
        ([("host", "localhost@evil.example")], False),
        ([("host", "[::1")], False),
        ([("host", "")], False),
        ([], False),
        ([*OWN, ("host", "evil.example")], False),
        ([*OWN, ("origin", "http://evil.example")], False),
        ([*OWN, ("origin", "http://127.0.0.1:8000")], False),
        ([*OWN, ("origin", "http://localhost:4200")], False),
        ([*OWN, ("origin", "http://127.0.0.1:4200"), ("origin", "http://evil.example")], False),
        ([*OWN, ("origin", "null")], False),
    ],
)
def test_who_is_let_in(headers: list[tuple[str, str]], right: bool) -> None:
    """A request names this machine, or a name that was added, and comes from no other page."""
    raw = [(name.encode(), value.encode()) for name, value in headers]
    assert admits(raw, (*LOCAL_NAMES, "added.example")) is right


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
            for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
                assert prefect_status(found.prefect_page, "/", **headers) == 403
                assert prefect_status(found.prefect_page, "/api/flows/filter", **headers) == 403
                assert socket_status(found.prefect_api, **headers) == 403
            assert prefect_status(found.prefect_page, "/api/flows/filter") == 200
            assert socket_status(found.prefect_api, Origin=found.prefect_page) == 101
            for database in ("prefect/prefect.db", "mlflow/mlflow.db"):
                assert (home / database).stat().st_mode & 0o077 == 0
            assert home.stat().st_mode & 0o077 == 0
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
            assert "Already up" in again.stdout
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


def test_no_log_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that fails without a word, as on a full disk, leaves what the log held; it is told
    that nothing came, and what room there is. A large log is put aside whole."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    silent = write_bytes(tmp_path / "silent", b"#!/bin/sh\nexit 1\n")
    silent.chmod(0o700)
    log = write_bytes(tmp_path / "logs" / "up.log", b"what was told\n")
    monkeypatch.setattr("flows.cli.ops.sys.executable", str(silent))
    with pytest.raises(ServerError, match=r"nothing was written; [0-9.]+ GB are free"):
        _start_beside(worker=False)
    assert log.read_bytes() == b"what was told\n"
    monkeypatch.setattr("flows.services.up_state.MOST_LOG_BYTES", 5)
    assert log_bytes(log) == 0
    assert log.with_name("up.log.1").read_bytes() == b"what was told\n"


def test_a_server_that_ends_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`holter up` ends with the end of the log where a server or its worker has ended."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    write_bytes(tmp_path / "logs" / "mlflow.log", b"No space left on device\n")
    here = Servers("http://127.0.0.1:9/api", "http://127.0.0.1:9", prefect_pid=os.getpid())
    check_alive(here)
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ServerError, match=r"(?s)MLflow.*has ended.*No space left"):
            check_alive(replace(here, mlflow_pid=process.pid))


def listening(port: int) -> socket.socket:
    """A socket of this process that listens, as another server does."""
    taker = socket.create_server((LOOPBACK, port))
    taker.listen()
    return taker


def test_a_server_is_ones_own(tmp_path: Path) -> None:
    """Where another process takes the port between the look and the bind, ours takes another."""
    takers: list[socket.socket] = []

    def late_command(folder: Path, port: int) -> list[str]:
        if not takers:
            takers.append(listening(port))
        return page_server(folder, port)

    with ExitStack() as stack:
        late = _start(stack, replace(PAGES, command=late_command), tmp_path, 0)
        (taker,) = takers
        stack.enter_context(taker)
        assert late.port == taker.getsockname()[1]
        ours = _answering(stack, late, tmp_path)
        assert ours.port != late.port
        assert _listens(ours.process.pid, ours.port)
        assert not _listens(ours.process.pid, late.port)
    assert not answers(f"http://{LOOPBACK}:{ours.port}/")


def test_a_server_whose_port_was_taken_for_a_moment_is_started_again(tmp_path: Path) -> None:
    """It ended as its port was taken, by what is gone when we look: it gets that port after all."""
    code = (
        "import socket, sys\n"
        f"at = ({LOOPBACK!r}, int(sys.argv[1]))\n"
        "taker = socket.create_server(at)\n"
        "try:\n    socket.create_server(at)\n"
        "except OSError as error:\n    print(error)\n    sys.exit(3)\n"
    )
    starts: list[int] = []

    def command(folder: Path, port: int) -> list[str]:
        starts.append(port)
        late = [sys.executable, "-c", code, str(port)]
        return page_server(folder, port) if len(starts) > 1 else late

    with ExitStack() as stack:
        first = _start(stack, replace(PAGES, command=command), tmp_path, 0)
        fixed = replace(first, first_port=first.port, is_fixed=True)
        ours = _answering(stack, fixed, tmp_path)
    assert starts == [ours.port, ours.port]


def test_a_port_is_kept_until_its_server_listens(tmp_path: Path) -> None:
    """Nobody who asks for it, or for any, is given a port between the look and the bind."""
    with ExitStack() as stack:
        started = _start(stack, replace(PAGES, command=lambda *_: ["sleep", "60"]), tmp_path, 0)
        with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
            other.bind((LOOPBACK, started.port))


def test_a_fixed_port_that_is_taken_is_told_with_its_holder(tmp_path: Path) -> None:
    """By number, process, program and user; nothing is started."""
    with listening(0) as taker, ExitStack() as stack:
        port = taker.getsockname()[1]
        holder = rf"process {os.getpid()} \(.*python.*, {getpass.getuser()}\)"
        expected = rf"port {port} for Pages: found {holder} on it; expected a free port"
        with pytest.raises(ServerError, match=expected):
            _start(stack, PAGES, tmp_path, port, is_fixed=True)
    assert not PAGES.log(tmp_path).exists()


def test_a_port_is_the_same_at_the_next_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is remembered; one that another holds is told, and another is chosen and remembered."""
    ports: list[int] = []
    with listening(0) as taker:
        usual = int(taker.getsockname()[1])
    for _ in range(2):
        with ExitStack() as stack:
            started = _start(stack, PAGES, tmp_path, known_port(tmp_path, "Pages", usual))
            assert _settle_port(_answering(stack, started, tmp_path), tmp_path) == []
            ports.append(started.port)
            # a second server of the same state folder changes nothing that is remembered
            second = _start(stack, PAGES, tmp_path, started.port)
            (note,) = _settle_port(_answering(stack, second, tmp_path), tmp_path)
            assert f"Port {usual} is held by process" in note
            assert "Links" not in note
    assert ports == [usual, usual]
    with listening(usual), ExitStack() as stack:
        started = _start(stack, PAGES, tmp_path, known_port(tmp_path, "Pages", 1))
        assert started.port != usual
        (note,) = _settle_port(_answering(stack, started, tmp_path), tmp_path)
        assert f"Links that were written with {usual} do not lead there" in note
    assert known_port(tmp_path, "Pages", 1) == started.port
    assert f"Pages is on {started.port}" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("content", ["", "[]", '{"Pages": 70000}', '{"Pages": "80"}', "{"])
def test_what_is_no_port_is_not_remembered(content: str, tmp_path: Path) -> None:
    """A note that is damaged, or edited, is as none."""
    write_bytes(tmp_path / "ports.json", content.encode())
    assert known_port(tmp_path, "Pages", 4200) == 4200


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (
            ["--prefect-port", "0"],
            {},
            "prefect_port: found 0; expected at least 1 and at most 65535",
        ),
        (["--prefect-port", "4999", "--mlflow-port", "4999"], {}, "found port 4999 for both"),
        (
            ["--mlflow-port", "4999"],
            {"MLFLOW_TRACKING_URI": "http://mlflow.example"},
            "--mlflow-port 4999: found MLFLOW_TRACKING_URI, which names a server",
        ),
        (["--mlflow-port", "PORT"], {}, "port PORT for MLflow: found process"),
    ],
)
def test_up_refuses_ports_that_cannot_be(
    words: list[str], environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    """Before anything is started, in one sentence."""
    names = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
    env = {name: value for name, value in os.environ.items() if name not in names}
    env |= {"HOLTER_HOME": str(tmp_path / "home"), "COLUMNS": "200", **environment}
    with listening(0) as taker:
        port = str(taker.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "flows", "up", *(w.replace("PORT", port) for w in words)],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
        )
    assert done.returncode in (1, 2)
    assert said.replace("PORT", port) in " ".join(done.stderr.replace("│", " ").split())
    assert not (tmp_path / "home" / "logs").exists()


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
