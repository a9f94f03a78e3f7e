"""The local Prefect and MLflow servers: on loopback, with SQLite in the state folder."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from flows.services import ports
from flows.services.access import access_variables, environment, prefect_environment
from flows.services.access import named_servers as named_servers
from flows.services.ports import LOOPBACK as LOOPBACK
from flows.services.progress import console
from flows.services.up_state import Servers as Servers
from flows.services.up_state import answers as answers
from flows.services.up_state import log_bytes, log_tail, server_log
from flows.services.up_state import running as running
from storage.audit.provenance import ROOT
from storage.databases.mlflow_answers import readable
from storage.errors import ServerError
from storage.files import alone, home, make_folder, write_bytes
from storage.registry.client import reading
from storage.registry.signing import public_key

#: A busy machine of two cores takes two minutes.
START_LIMIT_S = 300.0
#: How often a server is started again that lost its port to another process meanwhile.
MOST_STARTS = 5
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
class Kind:
    """A server that can be started here: its command and environment in a folder, on a port."""

    name: str
    port: int
    command: Callable[[Path, int], list[str]]
    environment: Callable[[Path, int], dict[str, str]]
    health: str

    def log(self, folder: Path) -> Path:
        """Where its output goes."""
        return server_log(folder, self.name)


@dataclass(frozen=True)
class StartedServer:
    """A server that was started: perhaps it does not answer yet.

    Attributes
    ----------
    kind, process : Kind, Popen
        What runs.
    first_port, port : int
        The port that it was to have (0: any), and the one that it has.
    is_fixed : bool
        Whether no other port will do.
    reservation : socket
        Keeps the port until the server listens there.
    log_bytes : int
        The size of its log before the start.
    """

    kind: Kind
    process: subprocess.Popen[bytes]
    first_port: int
    port: int
    is_fixed: bool
    reservation: socket.socket
    log_bytes: int


def _listens(pid: int, port: int) -> bool:
    """Whether a process, or one that it started, is the one that listens on a port."""
    try:
        leader = psutil.Process(pid)
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for process in (leader, *leader.children(recursive=True))
            for connection in process.net_connections("inet")
        )
    except psutil.Error:
        return False


def _start(
    stack: ExitStack, kind: Kind, folder: Path, first_port: int, *, is_fixed: bool = False
) -> StartedServer:
    """Start a server on a port, or on a free one near it where that is taken and not fixed."""
    if is_fixed:
        reservation = ports.reserve_exactly(kind.name, first_port)
    else:
        reservation = ports.reserve(first_port) or ports.reserve_near(first_port)
    stack.enter_context(reservation)
    port = int(reservation.getsockname()[1])
    words, env, log = kind.command(folder, port), kind.environment(folder, port), kind.log(folder)
    before = log_bytes(log)
    # Databases and artifacts are this user's alone, wherever they lie.
    env = {**env, ports.SERVES: str(folder)}
    process = stack.enter_context(_process(words, env, log, umask=0o077))
    return StartedServer(kind, process, first_port, port, is_fixed, reservation, before)


def _answering(stack: ExitStack, server: StartedServer, folder: Path) -> StartedServer:
    """The server once it answers; started again if another process took its port meanwhile.

    That something answers on the port is not enough: it must be this server that listens there.
    """
    url = f"http://{LOOPBACK}:{{}}{server.kind.health}"
    deadline = time.monotonic() + START_LIMIT_S
    starts = 1
    while not (answers(url.format(server.port)) and _listens(server.process.pid, server.port)):
        exit_code = server.process.poll()
        late = time.monotonic() > deadline
        again = exit_code is not None and not late and starts < MOST_STARTS
        if again and _lost_port(server, folder):
            server.reservation.close()
            server = _start(stack, server.kind, folder, server.first_port, is_fixed=server.is_fixed)
            starts += 1
        elif exit_code is not None or late:
            log = server.kind.log(folder)
            tail = log_tail(log, server.log_bytes)
            reason = "did not answer" if exit_code is None else f"ended with {exit_code}"
            raise ServerError(
                f"the {server.kind.name} server {reason}; its log {log} ends:\n{tail}"
            )
        time.sleep(0.2)
    server.reservation.close()
    return server


def _lost_port(server: StartedServer, folder: Path) -> bool:
    """Whether a server ended as its port was taken; who took it may be gone again."""
    end = log_tail(server.kind.log(folder), server.log_bytes).lower()
    return ports.IN_USE in end or not ports.is_free(server.port)


def _settle_port(server: StartedServer, folder: Path) -> list[str]:
    """Have the next start take the same port; tell, and give, a note where it is another."""
    if server.port == server.first_port:
        ports.remember_port(folder, server.kind.name, server.port)
        return []
    holder = ports.holder(server.first_port, folder)
    name, port = server.kind.name, server.first_port
    note = f"Port {port} is held by {holder.words}: {name} is on {server.port}."
    if not holder.same_folder:
        ports.remember_port(folder, name, server.port)
        note += f" Links that were written with {port} do not lead there."
    console.print(note, markup=False, soft_wrap=True)
    return [note]


@contextmanager
def _process(
    words: list[str], env: Mapping[str, str], log: Path, umask: int = -1
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, ended with everything it started.

    Should this process be killed, the keeper in that group ends it: see `flows.services.keeper`.
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


@contextmanager
def servers(fixed_ports: Mapping[str, int] | None = None) -> Iterator[Servers]:
    """The servers to use, started where none are named or running, and then stopped at the end.

    `PREFECT_API_URL` and `MLFLOW_TRACKING_URI` name servers of the user's own; otherwise those of
    `holter up`; otherwise new ones on loopback. The two variables are set meanwhile.

    Parameters
    ----------
    fixed_ports : mapping of str to int, optional
        The port of a server that is to have no other; else that of its last start, or one near.
    """
    fixed = fixed_ports or {}
    up, addresses = running(), named_servers()
    prefect_api = addresses.get("PREFECT_API_URL") or (up.prefect_api if up else "")
    mlflow = addresses.get("MLFLOW_TRACKING_URI") or (up.mlflow if up else "")
    folder = home()
    with ExitStack() as stack:
        pids, notes = {PREFECT: 0, MLFLOW: 0}, list[str]()
        with alone("servers"):  # each may upgrade its database
            missing = [kind for kind, url in ((PREFECT, prefect_api), (MLFLOW, mlflow)) if not url]
            starting = [
                _start(
                    stack,
                    kind,
                    folder,
                    fixed.get(kind.name) or ports.known_port(folder, kind.name, kind.port),
                    is_fixed=kind.name in fixed,
                )
                for kind in missing
            ]
            for server in [_answering(stack, started, folder) for started in starting]:
                notes += _settle_port(server, folder)
                pids[server.kind] = server.process.pid
                if server.kind is PREFECT:
                    prefect_api = f"http://{LOOPBACK}:{server.port}/api"
                else:
                    mlflow = f"http://{LOOPBACK}:{server.port}"
        variables = {"PREFECT_API_URL": prefect_api, "MLFLOW_TRACKING_URI": mlflow}
        stack.enter_context(environment(**variables, **access_variables()))
        yield Servers(prefect_api, mlflow, pids[PREFECT], pids[MLFLOW], notes=(*notes,))


@contextmanager
def lone_server(kind: Kind, folder: Path, port: int = 0) -> Iterator[tuple[str, int]]:
    """A server alone, its state in `folder`: its address and process; 0 is any port, else near."""
    with ExitStack() as stack:
        server = _answering(stack, _start(stack, kind, folder, port), folder)
        if port:
            _settle_port(server, folder)
        yield f"http://{LOOPBACK}:{server.port}", server.process.pid


@contextmanager
def mlflow_server(
    folder: Path, *words: str, env: Mapping[str, str] | None = None, port: int = 0
) -> Iterator[str]:
    """An MLflow server alone, with more words and environment if given."""
    kind = replace(
        MLFLOW,
        command=lambda folder, port: [*mlflow_command(folder, port), *words],
        environment=lambda *_: dict(env or {}),
    )
    with lone_server(kind, folder, port) as (address, _):
        yield address


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
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not (address or up or _database().is_file()):
        raise ServerError(
            f"no MLflow server: {home()} has no database of one; name yours in "
            "MLFLOW_TRACKING_URI, or the state folder in HOLTER_HOME"
        )
    return up


@contextmanager
def registry_server() -> Iterator[None]:
    """MLflow alone: the one named, that of `holter up`, or one of this state folder meanwhile."""
    if external := named_servers().get("MLFLOW_TRACKING_URI"):
        with environment(**{**access_variables(), "MLFLOW_TRACKING_URI": external}):
            yield
        return
    with ExitStack() as stack:
        up = check_registry()
        folder = home()
        port = ports.known_port(folder, MLFLOW.name, MLFLOW.port)
        address = up.mlflow if up else stack.enter_context(mlflow_server(folder, port=port))
        stack.enter_context(environment(MLFLOW_TRACKING_URI=address))
        yield


def _database() -> Path:
    return home() / "mlflow" / "mlflow.db"


def can_be_read() -> bool:
    """Whether MLflow can be read as it is: a server is there, or a database of our MLflow's."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI") or running() or readable(_database()))


@contextmanager
def readable_registry() -> Iterator[None]:
    """MLflow to read from: a server that is there, else the state folder's database by itself.

    A database of another MLflow's is left to its server, which is started meanwhile.
    """
    if os.environ.get("MLFLOW_TRACKING_URI") or running() or not readable(_database()):
        with registry_server():
            yield
        return
    # Links lead to the page that `holter up` will serve.
    page = f"http://{LOOPBACK}:{ports.known_port(home(), MLFLOW.name, MLFLOW.port)}"
    with environment(MLFLOW_TRACKING_URI=page), reading(_database()):
        yield


@contextmanager
def prefect_server() -> Iterator[str | None]:
    """Prefect alone, the one named or that of `holter up`: its API; None where there is none."""
    up = running()
    api = named_servers().get("PREFECT_API_URL") or (up.prefect_api if up else None)
    with environment(**({**access_variables(), "PREFECT_API_URL": api} if api else {})):
        yield api


@contextmanager
def local_agent(device: str, *, start: bool) -> Iterator[None]:
    """An edge agent for `device` as a process of its own on this machine, if it is to start."""
    if not start:
        yield
        return
    folder = home()
    write_bytes(folder / "keys" / "release.pub", f"{public_key()}\n".encode())
    words = [sys.executable, "-m", "edge_agent", "run", "--device", device]
    words += ["--runtime", "release"]  # this machine tests what it scored itself
    env = {
        "HOLTER_EDGE_HOME": str(folder / "edge"),
        "HOLTER_EDGE_KEYS": str(folder / "keys"),
        "PYTHONPATH": str(ROOT),
    }
    with _process(words, env, folder / "logs" / "edge.log"):
        yield


def prefect_command(port: int) -> list[str]:
    """The command that starts the Prefect server, as `prefect server start` does, but guarded."""
    words = ["uvicorn", "--app-dir", str(ROOT), "--factory", "flows.services.prefect_server:app"]
    words += ["--host", LOOPBACK, "--port", str(port), "--log-level", "warning"]
    return [sys.executable, "-m", *words]


def mlflow_command(folder: Path, port: int) -> list[str]:
    """The command that starts the MLflow server; `mlflow/start.sh` is the same by hand."""
    make_folder(folder / "mlflow")
    words = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    words += ["--host", LOOPBACK, "--port", str(port)]
    words += ["--backend-store-uri", f"sqlite:///{folder}/mlflow/mlflow.db"]
    return [*words, "--artifacts-destination", str(folder / "mlflow" / "artifacts")]


PREFECT = Kind(
    "Prefect", 4200, lambda _, port: prefect_command(port), prefect_environment, "/api/health"
)


MLFLOW = Kind("MLflow", 5000, mlflow_command, lambda *_: {}, "/health")
