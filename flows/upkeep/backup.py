"""Backup: the state folder as one file, taken while servers and flows go on.

The order makes it consistent. First come the newest entries that were seen of ledgers, then
SQLite's own snapshot of every database, then all other files. Whatever a database names lies on
the disk before it is named, and stays. So a ledger never lacks an entry that was seen, and every
version has its files. What a flow writes after the snapshot is of a run that the copy calls
running: the first flow after a restore closes it.
"""

from __future__ import annotations

import os
import sqlite3
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.services.access import named_servers
from flows.upkeep.archive import (
    FORMAT,
    HEADER,
    KEYS,
    LIST,
    PREFIX,
    SEAL,
    SIDECARS,
    STATE,
    Digest,
    add_bytes,
    add_file,
    add_json,
    fault_of,
    installed_packages,
    is_database,
)
from storage.errors import BackupError, TableError
from storage.files import check_writable, home, parse_text, read_json, whole, write_json
from storage.places import beats_place
from storage.registry.signing import release_key_path, sign
from storage.tables.beats_manifest import read_manifest

#: What of the state folder is of its machine and moment alone, or has a file of its own.
LEFT_OUT = ("keys", "logs", "locks", "servers.json", "backups.json")
#: Where flows that run are noted, and the newest entries that were seen of ledgers.
RUNNING, SIGHTS = "running", "ledger"
#: How long a database may be locked by a writer, in seconds.
LOCKED_S = 60.0


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes
    ----------
    time_utc : str
        When its databases were copied.
    folders : dict of str to dict of str to int
        Files and bytes of each folder of the state folder.
    databases : tuple of str
        The SQLite databases in it, each a snapshot.
    running : tuple of str
        Flows that ran meanwhile.
    unsettled : tuple of str
        Data sets whose tables an ingest was changing: the next one makes them whole.
    left_out : tuple of str
        What is not in it, and why.
    file, keys_file : str
        The archive, and that of the keys; "" where none was asked for.
    bytes : int
        Of the archive.
    """

    time_utc: str
    folders: dict[str, dict[str, int]]
    databases: tuple[str, ...]
    running: tuple[str, ...]
    unsettled: tuple[str, ...]
    left_out: tuple[str, ...]
    file: str = ""
    keys_file: str = ""
    bytes: int = 0


def back_up(
    file: Path,
    keys_file: Path | None = None,
    *,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Backup:
    """Copy the state folder into one file, and its keys into another where that is asked.

    Parameters
    ----------
    file, keys_file : Path
        The archives to write, whole or not at all, for this user alone to read (mode 600).
    overwrite : bool
        Whether a file that is there is replaced.
    tell : callable
        Told each folder that is begun.

    Raises
    ------
    BackupError
        There is no state folder, a file is there already or would lie in it, a database is
        damaged, or there are no keys to copy.
    PlaceError
        Nothing can be written where a file is to lie.
    """
    folder = home().resolve()
    if not folder.is_dir() or not any(folder.iterdir()):
        raise BackupError(f"state folder {home()}: found nothing; expected one to copy")
    if keys_file and keys_file.resolve() == file.resolve():
        raise BackupError(f"{file}: found it named twice; expected another file for the keys")
    for path in (file, *([keys_file] if keys_file else [])):
        _check_target(path, folder, overwrite=overwrite)
    if keys_file and not (folder / "keys").is_dir():
        raise BackupError(f"{folder / 'keys'}: found no folder; expected keys for {keys_file}")
    with whole(file) as partial, TemporaryDirectory(prefix=".holter-", dir=file.parent) as scratch:
        partial.chmod(0o600)
        with tarfile.open(partial, "w:", format=tarfile.PAX_FORMAT) as archive:
            result = _write_state(archive, folder, Path(scratch), tell)
        if keys_file:
            write_keys(keys_file, folder)
    _note_backup(file, result.time_utc)
    size = file.stat().st_size
    return replace(result, file=str(file), keys_file=str(keys_file or ""), bytes=size)


def _note_backup(file: Path, time_utc: str) -> None:
    """Note where a backup lies: what is deleted later may be in it."""
    notes = {row["file"]: row for row in read_notes()}
    notes[str(file)] = {"file": str(file), "time_utc": time_utc}
    write_json(home() / "backups.json", [notes[name] for name in sorted(notes)])


def read_notes() -> list[dict[str, str]]:
    """The backups that were taken of this state folder, by file and time."""
    try:
        return [
            {"file": row["file"], "time_utc": row["time_utc"]}
            for row in read_json(home() / "backups.json")
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def known_backups() -> list[str]:
    """Copies of this state folder that are there: backups, and what a restore put aside."""
    files = (f"{row['file']}, of {row['time_utc']}" for row in read_notes())
    there = [name for name in files if Path(name.rpartition(", of ")[0]).exists()]
    aside = home().parent.glob(f"{home().name}.before-*")
    return [*there, *sorted(map(str, aside))]


def _check_target(path: Path, folder: Path, *, overwrite: bool) -> None:
    if path.resolve().is_relative_to(folder):
        raise BackupError(f"{path}: found a place in the state folder; expected one outside it")
    if os.path.lexists(path) and not (overwrite and path.is_file()):
        raise BackupError(f"{path}: found a file; expected none (--overwrite replaces it)")
    check_writable(path.parent, "folder of the backup")


def write_keys(path: Path, folder: Path) -> None:
    """Copy the keys of a state folder into an archive of their own (mode 600)."""
    with whole(path) as partial:
        partial.chmod(0o600)
        with tarfile.open(partial, "w:", format=tarfile.PAX_FORMAT) as archive:
            add_json(archive, HEADER, _header(KEYS, folder))
            files = {
                f"keys/{key.name}": digest
                for key in sorted((folder / "keys").iterdir())
                if key.is_file() and (digest := add_file(archive, f"keys/{key.name}", key))
            }
            add_json(archive, LIST, {"files": {k: asdict(v) for k, v in files.items()}})


def _header(kind: str, folder: Path) -> dict[str, object]:
    return {
        "format": FORMAT,
        "kind": kind,
        "time_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "packages": installed_packages(),
        "folder": str(folder),
    }


def _write_state(
    archive: tarfile.TarFile, folder: Path, scratch: Path, tell: Callable[[str], None]
) -> Backup:
    header = _header(STATE, folder)
    add_json(archive, HEADER, header)
    files: dict[str, Digest] = {}
    links: list[str] = []
    notes = _notes(folder)
    for name, path in _files(folder, SIGHTS, links):
        _add(archive, files, name, path)
    paths = {
        name: path
        for top in sorted(entry.name for entry in folder.iterdir())
        if top not in (*LEFT_OUT, SIGHTS, RUNNING)
        for name, path in _files(folder, top, links)
    }
    databases = [name for name, path in paths.items() if _begins_as_database(path)]
    for name in databases:
        tell(name)
        copy = snapshot(paths[name], scratch / "snapshot.db")
        _add(archive, files, name, copy)
        copy.unlink()
    notes |= _notes(folder)
    for name, data in sorted(notes.items()):
        files[name] = add_bytes(archive, PREFIX + name, data)
    beside = {name + suffix for name in databases for suffix in SIDECARS}
    top = ""
    for name, path in paths.items():
        if name in beside or name in files:
            continue
        if name.partition("/")[0] != top:
            tell(top := name.partition("/")[0])
        _add(archive, files, name, path)
    result = Backup(
        time_utc=str(header["time_utc"]),
        folders=_folders(files),
        databases=tuple(databases),
        running=tuple(sorted(_flow_of(data) for data in notes.values())),
        unsettled=tuple(_unsettled(folder, files)),
        left_out=(*_outside(folder), *links),
    )
    listing = {**asdict(result), "files": {name: asdict(digest) for name, digest in files.items()}}
    data = add_json(archive, LIST, listing)
    if release_key_path().is_file():
        add_json(archive, SEAL, sign(data))
    return result


def _add(archive: tarfile.TarFile, files: dict[str, Digest], name: str, path: Path) -> None:
    if digest := add_file(archive, name, path):
        files[name] = digest


def _files(folder: Path, top: str, links: list[str]) -> Iterator[tuple[str, Path]]:
    """The regular files of an entry of the state folder; what is none is told, or a socket.

    The entry itself may be a link to another disk: what lies there is copied.
    """
    start = folder / top
    if start.is_file():
        yield top, start
        return
    if not start.is_dir():
        links += [f"{top}: no file and no folder"] * os.path.lexists(start)
        return
    for at, folders, names in os.walk(start.resolve(), onerror=_refuse):
        inside = Path(top) / Path(at).relative_to(start.resolve())
        for name in sorted(names):
            path, relative = Path(at) / name, (inside / name).as_posix()
            if name.startswith(".") and name.endswith(".partial"):
                continue
            if path.is_symlink():
                links.append(f"{relative}: a link")
            elif path.is_file():
                if fault := fault_of(relative):
                    links.append(f"{relative!a}: {fault}")
                else:
                    yield relative, path
        folders.sort()
        links += [f"{inside / name}: a link" for name in folders if (Path(at) / name).is_symlink()]


def _refuse(error: OSError) -> None:
    raise error


def _begins_as_database(path: Path) -> bool:
    try:
        return is_database(path)
    except FileNotFoundError:
        return False


def snapshot(source: Path, target: Path) -> Path:
    """Copy an SQLite database as it is at one moment, though others write to it.

    Raises
    ------
    BackupError
        It is damaged, or stays locked.
    """
    try:
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=rw", LOCKED_S, uri=True)) as live,
            closing(sqlite3.connect(target)) as copy,
        ):
            live.backup(copy)
    except sqlite3.Error as error:
        raise BackupError(f"database {source}: {error}; expected one that can be copied") from error
    return target


def _notes(folder: Path) -> dict[str, bytes]:
    """The notes of flows that run, by name; flows that begin and end change them meanwhile."""
    notes = {}
    for path in (folder / RUNNING).glob("*.json"):
        with suppress(FileNotFoundError):
            notes[f"{RUNNING}/{path.name}"] = path.read_bytes()
    return notes


def _flow_of(note: bytes) -> str:
    try:
        value = parse_text(note)
        return f"{value['flow']} (process {value['pid']} on {value['host']})"
    except (ValueError, KeyError, TypeError):
        return "a flow whose note cannot be read"


def _folders(files: dict[str, Digest]) -> dict[str, dict[str, int]]:
    counts, sizes = Counter[str](), Counter[str]()
    for name, digest in files.items():
        top = name.partition("/")[0]
        counts[top] += 1
        sizes[top] += digest.bytes
    return {top: {"files": counts[top], "bytes": sizes[top]} for top in sorted(counts)}


def _unsettled(folder: Path, files: dict[str, Digest]) -> Iterator[str]:
    """The data sets of which a table is not the one that its manifest names."""
    for path in sorted((folder / "beats").glob("dataset=*/manifest.json")):
        name = f"beats/{path.parent.name}"
        try:
            entries = read_manifest(path).entries
        except TableError:
            yield name
            continue
        digests = {entry.file: entry.sha256 for entry in entries}
        tables = {file: files.get(f"{name}/{file}") for file in digests}
        if any(digest and digest.sha256 != digests[file] for file, digest in tables.items()):
            yield name


def _outside(folder: Path) -> Iterator[str]:
    """What belongs to this state folder, and is not in its backup."""
    names = [name for name in LEFT_OUT if (folder / name).exists() and name != "keys"]
    if names:
        yield f"{', '.join(names)}: of this machine alone"
    if (folder / "keys").exists():
        yield "keys: they are copied apart, where that is asked (--keys FILE)"
    key = release_key_path()
    if key.is_file() and not key.resolve().is_relative_to(folder):
        yield f"release key {key} (HOLTER_RELEASE_KEY): copy it by hand"
    beats = beats_place()
    if not (isinstance(beats, Path) and beats.resolve().is_relative_to(folder)):
        yield f"beat tables at {beats} (HOLTER_BEATS): copy them, or ingest again"
    for name, address in named_servers().items():
        yield f"{name} {address}: back up its own database and bucket (pg_dump, and the bucket's)"
