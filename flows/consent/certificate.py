"""The certificate of a withdrawal: what was deleted, rebuilt, kept and why; signed, and its page.

It names no person, record or file of a record: the person is a keyed digest
(`storage.consent.blocks`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from flows.reports.shown import write
from storage.files import home, sha256_bytes, write_bytes, write_json
from storage.registry.signing import sign
from tasks.pages.document import Block, Code, Heading, Summary, Table, Tile, Words
from tasks.pages.numbers import label_of

State = Literal["to go", "begun", "done", "nothing left"]
#: The title of a certificate's page, by its state.
TITLES: Mapping[State, str] = {
    "to go": "What a withdrawal would delete, rebuild and keep",
    "begun": "A withdrawal that is not done yet",
    "done": "Certificate of a withdrawal",
    "nothing left": "A withdrawal that is done already",
}


@dataclass(frozen=True)
class Removal:
    """Things of a kind that go, or are gone: where, how many, and their bytes; None: unknown."""

    kind: str
    place: str
    count: int
    bytes: int | None


@dataclass(frozen=True)
class Remade:
    """A version that is made again without the person.

    Attributes
    ----------
    version, by : str
        The version, and the one that takes its place; "" where none does.
    reason : str
        Why there is none, or why the two cannot be compared; "" where all went well.
    patients : int
        Patients that both were tested on.
    gains : dict of str to list of float or None
        What the new one gains by rate: value and 95 % interval, paired by patient.
    """

    version: str
    by: str = ""
    reason: str = ""
    patients: int = 0
    gains: dict[str, list[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Remainder:
    """What stays, and why."""

    thing: str
    reason: str


@dataclass(frozen=True)
class VersionSides:
    """A version that saw the person: as what, its aliases, and devices that ran it."""

    version: str
    sides: list[str]
    aliases: list[str]
    devices: list[str]


@dataclass(frozen=True)
class Certificate:
    """`holter forget`: what goes or is gone of a person, what is made again, and what stays.

    Attributes
    ----------
    state : str
        "to go" of a dry run, "begun", "done", or "nothing left".
    withdrawal, subject : str
        Its number, and the person's keyed digest.
    begun_utc, ended_utc : str
        When it began and ended; "" where it has not.
    author, reason : str
        Who carried it out, and why.
    blocked : int
        Recordings that ingest refuses.
    versions : list of VersionSides
        Versions that saw the person.
    deleted, remade, remainder : lists
        What goes, what is made again, what stays.
    doubts : list of str
        Of what nobody can tell whether it is of the person.
    file : str
        Where its page is; "" where none was written.
    """

    state: State
    withdrawal: str
    subject: str
    begun_utc: str
    ended_utc: str
    author: str
    reason: str
    blocked: int
    versions: list[VersionSides]
    deleted: list[Removal]
    remade: list[Remade]
    remainder: list[Remainder]
    doubts: list[str]
    file: str = ""


_CERTIFICATE = TypeAdapter(Certificate)


def folder() -> Path:
    """Where certificates lie."""
    return home() / "consent" / "certificates"


def seal(certificate: Certificate) -> tuple[Path, str]:
    """Write a certificate as JSON with its signature beside it, and as a page; path and digest."""
    path = folder() / f"{certificate.withdrawal}.json"
    data = json.dumps(document(certificate), indent=1, sort_keys=True).encode() + b"\n"
    write_bytes(path, data)
    write_json(path.with_suffix(".sig"), sign(data))
    write(TITLES[certificate.state], blocks(certificate), path.with_suffix(".html"))
    return path, sha256_bytes(data)


def read(withdrawal: str) -> Certificate | None:
    """The certificate of a withdrawal, as it was sealed; None where there is none."""
    path = folder() / f"{withdrawal}.json"
    return _CERTIFICATE.validate_json(path.read_bytes()) if path.is_file() else None


def document(certificate: Certificate) -> dict[str, Any]:
    """A certificate as JSON holds it: the same wherever its page lies."""
    return {k: v for k, v in asdict(certificate).items() if k != "file"}


def blocks(certificate: Certificate) -> list[Block]:
    """The page of a certificate."""
    done = certificate.state in ("done", "nothing left")
    verb = "were deleted" if done else "would go"
    count = sum(row.count for row in certificate.deleted)
    size = sum(row.bytes or 0 for row in certificate.deleted)
    text = {
        "to go": f"{count} things of this person would go; nothing has changed",
        "begun": "It is not done yet: call it again, and it goes on",
        "done": f"{count} things of this person {verb}, and ingest refuses what comes back",
        "nothing left": "Nothing of this person is left to delete or to make again",
    }[certificate.state]
    tiles = [
        Tile("Removal" if done else "To go", f"{count:,}", f"{size / 1e6:.1f} MB"),
        Tile("Versions that saw them", f"{len(certificate.versions):,}"),
        Tile("Made again", f"{sum(bool(row.by) for row in certificate.remade):,}"),
        Tile("Recordings blocked", f"{certificate.blocked:,}"),
    ]
    bad = certificate.doubts or certificate.state == "begun"
    facts = [
        ("withdrawal", certificate.withdrawal or "-"),
        ("person, keyed digest", certificate.subject),
        ("begun, UTC", certificate.begun_utc or "-"),
        ("ended, UTC", certificate.ended_utc or "-"),
        ("by", certificate.author),
        ("reason", certificate.reason or "-"),
    ]
    return [
        Summary(text, tiles, "bad" if bad else "good" if certificate.state == "done" else "plain"),
        Table(("", ""), facts),
        *(Words(f"Nobody can tell: {text}.", caveat=True) for text in certificate.doubts),
        Heading("Removal" if done else "To be deleted"),
        _table(
            ("what", "where", "how many", "bytes"),
            [
                (row.kind, row.place, f"{row.count:,}", _bytes(row.bytes))
                for row in certificate.deleted
            ],
        ),
        Heading("Versions that saw the person"),
        _table(
            ("version", "as", "aliases", "devices that ran it"),
            [
                (
                    row.version,
                    ", ".join(row.sides),
                    ", ".join(f"@{alias}" for alias in row.aliases),
                    ", ".join(row.devices),
                )
                for row in certificate.versions
            ],
        ),
        Heading("Made again without the person"),
        *_remade(certificate.remade),
        Heading("Remainder, and why"),
        _table(("what", "why"), [(row.thing, row.reason) for row in certificate.remainder]),
        *_proof(certificate),
    ]


def _bytes(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Block:
    return Table(columns, rows) if rows else Words("None.")


def _remade(rows: Iterable[Remade]) -> list[Block]:
    """Each version with the one in its place, and what that one gains."""
    all_rows = list(rows)
    table = _table(
        ("version", "in its place", "patients of both tests", "note"),
        [(row.version, row.by or "none", str(row.patients or "-"), row.reason) for row in all_rows],
    )
    gains = [
        (row.by, label_of(rate), *("-" if v is None else f"{v:+.4f}" for v in values))
        for row in all_rows
        for rate, values in row.gains.items()
    ]
    if not gains:
        return [table]
    note = "What each gains on the version before, paired by patient, with its 95 % interval."
    return [table, Words(note), Table(("version", "rate", "gain", "from", "to"), gains)]


def _proof(certificate: Certificate) -> list[Block]:
    """How others check it."""
    if certificate.state != "done":
        return []
    text = (
        "The ledger of each version names this certificate by its digest, signed. Removal things "
        "are told as deleted on request by:"
    )
    commands = [Code(f"holter verify {row.version}") for row in certificate.versions]
    return [Heading("Proof"), Words(text), *commands] if commands else []
