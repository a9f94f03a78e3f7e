"""Signed releases: what the server signs at registration, and a device checks before it runs it.

A release is a model's folder: its manifest names every file with size and SHA-256, `manifest.sig`
is an Ed25519 signature (RFC 8032) over the manifest's bytes. `release.json` is a signed statement
of the registered name and version that this manifest has; the version's number is known only when
it is registered, after the folder is signed. A roll-back is a signed statement too.

The private key is the one file of this project that must stay secret: HOLTER_RELEASE_KEY names it,
or it is made at first use in the state folder, readable by its owner alone.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from storage.errors import SignatureError
from storage.files import (
    home,
    make_secret,
    parse_text,
    read_bounded,
    read_json,
    read_secret,
    sha256_bytes,
    sha256_file,
    write_json,
)
from storage.registry.answers import MOST_NUMBER, excerpt, plain
from storage.registry.model_files import MANIFEST, MLFLOW_META

SIGNATURE = "manifest.sig"
#: The signed statement of a release's registered name and version.
NAME_FILE = "release.json"
#: Files of a release that its manifest does not name. MLflow's downloads add the last, which
#: nothing here reads.
BESIDE = (MANIFEST, SIGNATURE, NAME_FILE, MLFLOW_META)
#: A manifest, signature or statement larger than this is not read.
MOST_MANIFEST = 1 << 20
#: Kinds of signed statements: what a signature on one means is in it.
RELEASE, ROLL_BACK, DESCRIPTION = "release", "roll-back", "description"
#: What stands in a version's description before the text that was sealed: a signed text, and a line
#: that Markdown takes for a link's definition, which no page shows.
_ADDED = re.compile(
    r'(?P<text>.*)\n\n\[holter\]: # "(?P<entry>[1-9][0-9]{0,8}) (?P<key>[0-9a-f]{64}) '
    r'(?P<signature>[0-9a-f]{128})"\n\n',
    re.ASCII | re.DOTALL,
)
_DIGEST = re.compile(r"[0-9a-f]{64}")


def release_key_path() -> Path:
    """Where the private key lies: HOLTER_RELEASE_KEY, or `keys/release.key` in the state folder."""
    return Path(os.environ.get("HOLTER_RELEASE_KEY") or home() / "keys" / "release.key")


def _private_key() -> Any:
    path = release_key_path()
    if "HOLTER_RELEASE_KEY" not in os.environ:
        make_secret(path, _new_key)
    return _read_key(path)


def _read_key(path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        return Ed25519PrivateKey.from_private_bytes(read_secret(path))
    except (OSError, ValueError) as error:
        raise SignatureError(f"release key {path}: {error}") from error


def _new_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return bytes(Ed25519PrivateKey.generate().private_bytes_raw())


def public_key() -> str:
    """The release key's public half, as 64 hexadecimal digits: what a device enrols."""
    return str(_private_key().public_key().public_bytes_raw().hex())


def public_half(path: Path) -> str:
    """The public half of the private key in a file; SignatureError where it cannot be read."""
    return str(_read_key(path).public_key().public_bytes_raw().hex())


def trusted_keys() -> set[str]:
    """The public keys that this machine believes: its own, and those of `keys/*.pub` beside it."""
    own = {public_key()} if release_key_path().exists() else set()
    files = sorted((home() / "keys").glob("*.pub"))
    return own | {path.read_text(errors="replace").strip() for path in files}


def sign(data: bytes) -> dict[str, str]:
    """The release key's signature over some bytes, and the public key that it fits."""
    key = _private_key()
    public = key.public_key().public_bytes_raw().hex()
    return {"key": public, "signature": key.sign(data).hex()}


def signed_by(data: bytes, signature: Mapping[str, str]) -> bool:
    """Whether the key that a signature names made it over these bytes; whose it is, is not asked.

    Raises
    ------
    KeyError, TypeError, ValueError
        The signature cannot be read.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public, signed = bytes.fromhex(signature["key"]), bytes.fromhex(signature["signature"])
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signed, data)
    except InvalidSignature:
        return False
    return True


def sign_release(folder: Path) -> None:
    """Bring a folder's manifest up to its files and sign it; no name is stated of it any more."""
    manifest = read_json(folder / MANIFEST)
    (folder / NAME_FILE).unlink(missing_ok=True)
    manifest["files"] = {
        str(path.relative_to(folder)): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and str(path.relative_to(folder)) not in BESIDE
    }
    write_json(folder / MANIFEST, manifest)
    write_json(folder / SIGNATURE, sign((folder / MANIFEST).read_bytes()))


def sign_name(folder: Path, name: str, version: int) -> Path:
    """State, signed, that a folder's release is this registered version; gives the file."""
    digest = sha256_file(folder / MANIFEST)
    members = {"name": name, "version": version, "manifest_sha256": digest}
    return write_json(folder / NAME_FILE, _sign_statement({"statement": RELEASE, **members}))


def sign_roll_back(device: str, name: str, version: int) -> str:
    """A signed statement that a device may go back to a version, once; JSON."""
    members = {"device": device, "name": name, "version": version}
    stamp = {"time_ms": time.time_ns() // 1_000_000}  # a later one replaces it, by this key's clock
    return json.dumps(_sign_statement({"statement": ROLL_BACK, **members, **stamp}), sort_keys=True)


def sign_description(name: str, version: int, sealed: str, entry: int, text: str) -> str:
    """A version's description: a signed text of what was decided, then the one that was sealed.

    Parameters
    ----------
    name, version : str, int
        The registered version.
    sealed : str
        Its description as it was sealed.
    entry : int
        The newest entry of the ledger that the text tells of.
    text : str
        Markdown.
    """
    seal = sign(_description_bytes(name, version, entry, text))
    return f'{text}\n\n[holter]: # "{entry} {seal["key"]} {seal["signature"]}"\n\n{sealed}'


def read_description(name: str, version: int, sealed: str, description: str) -> tuple[int, str]:
    """What was signed of a version's description: the newest entry that it tells of, and the key.

    Raises
    ------
    SignatureError
        It does not end with the text that was sealed, or what is before that was not signed.
    """
    match = _ADDED.fullmatch(description.removesuffix(sealed))
    if not description.endswith(sealed) or match is None:
        raise SignatureError("description: found neither the sealed text alone nor a signed one")
    entry = int(match["entry"])
    if not signed_by(_description_bytes(name, version, entry, match["text"]), match.groupdict()):
        raise SignatureError("description: found a text that is not what was signed")
    return entry, match["key"]


def _description_bytes(name: str, version: int, entry: int, text: str) -> bytes:
    members = {"name": name, "version": version, "entry": entry, "text": text}
    return _statement_bytes({"statement": DESCRIPTION, **members})


def _sign_statement(statement: Mapping[str, Any]) -> dict[str, Any]:
    return {**statement, **sign(_statement_bytes(statement))}


def _statement_bytes(statement: Mapping[str, Any]) -> bytes:
    """What of a statement is signed: all but key and signature, as canonical JSON."""
    parts = {k: v for k, v in statement.items() if k not in ("key", "signature")}
    return json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()


def read_statement(data: bytes | str, trusted: Iterable[str], **expected: Any) -> dict[str, Any]:
    """A statement that one of the trusted keys signed, and that says what is expected of it.

    Parameters
    ----------
    data : bytes or str
        Its JSON.
    trusted : iterable of str
        Public keys, 64 hexadecimal digits each.
    **expected
        Members that it must have: "statement" is its kind.

    Raises
    ------
    SignatureError
        No trusted key signed it, it was changed since, or it states something else.
    """
    kind = expected.get("statement", "statement")
    try:
        statement = parse_text(data)
        public, unchanged = str(statement["key"]), signed_by(_statement_bytes(statement), statement)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SignatureError(f"{kind}: found a signed statement that cannot be read") from error
    _refuse_stranger(kind, public, trusted)
    if not unchanged:
        raise SignatureError(f"{kind}: the statement is not what was signed")
    for name, value in expected.items():
        if statement.get(name) != value or type(statement.get(name)) is not type(value):
            raise SignatureError(
                f"{kind}: signed for {name} {statement.get(name)!r}; wanted {value!r}"
            )
    return dict(statement)


def _refuse_stranger(kind: str, public: str, trusted: Iterable[str]) -> None:
    keys = set(trusted)
    if public not in keys:
        names = ", ".join(sorted(key[:16] for key in keys)) or "none"
        signer = plain(public[:16])
        raise SignatureError(f"{kind}: signed by key {signer}; this device trusts {names}")


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
    try:
        seal = parse_text(signature)
        public, unchanged = str(seal["key"]), signed_by(manifest, seal)
    except (ValueError, KeyError, TypeError) as error:
        raise SignatureError("release: found a signature file that cannot be read") from error
    _refuse_stranger("release", public, trusted)
    if not unchanged:
        raise SignatureError("release: the manifest is not what was signed")
    return check_manifest(manifest)


def read_unsigned(folder: Path) -> dict[str, Any]:
    """A folder's manifest, checked but for its signature: to measure a network, not to decide by.

    Raises
    ------
    SignatureError
        There is none, or a member of it is not of the kind that its readers take.
    """
    return check_manifest(_read(folder, MANIFEST))


def check_manifest(manifest: bytes) -> dict[str, Any]:
    """A manifest's value, whose members are of the kinds that its readers take."""
    try:
        content = parse_text(manifest)
    except ValueError as error:
        raise SignatureError(f"release: found a manifest that is no JSON: {error}") from None
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict):
        raise SignatureError("release: found a manifest without files; expected them")
    for name, entry in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
            raise SignatureError(f"release: names the file {name!a} outside its folder")
        size = entry.get("bytes") if isinstance(entry, dict) else None
        if not isinstance(size, int) or size < 0 or not _DIGEST.fullmatch(str(entry.get("sha256"))):
            raise SignatureError(f"release: file {name}: found no bytes and SHA-256; expected both")
    runtimes = content.get("runtimes", {})
    kinds: dict[str, Any] = {"name": str, "runtime": str, "runtimes": dict, "certainty": dict}
    kinds |= dict.fromkeys(("threshold", "smoothing_change"), int | float)
    for name in kinds.keys() & content.keys():
        value = content[name]
        large = isinstance(value, int | float) and not abs(value) <= MOST_NUMBER
        if not isinstance(value, kinds[name]) or large:
            raise SignatureError(f"release: the manifest's {name} is {excerpt(value)}")
    for name, entry in runtimes.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("file", ""), str):
            raise SignatureError(f"release: runtime {name!a}: found no file's name; expected one")
    return dict(content)


def check_release(folder: Path, trusted: Iterable[str]) -> dict[str, Any]:
    """The verified manifest of a folder whose files, as far as they are there, are as signed.

    Raises
    ------
    SignatureError
        As `verified_manifest`, or a file that differs from the manifest or is not in it.
    """
    manifest, signature = _read(folder, MANIFEST), _read(folder, SIGNATURE)
    content = verified_manifest(manifest, signature, trusted)
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if (path.is_dir() and not path.is_symlink()) or name in BESIDE:
            continue
        entry = content["files"].get(name, {"bytes": -1})
        same = not path.is_symlink() and path.is_file() and path.stat().st_size == entry["bytes"]
        if not same or sha256_file(path) != entry["sha256"]:
            raise SignatureError(f"release: file {name} is not what was signed")
    return content


def check_name(folder: Path, name: str, version: int, trusted: Iterable[str]) -> None:
    """Make sure that a checked release is the registered version that it is taken for.

    Raises
    ------
    SignatureError
        It is another's, or it was signed before releases had their names in what is signed.
    """
    if not (folder / NAME_FILE).is_file():
        raise SignatureError(
            f"release {name}/{version}: found no signed name and version ({NAME_FILE}); "
            f"make it on the server: holter edge sign {name}/{version}"
        )
    manifest = sha256_bytes(_read(folder, MANIFEST))
    members = {"name": name, "version": version, "manifest_sha256": manifest}
    read_statement(_read(folder, NAME_FILE), trusted, statement=RELEASE, **members)


def _read(folder: Path, name: str) -> bytes:
    try:
        return read_bounded(folder / name, MOST_MANIFEST)
    except (OSError, ValueError) as error:
        raise SignatureError(f"release {folder.name}: {name}: {error}") from error
