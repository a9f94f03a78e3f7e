"""TLS with a private certificate authority."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from storage.errors import OutOfReach, RegistryError
from storage.registry import client


class Answer(http.server.BaseHTTPRequestHandler):
    """A server that answers every GET with who was told to it."""

    def do_GET(self) -> None:
        """Answer with the Authorization header as a JSON string's value."""
        body = ('{{"told": "{}"}}'.format(self.headers.get("Authorization", ""))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A certificate that signed itself, and the address of a server that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ward")])
    now = datetime.datetime.now(datetime.timezone.utc)
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(loopback, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path, secret = tmp_path / "authority.pem", tmp_path / "key.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, secret)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield path, f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_private_authority_is_trusted_where_it_is_named(
    authority: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the authority's certificate the server is spoken to, credentials included."""
    path, address = authority
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(path))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t")
    assert client.call("GET", "runs/get", run_id="1") == {"told": "Bearer t"}


def test_an_unknown_authority_is_refused(
    authority: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it nothing is sent: the certificate does not verify."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", authority[1])
    monkeypatch.setattr(client, "PAUSES_S", ())
    with pytest.raises(OutOfReach, match="CERTIFICATE_VERIFY_FAILED"):
        client.call("GET", "runs/get", run_id="1")


def test_an_authority_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate path without a file is an error that names it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "/none.pem")
    with pytest.raises(RegistryError, match=r"certificate authority /none\.pem"):
        client.call("GET", "runs/get", run_id="1")
