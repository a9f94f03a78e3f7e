"""An entry of a ledger: what it holds, which model and version it is about, and what it did.

`storage.audit.ledger` writes, reads and checks them; what is here asks no server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from storage.errors import RegistryError
from storage.files import check_fields, parse_text, sha256_bytes
from storage.registry.signing import signed_by
from storage.registry.tags import ENTRY_PARAM, decision_tag, entry_param

REGISTERED, ALIAS, EVALUATED, CARD = "registered", "alias", "evaluated", "card"
APPROVED, OVERRIDDEN, REFUSED = "approved", "overridden", "refused"
#: A version was written in another form, as C: the digest of its manifest.
EXPORTED = "exported"
#: People's decisions about passages of a data set's recordings.
REVIEWED = "reviewed"
#: How the name of a data set's own ledger begins; no model's name holds a slash.
OF_DATA = "labels/"
#: The details of a decision that are among the version's tags too.
DECISION = ("policy_sha256", "result", "result_sha256", "use")
#: How the details of a card's entry begin that have the SHA-256 of its files, by name.
CARD_FILE = f"{CARD}/"
#: The detail of an alias's entry that says from which version it went back.
ROLLED_BACK = "rolled_back"
#: The detail that says when MLflow made the registered model, ms since 1970.
MODEL_CREATED = "model_created_ms"
#: An entry's time may be so much before the server's own: its clock is told in whole seconds.
CLOCK_S = 2.0
#: What the first entry names as the one before it.
NO_PREVIOUS = "0" * 64
#: The details that an action cannot be without.
REQUIRED_DETAILS = {
    ALIAS: {"alias"},
    EVALUATED: {"run_id", "report"},
    REVIEWED: {"decisions", "head"},
    EXPORTED: {"export_sha256"},
}


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
        What it is about; None where an alias is taken away, and of a data set ("labels/afdb").
    reason : str
        Why.
    details : dict of str to str
        What else: the alias and where it stood, digests of policies and reports.
    previous : str
        SHA-256 of the entry before.
    key : str
        The public key that signed, 64 hexadecimal digits.
    signature : str
        Ed25519 over `signed_bytes()`, in hexadecimal digits.
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

    def signed_bytes(self) -> bytes:
        """What is digested and signed: all but key and signature, as canonical JSON."""
        parts = {k: v for k, v in asdict(self).items() if k not in ("key", "signature")}
        return json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()

    @property
    def time(self) -> datetime:
        """When, with its zone."""
        return datetime.fromisoformat(self.time_utc)

    @property
    def sha256(self) -> str:
        """Its digest, which the next entry holds."""
        return sha256_bytes(self.signed_bytes())


def entries_of_model(entries: Iterable[Entry], created_ms: int | None) -> list[Entry]:
    """Of a ledger's entries those about the model that was made then; none where there is none."""
    return [
        entry for entry in entries if created_ms is not None and _is_of_model(entry, created_ms)
    ]


def _is_of_model(entry: Entry, created_ms: int) -> bool:
    """Whether an entry is about the model that was made then; one without the detail, by time."""
    if MODEL_CREATED in entry.details:
        return entry.details[MODEL_CREATED] == str(created_ms)
    return 1000 * (datetime.fromisoformat(entry.time_utc).timestamp() + CLOCK_S) >= created_ms


def of_version(entries: Iterable[Entry], version: int) -> list[Entry]:
    """The entries about a version, and those of aliases that left it."""
    return [
        entry
        for entry in entries
        if entry.version == version
        or (entry.action == ALIAS and entry.details.get("from") == str(version))
    ]


def decision_tags(entry: Entry) -> dict[str, str]:
    """What a decision leaves among the tags of its version."""
    details = {name: entry.details[name] for name in DECISION if name in entry.details}
    parts = {"decision": entry.action, "by": entry.who, **details}
    return {decision_tag(entry.details["alias"], name): text for name, text in parts.items()}


def deed(entry: Entry) -> str:
    """What an entry did, in words: "roll-back of @champion from version 2 to version 1"."""
    alias = f" @{entry.details['alias']}" if "alias" in entry.details else ""
    if entry.action != ALIAS:
        return f"{entry.action}{alias}"
    back = entry.details.get(ROLLED_BACK)
    origin = back or entry.details.get("from")
    begin = f" from version {origin}" if origin else ""
    if entry.version is None:
        return f"alias{alias} taken away{begin}"
    return f"{'roll-back of' if back else 'alias'}{alias}{begin} to version {entry.version}"


def aliases(entries: Iterable[Entry]) -> dict[str, int]:
    """Where each alias stands by entries of a ledger."""
    versions: dict[str, int] = {}
    for entry in entries:
        if entry.action == ALIAS:
            versions.pop(entry.details["alias"], None)
            if entry.version is not None:
                versions[entry.details["alias"]] = entry.version
    return versions


def read_entry(model: str, key: str, value: str) -> Entry:
    """An entry as it stands in the database: whole in form, not asked who signed it.

    Raises
    ------
    RegistryError
        It cannot be read.
    """
    try:
        entry = check_fields(Entry(**parse_text(value)))
        if wrong := [name for name, detail in entry.details.items() if not isinstance(detail, str)]:
            raise ValueError(f"found no text in {', '.join(wrong)} of its details")
        if missing := REQUIRED_DETAILS.get(entry.action, set()) - entry.details.keys():
            raise ValueError(f"found no {', '.join(sorted(missing))} of {entry.action!r}")
        if datetime.fromisoformat(entry.time_utc).tzinfo is None:
            raise ValueError(f"found the time {entry.time_utc!r}; expected one with its zone")
    except (ValueError, TypeError) as error:
        raise RegistryError(f"ledger of {model}: {key} cannot be read: {error}") from error
    return entry


@dataclass(frozen=True)
class Pages:
    """A ledger as it stands in the database.

    Attributes
    ----------
    entries : tuple of Entry
        Those that somebody signed as they stand, at their own number, first to last.
    numbers : frozenset of int
        The numbers that are taken, be it by what is no entry.
    faults : tuple of str
        What else is there, in sentences.
    """

    entries: tuple[Entry, ...]
    numbers: frozenset[int]
    faults: tuple[str, ...]


def read_pages(model: str, params: Mapping[str, str]) -> Pages:
    """Part the entries of a ledger from what else stands among its run's parameters.

    Whoever may write to the run may put parameters beside the entries, and MLflow lets nobody take
    them away: they are told, and count for nothing.
    """
    numbers, faults = {}, []
    for key in sorted(key for key in params if key.startswith(ENTRY_PARAM)):
        digits = key.removeprefix(ENTRY_PARAM)
        if re.fullmatch("[0-9]{6,18}", digits) and key == entry_param(int(digits)):
            numbers[int(digits)] = key
        else:
            faults.append(
                f"parameter {key[:40]!r} is no entry; expected {entry_param(1)} and so on"
            )
    entries = []
    for number, key in sorted(numbers.items()):
        try:
            entry = read_entry(model, key, params[key])
        except RegistryError as error:
            faults.append(str(error))
            continue
        wrong = {
            f"says that it is number {entry.sequence}": entry.sequence != number,
            f"is about {entry.model}": entry.model != model,
            "is not what was signed": not _is_signed(entry),
        }
        faults += [f"entry {number} {text}" for text, is_so in wrong.items() if is_so]
        if not any(wrong.values()):
            entries.append(entry)
    return Pages(tuple(entries), frozenset(numbers), tuple(faults))


def chain_faults(entries: Iterable[Entry], keys: set[str]) -> list[str]:
    """What is wrong with the entries of a ledger among themselves.

    A number may be left out, as another parameter had taken it: each entry names the one before.
    """
    wrong, last = [], None
    for entry in entries:
        previous, expected = (last.sha256, last.sequence + 1) if last else (NO_PREVIOUS, 1)
        is_cut = entry.previous != previous
        faults = {
            f"stands at number {entry.sequence}; expected {expected}": (
                is_cut and entry.sequence != expected
            ),
            "does not follow the entry before it": is_cut,
            f"is of {entry.time_utc}; the one before it is later": (
                last is not None and _time_s(last) > _time_s(entry) + CLOCK_S
            ),
            f"is signed by key {entry.key[:16]}, which is not trusted": entry.key not in keys,
        }
        wrong += [f"entry {entry.sequence} {text}" for text, is_so in faults.items() if is_so]
        last = entry
    return wrong


def _time_s(entry: Entry) -> float:
    return entry.time.timestamp()


def _is_signed(entry: Entry) -> bool:
    try:
        return signed_by(entry.signed_bytes(), {"key": entry.key, "signature": entry.signature})
    except ValueError:
        return False


def head(entry: Entry | None) -> str:
    """An entry by number and digest, as the model's tag and each machine keep the newest one."""
    return f"{entry.sequence}:{entry.sha256}" if entry else ""
