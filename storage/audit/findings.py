"""Findings: what was sealed against what is there now, one comparison each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from storage.errors import DigestMismatch, OutOfReach, RegistryError

MATCH, MISMATCH, OUT = "match", "mismatch", "out of reach"
#: What an order that was signed before had deleted; see `storage.consent.orders`.
DELETED = "deleted on request"
#: What is found where a file is not there: on this machine, and on the server.
ABSENT, NO_FILE = "is not there", "found no such file on the server"


@dataclass(frozen=True)
class Finding:
    """One comparison: its link of the chain, what was compared, the outcome, and what was found."""

    link: str
    name: str
    state: str
    told: str = ""


def compare(link: str, name: str, sealed: object, now: object) -> Finding:
    """Whether a value is what was sealed."""
    if sealed == now:
        return Finding(link, name, MATCH)
    return Finding(link, name, MISMATCH, f"found {_short(now)}; sealed was {_short(sealed)}")


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def compare_values(
    link: str, kind: str, sealed: Mapping[str, Any], now: Mapping[str, Any]
) -> list[Finding]:
    """Whether each value of a kind is what was sealed; those that were not sealed are not asked."""
    return [compare(link, f"{kind} {key}", value, now.get(key)) for key, value in sealed.items()]


def compare_file(link: str, name: str, fetch: Callable[[], object]) -> Finding:
    """Whether a file of the server is what was sealed; `fetch` compares its digest."""
    try:
        fetch()
    except OutOfReach as error:
        return Finding(link, name, OUT, str(error))
    except DigestMismatch as error:
        return Finding(link, name, MISMATCH, str(error))
    except RegistryError:
        return Finding(link, name, MISMATCH, NO_FILE)
    return Finding(link, name, MATCH)


def sentences(findings: Iterable[Finding], state: str) -> tuple[str, ...]:
    """The findings of a state, in sentences."""
    return tuple(
        f"{finding.name}: {finding.told}" for finding in findings if finding.state == state
    )
