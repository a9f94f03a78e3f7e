"""The journal of a withdrawal: what it found, and how far it is; gone when its certificate stands.

It lies in `consent/open/` of the state folder, for its owner alone. A withdrawal that was killed is
known by it, and goes on from it, though what told the person's name may be gone by then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from flows.consent.certificate import Remade, Removal
from flows.consent.person import Trace
from storage.consent.blocks import digest_of
from storage.errors import ConsentError
from storage.files import home, write_bytes


@dataclass(frozen=True)
class Journal:
    """A withdrawal that has begun.

    Attributes
    ----------
    withdrawal, subject, begun_utc, author, reason : str
        As its certificate will have them.
    trace : Trace
        What there was of the person when it began.
    going : list of Removal
        What of it was to go.
    remade : list of Remade
        Versions that were made again so far.
    testsets : dict of str to list of str
        Runs whose test set was made anew without the person: its name, "" where nothing was left,
        and its SHA-256.
    """

    withdrawal: str
    subject: str
    begun_utc: str
    author: str
    reason: str
    trace: Trace
    going: list[Removal]
    remade: list[Remade] = field(default_factory=list)
    testsets: dict[str, list[str]] = field(default_factory=dict)


_JOURNAL = TypeAdapter(Journal)


def now_utc() -> str:
    """The time, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _folder() -> Path:
    return home() / "consent" / "open"


def begin(trace: Trace, going: list[Removal], author: str, reason: str) -> Journal:
    """Begin a withdrawal: the journal is on the disk when this returns."""
    number, subject = f"w-{uuid4().hex[:12]}", digest_of(trace.person)
    return keep(Journal(number, subject, now_utc(), author, reason, trace, going))


def keep(journal: Journal, **changes: object) -> Journal:
    """Keep a journal with some changes; gives what was kept."""
    after = replace(journal, **changes)  # type: ignore[arg-type] # fields by their names
    path = _folder() / f"{after.withdrawal}.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    before = os.umask(0o077)
    try:
        write_bytes(path, _JOURNAL.dump_json(after, indent=1))
    finally:
        os.umask(before)
    return after


def end(journal: Journal) -> None:
    """Forget a journal: its certificate stands."""
    (_folder() / f"{journal.withdrawal}.json").unlink(missing_ok=True)


def journals() -> Iterator[Journal]:
    """The withdrawals that have begun and are not done.

    Raises
    ------
    ConsentError
        One cannot be read.
    """
    yield from map(_read, sorted(_folder().glob("*.json")))


def _read(path: Path) -> Journal:
    try:
        return _JOURNAL.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConsentError(f"{path}: found a journal that cannot be read: {error}") from error


def open_journal(person: str) -> Journal | None:
    """The withdrawal of a person that has begun and is not done; None where there is none."""
    return next((j for j in journals() if person in (j.trace.person, *j.trace.people)), None)
