"""The local Prefect and MLflow servers: on loopback, with SQLite in the state folder."""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from storage.addresses import credentials, without_credentials
from storage.errors import ServerError
from storage.files import alone, home, make_folder, write_bytes, write_json, write_secret
from storage.provenance import ROOT
from storage.signing import public_key

LOOPBACK = "127.0.0.1"
START_LIMIT_S = 120.0
MOST_LOG_BYTES = 1 << 24
TAIL_BYTES = 1500
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
    """A server that was started: perhaps it does not answer yet.

    Its log had `log_bytes` bytes then.
    """

    kind: Kind
    process: subprocess.Popen[bytes]
    port: int
    log_bytes: int


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
    words, env, log = kind.command(folder, port), kind.environment(folder, port), kind.log(folder)
    before = log_bytes(log)
    # Databases and artifacts are this user's alone, wherever they lie.
    process = stack.enter_context(_process(words, env, log, umask=0o077))
    return Started(kind, process, port, before)


def log_bytes(log: Path) -> int:
    """The size of a log, which is added to; one over 16 MB is first put aside as `NAME.1`.

    A log is never emptied: what a server said before the disk was full stays.
    """
    size = log.stat().st_size if log.is_file() else 0
    if size > MOST_LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
        return 0
    return size


def log_tail(log: Path, start: int = 0, most: int = TAIL_BYTES) -> str:
    """The end of what a log holds after its first `start` bytes; the room where it is nothing."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - most))
        text = file.read().decode(errors="replace").strip()
    free_gb = shutil.disk_usage(log).free / 1e9
    return text or f"(nothing was written; {free_gb:.1f} GB are free there)"


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
            tail = log_tail(log, server.log_bytes)
            how = "did not answer" if ended is None else f"ended with {ended}"
            raise ServerError(f"the {server.kind.name} server {how}; its log {log} ends:\n{tail}")
        time.sleep(0.2)
    return server


@contextmanager
def _process(
    words: list[str], env: Mapping[str, str], log: Path, umask: int = -1
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, ended with everything it started.

    Should this process be killed, the keeper in that group ends it: see `flows.keeper`.
    """
    make_folder(log.parent)
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            [sys.executable, "-I", "-S", str(KEEPER), *words],
            env={**os.environ, **QUIET, **env},
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.PIPE,
            start_new_session=True,
            umask=umask,
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


def kept() -> Servers | None:
    """The servers that `holter up` announced for this state folder, whether they answer or not."""
    try:
        return Servers(**json.loads(_state_file().read_text()))
    except (OSError, ValueError, TypeError):
        return None


def running() -> Servers | None:
    """The servers that `holter up` keeps for this state folder, if they answer."""
    servers = kept()
    return servers if servers and not silent(servers) else None


def silent(servers: Servers) -> list[Kind]:
    """The servers of `holter up` that do not answer."""
    addresses = ((PREFECT, servers.prefect_api), (MLFLOW, servers.mlflow))
    return [kind for kind, url in addresses if not answers(f"{url}/health")]


def up_process(servers: Servers) -> psutil.Process | None:
    """The process of `holter up`, if it is there; another one may have its number by now."""
    with suppress(psutil.Error, OSError):
        process = psutil.Process(servers.up_pid)
        if servers.up_pid and process.create_time() <= _state_file().stat().st_mtime:
            return process
    return None


def fault(servers: Servers) -> str:
    """What has become of servers that `holter up` kept, and that do not answer now; "" if none."""
    kinds = silent(servers)
    if not kinds:
        return ""
    names = " and ".join(kind.name for kind in kinds)
    how = "runs" if up_process(servers) else "is gone"
    logs = [up_log(), *(kind.log(home()) for kind in kinds)]
    ends = [f"{log} ends: {log_tail(log, most=300)}" for log in logs if log.is_file()]
    told = f"{names} of `holter up` (process {servers.up_pid}, which {how}) gives no answer"
    return "; ".join([told, *ends])


def check_alive(servers: Servers) -> None:
    """Make sure that what `holter up` started runs still.

    Raises
    ------
    ServerError
        A server or the worker has ended, with the end of its log.
    """
    pids = {"Prefect": servers.prefect_pid, "MLflow": servers.mlflow_pid}
    for name, pid in {**pids, "worker": servers.worker_pid}.items():
        if pid and not _runs(pid):
            log = home() / "logs" / f"{name.lower()}.log"
            raise ServerError(f"{name} (process {pid}) has ended; {log} ends:\n{log_tail(log)}")


def _runs(pid: int) -> bool:
    """Whether a process is there, and has not ended without its parent having asked how."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def up_log() -> Path:
    """What `holter up` says in the background."""
    return home() / "logs" / "up.log"


@contextmanager
def servers() -> Iterator[Servers]:
    """The servers to use, started where none are named or running, and then stopped at the end.

    `PREFECT_API_URL` and `MLFLOW_TRACKING_URI` name servers of the user's own; otherwise those of
    `holter up`; otherwise new ones on loopback. The two variables are set meanwhile.
    """
    up, named = running(), named_servers()
    prefect_api = named.get("PREFECT_API_URL") or (up.prefect_api if up else "")
    mlflow = named.get("MLFLOW_TRACKING_URI") or (up.mlflow if up else "")
    folder = home()
    with ExitStack() as stack:
        pids = {PREFECT: 0, MLFLOW: 0}
        with alone("servers"):  # each may upgrade its database
            missing = [kind for kind, url in ((PREFECT, prefect_api), (MLFLOW, mlflow)) if not url]
            starting = [_start(stack, kind, folder, kind.port) for kind in missing]
            for server in [_answering(stack, one, folder) for one in starting]:
                pids[server.kind] = server.process.pid
                if server.kind is PREFECT:
                    prefect_api = f"http://{LOOPBACK}:{server.port}/api"
                else:
                    mlflow = f"http://{LOOPBACK}:{server.port}"
        both = {"PREFECT_API_URL": prefect_api, "MLFLOW_TRACKING_URI": mlflow}
        stack.enter_context(_environment(**both, **access()))
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


#: The variables that name servers, and those of the user and password that each is asked with.
NAMING: Mapping[str, Callable[[str, str], dict[str, str]]] = {
    "PREFECT_API_URL": lambda user, password: {"PREFECT_API_AUTH_STRING": f"{user}:{password}"},
    "MLFLOW_TRACKING_URI": lambda user, password: {
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": password,
    },
}


def named_servers() -> dict[str, str]:
    """The servers that the environment names: those of a team, which nobody starts here.

    Credentials in an address are no part of it: they are among those of `access`.
    """
    return {name: without_credentials(os.environ[name]) for name in NAMING if os.environ.get(name)}


def access() -> dict[str, str]:
    """The variables that let clients in, here and in processes below.

    The key of the Prefect server of this state folder; for servers of the user's own what is
    written into their addresses, unless a variable says otherwise. So no client knows an address
    with a password in it, which its errors and logs would repeat.
    """
    found = {} if os.environ.get("PREFECT_API_URL") else _key_variable()
    for name, variables in NAMING.items():
        user, password = credentials(os.environ.get(name, ""))
        if user:
            found |= {k: v for k, v in variables(user, password).items() if k not in os.environ}
    return found


@contextmanager
def worker(pool: str) -> Iterator[int]:
    """A Prefect worker that runs the deployments of a pool as processes here; gives its pid."""
    words = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
    words += ["--type", "process", "--name", f"{platform.node()}-{os.getpid()}"]
    env = {"HOLTER_HOME": str(home()), "PREFECT_HOME": str(home() / "prefect")}
    with _process(words, env, home() / "logs" / "worker.log") as process:
        yield process.pid


@contextmanager
def registry_server() -> Iterator[None]:
    """MLflow alone: the one named, that of `holter up`, or one of this state folder meanwhile."""
    if named := named_servers().get("MLFLOW_TRACKING_URI"):
        with _environment(**{**access(), "MLFLOW_TRACKING_URI": named}):
            yield
        return
    with ExitStack() as stack:
        up = running()
        if up is None and not (home() / "mlflow" / "mlflow.db").is_file():
            raise ServerError(
                f"no MLflow server: {home()} has no database of one; name yours in "
                "MLFLOW_TRACKING_URI, or the state folder in HOLTER_HOME"
            )
        address = up.mlflow if up else stack.enter_context(mlflow_server(home(), port=5000))
        stack.enter_context(_environment(MLFLOW_TRACKING_URI=address))
        yield


@contextmanager
def prefect_server() -> Iterator[str | None]:
    """Prefect alone, the one named or that of `holter up`: its API; None where there is none."""
    up = running()
    api = named_servers().get("PREFECT_API_URL") or (up.prefect_api if up else None)
    with _environment(**({**access(), "PREFECT_API_URL": api} if api else {})):
        yield api


@contextmanager
def announced(servers: Servers) -> Iterator[None]:
    """Tell other commands of this state folder about the servers while they run.

    Where the block fails the note stays, from which `holter doctor` tells what has ended.
    """
    write_json(_state_file(), asdict(servers))
    yield
    forget()


def forget() -> None:
    """Take away the note of the servers that `holter up` kept."""
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


def prefect_key_path() -> Path:
    """Where the key of the local Prefect server lies: what its page and clients are asked for."""
    return home() / "keys" / "prefect.key"


def prefect_key(*, make: bool = False) -> str:
    """The key, of the form `holter:...`; made if asked for, else "" where there is none.

    A server with a worker asks for it: whoever may use its API may have the worker run commands.
    """
    path = prefect_key_path()
    if make:
        with alone("prefect-key"):
            if not path.exists():
                write_secret(path, f"holter:{secrets.token_urlsafe(24)}\n")
    return path.read_text().strip() if path.exists() else ""


def _key_variable() -> dict[str, str]:
    """What Prefect's clients, in this process and below, need to be let in."""
    return {"PREFECT_API_AUTH_STRING": key} if (key := prefect_key()) else {}


def prefect_environment(folder: Path, port: int) -> dict[str, str]:
    """What the Prefect server is told: its key, where its SQLite lies, its own page's address."""
    api, key = f"http://{LOOPBACK}:{port}/api", prefect_key()
    return {
        **({"PREFECT_SERVER_API_AUTH_STRING": key} if key else {}),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect/prefect.db",
        "PREFECT_UI_API_URL": api,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": api.removesuffix("/api"),
        "PREFECT_API_URL": api,
    }


def prefect_command(port: int) -> list[str]:
    """The command that starts the Prefect server, as `prefect server start` does, but guarded."""
    words = ["uvicorn", "--app-dir", str(ROOT), "--factory", "flows.prefect_server:app"]
    words += ["--host", LOOPBACK, "--port", str(port), "--log-level", "warning"]
    return [sys.executable, "-m", *words]


def mlflow_command(folder: Path, port: int) -> list[str]:
    """The command that starts the MLflow server; `mlflow/start.sh` is the same by hand."""
    make_folder(folder / "mlflow")
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
