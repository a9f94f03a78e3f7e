"""Signatures of releases: the public tool accepts what was signed, and nothing else."""

from __future__ import annotations

import base64
import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from typer.testing import CliRunner as Runner

from flows.cli.app import app
from storage.errors import PlaceError, SignatureError
from storage.exchange.bundle import (
    BUNDLE,
    KEY_VARIABLE,
    exchange_key_path,
    exchange_public_key,
    sign_folder,
)
from storage.exchange.release import export_release
from storage.registry.signing import public_key
from tests.answers import held
from tests.conftest import Registered


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def release(home: Path) -> Path:
    """A folder of files, some below others, signed."""
    folder = home / "release"
    for name in ("model.tflite", "manifest.json", "data/model.keras", ".gitignore"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}'s bytes")
    assert sign_folder(folder) == folder / BUNDLE
    return folder


def verified(folder: Path, key: Path | None = None) -> Result:
    """What `model_signing verify key` says, as its users call it."""
    pytest.importorskip("model_signing", reason="no model-signing: pip install '.[exchange]'")
    from model_signing._cli import main

    pem = key or folder.parent / "holter.pem"
    if key is None:
        pem.write_text(exchange_public_key())
    words = ["verify", "key", str(folder), "--signature", str(folder / BUNDLE)]
    words += ["--no-ignore-git-paths", "--public_key", str(pem)]
    return CliRunner().invoke(main, words)


def test_the_public_tool_accepts_a_release(release: Path, tmp_path: Path) -> None:
    """`model_signing verify key` accepts a signed folder, also in another place, signed again."""
    assert verified(release).exit_code == 0
    elsewhere = tmp_path / "elsewhere" / "model"
    shutil.copytree(release, elsewhere)
    assert verified(elsewhere).exit_code == 0
    sign_folder(release)
    assert verified(release).exit_code == 0


@pytest.mark.parametrize("change", ["edit", "add", "remove", "another key"])
def test_what_was_changed_is_refused(release: Path, change: str, tmp_path: Path) -> None:
    """A file that is edited, added or taken away, and another key, are refused by the tool."""
    key = None
    if change == "edit":
        (release / "data" / "model.keras").write_text("other bytes")
    elif change == "add":
        (release / "more.bin").write_text("more")
    elif change == "remove":
        (release / ".gitignore").unlink()
    else:
        other = ec.generate_private_key(ec.SECP256R1()).public_key()
        key = tmp_path / "other.pem"
        key.write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert verified(release, key).exit_code != 0


def test_the_bundle_names_each_file_by_sha256(release: Path) -> None:
    """The statement that is signed has every file's SHA-256, and leaves nothing out for good."""
    bundle = json.loads((release / BUNDLE).read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    parts = statement["predicate"]["resources"]
    assert {part["name"] for part in parts} == {
        *("model.tflite", "manifest.json", "data/model.keras", ".gitignore")
    }
    assert {part["algorithm"] for part in parts} == {"sha256"}
    assert "ignore_paths" not in statement["predicate"]["serialization"]


def test_the_key_is_its_owner_s_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is made once, mode 600; one that others may read, or of another kind, is refused."""
    pem = exchange_public_key()
    assert exchange_public_key() == pem
    assert isinstance(load_pem_public_key(pem.encode()), ec.EllipticCurvePublicKey)
    path = exchange_key_path()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(SignatureError, match="found mode 644; expected 600"):
        exchange_public_key()
    own = home / "own.pem"
    own.write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    own.chmod(0o600)
    monkeypatch.setenv(KEY_VARIABLE, str(own))
    with pytest.raises(SignatureError, match="expected P-256"):
        exchange_public_key()
    monkeypatch.setenv(KEY_VARIABLE, str(home / "nowhere"))
    with pytest.raises(SignatureError, match="nowhere"):
        exchange_public_key()
    assert not (home / "nowhere").exists()


def test_a_link_is_not_signed(release: Path) -> None:
    """A folder with a link in it is refused by name: what it leads to may change."""
    (release / "link").symlink_to("/etc/hostname")
    with pytest.raises(SignatureError, match="found the link link"):
        sign_folder(release)


def test_without_the_package_a_sentence_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without model-signing is told what to install."""
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(SignatureError, match=r"pip install -e '\.\[exchange\]'"):
        sign_folder(home)


@pytest.mark.server
def test_a_version_is_exported_whole(
    registered: Registered, home: Path, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registered version's files are those that were signed, and the public tool accepts them."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    with pytest.raises(SignatureError):
        export_release(registered.model, home / "other", {public_key()})
    shutil.copy(registered.keys / "release.pub", home / "home" / "keys")
    out = home / "for others"
    words = ["exchange", "sign", registered.model.reference, "--out", str(out), "--format", "json"]
    done = Runner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told = held(done.stdout, "exchange sign")
    assert {"manifest.json", "manifest.sig", "release.json", "notes/about.md"} <= {*told["files"]}
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert written == {*told["files"], BUNDLE}
    assert verified(out).exit_code == 0
    with pytest.raises(PlaceError, match="not there yet"):
        export_release(registered.model, out, set())
    assert {path.name for path in home.iterdir()} == {"for others", "home", "holter.pem"}
    key = Runner().invoke(app, ["exchange", "key"]).stdout
    assert key.strip() == exchange_public_key().strip()
