"""Blocks: recordings of people who withdrew their consent, told apart without a name of theirs.

A block holds a person and their recordings (`storage.tables.content`) with every name, digest and
print in them replaced by its HMAC-SHA256 (RFC 2104). The key is 32 random bytes in the state
folder, `keys/consent.key`, readable by its owner alone. So a recording that comes back is known by
its subject's name, by its files and by its prints. The list tells nobody who withdrew.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from storage.errors import ConsentError, PlaceError
from storage.files import alone, home, make_secret, read_json, read_secret, write_json
from storage.tables.content import KINDS, Recording, is_copy

KEY_BYTES = 32
LIST_VERSION = 1


def key_path() -> Path:
    """Where the key lies: `keys/consent.key` in the state folder."""
    return home() / "keys" / "consent.key"


def list_path() -> Path:
    """Where the list lies: `consent/blocked.json` in the state folder."""
    return home() / "consent" / "blocked.json"


@dataclass(frozen=True)
class Blocks:
    """The list, and the key that it is read by.

    Attributes
    ----------
    key : bytes
        The key.
    people : mapping of str to str
        Keyed digest of DATASET/SUBJECT, and the withdrawal that blocks it.
    recordings : sequence of (str, Recording)
        Keyed recordings, each after its withdrawal.
    """

    key: bytes = b""
    people: Mapping[str, str] = field(default_factory=dict)
    recordings: Sequence[tuple[str, Recording]] = ()

    def withdrawal_of(self, recording: Recording) -> str:
        """The withdrawal that blocks a recording, by its subject, files or prints; "" where none.

        Parameters
        ----------
        recording : Recording
            As its manifest has it, or as its files were opened: then without prints.
        """
        if not self.people:
            return ""
        own = with_keyed_digests(recording, self.key)
        if own.subject in self.people:
            return self.people[own.subject]
        return next((name for name, other in self.recordings if is_copy(own, other)), "")


def read_blocks() -> Blocks:
    """Read the list; an empty one where nobody has withdrawn.

    Raises
    ------
    ConsentError
        There is a list, and it or its key cannot be read: nobody can tell then who withdrew.
    """
    path = list_path()
    try:
        return _read(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return Blocks()


@lru_cache(maxsize=1)
def _read(path: Path, _changed_ns: int) -> Blocks:
    """The list as it was when it was last changed: every record of an ingest asks for it."""
    try:
        document = read_json(path)
        if document["version"] != LIST_VERSION:
            raise ValueError(f"found version {document['version']}; expected {LIST_VERSION}")
        recordings = [(row.pop("withdrawal"), _recording(row)) for row in document["recordings"]]
        return Blocks(read_secret(key_path()), dict(document["people"]), recordings)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConsentError(
            f"{path}: found a list of withdrawn recordings that cannot be read ({error}); expected "
            f"one with its key, {key_path()} (mode 600): without both nobody can tell who withdrew"
        ) from error


def block(withdrawal: str, people: Iterable[str], recordings: Iterable[Recording]) -> Blocks:
    """Add people (DATASET/SUBJECT) and their recordings to the list; the key is made at first use.

    Raises
    ------
    ConsentError
        The list that is there cannot be read.
    PlaceError
        The key cannot be made.
    """
    with alone("consent"):
        before = read_blocks()
        make_secret(key_path(), partial(secrets.token_bytes, KEY_BYTES))
        key = before.key or _key()
        persons = {_mark(key, "subject", person): withdrawal for person in people}
        rows = {_row_key(recording): (name, recording) for name, recording in before.recordings}
        for recording in recordings:
            own = with_keyed_digests(recording, key)
            rows.setdefault(_row_key(own), (withdrawal, own))
        blocks = Blocks(key, {**persons, **before.people}, [*rows.values()])
        document = {
            "version": LIST_VERSION,
            "people": blocks.people,
            "recordings": [{"withdrawal": n, **_plain(r)} for n, r in blocks.recordings],
        }
        write_json(list_path(), document).chmod(0o600)
        return blocks


def digest_of(person: str) -> str:
    """KEY:DIGEST of a person, DATASET/SUBJECT: KEY names the key and not what it is.

    Raises
    ------
    PlaceError
        The key cannot be made or read.
    """
    make_secret(key_path(), partial(secrets.token_bytes, KEY_BYTES))
    key = _key()
    name = hmac.digest(key, b"name of the key", "sha256").hex()[:16]
    return f"{name}:{_mark(key, 'subject', person)}"


def known_digest(person: str) -> str:
    """The same, where there is a key; "" where none was made yet."""
    return digest_of(person) if key_path().exists() else ""


def with_keyed_digests(recording: Recording, key: bytes) -> Recording:
    """A recording whose names, digests and prints are keyed digests."""
    return Recording(
        name=_mark(key, "record", recording.name),
        subject=_mark(key, "subject", recording.subject),
        prints={
            kind: frozenset(_mark(key, f"print of {kind}", text) for text in recording.prints[kind])
            for kind in KINDS
        },
        files={
            kind: frozenset(_mark(key, "file", text) for text in recording.files[kind])
            for kind in KINDS
        },
        has_signal=recording.has_signal,
    )


def recording_of_files(
    name: str, subject: str, digests: Mapping[str, str], *, has_signal: bool
) -> Recording:
    """A recording of which only the digests of its files are known yet, without prints.

    Parameters
    ----------
    name, subject : str
        DATASET/RECORD and DATASET/SUBJECT.
    digests : mapping of str to str
        SHA-256 of each file.
    has_signal : bool
        Whether its signal is read.
    """
    files = frozenset(digests.values())
    none: frozenset[str] = frozenset()
    prints, both = dict.fromkeys(KINDS, none), dict.fromkeys(KINDS, files)
    return Recording(name, subject, prints, both, has_signal)


def _mark(key: bytes, kind: str, text: str) -> str:
    return hmac.digest(key, f"{kind} {text}".encode(), "sha256").hex()


def _key() -> bytes:
    try:
        return read_secret(key_path())
    except (OSError, ValueError) as error:
        raise PlaceError(f"key of withdrawn consent, {key_path()}: {error}") from error


def _plain(recording: Recording) -> dict[str, Any]:
    """A recording as JSON holds it."""
    fields = asdict(recording)
    for name in ("prints", "files"):
        fields[name] = {kind: sorted(digests) for kind, digests in fields[name].items()}
    return fields


def _recording(row: Mapping[str, Any]) -> Recording:
    sets = {
        name: {kind: frozenset(row[name][kind]) for kind in KINDS} for name in ("prints", "files")
    }
    return Recording(**{**row, **sets})


def _row_key(recording: Recording) -> str:
    """What tells keyed recordings of one name but of other bytes apart."""
    return repr(_plain(recording))
