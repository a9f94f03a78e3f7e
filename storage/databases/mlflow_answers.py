"""What MLflow answers over REST, read from its SQLite database: no server is started for a look.

MLflow's server takes six seconds of two cores to start, its Python package two to import. Commands
that only read ask for few kinds of things, and each is a row or a list of one table. The answers
are those of the server of MLflow 3.17 (`tests/storage/databases` compares them); a database of
another revision is left to the server, which brings it up to date.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from storage.databases.mlflow_tables import TABLES, Fields, open_database, rows, version_row
from storage.errors import NotInRegistry, RegistryError

#: The revision of MLflow 3.17's tables.
REVISION = "dc11669786a5"
#: Where the artifacts lie, beside the database.
ARTIFACTS = "artifacts"
LIST = "artifacts/list"


def readable(database: Path) -> bool:
    """Whether the database is there and of the revision that this module reads."""
    if not database.is_file():
        return False
    try:
        with closing(open_database(database)) as store:
            return rows(store, "SELECT version_num FROM alembic_version") == [
                {"version_num": REVISION}
            ]
    except sqlite3.Error:
        return False


def read(
    database: Path,
    request: tuple[str, str, object],
    out: IO[bytes] | None = None,
    most_bytes: int = 1 << 63,
) -> bytes:
    """The server's answer to a request that reads.

    Parameters
    ----------
    database : Path
        One that is `readable`.
    request : tuple
        Method, path from the server's root on with its query, and body (bytes or None).
    out : file, optional
        Where an artifact goes, from its start; what is returned is empty then.
    most_bytes : int
        An artifact of more is refused.

    Raises
    ------
    NotInRegistry, RegistryError
        As the server answers 404 and 400; a request that would write is refused.
    """
    method, path, body = request
    url = urlsplit(path)
    fields = json.loads(body) if isinstance(body, bytes) else dict(parse_qsl(url.query))
    endpoint = url.path.removeprefix("/").removeprefix("api/2.0/mlflow/")
    reader = READERS.get((method, endpoint))
    if reader is None:
        raise RegistryError(f"{database}: {method} {endpoint}: found a request that writes")
    try:
        with closing(open_database(database)) as store:
            value = reader(store, fields)
    except sqlite3.Error as error:
        raise RegistryError(f"{database}: cannot be read: {error}") from error
    if not isinstance(value, Artifact):
        return json.dumps(value).encode()
    place = value.under(database.parent / ARTIFACTS)
    return _list(place, value.path) if endpoint == LIST else _copy(place, out, most_bytes)


def _copy(file: Path, out: IO[bytes] | None, most_bytes: int) -> bytes:
    """An artifact's bytes, or none where they went to `out`."""
    if not file.is_file():
        raise NotInRegistry(f"{file}: found no such file")
    if (size := file.stat().st_size) > most_bytes:
        raise RegistryError(f"{file}: found {size} bytes; at most {most_bytes}")
    if out is None:
        return file.read_bytes()
    out.seek(0)
    out.truncate()
    with file.open("rb") as source:
        shutil.copyfileobj(source, out)
    return b""


def _list(folder: Path, path: str) -> bytes:
    """The files and folders that lie in an artifact's folder."""
    files = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        size = {} if entry.is_dir() else {"file_size": entry.stat().st_size}
        name = str(PurePosixPath(path) / entry.name)
        files.append({"path": name, "is_dir": entry.is_dir(), **size})
    return json.dumps({"files": files} if files else {}).encode()


class Artifact(NamedTuple):
    """Where an artifact lies: the address of its run or version, and its path below that."""

    location: str
    path: str

    def under(self, root: Path) -> Path:
        """Its place on the disk, once it is sure that it lies within the artifacts."""
        url = urlsplit(self.location)
        if url.scheme != "mlflow-artifacts":
            raise RegistryError(f"artifacts lie at {self.location[:200]!r}; expected the server's")
        place = (root / url.path.strip("/") / self.path).resolve()
        if ".." in PurePosixPath(self.path).parts or not place.is_relative_to(root.resolve()):
            raise RegistryError(f"artifact {self.path[:200]!r}: found a path out of its folder")
        return place


def _run_artifact(store: sqlite3.Connection, fields: Fields) -> Artifact:
    run_id = fields.get("run_uuid") or fields.get("run_id")
    for row in rows(store, "SELECT artifact_uri FROM runs WHERE run_uuid = ?", [run_id]):
        return Artifact(row["artifact_uri"], fields.get("path", ""))
    raise NotInRegistry(f"run {run_id}: found none")


def _version_artifact(store: sqlite3.Connection, fields: Fields) -> Artifact:
    row = version_row(store, fields.get("name"), fields.get("version"))
    return Artifact(row["storage_location"] or row["source"], fields.get("path", ""))


READERS: Mapping[tuple[str, str], Callable[[sqlite3.Connection, Fields], Any]] = {
    **TABLES,
    ("GET", "get-artifact"): _run_artifact,
    ("GET", "model-versions/get-artifact"): _version_artifact,
    ("GET", LIST): _run_artifact,
}
