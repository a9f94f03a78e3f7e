"""An entry of a ledger: what it holds, which model and version it is about, and what it did.

`storage.ledger` writes, reads and checks them; what is here asks no server.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from storage.errors import RegistryError
from storage.files import checked, parsed, sha256_bytes
from storage.signing import signed_by

REGISTERED, ALIAS, EVALUATED = "registered", "alias", "evaluated"
#: The detail of an alias's entry that says from which version it went back.
ROLLED_BACK = "rolled_back"
#: The detail that says when MLflow made the registered model, ms since 1970.
MODEL_CREATED = "model_created_ms"
#: An entry's time may be so much before the server's own: its clock is told in whole seconds.
CLOCK_S = 2.0
#: What the first entry names as the one before it.
NOTHING = "0" * 64


@dataclass(frozen=True)
class Entry:
    """One entry.

    Attributes
    ----------
    sequence : int
        Its number, from 1.
    time_utc : str
        When, by the MLflow server's clock, ISO 8601.
    who : str
        Who did or approved it.
    action : str
        "registered", "alias", "approved" ...
    model, version : str, int or None
        What it is about; None where an alias is taken away.
    reason : str
        Why.
    details : dict of str to str
        What else: the alias and where it stood, digests of policies and reports.
    previous : str
        SHA-256 of the entry before.
    key : str
        The public key that signed, 64 hexadecimal digits.
    signature : str
        Ed25519 over `said()`, in hexadecimal digits.
    """

    sequence: int
    time_utc: str
    who: str
    action: str
    model: str
    version: int | None
    reason: str
    details: dict[str, str]
    previous: str
    key: str = ""
    signature: str = ""

    def said(self) -> bytes:
        """What is digested and signed: all but key and signature, as canonical JSON."""
        parts = {k: v for k, v in asdict(self).items() if k not in ("key", "signature")}
        return json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()

    @property
    def sha256(self) -> str:
        """Its digest, which the next entry holds."""
        return sha256_bytes(self.said())


def own(known: Iterable[Entry], created_ms: int | None) -> list[Entry]:
    """Of a ledger's entries those about the model that was made then; none where there is none."""
    return [entry for entry in known if created_ms is not None and _is_about(entry, created_ms)]


def _is_about(entry: Entry, created_ms: int) -> bool:
    """Whether an entry is about the model that was made then; one without the detail, by time."""
    if MODEL_CREATED in entry.details:
        return entry.details[MODEL_CREATED] == str(created_ms)
    return 1000 * (datetime.fromisoformat(entry.time_utc).timestamp() + CLOCK_S) >= created_ms


def of_version(known: Iterable[Entry], version: int) -> list[Entry]:
    """The entries about a version, and those of aliases that left it."""
    return [
        entry
        for entry in known
        if entry.version == version
        or (entry.action == ALIAS and entry.details.get("from") == str(version))
    ]


def deed(entry: Entry) -> str:
    """What an entry did, in words: "roll-back of @champion from version 2 to version 1"."""
    alias = f" @{entry.details['alias']}" if "alias" in entry.details else ""
    if entry.action != ALIAS:
        return f"{entry.action}{alias}"
    back = entry.details.get(ROLLED_BACK)
    stood = back or entry.details.get("from")
    begin = f" from version {stood}" if stood else ""
    if entry.version is None:
        return f"alias{alias} taken away{begin}"
    return f"{'roll-back of' if back else 'alias'}{alias}{begin} to version {entry.version}"


def aliases(known: Iterable[Entry]) -> dict[str, int]:
    """Where each alias stands by entries of a ledger."""
    found: dict[str, int] = {}
    for entry in known:
        if entry.action == ALIAS:
            found.pop(entry.details["alias"], None)
            if entry.version is not None:
                found[entry.details["alias"]] = entry.version
    return found


def read_entry(model: str, key: str, value: str) -> Entry:
    """An entry as it stands in the database, whether or not it is what was signed.

    Raises
    ------
    RegistryError
        It cannot be read at all.
    """
    try:
        entry = checked(Entry(**parsed(value)))
        datetime.fromisoformat(entry.time_utc)
    except (ValueError, TypeError) as error:
        raise RegistryError(f"ledger of {model}: {key} cannot be read: {error}") from error
    return entry


def chain_faults(model: str, numbered: Sequence[tuple[int, Entry]], keys: set[str]) -> list[str]:
    """What is wrong with a ledger's entries among themselves, each with the number it stands at."""
    wrong, previous = [], NOTHING
    for expected, (number, entry) in enumerate(numbered, start=1):
        faults = {
            f"stands at number {number}; expected {expected}": number != expected,
            f"says that it is number {entry.sequence}": entry.sequence != number,
            f"is about {entry.model}": entry.model != model,
            "does not follow the entry before it": entry.previous != previous,
            f"is signed by key {entry.key[:16]}, which is not trusted": entry.key not in keys,
            "is not what was signed": not _signed(entry),
        }
        wrong += [f"entry {number} {text}" for text, found in faults.items() if found]
        previous = entry.sha256
    return wrong


def _signed(entry: Entry) -> bool:
    try:
        return signed_by(entry.said(), {"key": entry.key, "signature": entry.signature})
    except ValueError:
        return False
