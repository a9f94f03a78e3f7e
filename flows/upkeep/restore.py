"""Restore: a backup is unpacked beside the state folder, checked whole, and takes its place."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.upkeep.archive import KEYS, STATE, names_text, printable
from flows.upkeep.backup import RUNNING
from flows.upkeep.unpack import Contents, unpack
from storage.consent.blocks import key_path
from storage.errors import BackupError, SignatureError
from storage.files import check_writable, home, parse_text, read_json, sync_folder, write_json
from storage.registry.signing import public_half, release_key_path, signed_by
from storage.run_notes import live_runs


@dataclass(frozen=True)
class RestoreResult:
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
) -> RestoreResult:
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
    with TemporaryDirectory(
        prefix=f".{target.name.lstrip('.')}.restore-", dir=target.parent
    ) as scratch:
        fresh = Path(scratch) / "home"
        contents = unpack(file, fresh, STATE, tell)
        keys = _put_keys(fresh, keys_file, target, Path(scratch))
        key = _signer(file, contents, fresh, any_key=any_key)
        _mark_dead(fresh)
        earlier = _swap(fresh, target)
    listing = contents.listing
    return RestoreResult(
        folder=str(target),
        time_utc=printable(str(listing.get("time_utc", ""))),
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
    return tuple(printable(str(text)) for text in value) if isinstance(value, list) else ()


def _check_idle() -> None:
    """Make sure that no server and no flow of this machine works in the state folder."""
    from flows.services.up_state import up_process, up_servers

    if (servers := up_servers()) and (process := up_process(servers)):
        raise BackupError(
            f"state folder {home()}: found servers in it (process {process.pid}); expected none: "
            "holter down"
        )
    if runs := live_runs():
        words = names_text(f"{run.flow}, process {run.pid} on {run.host}" for run in runs)
        raise BackupError(f"state folder {home()}: found flows that run ({words}); expected none")


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
            f"({names_text(known)}). --any-key takes it all the same"
        )
    return key


def _mark_dead(fresh: Path) -> None:
    """No flow runs in a folder that was just put back: the next one closes their runs."""
    for path in (fresh / RUNNING).glob("*.json"):
        with suppress(ValueError, TypeError):  # of one that cannot be read: nobody's
            write_json(path, {**read_json(path), "host": platform.node(), "since": -1.0})


def _keep_withdrawals(target: Path, fresh: Path) -> None:
    """Who withdrew since the backup stays withdrawn: the list, its key, and the certificates."""
    if (target / "consent").is_dir():
        shutil.copytree(target / "consent", fresh / "consent", dirs_exist_ok=True)
    key = target / "keys" / key_path().name
    if key.is_file():
        (fresh / "keys").mkdir(mode=0o700, exist_ok=True)
        shutil.copy2(key, fresh / "keys" / key.name)


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
        _keep_withdrawals(target, fresh)
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
