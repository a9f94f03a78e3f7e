"""The local Prefect and MLflow servers: on loopback, with SQLite in the state folder."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from storage.errors import ServerError
from storage.files import alone, home, write_bytes, write_json
from storage.provenance import ROOT
from storage.signing import public_key

LOOPBACK = "127.0.0.1"
START_LIMIT_S = 120.0
KEEPER = Path(__file__).with_name("keeper.py")

#: Nothing we start phones home, and MLflow's server stays at two processes and half a gigabyte.
QUIET: Mapping[str, str] = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # Prefect answers 500 while its PostgreSQL is away: asked again for a minute, as after a 503.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
}


@dataclass(frozen=True)
class Servers:
    """Where the servers answer, and the processes that are ours to stop (0: not ours).

    `up_pid` is the process of `holter up`, which ends the others when it ends.
    """

    prefect_api: str
    mlflow: str
    prefect_pid: int = 0
    mlflow_pid: int = 0
    up_pid: int = 0
    worker_pid: int = 0

    @property
    def prefect_page(self) -> str:
        """Prefect's page, for a browser."""
        return self.prefect_api.removesuffix("/api")


@dataclass(frozen=True)
class Kind:
    """A server that can be started here: its command and environment in a folder, on a port."""

    name: str
    port: int
    command: Callable[[Path, int], list[str]]
    environment: Callable[[Path, int], dict[str, str]]
    health: str

    def log(self, folder: Path) -> Path:
        """Where its output goes."""
        return folder / "logs" / f"{self.name.lower()}.log"


@dataclass(frozen=True)
class Started:
    """A server that was started: perhaps it does not answer yet."""

    kind: Kind
    process: subprocess.Popen[bytes]
    port: int


def _free(port: int) -> int:
    """The port if nothing listens there (0: one that the system gives), else 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Whether a server answers with 200 at `url`."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as reply:  # noqa: S310 - http(s) only
            return int(reply.status) == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _listens(pid: int, port: int) -> bool:
    """Whether a process, or one that it started, is the one that listens on a port."""
    try:
        leader = psutil.Process(pid)
        return any(
            one.status == psutil.CONN_LISTEN and one.laddr.port == port
            for process in (leader, *leader.children(recursive=True))
            for one in process.net_connections("inet")
        )
    except psutil.Error:
        return False


def _start(stack: ExitStack, kind: Kind, folder: Path, port: int) -> Started:
    """Start a server on a port, or on a free one where that is taken."""
    port = _free(port) or _free(0)
    words, env = kind.command(folder, port), kind.environment(folder, port)
    return Started(kind, stack.enter_context(_process(words, env, kind.log(folder))), port)


def _answering(stack: ExitStack, server: Started, folder: Path) -> Started:
    """The server once it answers; on another port if another process took its own meanwhile.

    That something answers on the port is not enough: it must be this server that listens there.
    """
    url = f"http://{LOOPBACK}:{{}}{server.kind.health}"
    deadline = time.monotonic() + START_LIMIT_S
    while not (answers(url.format(server.port)) and _listens(server.process.pid, server.port)):
        ended = server.process.poll()
        late = time.monotonic() > deadline
        if ended is not None and not late and not _free(server.port):
            server = _start(stack, server.kind, folder, 0)
        elif ended is not None or late:
            log = server.kind.log(folder)
            tail = log.read_text(errors="replace")[-1500:]
            how = "did not answer" if ended is None else f"ended with {ended}"
            raise ServerError(f"the {server.kind.name} server {how}; its log {log} ends:\n{tail}")
        time.sleep(0.2)
    return server


@contextmanager
def _process(
    words: list[str], env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, ended with everything it started.

    Should this process be killed, the keeper in that group ends it: see `flows.keeper`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            [sys.executable, "-I", "-S", str(KEEPER), *words],
            env={**os.environ, **QUIET, **env},
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.PIPE,
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
        if process.stdin:
            process.stdin.close()


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
    with ExitStack() as stack:
        pids = {PREFECT: 0, MLFLOW: 0}
        with alone("servers"):  # each may upgrade its database
            missing = [k for k, named in ((PREFECT, prefect_api), (MLFLOW, mlflow)) if not named]
            starting = [_start(stack, kind, folder, kind.port) for kind in missing]
            for server in [_answering(stack, one, folder) for one in starting]:
                pids[server.kind] = server.process.pid
                if server.kind is PREFECT:
                    prefect_api = f"http://{LOOPBACK}:{server.port}/api"
                else:
                    mlflow = f"http://{LOOPBACK}:{server.port}"
        stack.enter_context(_environment(PREFECT_API_URL=prefect_api, MLFLOW_TRACKING_URI=mlflow))
        yield Servers(prefect_api, mlflow, pids[PREFECT], pids[MLFLOW])


@contextmanager
def mlflow_server(
    folder: Path, *words: str, env: Mapping[str, str] | None = None, port: int = 0
) -> Iterator[str]:
    """An MLflow server alone, its state in `folder`, with more words and environment if given."""
    kind = replace(
        MLFLOW,
        command=lambda folder, port: [*mlflow_command(folder, port), *words],
        environment=lambda *_: dict(env or {}),
    )
    with ExitStack() as stack:
        server = _answering(stack, _start(stack, kind, folder, port), folder)
        yield f"http://{LOOPBACK}:{server.port}"


def named_servers() -> dict[str, str]:
    """The servers that the environment names: those of a team, which nobody starts here."""
    names = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
    return {name: os.environ[name] for name in names if os.environ.get(name)}


@contextmanager
def worker(pool: str) -> Iterator[int]:
    """A Prefect worker that runs the deployments of a pool as processes here; gives its pid."""
    words = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
    words += ["--type", "process", "--name", f"{platform.node()}-{os.getpid()}"]
    env = {"HOLTER_HOME": str(home()), "PREFECT_HOME": str(home() / "prefect")}
    with _process(words, env, home() / "logs" / "worker.log") as process:
        yield process.pid


def check_registry() -> Servers | None:
    """The servers of `holter up`, once it is sure that there is, or has been, an MLflow server.

    Raises
    ------
    ServerError
        None is named or up, and this state folder has no database of one: no version is anywhere.
    """
    up = running()
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if not (named or up or (home() / "mlflow" / "mlflow.db").is_file()):
        raise ServerError(
            f"no MLflow server: {home()} has no database of one; name yours in "
            "MLFLOW_TRACKING_URI, or the state folder in HOLTER_HOME"
        )
    return up


@contextmanager
def registry_server() -> Iterator[None]:
    """MLflow alone: the one named, that of `holter up`, or one of this state folder meanwhile."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        yield
        return
    with ExitStack() as stack:
        up = check_registry()
        address = up.mlflow if up else stack.enter_context(mlflow_server(home(), port=5000))
        stack.enter_context(_environment(MLFLOW_TRACKING_URI=address))
        yield


@contextmanager
def prefect_server() -> Iterator[str | None]:
    """Prefect alone, the one named or that of `holter up`: its API; None where there is none."""
    up = running()
    api = os.environ.get("PREFECT_API_URL") or (up.prefect_api if up else None)
    with _environment(**({"PREFECT_API_URL": api} if api else {})):
        yield api


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


def prefect_environment(folder: Path, port: int) -> dict[str, str]:
    """What the Prefect server is told: where its SQLite lies, and the address of its own page."""
    api = f"http://{LOOPBACK}:{port}/api"
    return {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect/prefect.db",
        "PREFECT_UI_API_URL": api,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": api.removesuffix("/api"),
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


PREFECT = Kind(
    "Prefect",
    4200,
    lambda _, port: prefect_command(port),
    prefect_environment,
    "/api/health",
)
MLFLOW = Kind("MLflow", 5000, mlflow_command, lambda *_: {}, "/health")
