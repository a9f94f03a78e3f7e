"""What `holter up` keeps running: announced to other commands, and told of when it has ended."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from storage.addresses import without_credentials
from storage.errors import HolterError, ServerError
from storage.files import home, write_json

MOST_LOG_BYTES = 1 << 24
TAIL_BYTES = 1500
#: Seconds that an answer of Prefect is waited for.
PREFECT_S = 30.0


@dataclass(frozen=True)
class Servers:
    """Where the servers answer, and the processes that are ours to stop (0: not ours).

    `up_pid` is the process of `holter up`, which ends the others when it ends; `notes` say which
    ports others held. `review` is the review page's address.
    """

    prefect_api: str
    mlflow: str
    prefect_pid: int = 0
    mlflow_pid: int = 0
    up_pid: int = 0
    worker_pid: int = 0
    notes: Sequence[str] = ()
    review: str = ""
    review_pid: int = 0

    @property
    def prefect_page(self) -> str:
        """Prefect's page, for a browser."""
        return self.prefect_api.removesuffix("/api")


def answers(url: str, timeout_s: float = 2.0) -> bool:
    """Whether a server answers with 200 at `url`."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as reply:  # noqa: S310 - http(s) only
            return int(reply.status) == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _state_file() -> Path:
    return home() / "servers.json"


def up_servers() -> Servers | None:
    """The servers that `holter up` announced for this state folder, whether they answer or not."""
    try:
        return Servers(**json.loads(_state_file().read_text()))
    except (OSError, ValueError, TypeError):
        return None


def running() -> Servers | None:
    """The servers that `holter up` keeps for this state folder, if they answer."""
    servers = up_servers()
    return servers if servers and not silent_servers(servers) else None


def silent_servers(servers: Servers) -> list[str]:
    """The names of the servers of `holter up` that do not answer."""
    addresses = {"Prefect": servers.prefect_api, "MLflow": servers.mlflow}
    return [name for name, url in addresses.items() if not answers(f"{url}/health")]


def up_process(servers: Servers) -> psutil.Process | None:
    """The process of `holter up`, if it is there; another one may have its number by now."""
    with suppress(psutil.Error, OSError):
        process = psutil.Process(servers.up_pid)
        if servers.up_pid and process.create_time() <= _state_file().stat().st_mtime:
            return process
    return None


def fault(servers: Servers) -> str:
    """What has become of servers that `holter up` kept, and that do not answer now; "" if none."""
    names = silent_servers(servers)
    if not names:
        return ""
    condition = "runs" if up_process(servers) else "is gone"
    logs = [server_log(home(), name) for name in ("up", *names)]
    ends = [f"{log} ends: {log_tail(log, most=300)}" for log in logs if log.is_file()]
    process = f"process {servers.up_pid}, which {condition}"
    return "; ".join([f"no answer from {' and '.join(names)} of `holter up` ({process})", *ends])


def check_alive(servers: Servers) -> None:
    """Make sure that what `holter up` started runs still.

    Raises
    ------
    ServerError
        A server or the worker has ended, with the end of its log.
    """
    pids = {"Prefect": servers.prefect_pid, "MLflow": servers.mlflow_pid}
    others = {"worker": servers.worker_pid, "Review": servers.review_pid}
    for name, pid in {**pids, **others}.items():
        if pid and not _runs(pid):
            log = server_log(home(), name)
            raise ServerError(f"{name} (process {pid}) has ended; {log} ends:\n{log_tail(log)}")


def _runs(pid: int) -> bool:
    """Whether a process is there, and has not ended without its parent having asked how."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def server_log(folder: Path, name: str) -> Path:
    """Where the output of a server goes whose state lies in a folder; "up": that of `holter up`."""
    return folder / "logs" / f"{name.lower()}.log"


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


@contextmanager
def announce(servers: Servers) -> Iterator[None]:
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
def answering(prefect: str) -> Iterator[None]:
    """A Prefect server that does not answer, or fails, becomes one sentence with its address.

    An answer is not quoted: in it the server repeats what it was sent, secrets too.
    """
    try:
        yield
    except HolterError:
        raise
    except Exception as error:
        import httpx  # Prefect's client; MLflow's is another

        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, httpx.HTTPError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        text = (str(cause) or type(cause).__name__).splitlines()[0]
        if isinstance(cause, httpx.HTTPStatusError):
            text = (
                f"{cause.response.status_code} to {cause.request.method} {cause.request.url.path}"
            )
        raise ServerError(
            f"Prefect at {prefect}: {text}; the same command again, when it answers, does the rest"
        ) from error


def ask_prefect(path: str, body: object = None) -> Any:
    """Prefect's answer over REST; None where there is no such thing.

    Its own package takes a second and a half to import. What lets a client in is in its variables:
    PREFECT_API_AUTH_STRING or PREFECT_API_KEY, and PREFECT_API_SSL_CERT_FILE.

    Raises
    ------
    ServerError
        It does not answer, or refuses. An answer is not quoted: in it the server repeats what it
        was sent.
    """
    api, data = os.environ["PREFECT_API_URL"].rstrip("/"), None
    headers = {"Content-Type": "application/json", **_authorization()}
    if body is not None:
        data = json.dumps(body).encode()
    request = urllib.request.Request(f"{api}/{path}", data, headers)  # noqa: S310 - as it was named
    authority = os.environ.get("PREFECT_API_SSL_CERT_FILE")
    try:
        context = ssl.create_default_context(cafile=authority) if authority else None
        with urllib.request.urlopen(request, timeout=PREFECT_S, context=context) as reply:  # noqa: S310 - as above
            return json.load(reply)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return None
        fault = f"{error.code} to {request.get_method()} /{path}"
    except (OSError, ValueError) as error:
        fault = str(error)
    raise ServerError(f"Prefect at {without_credentials(api)}: {fault}")


def _authorization() -> dict[str, str]:
    """The header of a client that has credentials."""
    if text := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    return {}
