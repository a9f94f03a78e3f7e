"""What this machine saw of ledgers: the newest entry of each, in `ledger/` of the state folder.

A ledger is known again by its own marks: the digest of its first entry, and when MLflow made its
model. A server's address is one too, but for loopback, where ports come and go.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from storage.audit.ledger_entry import Entry
from storage.errors import RegistryError
from storage.files import home, read_json, write_json
from storage.registry.client import address

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Witness:
    """A ledger as it was seen: its newest entry (NUMBER:SHA-256), its marks, and where that is."""

    head: str
    marks: frozenset[str]
    path: Path


def marks_of(first: Entry | None, created_ms: int | None) -> frozenset[str]:
    """What a ledger is known again by: its first entry, when its model was made, its address."""
    host = urlsplit(address()).hostname or ""
    parts = {
        "first": first and first.sha256,
        "made": created_ms,
        "server": None if host in LOOPBACK or host.startswith("127.") else address(),
    }
    return frozenset(f"{kind} {mark}" for kind, mark in parts.items() if mark)


def witnesses(model: str) -> list[Witness]:
    """All that was seen of ledgers of a model's name, on whichever server.

    Raises
    ------
    RegistryError
        A file of them cannot be read.
    """
    path = _path(model)
    earlier = sorted(path.parent.glob(f"*/{path.name}"))  # one a server, by its address alone
    return [witness for file in (path, *earlier) if file.exists() for witness in _read(file)]


def _path(model: str) -> Path:
    return home() / "ledger" / f"{quote(model, safe='')}.json"


def _read(path: Path) -> Iterator[Witness]:
    try:
        document = read_json(path)
        for row in document.get("seen") or [
            {**document, "marks": [f"server {document['server']}"]}
        ]:
            yield Witness(str(row["head"]), frozenset(map(str, row["marks"])), path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(
            f"{path}: found a damaged file ({error}); expected the newest entry that was seen of a "
            "ledger. Without the file a ledger that was set back is not noticed until seen again"
        ) from error


def missing(
    sightings: Iterable[Witness], marks: frozenset[str], heads: Collection[str]
) -> list[Witness]:
    """What was seen of a ledger with these marks, and is not among the heads of its entries."""
    own_marks = marks | {f"server {address()}"}
    return [
        witness for witness in sightings if witness.marks & own_marks and witness.head not in heads
    ]


def see(model: str, marks: frozenset[str], heads: list[str]) -> None:
    """Keep the newest entry of a ledger; one that lacks what was seen before changes nothing."""
    sightings = witnesses(model)
    if not heads or missing(sightings, marks, heads):
        return
    path = _path(model)
    in_file = [witness for witness in sightings if witness.path == path]
    strangers = [
        _as_json(witness.head, witness.marks) for witness in in_file if not witness.marks & marks
    ]
    merged = marks.union(*(witness.marks for witness in in_file if witness.marks & marks))
    value = {"model": model, "seen": [*strangers, _as_json(heads[-1], merged)]}
    if value["seen"] != [_as_json(witness.head, witness.marks) for witness in in_file]:
        write_json(path, value)


def _as_json(head: str, marks: Iterable[str]) -> dict[str, Any]:
    return {"head": head, "marks": sorted(marks)}
