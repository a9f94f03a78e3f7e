"""Patients' own numbers: kept as keyed digests, so that a number finds its records and no more.

A data set whose subjects were told by the headers' numbers holds digests in their place:
HMAC-SHA256 (RFC 2104) of the number, by a key of 32 random bytes in the state folder
(`keys/patients.key`, readable by its owner alone). Without the key nobody learns a number from a
digest; with it, whoever has a number finds the patient. A digest is told as KEY:DIGEST, where KEY
names the key and not what it is.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from storage.errors import PlaceError
from storage.files import home, make_secret, read_secret

KEY_BYTES = 32


def key_path() -> Path:
    """Where the key lies: `keys/patients.key` in the state folder."""
    return home() / "keys" / "patients.key"


def number_digests(patients: Mapping[str, str]) -> dict[str, str]:
    """Keyed digests of patients' numbers to the patients; the key is made at first use.

    Parameters
    ----------
    patients : mapping of str to str
        A number as a header tells it, to the subject it is in the tables. Of a number of several
        words the first is digested too, where no other patient's begins with it.

    Raises
    ------
    PlaceError
        The key cannot be made or read, or others may read it.
    """
    make_secret(key_path(), partial(secrets.token_bytes, KEY_BYTES))
    key = _key()
    first: dict[str, set[str]] = {}
    for number, subject in patients.items():
        first.setdefault(number.split()[0], set()).add(subject)
    words = {word: subjects.pop() for word, subjects in first.items() if len(subjects) == 1}
    return {_digest(key, number): subject for number, subject in {**words, **patients}.items()}


def number_digest(number: str) -> str | None:
    """The digest that a number has here; None where this state folder has no key.

    Raises
    ------
    PlaceError
        The key cannot be read, or others may read it.
    """
    return _digest(_key(), number) if key_path().exists() else None


def _key() -> bytes:
    try:
        return read_secret(key_path())
    except (OSError, ValueError) as error:
        raise PlaceError(f"key of patients' own numbers, {key_path()}: {error}") from error


def _digest(key: bytes, number: str) -> str:
    """KEY:DIGEST of a number; capitals and the width of spaces do not count."""
    plain = " ".join(number.split()).casefold().encode()
    name = hmac.digest(key, b"name of the key", "sha256").hex()[:16]
    return f"{name}:{hmac.digest(key, b'number ' + plain, 'sha256').hex()}"
