"""Two slots for the model a device runs: one active, the other the next one or the one before.

A release is copied into the slot that is not active, checked and self-tested there, and made
active by the rename of one link. Until its first success it is on trial: a process that begins to
use it and does not end well makes the next start go back to the slot before.

`newest.json` keeps, of each model, the newest version that was ever put here: an older one is
refused unless the release key signed that this device may go back to it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from edge_agent import outbox
from storage.errors import DeviceError, HolterError
from storage.files import read_state, sync_folder, write_json
from storage.registry.boxed import trusted_content
from storage.registry.signing import ROLL_BACK, check_name, check_release, read_statement
from tasks.runtimes.releases import self_test

NAMES = ("a", "b")
RELEASE = ".release"


def edge_home() -> Path:
    """The agent's state folder: HOLTER_EDGE_HOME, or ~/.local/state/holter-edge."""
    default = Path.home() / ".local" / "state" / "holter-edge"
    return Path(os.environ.get("HOLTER_EDGE_HOME") or default)


def trusted_keys(home: Path) -> list[str]:
    """The enrolled public keys: files `*.pub` of HOLTER_EDGE_KEYS, or of `keys` in the home."""
    folder = Path(os.environ.get("HOLTER_EDGE_KEYS") or home / "keys")
    return [path.read_text(errors="replace").strip() for path in sorted(folder.glob("*.pub"))]


def enrol(home: Path, key: str) -> str:
    """Trust a public key (64 hexadecimal digits) from now on; gives the name it is kept under."""
    key = key.strip().lower()
    if len(key) != 64 or set(key) - set("0123456789abcdef"):
        raise DeviceError(f"key {key[:20]!r}: found no 64 hexadecimal digits")
    path = home / "keys" / f"{key[:16]}.pub"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(key + "\n")
    return path.stem


def active(home: Path) -> Path | None:
    """The active slot's folder, or None before the first installation."""
    link = home / "slots" / "active"
    return link.resolve() if link.is_symlink() else None


def contents(home: Path) -> dict[str, str]:
    """What lies in each slot, and which one is active."""
    now = active(home)
    releases = {}
    for name in NAMES:
        file = home / "slots" / f"{name}{RELEASE}"
        if file.exists():
            word = " (active)" if now and now.name == name else ""
            releases[name] = read_state(file, str, "release") + word
    return releases


def refuse_older(
    home: Path, reference: str, roll_back: str = "", device: str = ""
) -> dict[str, dict[str, int]]:
    """Refuse a version that is older than the newest of its model that was put here.

    Parameters
    ----------
    home : Path
        The state folder.
    reference : str
        NAME/version, as its signed statement has it.
    roll_back : str
        The signed statement that this device may go back to it, where there is one. It counts
        once: the next one must be signed later.
    device : str
        This device's name.

    Returns
    -------
    dict of str to dict
        By model the newest version, and when its last roll-back was signed, once this is installed.

    Raises
    ------
    DeviceError
        It is older, and no such statement came with it.
    SignatureError
        The statement is not to be trusted, or is for something else.
    """
    path = home / "slots" / "newest.json"
    newest: dict[str, dict[str, int]] = read_state(path, dict) if path.exists() else {}
    for model in newest:
        read_state(path, int, model, "version")
    name, version = _parts(reference)
    of_slots = [_parts(release.removesuffix(" (active)")) for release in contents(home).values()]
    last = newest.get(name) or {"version": max([v for n, v in of_slots if n == name], default=0)}
    if version < last["version"]:
        if not roll_back:
            raise DeviceError(
                f"{reference}: this device has had version {last['version']}; an older one needs a "
                f"signed roll-back: holter edge request {reference} --install --roll-back"
            )
        members = {"statement": ROLL_BACK, "device": device, "name": name, "version": version}
        time_ms = read_statement(roll_back, trusted_keys(home), **members).get("time_ms")
        if not isinstance(time_ms, int) or time_ms <= last.get("roll_back_ms", 0):
            raise DeviceError(f"{reference}: this roll-back was used; sign another one")
        last = {"roll_back_ms": time_ms}
    return {**newest, name: {**last, "version": version}}


def _parts(reference: str) -> tuple[str, int]:
    """Name and version of NAME/version."""
    name, _, version = reference.rpartition("/")
    if not name or not (version.isascii() and version.isdecimal() and len(version) < 12):
        raise DeviceError(f"release {reference!r}: found no NAME/version; expected one")
    return name, int(version)


def install(
    home: Path, release: Path, reference: str, roll_back: str = "", device: str = ""
) -> None:
    """Put a release into the slot that is not active, check and self-test it, and switch to it.

    Raises
    ------
    SignatureError, DeviceError, ModelError, TableError
        It is not to be trusted, is not the version that it is called, is older than what was here
        (`refuse_older`), or does not answer as it should; the active slot stays.
    """
    newest = refuse_older(home, reference, roll_back, device)
    now = active(home)
    target = home / "slots" / ("b" if now and now.name == "a" else "a")
    outbox.remove(home, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    name_file = target.with_name(target.name + RELEASE)
    name_file.unlink(missing_ok=True)
    shutil.copytree(release, target)
    check_release(target, trusted_keys(home))
    check_name(target, *_parts(reference), trusted_keys(home))
    self_test(target)
    write_json(name_file, {"release": reference})
    write_json(home / "slots" / "newest.json", newest)
    write_json(home / "slots" / "trial", {"begun": 0})
    _switch(home, target)


def _switch(home: Path, target: Path) -> None:
    link = home / "slots" / "active"
    fresh = link.with_name("active.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target.name)
    fresh.rename(link)
    sync_folder(link.parent)


def rollback(home: Path) -> str:
    """Make the other slot active again, after its own check and self-test; gives its release."""
    now = active(home)
    target = home / "slots" / ("b" if now and now.name == "a" else "a")
    if now is None or not target.is_dir():
        raise DeviceError("rollback: found no other release on this device")
    check_release(target, trusted_keys(home))
    self_test(target)
    _switch(home, target)
    (home / "slots" / "trial").unlink(missing_ok=True)
    return read_state(target.with_name(target.name + RELEASE), str, "release")


def begin(home: Path) -> tuple[Path, dict[str, Any]]:
    """The release to use now, checked; one that failed its trial is rolled back first.

    Returns
    -------
    folder, manifest
        The active slot and its signed manifest.

    Raises
    ------
    DeviceError, SignatureError
        Nothing is installed, or what is was changed and there is nothing to go back to.
    """
    trial = home / "slots" / "trial"
    if trial.exists() and read_state(trial, int, "begun") and len(contents(home)) > 1:
        rollback(home)
    now = active(home)
    if now is None:
        raise DeviceError("found no model on this device; install one with a request")
    try:
        manifest = check_release(now, trusted_keys(home))
        self_test(now)
    except HolterError:
        rollback(home)
        now = active(home) or now
        manifest = check_release(now, trusted_keys(home))
    if trial.exists():
        write_json(trial, {"begun": 1})
    return now, manifest


def choose_release(
    home: Path, folder: Path | None, runtime: str | None = None
) -> tuple[Path, dict[str, Any]]:
    """The release in a folder, checked, or else the active one, as `begin`; self-tested.

    A release in the box needs no signature: its manifest's digest is a constant of the code. The
    self-test is run in the runtime that is named too: what it raises then is not the release's
    fault.
    """
    if folder is None:
        folder, manifest = begin(home)
    else:
        manifest = trusted_content(folder) or check_release(folder, trusted_keys(home))
        self_test(folder)
    if runtime:
        self_test(folder, runtime)
    return folder, manifest


def confirm(home: Path) -> None:
    """The active release did its work: its trial is over."""
    trial = home / "slots" / "trial"
    if trial.exists():  # a read-only file system refuses even what is not there
        trial.unlink(missing_ok=True)
