"""Unpack: an archive's files into a new folder, each held to its digest; hostile until checked."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.upkeep.archive import (
    BLOCK,
    FORMAT,
    HEADER,
    KEYS,
    LIST,
    PREFIX,
    SEAL,
    Digest,
    fault_of,
    is_database,
    names_text,
    newer_packages,
)
from flows.upkeep.backup import LEFT_OUT
from storage.errors import BackupError
from storage.files import parse_text

#: A header is a few lines, a list a line a file.
MOST_HEADER, MOST_LIST = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Contents:
    """What an archive holds: its header, its list and the list's bytes, its seal, its files."""

    header: Mapping[str, Any]
    listing: Mapping[str, Any]
    signed: bytes
    seal: bytes
    files: Mapping[str, Digest]


def unpack(
    file: Path, folder: Path, kind: str, tell: Callable[[str], None] = lambda _: None
) -> Contents:
    """Write an archive's files into a new folder, and hold each to its digest.

    Nothing but regular files below `state/` is taken, by names that stay in the folder, and each
    once. `tarfile`'s own extraction is not used: no link, mode or owner of the archive counts.

    Raises
    ------
    BackupError
        The archive is not such a file, is cut off or damaged, or of a newer form.
    """
    expected = f"expected one made by holter backup, of the {kind}"
    if not file.is_file():
        raise BackupError(f"{file}: found no file; {expected}")
    size, room = file.stat().st_size, shutil.disk_usage(folder.parent).free
    if size > room:
        raise BackupError(f"{file}: found {size:,} bytes; expected at most the {room:,} free here")
    folder.mkdir(mode=0o700)
    with _readable(file, expected), tarfile.open(file, "r:") as archive:
        contents = _take(file, archive, folder, kind, expected, tell)
    for name in contents.files:
        if is_database(folder / name):
            _check_database(file, folder / name)
    return contents


def _take(
    file: Path,
    archive: tarfile.TarFile,
    folder: Path,
    kind: str,
    expected: str,
    tell: Callable[[str], None],
) -> Contents:
    """Every member of an archive, in its order: the header, files, the list and its seal."""
    members: dict[str, bytes] = {}
    digests: dict[str, Digest] = {}
    first, top = archive.next(), ""
    header = _read_header(file, archive, first, kind, expected)
    for member in iter(archive.next, None):
        if member.name in (LIST, SEAL) and member.name not in members:
            members[member.name] = _content(file, archive, member, MOST_LIST)
            continue
        path = _safe(file, member, folder, digests, kind, ended=bool(members))
        if path.relative_to(folder).parts[0] != top:
            tell(top := path.relative_to(folder).parts[0])
        digests[member.name.removeprefix(PREFIX)] = _extract(archive, member, folder, path)
    if LIST not in members:
        raise BackupError(f"{file}: found no list of its files: it was cut off; {expected}")
    listing = parse_text(members[LIST])
    _compare(file, listing["files"], digests)
    return Contents(header, listing, members[LIST], members.get(SEAL, b""), digests)


@contextmanager
def _readable(file: Path, expected: str) -> Iterator[None]:
    """What cannot be read of an archive becomes one sentence with its name in it."""
    try:
        yield
    except (
        tarfile.TarError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise BackupError(f"{file}: found a damaged archive ({error}); {expected}") from error


def _read_header(
    file: Path,
    archive: tarfile.TarFile,
    member: tarfile.TarInfo | None,
    kind: str,
    expected: str,
) -> Mapping[str, Any]:
    if member is None or member.name != HEADER:
        name = member.name if member else "nothing"
        raise BackupError(f"{file}: found {name!a:.80} at its beginning; {expected}")
    header = parse_text(_content(file, archive, member, MOST_HEADER))
    number = header["format"]
    if type(number) is not int or number < 1:
        raise BackupError(f"{file}: found form {number!a:.80}; expected a number up to {FORMAT}")
    packages = header["packages"]
    if number > FORMAT:
        maker = packages.get("holter-af", "unknown") if isinstance(packages, dict) else "unknown"
        raise BackupError(
            f"{file}: found form {number} (holter-af {maker!a:.40}); expected one up to {FORMAT}: "
            "upgrade this installation first"
        )
    if header["kind"] != kind:
        raise BackupError(f"{file}: found an archive of the {header['kind']!a:.40}; {expected}")
    if newer := newer_packages(packages):
        raise BackupError(
            f"{file}: found the databases of newer packages: {names_text(newer)}; expected none "
            "newer than here: upgrade this installation first"
        )
    return dict(header)


def _content(file: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    """A small member's bytes."""
    reader = archive.extractfile(member) if _is_plain(member) else None
    if reader is None or member.size > most:
        raise BackupError(
            f"{file}: found {member.name!a:.80} of {member.size:,} bytes; expected a file of at "
            f"most {most:,}"
        )
    data = reader.read(most + 1)
    if len(data) != member.size:
        raise BackupError(f"{file}: found {member.name!a:.80} cut off; expected all of it")
    return data


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse()


def _safe(
    file: Path,
    member: tarfile.TarInfo,
    folder: Path,
    taken: Mapping[str, Digest],
    kind: str,
    *,
    ended: bool,
) -> Path:
    """Where a member goes, if it is one that a backup of the kind may have."""
    name = member.name.removeprefix(PREFIX)
    top, _, rest = name.partition("/")
    strange = top != "keys" or "/" in rest if kind == KEYS else top in LEFT_OUT
    reasons = {
        "a member after the list": ended,
        "a member outside state/": not member.name.startswith(PREFIX),
        fault_of(name): bool(fault_of(name)),
        "a link, a device or a sparse file": not _is_plain(member),
        "a name that is there twice": name in taken,
        f"a file that no archive of the {kind} has": strange,
    }
    for reason in (reason for reason, holds in reasons.items() if holds):
        raise BackupError(
            f"{file}: found {reason} ({member.name!a:.120}); expected regular files of a state "
            "folder. Nothing is restored"
        )
    return folder / name


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, path: Path) -> Digest:
    for level in reversed(path.relative_to(folder).parents):
        (folder / level).mkdir(mode=0o770, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    reader = archive.extractfile(member)
    mode = member.mode & 0o660 | 0o600
    with path.open("xb") as out:
        path.chmod(mode)
        while reader is not None and (block := reader.read(BLOCK)):
            digest.update(block)
            size += len(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    with suppress(OverflowError, ValueError, OSError):  # a time that no disk keeps
        os.utime(path, (member.mtime, member.mtime))
    return Digest(size, digest.hexdigest())


def _compare(file: Path, listed: Any, digests: Mapping[str, Digest]) -> None:
    """Every file is in the list, and is what the list says of it."""
    sealed = {name: Digest(**fields) for name, fields in listed.items()}
    problems = {
        "files that its list has, and it has not": sealed.keys() - digests.keys(),
        "files that its list has not": digests.keys() - sealed.keys(),
        "files that differ from their digests": {
            name for name in sealed.keys() & digests.keys() if sealed[name] != digests[name]
        },
    }
    for words, names in problems.items():
        if names:
            raise BackupError(
                f"{file}: found {words}: {names_text(names)}; expected every one as it was copied. "
                "Nothing is restored"
            )


def _check_database(file: Path, path: Path) -> None:
    try:
        with closing(sqlite3.connect(path)) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        answer = str(error)
    if answer != "ok":
        raise BackupError(f"{file}: found a damaged database {path.name} ({answer}); expected none")
