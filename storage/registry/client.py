"""MLflow over its REST interface, with the standard library alone: what a device needs of it.

The mlflow-skinny package costs a device 110 MB of disk, 70 MB of memory and 4 s at every start,
measured; this module costs none of that. The server is named by MLFLOW_TRACKING_URI. Credentials
come from MLflow's own variables (MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN), from a file of
such lines named by HOLTER_SECRETS_FILE that no other user may read, or from the address itself.
MLFLOW_TRACKING_SERVER_CERT_PATH names a private certificate authority.
"""

from __future__ import annotations

import base64
import errno
import http.client
import json
import os
import ssl
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from storage.addresses import credentials, without_credentials
from storage.databases import mlflow_answers
from storage.errors import DigestMismatch, NotInRegistry, OutOfReach, PlaceError, RegistryError
from storage.files import parse_text, sha256_bytes, sha256_file
from storage.registry.answers import plain, run_id, text

API = "/api/%d.0/mlflow/"
UPLOADS = "/api/2.0/mlflow-artifacts/artifacts/"
TIMEOUT_S = 30.0
#: Pauses before each further try of a call that did not get through.
PAUSES_S = (0.2, 1.0)
#: No file larger than this is fetched: a test set of 14 million beats.
MOST_BYTES = 1 << 34
#: Room that a fetched file leaves on the disk, or as much as itself.
SPARE_BYTES = 1 << 28
#: No answer larger than this is read: as objects it takes up to 25 times as much, of 512 MB.
MOST_ANSWER = 1 << 23
#: Nor more of a refusal.
MOST_REFUSAL = 1 << 16
#: No list of more pages is followed.
MOST_PAGES = 1_000
BLOCK = 1 << 16
_SECRETS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
#: What a full or failing disk of our own says.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
#: The server's clock at its last answer, and this machine's monotonic clock then.
_clock: list[float] = []
#: Where `reading` has requests answered by a database, that one last.
_databases: list[Path] = []


def address() -> str:
    """Where MLflow is: MLFLOW_TRACKING_URI, without the credentials that may be in it."""
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return without_credentials(uri).rstrip("/")
    raise RegistryError("MLFLOW_TRACKING_URI is not set; expected the MLflow server's address")


def _server_url() -> tuple[SplitResult, int | None]:
    """The address in parts, and its port."""
    try:
        url = urlsplit(address())
        return url, url.port
    except ValueError as error:
        raise RegistryError(f"MLFLOW_TRACKING_URI is {address()!r}: {error}") from error


@contextmanager
def reading(database: Path) -> Iterator[None]:
    """Have requests answered by MLflow's SQLite database, without its server, in the block."""
    _databases.append(database)
    try:
        yield
    finally:
        _databases.pop()


def server_time_s() -> float:
    """Now by the server's clock, in seconds since 1970: a device's own may be wrong."""
    return _clock[0] + time.monotonic() - _clock[1] if _clock else time.time()


def call(method: str, endpoint: str, *, api: int = 2, **fields: Any) -> dict[str, Any]:
    """Call an endpoint of MLflow's REST interface.

    Parameters
    ----------
    method : {"GET", "POST", "PATCH", "DELETE"}
        GET sends the fields as a query, the others as JSON.
    endpoint : str
        Such as "runs/get".
    api : int
        Version of the interface: 3 for permissions.
    **fields
        The request's fields.

    Raises
    ------
    OutOfReach
        The server did not answer, or answered that it cannot now: try again later.
    RegistryError
        The server refused, and the message holds its reason; or it answered no JSON object.
    """
    path, body = API % api + endpoint, None
    if method == "GET":
        path += "?" + urlencode(fields)
    else:
        body = json.dumps(fields).encode()
    answer = _persistent(method, path, body)
    try:
        value = parse_text(answer or b"{}")
    except ValueError as error:
        raise RegistryError(f"MLflow at {address()}: {endpoint}: found no JSON: {error}") from error
    if not isinstance(value, dict):
        raise RegistryError(
            f"MLflow at {address()}: {endpoint}: found a {type(value).__name__}; expected an object"
        )
    return value


def deletions(run: str) -> list[str]:
    """What MLflow no longer has, or only until `mlflow gc`, of a run and its experiment.

    Returns
    -------
    list of str
        One sentence each; none where both are there. A run or experiment that is deleted in MLflow
        can be read, and restored, until `mlflow gc` removes it.

    Raises
    ------
    OutOfReach
        The server does not answer.
    """
    try:
        info = call("GET", "runs/get", run_id=run)["run"]["info"]
    except NotInRegistry:
        return [f"run {run} is gone from MLflow"]
    experiment = call("GET", "experiments/get", experiment_id=info["experiment_id"])["experiment"]
    stages = {
        f"run {run}": info.get("lifecycle_stage"),
        f"experiment {experiment['name']}": experiment.get("lifecycle_stage"),
    }
    return [
        f"{name} is deleted in MLflow: restore it, or the next `mlflow gc` removes it"
        for name, stage in stages.items()
        if stage == "deleted"
    ]


def pages(method: str, endpoint: str, **fields: Any) -> Iterator[dict[str, Any]]:
    """The answers of a list that comes page by page; RegistryError where it does not end."""
    for _ in range(MOST_PAGES):
        answer = call(method, endpoint, **fields)
        yield answer
        if not answer.get("next_page_token"):
            return
        fields["page_token"] = text(answer["next_page_token"], "next_page_token")
    raise RegistryError(f"MLflow at {address()}: {endpoint}: found over {MOST_PAGES} pages")


def upload(artifact_uri: str, folder: str, file: Path) -> None:
    """Put a file under a folder of a run's artifacts; the same file again changes nothing."""
    try:
        root = urlsplit(artifact_uri)
    except ValueError as error:
        raise RegistryError(f"artifacts lie at {artifact_uri[:80]!r}: {error}") from error
    if root.scheme != "mlflow-artifacts":
        raise RegistryError(
            f"artifacts lie at {plain(artifact_uri)[:200]}; expected a server that keeps them "
            "itself (mlflow server --artifacts-destination)"
        )
    path = UPLOADS + quote(f"{root.path.strip('/')}/{folder}/{file.name}")
    _persistent("PUT", path, file)


def fetch_model_file(
    name: str,
    version: int,
    file: str,
    sha256: str | None,
    to: Path,
    most_bytes: int | None = None,
) -> Path:
    """Fetch one file of a model version; its digest must be the one named.

    None: the caller checks the file, which is small, by a signature. A file of more than
    `most_bytes` is refused before that much is read; by default `MOST_BYTES`.
    """
    query = urlencode({"name": name, "version": version, "path": _safe(file)})
    return _fetch(f"/model-versions/get-artifact?{query}", file, sha256, to, most_bytes)


def fetch_run_file(
    run: str, file: str, sha256: str | None, to: Path, most_bytes: int | None = None
) -> Path:
    """Fetch one artifact of a run; its digest must be the one named, as above."""
    return _fetch(_run_file(run, file), file, sha256, to, most_bytes)


def read_run_file(run: str, file: str, sha256: str, most_bytes: int = MOST_ANSWER) -> bytes:
    """The bytes of a small artifact of a run, which no disk sees; as above."""
    data = _persistent("GET", _run_file(run, file), None, None, most_bytes)
    _refuse_unless_same(file, sha256_bytes(data), sha256)
    return data


def _run_file(run: str, file: str) -> str:
    return "/get-artifact?" + urlencode({"path": _safe(file), "run_uuid": run_id(run)})


def _safe(file: str) -> str:
    """An artifact's name that stays in its folder and that a disk takes."""
    path = PurePosixPath(file)
    inside = not path.is_absolute() and ".." not in path.parts and path.name
    if not inside or "\\" in file or not file.isprintable() or len(path.name.encode()) > 200:
        raise RegistryError(f"artifact {file[:200]!r}: found a path that leaves its folder")
    return file


def _refuse_unless_same(file: str, digest: str, sha256: str) -> None:
    if digest != sha256:
        raise DigestMismatch(f"artifact {file}: found SHA-256 {digest}; expected {sha256 or 'one'}")


def _fetch(path: str, file: str, sha256: str | None, to: Path, most_bytes: int | None) -> Path:
    """Stream an artifact to disk within the size limit, and check its digest."""
    local = to / PurePosixPath(file).name
    to.mkdir(parents=True, exist_ok=True)
    partial = local.with_name(f".{local.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as out:
            _persistent("GET", path, None, out, MOST_BYTES if most_bytes is None else most_bytes)
        if sha256 is not None:
            _refuse_unless_same(file, sha256_file(partial), sha256)
        partial.replace(local)
    finally:
        partial.unlink(missing_ok=True)
    return local


def _persistent(
    method: str,
    path: str,
    body: bytes | Path | None,
    out: IO[bytes] | None = None,
    most_bytes: int = MOST_ANSWER,
) -> bytes:
    """One exchange, tried again where that is safe: all our calls but the creating ones are."""
    pauses = () if path.endswith("/create") else PAUSES_S
    for pause in pauses:
        try:
            return _exchange(method, path, body, out, most_bytes)
        except OutOfReach:  # noqa: PERF203 - a call takes milliseconds
            time.sleep(pause)
    return _exchange(method, path, body, out, most_bytes)


def _exchange(
    method: str, path: str, body: bytes | Path | None, out: IO[bytes] | None, most_bytes: int
) -> bytes:
    """One HTTP exchange; the answer's body, or written to `out` from its start."""
    if _databases:
        return mlflow_answers.read(_databases[-1], (method, path, body), out, most_bytes)
    url, port = _server_url()
    connection = _connection(url.scheme, url.hostname or "", port)
    headers = {"Content-Type": "application/json", **_authorization(url.scheme, url.hostname)}
    try:
        with body.open("rb") if isinstance(body, Path) else nullcontext(body) as content:
            if isinstance(body, Path):
                headers["Content-Type"] = "application/octet-stream"
                headers["Content-Length"] = str(body.stat().st_size)
            connection.request(method, url.path.rstrip("/") + path, content, headers)
        answer = connection.getresponse()
        _set_clock(answer.getheader("Date"))
        if answer.length is None and not answer.chunked:
            # A connection cut within the headers: without this the body would seem empty.
            raise http.client.HTTPException("an answer that does not tell its length")
        if answer.status != 200:
            raise _refusal(answer.status, answer.read(MOST_REFUSAL), path)
        return _read(answer, out, path, most_bytes)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if getattr(error, "errno", None) in (*DISK_ERRORS, errno.ENOENT):
            raise  # our own disk, not the network
        cause = str(error) or type(error).__name__
        raise OutOfReach(f"MLflow at {address()}: out of reach: {cause}") from error
    finally:
        connection.close()


def _set_clock(date: str | None) -> None:
    """Take the server's time from an answer's header; one that cannot be read changes nothing."""
    try:
        _clock[:] = [parsedate_to_datetime(date or "").timestamp(), time.monotonic()]
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return


def _read(
    answer: http.client.HTTPResponse, out: IO[bytes] | None, path: str, most_bytes: int
) -> bytes:
    endpoint, promised = path.split("?")[0], answer.length
    if promised is not None and promised > most_bytes:
        raise RegistryError(f"{endpoint}: found {promised} bytes; at most {most_bytes}")
    if out is not None:
        out.seek(0)
        out.truncate()
        _refuse_unless_room(out, promised or 0, promised or 0)
    parts, total = [], 0
    while block := answer.read(BLOCK):
        total += len(block)
        if total > most_bytes:
            raise RegistryError(f"{endpoint}: found over {most_bytes} bytes; at most {most_bytes}")
        if out is None:
            parts.append(block)
            continue
        if promised is None:
            _refuse_unless_room(out, len(block), total)
        out.write(block)
    if promised is not None and total < promised:
        raise http.client.IncompleteRead(b"", promised - total)
    return b"".join(parts)


def _refuse_unless_room(out: IO[bytes], n: int, total: int) -> None:
    """Raise PlaceError, as of a full disk, where `n` bytes more would leave less than the spare."""
    disk = os.fstatvfs(out.fileno())
    room = max(disk.f_bavail * disk.f_frsize - min(total, SPARE_BYTES), 0)
    if n > room:
        raise PlaceError(f"{out.name}: found {n} bytes to fetch; room for {room}", errno.ENOSPC)


def _refusal(status: int, body: bytes, path: str) -> RegistryError:
    try:
        answer = parse_text(body)
        cause = f"{answer['error_code']}: {str(answer['message']).splitlines()[0]}"
    except (ValueError, KeyError, TypeError, IndexError):
        cause = body[:200].decode(errors="replace").strip()
    later = status in (408, 429) or status >= 500
    kind = NotInRegistry if status == 404 else OutOfReach if later else RegistryError
    return kind(f"MLflow at {address()}: {path.split('?')[0]}: {status} {plain(cause)[:1000]}")


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    if scheme == "https":
        authority = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or None
        try:
            context = ssl.create_default_context(cafile=authority)
        except OSError as error:
            raise RegistryError(f"certificate authority {authority}: {error}") from error
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    raise RegistryError(f"MLFLOW_TRACKING_URI is {address()}; expected http:// or https://")


def _authorization(scheme: str, host: str | None) -> dict[str, str]:
    """The Authorization header; credentials never go in clear over a network."""
    secrets = _secrets()
    user, password, token = (secrets.get(name, "") for name in _SECRETS)
    if not (token or user):
        user, password = credentials(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if not (token or user):
        return {}
    if scheme != "https" and host not in ("127.0.0.1", "localhost", "::1"):
        raise RegistryError(f"MLflow at {address()}: credentials are sent over https:// alone")
    if user:
        return {
            "Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        }
    if not (token.isascii() and token.isprintable()):  # http.client would print it
        raise RegistryError("MLFLOW_TRACKING_TOKEN: found what no header holds; expected ASCII")
    return {"Authorization": f"Bearer {token}"}


def _secrets() -> Mapping[str, str]:
    """Credentials by name: from the environment, else from the secrets file."""
    path = os.environ.get("HOLTER_SECRETS_FILE")
    if not path or any(name in os.environ for name in _SECRETS):
        return os.environ
    try:
        status = Path(path).stat()
        content = Path(path).read_text()
    except (OSError, ValueError) as error:
        raise RegistryError(f"secrets file {path}: {error}") from error
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or status.st_uid not in (0, os.geteuid()):
        raise RegistryError(
            f"secrets file {path}: found mode {stat.S_IMODE(status.st_mode):o}, owner "
            f"{status.st_uid}; expected 600 and the agent's own user"
        )
    lines = [line.strip() for line in content.splitlines()]
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
