"""The local Prefect and MLflow servers: on loopback, with SQLite in the state folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.errors import ServerError
from storage.files import home, write_bytes, write_json
from storage.provenance import ROOT
from storage.signing import public_key

LOOPBACK = "127.0.0.1"
START_LIMIT_S = 120.0

#: Nothing we start phones home, and MLflow's server stays at two processes and half a gigabyte.
QUIET: Mapping[str, str] = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


@dataclass(frozen=True)
class Servers:
    """Where the servers answer, and the processes that are ours to stop (0: not ours)."""

    prefect_api: str
    mlflow: str
    prefect_pid: int = 0
    mlflow_pid: int = 0

    @property
    def prefect_page(self) -> str:
        """Prefect's page, for a browser."""
        return self.prefect_api.removesuffix("/api")


def _free_port(preferred: int) -> int:
    """The preferred port if nothing has it, else any free one."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerError(f"no free port on {LOOPBACK}")


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Whether a server answers with 200 at `url`."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as reply:  # noqa: S310 - http(s) only
            return int(reply.status) == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, name: str) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-1500:]
            how = f"ended with {process.returncode}" if process.returncode else "did not answer"
            raise ServerError(f"the {name} server {how}; its log {log} ends:\n{tail}")
        time.sleep(0.2)


@contextmanager
def _process(
    words: list[str], env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, ended with everything it started."""
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            words,
            env={**os.environ, **QUIET, **env},
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for sign, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(process.pid, sign)
                process.wait(patience_s)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue


def _state_file() -> Path:
    return home() / "servers.json"


def running() -> Servers | None:
    """The servers that `holter up` keeps for this state folder, if they answer."""
    try:
        servers = Servers(**json.loads(_state_file().read_text()))
    except (OSError, ValueError, TypeError):
        return None
    healthy = answers(f"{servers.prefect_api}/health") and answers(f"{servers.mlflow}/health")
    return servers if healthy else None


@contextmanager
def servers() -> Iterator[Servers]:
    """The servers to use, started where none are named or running, and then stopped at the end.

    `PREFECT_API_URL` and `MLFLOW_TRACKING_URI` name servers of the user's own; otherwise those of
    `holter up`; otherwise new ones on loopback. The two variables are set meanwhile.
    """
    up = running()
    prefect_api = os.environ.get("PREFECT_API_URL") or (up.prefect_api if up else "")
    mlflow = os.environ.get("MLFLOW_TRACKING_URI") or (up.mlflow if up else "")
    folder = home()
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        pids = [0, 0]
        waits = []
        if not prefect_api:
            port = _free_port(4200)
            prefect_api = f"http://{LOOPBACK}:{port}/api"
            log = folder / "logs" / "prefect.log"
            process = stack.enter_context(
                _process(prefect_command(port), prefect_environment(folder, prefect_api), log)
            )
            pids[0] = process.pid
            waits.append((process, f"{prefect_api}/health", log, "Prefect"))
        if not mlflow:
            port = _free_port(5000)
            mlflow = f"http://{LOOPBACK}:{port}"
            log = folder / "logs" / "mlflow.log"
            process = stack.enter_context(_process(mlflow_command(folder, port), {}, log))
            pids[1] = process.pid
            waits.append((process, f"{mlflow}/health", log, "MLflow"))
        for wait in waits:
            _wait(*wait)
        stack.enter_context(_environment(PREFECT_API_URL=prefect_api, MLFLOW_TRACKING_URI=mlflow))
        yield Servers(prefect_api, mlflow, *pids)


@contextmanager
def mlflow_server(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """An MLflow server alone, its state in `folder`, with more words and environment if given."""
    port = _free_port(0)
    log = folder / "mlflow.log"
    with _process([*mlflow_command(folder, port), *words], env or {}, log) as process:
        _wait(process, f"http://{LOOPBACK}:{port}/health", log, "MLflow")
        yield f"http://{LOOPBACK}:{port}"


@contextmanager
def announced(servers: Servers) -> Iterator[None]:
    """Tell other commands of this state folder about the servers while they run."""
    write_json(_state_file(), asdict(servers))
    try:
        yield
    finally:
        _state_file().unlink(missing_ok=True)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    _refresh_prefect()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _refresh_prefect()


def _refresh_prefect() -> None:
    """Have Prefect read its environment again, if it was imported before."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


@contextmanager
def local_agent(device: str, *, start: bool) -> Iterator[None]:
    """An edge agent for `device` as a process of its own on this machine, if it is to start."""
    if not start:
        yield
        return
    folder = home()
    write_bytes(folder / "keys" / "release.pub", f"{public_key()}\n".encode())
    words = [sys.executable, "-m", "edge_agent", "run", "--device", device]
    env = {
        "HOLTER_EDGE_HOME": str(folder / "edge"),
        "HOLTER_EDGE_KEYS": str(folder / "keys"),
        "PYTHONPATH": str(ROOT),
    }
    with _process(words, env, folder / "logs" / "edge.log"):
        yield


def prefect_environment(folder: Path, api: str) -> dict[str, str]:
    """What the Prefect server is told: where its SQLite lies, and the address of its own page."""
    return {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect/prefect.db",
        "PREFECT_UI_API_URL": api,
        "PREFECT_API_URL": api,
    }


def prefect_command(port: int) -> list[str]:
    """The command that starts the Prefect server."""
    words = ["prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)]
    return [sys.executable, "-m", *words]


def mlflow_command(folder: Path, port: int) -> list[str]:
    """The command that starts the MLflow server; `mlflow/start.sh` is the same by hand."""
    (folder / "mlflow").mkdir(parents=True, exist_ok=True)
    return [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        LOOPBACK,
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow/mlflow.db",
        "--artifacts-destination",
        str(folder / "mlflow" / "artifacts"),
    ]
