"""Time stamps: an authority on loopback stamps a ledger's head, and what is changed is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.exchange.signing import stamp_decision
from storage.audit import ledger
from storage.audit.findings import MATCH, MISMATCH, OUT
from storage.audit.ledger_run import ledger_run
from storage.errors import NotInRegistry, ServerError, SignatureError
from storage.exchange import stamps, timestamps
from storage.exchange.timestamps import ROOTS, SERVER, check_stamp, request_stamp
from storage.registry.client import call, upload
from storage.registry.signing import trusted_keys
from tests.answers import held

CONFIG = """
[tsa]
default_tsa = own
[own]
serial = {folder}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def certificate(folder: Path, name: str, issuer: str | None) -> None:
    """A key and a certificate: the authority's own, or one that may stamp and that it issued."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issued_by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer or name)])
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issued_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    signer: Any = key
    if issuer:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        builder = builder.add_extension(usage, critical=True)
        signer = load_pem_private_key((folder / f"{issuer}.key").read_bytes(), None)
    done = builder.sign(signer, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(done.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.key").write_bytes(private)


@dataclass
class Authority:
    """A time-stamp authority: its address, its root, and what it may answer instead."""

    url: str
    folder: Path
    instead: list[bytes] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The certificate to believe."""
        return self.folder / "root.pem"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: it is the authority of these tests")
    folder = tmp_path_factory.mktemp("authority")
    for name, issuer in (("root", None), ("stamper", "root"), ("stranger", None)):
        certificate(folder, name, issuer)
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(CONFIG.format(folder=folder))

    class Stamps(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            (folder / "query").write_bytes(query)
            words = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query"]
            words += ["-signer", "stamper.pem", "-inkey", "stamper.key", "-out", "reply"]
            subprocess.run(words, cwd=folder, check=True, capture_output=True)
            data = here.instead.pop() if here.instead else None
            self.send_response(200 if data != b"" else 503)
            self.end_headers()
            self.wfile.write((folder / "reply").read_bytes() if data is None else data)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Stamps) as server:
        here = Authority(f"http://127.0.0.1:{server.server_port}/tsr", folder)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield here
        server.shutdown()
        thread.join()


@pytest.fixture
def authority(started: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.setenv(SERVER, started.url)
    monkeypatch.setenv(ROOTS, str(started.root))
    return started


def test_a_stamp_fits_what_was_stamped(authority: Authority) -> None:
    """A response is of the bytes alone, and openssl accepts it by the same root."""
    response = request_stamp(b"what was decided")
    stamp = check_stamp(response, b"what was decided")
    assert stamp.verified
    assert abs(stamp.time - datetime.now(timezone.utc)) < timedelta(minutes=5)
    with pytest.raises(SignatureError, match="another digest"):
        check_stamp(response, b"something else")
    (authority.folder / "kept.tsr").write_bytes(response)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"what was decided")
    words = ["openssl", "ts", "-verify", "-in", "kept.tsr", "-digest", digest.finalize().hex()]
    words += ["-CAfile", "root.pem"]
    done = subprocess.run(words, cwd=authority.folder, capture_output=True, text=True)
    assert "Verification: OK" in done.stdout, done.stderr


def test_who_stamps_must_be_believed(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stamp holds by the certificates that are named; without any, nobody can tell."""
    response = request_stamp(b"x")
    monkeypatch.setenv(ROOTS, str(authority.folder / "stranger.pem"))
    with pytest.raises(SignatureError, match="not signed by whom"):
        check_stamp(response, b"x")
    with pytest.raises(SignatureError, match="not signed by whom"):
        request_stamp(b"x")
    monkeypatch.setenv(ROOTS, str(authority.folder / "serial"))
    with pytest.raises(SignatureError, match="found no certificates"):
        check_stamp(response, b"x")
    monkeypatch.delenv(ROOTS)
    with pytest.raises(timestamps.UnverifiableError, match="names no certificates"):
        check_stamp(response, b"x")
    assert request_stamp(b"x")


def test_what_an_authority_must_not_answer(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another request's response, nonsense, silence and too much each end in a sentence."""
    other = request_stamp(b"x")
    refusals = {
        other: "answered another request",
        b"nonsense": "cannot be read",
        b"": "status 503",
        bytes(2 << 20): "found over",
    }
    for instead, words in refusals.items():
        authority.instead.append(instead)
        with pytest.raises((SignatureError, ServerError), match=words):
            request_stamp(b"x")
    for address, words in (("http://127.0.0.1:9", "ConnectError"), ("ftp://x", "expected http")):
        monkeypatch.setenv(SERVER, address)
        with pytest.raises(ServerError, match=words):
            request_stamp(b"x")
    monkeypatch.delenv(SERVER)
    with pytest.raises(ServerError, match="HOLTER_TSA is not set"):
        request_stamp(b"x")
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    with pytest.raises(SignatureError, match="pip install"):
        request_stamp(b"x")


@pytest.mark.server
def test_the_head_of_a_ledger_is_stamped(
    authority: Authority,
    fresh_model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The newest entry's stamp is kept and verified; a stamp of no entry, or another's, is told."""
    model, keys = fresh_model, trusted_keys
    call("POST", "registered-models/create", name=model)
    assert list(stamps.findings(model, keys())) == []
    with pytest.raises(NotInRegistry, match="no entry to stamp"):
        stamps.stamp_head(model, [])
    ledger.append(model, 1, "registered", "training 1")
    ledger.append(model, 1, "approved", "it is good")
    stamp_decision(f"{model}/1")
    assert "Stamped  entry 2" in capsys.readouterr().err
    monkeypatch.setenv(SERVER, "http://127.0.0.1:9")
    ledger.append(model, 1, "evaluated", "on x", run_id="r", report="d")
    stamp_decision(model)
    assert f"later: holter exchange stamp {model}" in capsys.readouterr().err
    monkeypatch.setenv(SERVER, authority.url)
    history = ledger.trusted_entries(model, keys())
    done = CliRunner().invoke(app, ["exchange", "stamp", model, "--format", "json"])
    value = held(done.stdout, "exchange stamp")
    assert (value["entry"], value["sha256"]) == (history[-1].sequence, history[-1].sha256)
    entry, stamp, path = stamps.stamp_head(model, history)
    assert (str(path), stamp.time.isoformat()) == (value["file"], value["time_utc"])
    assert (entry, stamp.verified) == (history[-1], True)
    kept = path.read_bytes()
    assert stamps.stamp_head(model, history) == (entry, stamp, path)
    assert path.read_bytes() == kept
    found = {one.name: one.state for one in stamps.findings(model, keys())}
    assert found == {"time stamp 000002": MATCH, "time stamp 000003": MATCH}
    monkeypatch.setenv(ROOTS, "")
    told = {(one.state, one.told) for one in stamps.findings(model, keys())}
    assert told == {(OUT, f"{ROOTS} names no certificates to verify it by")}
    monkeypatch.setenv(ROOTS, str(authority.root))
    run = ledger_run(model, make=False)
    for name in ("000001.tsr", "000009.tsr", "x.tsr"):
        shutil.copy(path, path.with_name(name))
        upload(str(run["info"]["artifact_uri"]), stamps.FOLDER, path.with_name(name))
    states = {one.name: (one.state, one.told) for one in stamps.findings(model, keys())}
    assert states["time stamp 000001"] == (MISMATCH, "time stamp: found one of another digest")
    assert {states[f"time stamp {name}"][0] for name in ("000009", "x")} == {MISMATCH}
    assert states["time stamp 000002"][0] == MATCH
