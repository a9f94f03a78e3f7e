"""Who may look at records, and who may decide: names, roles and keys of one file (mode 600).

`keys/review.keys` of the state folder has a line a person, `NAME ROLE KEY`. A browser asks for name
and key once (RFC 7617). The key of the local Prefect server, whose name is `holter`, lets in the
owner of the state folder too.
"""

from __future__ import annotations

import base64
import binascii
import getpass
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.services.access import prefect_key
from storage.errors import PlaceError
from storage.files import alone, home, write_secret

#: What a person may do: look; look and decide.
READER, REVIEWER = "reader", "reviewer"
ROLES = (READER, REVIEWER)
#: A person's name: one word, whose characters no line or header reads as others.
NAME = re.compile(r"[^\W_][\w.@-]{0,59}")
LEAST_KEY = 20
OWNER = "holter"


@dataclass(frozen=True)
class Person:
    """Who asks: a name, and a role of `ROLES`."""

    name: str
    role: str


def people_path() -> Path:
    """The file of names, roles and keys."""
    return home() / "keys" / "review.keys"


def read_people(path: Path | None = None) -> dict[str, tuple[Person, str]]:
    """Everyone of the file, and their keys, by name; none where there is no file.

    Raises
    ------
    PlaceError
        Others may read the file, or a line of it is none of a person.
    """
    path = path or people_path()
    try:
        mode, text = path.stat().st_mode & 0o777, path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise PlaceError(f"file of names {path}: {error}; expected one that can be read") from error
    if mode & 0o077:
        raise PlaceError(f"file of names {path}: found mode {mode:o}; expected 600")
    people: dict[str, tuple[Person, str]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        sound = len(words) == 3 and NAME.fullmatch(words[0]) and words[1] in ROLES
        if not sound or len(words[2]) < LEAST_KEY or words[0] in people:
            raise PlaceError(
                f"file of names {path}, line {number}: found no person, or one twice; expected "
                f"NAME {'|'.join(ROLES)} KEY, a key of {LEAST_KEY} characters or more"
            )
        people[words[0]] = Person(words[0], words[1]), words[2]
    return people


def add_person(name: str, role: str) -> str:
    """Let a person in, or change their role; gives their key, a new one where they had none.

    Raises
    ------
    ValueError
        The name or the role is none.
    PlaceError
        As `read_people`.
    """
    if not NAME.fullmatch(name) or name == OWNER:
        raise ValueError(
            f"name: found {name[:60]!r}; expected one word of letters, digits, '.', '@', '-' or "
            f"'_', and not {OWNER!r}"
        )
    if role not in ROLES:
        raise ValueError(f"role: found {role[:60]!r}; expected {' or '.join(ROLES)}")
    with alone("review-keys"):
        people = read_people()
        key = people[name][1] if name in people else secrets.token_urlsafe(24)
        people[name] = Person(name, role), key
        lines = [f"{person.name} {person.role} {kept}\n" for person, kept in people.values()]
        write_secret(people_path(), "".join(lines))
    return key


def owner_name() -> str:
    """The user of this machine whose state folder it is, as a person's name."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "owner"
    return user if NAME.fullmatch(user) and user != OWNER else "owner"


def ensure_owner() -> tuple[str, str]:
    """Name and key of the state folder's owner, a reviewer; made where nobody is let in yet."""
    people = read_people()
    name = owner_name()
    if not people:
        return name, add_person(name, REVIEWER)
    return (name, people[name][1]) if name in people else ("", "")


def person_of(authorization: str, people: Mapping[str, tuple[Person, str]]) -> Person | None:
    """Who an Authorization header is of; None where name or key is wrong."""
    scheme, _, code = authorization.partition(" ")
    try:
        text = base64.b64decode(code.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    name, colon, key = text.partition(":")
    if scheme.lower() != "basic" or not colon:
        return None
    if name == OWNER:
        own = prefect_key()
        equal = bool(own) and secrets.compare_digest(own.encode(), text.encode())
        return Person(owner_name(), REVIEWER) if equal else None
    person, expected = people.get(name, (None, secrets.token_urlsafe(24)))
    return person if secrets.compare_digest(expected.encode(), key.encode()) else None
