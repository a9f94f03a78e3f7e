"""A registered version as a folder for others: every file of it, checked, and a bundle."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from storage.errors import NotInRegistry, PlaceError
from storage.exchange.bundle import sign_folder
from storage.files import check_writable
from storage.registry.client import fetch_model_file
from storage.registry.model_files import MANIFEST
from storage.registry.models import ModelVersion
from storage.registry.signing import (
    MOST_MANIFEST,
    NAME_FILE,
    SIGNATURE,
    check_name,
    check_release,
)


def export_release(version: ModelVersion, out: Path, trusted: Iterable[str]) -> list[str]:
    """Write a version's files and their bundle into a new folder, whole or not at all.

    Parameters
    ----------
    version : ModelVersion
        The registered version.
    out : Path
        A folder that is not there yet.
    trusted : iterable of str
        Public keys that may have signed it, 64 hexadecimal digits each.

    Returns
    -------
    list of str
        The names of its files, without the bundle's.

    Raises
    ------
    PlaceError
        The folder is there already, or cannot be made.
    SignatureError
        No trusted key signed the version, or a file is not what was signed.
    DigestMismatch, RegistryError
        The registry has other bytes, or does not answer.
    """
    if out.exists():
        raise PlaceError(f"{out}: found it there; expected a folder that is not there yet")
    check_writable(out.parent, "folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    keys, name, number = set(trusted), version.name, version.version
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as work:
        folder = Path(work) / out.name
        for file in (MANIFEST, SIGNATURE):
            fetch_model_file(name, number, file, None, folder, MOST_MANIFEST)
        with suppress(NotInRegistry):  # check_name says what to do then
            fetch_model_file(name, number, NAME_FILE, None, folder, MOST_MANIFEST)
        manifest = check_release(folder, keys)
        check_name(folder, name, number, keys)
        for file, entry in manifest["files"].items():
            place = (folder / file).parent
            fetch_model_file(name, number, file, entry["sha256"], place, entry["bytes"])
        check_release(folder, keys)
        files = [str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if p.is_file()]
        sign_folder(folder)
        folder.rename(out)
    return files
