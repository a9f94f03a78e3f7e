"""OpenSSF Model Signing bundles: a signature over a release's files that a public tool verifies.

A bundle is a Sigstore bundle with a DSSE envelope over an in-toto statement, which names each file
of a folder with its SHA-256. https://github.com/ossf/model-signing-spec

Our own signatures (`storage.registry.signing`) are Ed25519; bundles take elliptic curves of NIST
alone. So there is a second key, P-256: HOLTER_EXCHANGE_KEY names it (PEM), or it is made at first
use in the state folder, readable by its owner alone.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from storage.errors import SignatureError
from storage.files import alone, check_writable, home, make_folder, read_bounded, write_secret

#: The bundle's name in the folder that it signs.
BUNDLE = "model.sig"
KEY_VARIABLE = "HOLTER_EXCHANGE_KEY"
#: A PEM file of a key, or a bundle, larger than this is not read.
MOST_BYTES = 1 << 20
EXTRA = "model-signing is not installed: pip install -e '.[exchange]'"


def exchange_key_path() -> Path:
    """Where the key lies: HOLTER_EXCHANGE_KEY, or `keys/exchange.key` in the state folder."""
    return Path(os.environ.get(KEY_VARIABLE) or home() / "keys" / "exchange.key")


def _private_key() -> Any:
    """The private key; one of the state folder is made where there is none yet."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = exchange_key_path()
    if KEY_VARIABLE not in os.environ:
        _make_key(path)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise PermissionError(f"found mode {mode:o}; expected 600")
        key = load_pem_private_key(read_bounded(path, MOST_BYTES), None)
    except (OSError, ValueError, TypeError) as error:
        raise SignatureError(f"exchange key {path}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1
    ):
        raise SignatureError(
            f"exchange key {path}: found a key of another kind; expected P-256, P-384 or P-521"
        )
    return key


def _make_key(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if path.exists():
        return
    check_writable(path.parent, "folder of secrets")
    make_folder(home())
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone(path.name):
        if not path.exists():  # nobody made one while we waited
            pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            write_secret(path, pem.decode())


def exchange_public_key() -> str:
    """The key's public half, PEM: what others verify bundles by."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = _private_key().public_key()
    pem: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def sign_folder(folder: Path) -> Path:
    """Sign every file of a folder; gives the bundle, which takes an earlier one's place.

    Raises
    ------
    SignatureError
        The key cannot be used, a file of the folder is a link, or the package is not there.
    """
    try:
        from model_signing import hashing, signing
    except ImportError as error:
        raise SignatureError(EXTRA) from error
    _private_key()
    if links := [path for path in sorted(folder.rglob("*")) if path.is_symlink()]:
        raise SignatureError(
            f"release {folder.name}: found the link {links[0].name}; expected files"
        )
    bundle = folder / BUNDLE
    bundle.unlink(missing_ok=True)
    # Whole files, SHA-256, none left out: what is left out stands in the signature for good.
    config: Any = hashing.Config()  # type: ignore[no-untyped-call]
    config.use_file_serialization(hashing_algorithm="sha256")
    config.set_ignored_paths(paths=(), ignore_git_paths=False)
    with TemporaryDirectory(prefix="holter-") as work:
        signature = Path(work) / BUNDLE
        signer: Any = signing.Config()  # type: ignore[no-untyped-call]
        signer.use_elliptic_key_signer(private_key=exchange_key_path())
        signer.set_hashing_config(config).sign(folder, signature)
        bundle.write_bytes(signature.read_bytes())
    return bundle
