"""The form of a backup: a plain tar file of regular files, with a header and a list of digests.

Its first member `holter-backup.json` is the header: the form's number, what the archive holds and
which packages made it. The state folder's files follow below `state/`. The last members are
`holter-files.json`, which has size and SHA-256 of each, and its signature by the release key where
the state folder has one. So a file that was cut off has no list, and is refused.

A plain tar is as large as what it holds: it cannot unpack to more.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from storage.errors import BackupError
from storage.files import MOST_NAME, MOST_PART_BYTES

FORMAT = 1
HEADER, LIST, SEAL = "holter-backup.json", "holter-files.json", "holter-files.sig"
PREFIX = "state/"
#: What an archive is of: the state folder without its keys, or the keys alone.
STATE, KEYS = "state", "keys"
#: How an SQLite database begins, and what its writers keep beside it.
SQLITE, SIDECARS = b"SQLite format 3\0", ("-wal", "-shm", "-journal")
#: Packages whose databases an older version of them cannot open.
PACKAGES = ("holter-af", "mlflow", "prefect")
BLOCK = 1 << 20


@dataclass(frozen=True)
class Digest:
    """Size and SHA-256 of a file in an archive."""

    bytes: int
    sha256: str


def fault_of(name: str) -> str:
    """What is wrong with a file's name, relative to the state folder; "" where nothing is."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name:
        return "a name that leaves its folder"
    if not name.isprintable():
        return "a name with characters that cannot be printed"
    try:
        most = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    return "a name that is too long" if most > MOST_PART_BYTES or len(name) > MOST_NAME else ""


def is_database(path: Path) -> bool:
    """Whether a file is an SQLite database, by how it begins."""
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


class _Hashing(io.RawIOBase):
    """A file that is read once, and digested as it is."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.digest.update(data)
        return data


def add_file(archive: tarfile.TarFile, name: str, path: Path) -> Digest | None:
    """Add a file as it is on opening; None where it is gone by now."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        status = os.fstat(file.fileno())
        info = tarfile.TarInfo(PREFIX + name)
        info.size, info.mode, info.mtime = status.st_size, status.st_mode & 0o660, status.st_mtime
        reader = _Hashing(file)
        archive.addfile(info, reader)
        return Digest(info.size, reader.digest.hexdigest())
    return None


def add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> Digest:
    """Add a member of these bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o600, int(time.time())
    archive.addfile(info, io.BytesIO(data))
    return Digest(len(data), hashlib.sha256(data).hexdigest())


def add_json(archive: tarfile.TarFile, name: str, value: Any) -> bytes:
    """Add a member of JSON; gives its bytes."""
    data = json.dumps(value, sort_keys=True, indent=1).encode() + b"\n"
    add_bytes(archive, name, data)
    return data


def installed_packages() -> dict[str, str]:
    """The version of each package that writes into the state folder."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def newer_packages(packages: Mapping[str, str]) -> list[str]:
    """The packages of an archive that are newer than those installed, each in words."""
    from packaging.version import InvalidVersion, Version

    here = installed_packages()
    try:
        return [
            f"{name} {packages[name]} (installed: {here[name]})"
            for name in here
            if name in packages and Version(packages[name]) > Version(here[name])
        ]
    except (InvalidVersion, TypeError) as error:
        raise BackupError(f"{HEADER}: found a version that cannot be read ({error})") from error


def printable(text: str) -> str:
    """A text as it may be printed: one of an archive could steer a terminal."""
    return text if text.isprintable() else ascii(text)


def names_text(names: Iterable[str], most: int = 5) -> str:
    """The first of many names, as they may be printed, and how many more there are."""
    ordered = sorted(map(printable, names))
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more
