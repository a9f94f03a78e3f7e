"""Restore: a backup is unpacked beside the state folder, checked whole, and takes its place."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sqlite3
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.upkeep.archive import (
    BLOCK,
    FORMAT,
    HEADER,
    KEYS,
    LIST,
    PREFIX,
    SEAL,
    STATE,
    Digest,
    fault_of,
    is_database,
    newer_packages,
    some,
)
from flows.upkeep.backup import LEFT_OUT, RUNNING
from storage.errors import BackupError, SignatureError
from storage.files import check_writable, home, parse_text, read_json, sync_folder, write_json
from storage.registry.signing import public_half, release_key_path, signed_by

#: A header is a few lines, a list a line a file.
MOST_HEADER, MOST_LIST = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Restored:
    """What a restore did.

    Attributes
    ----------
    folder : str
        The state folder, as it was at `time_utc`.
    time_utc : str
        When the backup's databases were copied.
    files, bytes : int
        What it has.
    earlier : str
        Where the state folder lies that it took the place of; "" where there was none.
    keys : str
        Where its keys come from; "" where it has none.
    key : str
        The public key that signed the archive's list; "" where none did.
    trusted : bool
        Whether that key is among the keys of the folder.
    running : tuple of str
        Flows that ran when it was made: the next flow, or `holter status`, closes their runs.
    unsettled, left_out : tuple of str
        As the backup said.
    """

    folder: str
    time_utc: str
    files: int
    bytes: int
    earlier: str
    keys: str
    key: str
    trusted: bool
    running: tuple[str, ...]
    unsettled: tuple[str, ...]
    left_out: tuple[str, ...]


def restore(
    file: Path,
    keys_file: Path | None = None,
    *,
    replace: bool = False,
    any_key: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Restored:
    """Put a backup in the place of the state folder: all of it, or nothing is changed.

    Parameters
    ----------
    file, keys_file : Path
        Archives that `back_up` wrote.
    replace : bool
        Whether a state folder that holds anything is put aside, under another name.
    any_key : bool
        Whether an archive is taken though no key of this machine signed it.
    tell : callable
        Told each folder that is begun.

    Raises
    ------
    BackupError
        An archive is damaged, of a newer form or of newer packages, or not signed by a key that is
        known here; or the state folder is not empty, is in use, or is where a disk is mounted.
    PlaceError
        Nothing can be written beside the state folder.
    """
    target = home().resolve()
    if target.exists() and not target.is_dir():
        raise BackupError(f"state folder {target}: found a file; expected a folder or nothing")
    if target.is_mount():
        raise BackupError(
            f"state folder {target}: found a place where a disk is mounted; expected a folder that "
            "can be renamed: name one below it in HOLTER_HOME"
        )
    has_files = target.is_dir() and any(target.iterdir())
    if has_files and not replace:
        raise BackupError(
            f"state folder {target}: found files; expected none (--replace puts it aside)"
        )
    if has_files:
        _check_idle()
    check_writable(target.parent, "folder of the state folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name}.restore-", dir=target.parent) as scratch:
        fresh = Path(scratch) / "home"
        contents = unpack(file, fresh, STATE, tell)
        keys = _put_keys(fresh, keys_file, target, Path(scratch))
        key = _signer(file, contents, fresh, any_key=any_key)
        _mark_dead(fresh)
        earlier = _swap(fresh, target)
    listing = contents.listing
    return Restored(
        folder=str(target),
        time_utc=str(listing.get("time_utc", "")),
        files=len(contents.files),
        bytes=sum(digest.bytes for digest in contents.files.values()),
        earlier=earlier,
        keys=keys,
        key=key,
        trusted=key in known_keys(target),
        running=_texts(listing, "running"),
        unsettled=_texts(listing, "unsettled"),
        left_out=_texts(listing, "left_out"),
    )


def _texts(listing: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = listing.get(name)
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _check_idle() -> None:
    """Make sure that no server and no flow of this machine works in the state folder."""
    from flows.services.alive import live_runs
    from flows.services.up_state import up_process, up_servers

    if (servers := up_servers()) and (process := up_process(servers)):
        raise BackupError(
            f"state folder {home()}: found servers in it (process {process.pid}); expected none: "
            "holter down"
        )
    if runs := live_runs():
        words = some(f"{run.flow}, process {run.pid} on {run.host}" for run in runs)
        raise BackupError(f"state folder {home()}: found flows that run ({words}); expected none")


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
        digests[member.name.removeprefix(PREFIX)] = _extract(archive, member, path)
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
            f"{file}: found the databases of newer packages: {some(newer)}; expected none newer "
            "than here: upgrade this installation first"
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


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Digest:
    path.parent.mkdir(mode=0o770, parents=True, exist_ok=True)
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
                f"{file}: found {words}: {some(names)}; expected every one as it was copied. "
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


def _put_keys(fresh: Path, keys_file: Path | None, target: Path, scratch: Path) -> str:
    """Give the new folder its keys: from their archive, else those of this machine's folder."""
    if keys_file is not None:
        unpack(keys_file, scratch / "apart", KEYS)
        (scratch / "apart" / "keys").rename(fresh / "keys")
        words = str(keys_file)
    elif (target / "keys").is_dir():
        shutil.copytree(target / "keys", fresh / "keys")
        words = f"those that were in {target / 'keys'}"
    else:
        return ""
    (fresh / "keys").chmod(0o700)
    for key in (fresh / "keys").iterdir():
        key.chmod(0o644 if key.suffix == ".pub" else 0o600)
    return words


def known_keys(folder: Path) -> set[str]:
    """The public keys that a state folder with these keys trusts."""
    keys = {path.read_text(errors="replace").strip() for path in (folder / "keys").glob("*.pub")}
    outside = "HOLTER_RELEASE_KEY" in os.environ
    own = release_key_path() if outside else folder / "keys" / "release.key"
    return keys | ({public_half(own)} if own.is_file() else set())


def _signer(file: Path, contents: Contents, fresh: Path, *, any_key: bool) -> str:
    """The key that signed an archive's list; where keys are known here, one of them."""
    key = ""
    if contents.seal:
        try:
            seal = parse_text(contents.seal)
            key = str(seal["key"]) if signed_by(contents.signed, seal) else ""
        except (ValueError, KeyError, TypeError, SignatureError):
            key = ""
        if not key:
            raise BackupError(f"{file}: found a list that is not what was signed; nothing restored")
    known = known_keys(fresh)
    if known and key not in known and not any_key:
        signer = f"key {key}" if key else "no key"
        raise BackupError(
            f"{file}: found it signed by {signer}; expected one that is known here "
            f"({some(known)}). --any-key takes it all the same"
        )
    return key


def _mark_dead(fresh: Path) -> None:
    """No flow runs in a folder that was just put back: the next one closes their runs."""
    for path in (fresh / RUNNING).glob("*.json"):
        with suppress(ValueError, TypeError):  # of one that cannot be read: nobody's
            write_json(path, {**read_json(path), "host": platform.node(), "since": -1.0})


def _swap(fresh: Path, target: Path) -> str:
    """Rename the new folder into place; the one that was there stays under another name."""
    earlier = ""
    fresh.chmod(0o700)
    if target.is_dir():
        fresh.chmod(stat.S_IMODE(target.stat().st_mode))
    if target.is_dir() and any(target.iterdir()):
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        aside = target.with_name(f"{target.name}.before-{now}")
        if os.path.lexists(aside):
            raise BackupError(f"{aside}: found a folder; expected none: wait a second")
        target.rename(aside)
        earlier = str(aside)
    try:
        fresh.rename(target)
    except BaseException:
        if earlier:
            Path(earlier).rename(target)
        raise
    sync_folder(target.parent)
    return earlier
