"""Releases in the box: trained networks that are installed with the package.

Each is a folder of `storage/releases`: a manifest that names every file with size and SHA-256, the
files of the runtimes, golden beats and a card. No key signed them. They are trusted because the
digests of their manifests are constants of this code: who has the code has them.
`scripts/make_releases.py` makes the folders and writes the constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.errors import DigestMismatch, ModelError
from storage.files import read_bounded, sha256_bytes, sha256_file
from storage.registry.model_files import MANIFEST
from storage.registry.signing import MOST_MANIFEST, check_manifest
from storage.text import did_you_mean

FOLDER = Path(__file__).parents[1] / "releases"

#: SHA-256 of each release's manifest, by the network's name: what makes it trusted.
BOXED: Mapping[str, str] = {
    "rhythm": "c7e1d09b9531af3a467d349bb79fa6d010d5608f7556b03ef233b835fbb6aa89",
    "rhythm_tiny": "ca4b3179ed88fdf98a18337cfa241991be09045f89c656ac7dc1d398508252ac",
    "rhythm_causal": "a9b8506468237110f12c54616d54bb4ea0fb38ead53076ef8a0a9d8a6f45920c",
    "fused_cues": "b95fcedc3e6ed9c3cdaa0baa4580fd779d1093c1f3b89372e78e6f6cec08bf58",
}


def boxed_release(name: str) -> tuple[Path, dict[str, Any]]:
    """The folder and the manifest of a release in the box, every file's digest checked.

    Parameters
    ----------
    name : str
        The network's name, of `BOXED`.

    Raises
    ------
    ModelError
        There is no such release, a file of it is not there, or one is there that it does not name.
    DigestMismatch
        A file is not the one that the code trusts; it is named.
    """
    if name not in BOXED:
        names = ", ".join(BOXED)
        hint = did_you_mean(name, BOXED)
        raise ModelError(f"release {name}: found none in the box{hint}; expected one of {names}")
    folder = FOLDER / name
    return folder, check_files(folder, BOXED[name])


def trusted_content(folder: Path) -> dict[str, Any] | None:
    """The checked manifest of a folder whose manifest the code trusts; None of any other folder.

    The digest decides, not the name: another manifest is another release, whatever its folder is
    called.

    Raises
    ------
    ModelError, DigestMismatch
        The manifest is trusted and a file is not the one that it names.
    """
    try:
        digest = sha256_bytes(read_bounded(folder / MANIFEST, MOST_MANIFEST))
    except (OSError, ValueError):
        return None
    return check_files(folder, digest) if digest in BOXED.values() else None


def check_files(folder: Path, sha256: str) -> dict[str, Any]:
    """The manifest of this digest, and every file of its folder as the manifest has it.

    Raises
    ------
    ModelError, DigestMismatch
        As `boxed_release`.
    """
    try:
        data = read_bounded(folder / MANIFEST, MOST_MANIFEST)
    except (OSError, ValueError) as error:
        raise ModelError(f"release {folder.name}, file {MANIFEST}: {error}") from error
    _refuse_changed(folder, MANIFEST, sha256_bytes(data), sha256)
    content = check_manifest(data)
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    files = {str(path.relative_to(folder)) for path in paths}
    for name in sorted(files - {MANIFEST, *content["files"]}):
        raise ModelError(f"release {folder.name}: found the file {name}, which is not one of it")
    for name, entry in content["files"].items():
        if name not in files or (folder / name).is_symlink():
            raise ModelError(f"release {folder.name}: found no file {name}; expected one")
        _refuse_changed(folder, name, sha256_file(folder / name), entry["sha256"])
    return content


def _refuse_changed(folder: Path, name: str, sha256: str, expected: str) -> None:
    if sha256 != expected:
        raise DigestMismatch(
            f"release {folder.name}, file {name}: found SHA-256 {sha256}; expected {expected}"
        )
