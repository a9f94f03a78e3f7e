"""Time stamps: an authority's signed word that a digest existed at a time (RFC 3161).

HOLTER_TSA names the authority's address, HOLTER_TSA_ROOTS a PEM file of the certificates that are
believed: its root, and those between. A response is kept as it came, DER, so that any other tool
verifies it: `openssl ts -verify -in FILE -digest SHA256 -CAfile PEM`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from storage.addresses import without_credentials
from storage.errors import ServerError, SignatureError
from storage.files import read_bounded, sha256_bytes

SERVER, ROOTS = "HOLTER_TSA", "HOLTER_TSA_ROOTS"
EXTRA = "rfc3161-client is not installed: pip install -e '.[exchange]'"
#: The endings of a kept response.
SUFFIX = ".tsr"
#: A response, or a file of certificates, larger than this is not read.
MOST_BYTES = 1 << 20
PATIENCE_S = 15.0
QUERY, REPLY = "application/timestamp-query", "application/timestamp-reply"


@dataclass(frozen=True)
class Stamp:
    """When, by a response, and whether it was verified who says so."""

    time: datetime
    verified: bool


class UnverifiableError(SignatureError):
    """A response that nothing here can be held against: no certificates, or no package."""


def server() -> str:
    """The authority's address.

    Raises
    ------
    ServerError
        None is configured, or it is no web address.
    """
    address = os.environ.get(SERVER, "").strip()
    if not address:
        raise ServerError(f"{SERVER} is not set; expected the address of a time-stamp authority")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ServerError(f"{SERVER}: found {without_credentials(address)!r}; expected http(s)")
    return address


def request_stamp(data: bytes) -> bytes:
    """Have the authority stamp the SHA-256 of some bytes; gives its response, which fits them.

    Raises
    ------
    ServerError
        The authority does not answer, refuses, or answers with something else.
    SignatureError
        Its response does not hold, by the certificates that are believed.
    """
    import httpx

    client = _package()
    address = server()
    builder = client.TimestampRequestBuilder().data(data)
    query = builder.hash_algorithm(client.HashAlgorithm.SHA256).build()
    name = without_credentials(address)
    try:
        with httpx.Client(timeout=PATIENCE_S) as session:
            headers = {"Content-Type": QUERY, "Accept": REPLY}
            with session.stream(
                "POST", address, content=query.as_bytes(), headers=headers
            ) as reply:
                response = _body(reply, name)
    except httpx.HTTPError as error:
        words = f"{type(error).__name__}: {error}"
        raise ServerError(f"time-stamp authority {name}: {words}") from error
    info = _decode(response).tst_info
    if info.nonce != query.nonce:
        raise SignatureError(f"time-stamp authority {name}: answered another request")
    with suppress(UnverifiableError):  # who has the certificates verifies it later
        check_stamp(response, data)
    return response


def _body(reply: Any, name: str) -> bytes:
    if reply.status_code != 200:
        raise ServerError(f"time-stamp authority {name}: found status {reply.status_code}")
    body = b""
    for block in reply.iter_bytes():
        body += block
        if len(body) > MOST_BYTES:
            raise ServerError(f"time-stamp authority {name}: found over {MOST_BYTES} bytes")
    return body


def _package() -> Any:
    try:
        import rfc3161_client
    except ImportError as error:
        raise UnverifiableError(EXTRA) from error
    return rfc3161_client


def _decode(response: bytes) -> Any:
    """A response's value; the package's own errors become one sentence."""
    client = _package()
    try:
        value = client.decode_timestamp_response(response)
        granted = value.status == client.PKIStatus.GRANTED
        if not granted:
            reason = ", ".join(value.status_string or ()) or f"status {value.status}"
            raise SignatureError(f"time stamp: the authority refused: {reason}")
        value.tst_info  # noqa: B018 - read here, where what is wrong with it becomes a sentence
    except ValueError as error:
        raise SignatureError(
            f"time stamp: found a response that cannot be read: {error}"
        ) from error
    return value


def read_stamp(response: bytes, data: bytes) -> Stamp:
    """What a response says of some bytes, not asked who signed it.

    Raises
    ------
    SignatureError
        It cannot be read, or is of other bytes.
    """
    info = _decode(response).tst_info
    if info.message_imprint.message.hex() != sha256_bytes(data):
        raise SignatureError("time stamp: found one of another digest")
    return Stamp(info.gen_time, verified=False)


def check_stamp(response: bytes, data: bytes) -> Stamp:
    """What a response says of some bytes, signed by an authority whose certificates are believed.

    Raises
    ------
    UnverifiableError
        There are no certificates to hold it against, or no package to do it.
    SignatureError
        It cannot be read, is of other bytes, or nobody that is believed signed it.
    """
    stamp = read_stamp(response, data)
    client = _package()
    builder = client.VerifierBuilder(roots=[], intermediates=[])
    for certificate in _certificates():
        if certificate.issuer == certificate.subject:
            builder = builder.add_root_certificate(certificate)
        else:
            builder = builder.add_intermediate_certificate(certificate)
    try:
        builder.build().verify_message(_decode(response), data)
    except (client.VerificationError, ValueError) as error:
        raise SignatureError(f"time stamp: not signed by whom {ROOTS} names: {error}") from error
    return Stamp(stamp.time, verified=True)


def _certificates() -> list[Any]:
    from cryptography.x509 import load_pem_x509_certificates

    file = os.environ.get(ROOTS, "")
    if not file:
        raise UnverifiableError(f"{ROOTS} names no certificates to verify it by")
    try:
        return load_pem_x509_certificates(read_bounded(Path(file), MOST_BYTES))
    except (OSError, ValueError) as error:
        raise SignatureError(f"{ROOTS} {file}: found no certificates ({error})") from error
