"""Signed releases: what the server signs at registration, and a device checks before it runs it.

A release is a model's folder: its manifest names every file with size and SHA-256, `manifest.sig`
is an Ed25519 signature (RFC 8032) over the manifest's bytes. The private key is the one file of
this project that must stay secret: HOLTER_RELEASE_KEY names it, or it is made at first use in the
state folder, readable by its owner alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from storage.errors import SignatureError
from storage.files import (
    alone,
    check_writable,
    home,
    make_folder,
    parsed,
    read_json,
    sha256_bytes,
    sha256_file,
    write_json,
    write_secret,
)
from storage.model_files import MANIFEST

SIGNATURE = "manifest.sig"
#: A manifest larger than this is not read.
MOST_MANIFEST = 1 << 20


def release_key_path() -> Path:
    """Where the private key lies: HOLTER_RELEASE_KEY, or `keys/release.key` in the state folder."""
    return Path(os.environ.get("HOLTER_RELEASE_KEY") or home() / "keys" / "release.key")


def _private_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = release_key_path()
    if not path.exists() and "HOLTER_RELEASE_KEY" not in os.environ:
        check_writable(path.parent, "folder of the release key")
        make_folder(home())
        path.parent.mkdir(exist_ok=True, mode=0o700)
        with alone("release-key"):
            if not path.exists():  # nobody made one while we waited
                write_secret(path, Ed25519PrivateKey.generate().private_bytes_raw().hex())
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SignatureError(f"{path}: found mode {stat.S_IMODE(mode):o}; expected 600")
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
    except (OSError, ValueError) as error:
        raise SignatureError(f"release key {path}: {error}") from error


def public_key() -> str:
    """The release key's public half, as 64 hexadecimal digits: what a device enrols."""
    return str(_private_key().public_key().public_bytes_raw().hex())


def trusted_keys() -> set[str]:
    """The public keys that this machine believes: its own, and those of `keys/*.pub` beside it."""
    own = {public_key()} if release_key_path().exists() else set()
    files = sorted((home() / "keys").glob("*.pub"))
    return own | {path.read_text().strip() for path in files}


def sign(data: bytes) -> dict[str, str]:
    """The release key's signature over some bytes, and the public key that it fits."""
    key = _private_key()
    public = key.public_key().public_bytes_raw().hex()
    return {"key": public, "signature": key.sign(data).hex()}


def signed_by(data: bytes, said: Mapping[str, str]) -> bool:
    """Whether the key that a signature names made it over these bytes; whose it is, is not asked.

    Raises
    ------
    KeyError, TypeError, ValueError
        The signature cannot be read.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public, signature = bytes.fromhex(said["key"]), bytes.fromhex(said["signature"])
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def sign_release(folder: Path) -> None:
    """Bring a folder's manifest up to its files and sign it."""
    manifest = read_json(folder / MANIFEST)
    manifest["files"] = {
        str(path.relative_to(folder)): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, SIGNATURE)
    }
    write_json(folder / MANIFEST, manifest)
    write_json(folder / SIGNATURE, sign((folder / MANIFEST).read_bytes()))


def verified_manifest(manifest: bytes, signature: bytes, trusted: Iterable[str]) -> dict[str, Any]:
    """A manifest whose signature one of the trusted keys made.

    Parameters
    ----------
    manifest, signature : bytes
        `manifest.json` and `manifest.sig`.
    trusted : iterable of str
        Public keys, 64 hexadecimal digits each.

    Raises
    ------
    SignatureError
        No trusted key signed it, it was changed since, or it names a file outside its folder.
    """
    keys = set(trusted)
    try:
        said = parsed(signature)
        public, whole = str(said["key"]), signed_by(manifest, said)
    except (ValueError, KeyError, TypeError) as error:
        raise SignatureError("release: found a signature file that cannot be read") from error
    if public not in keys:
        known = ", ".join(sorted(key[:16] for key in keys)) or "none"
        raise SignatureError(f"release: signed by key {public[:16]}; this device trusts {known}")
    if not whole:
        raise SignatureError("release: the manifest is not what was signed")
    found: dict[str, Any] = parsed(manifest)
    for name in found["files"]:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise SignatureError(f"release: names the file {name!r} outside its folder")
    return found


def check_release(folder: Path, trusted: Iterable[str]) -> dict[str, Any]:
    """The verified manifest of a folder whose files, as far as they are there, are as signed.

    Raises
    ------
    SignatureError
        As `verified_manifest`, or a file that differs from the manifest or is not in it.
    """
    try:
        manifest, signature = (folder / MANIFEST).read_bytes(), (folder / SIGNATURE).read_bytes()
    except OSError as error:
        raise SignatureError(f"release {folder.name}: {error.strerror}") from error
    found = verified_manifest(manifest, signature, trusted)
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name in (MANIFEST, SIGNATURE):
            continue
        wanted = found["files"].get(name, {}).get("sha256")
        if path.is_symlink() or sha256_bytes(path.read_bytes()) != wanted:
            raise SignatureError(f"release: file {name} is not what was signed")
    return found
