"""What audits find: what was sealed against what is there now; a version that saw a subject."""

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


@dataclass(frozen=True)
class Sight:
    """A version that saw a subject.

    Attributes
    ----------
    model, version : str, int
        The version.
    dataset, subject, records : str, str, tuple of str
        The subject, and all their records in the version's data set.
    side : str
        That of the split ("train", "validation", "test"; "" where no beat has a label), "evaluated"
        where the version was run on the data set later, or "taught by MODEL/VERSION" where it
        learnt from the answers of one that learnt from the subject.
    simulated : bool
        Whether the data set is simulated.
    aliases : tuple of str
        The aliases that are on the version in MLflow.
    in_mlflow : str
        Whether MLflow has the version: "yes", "gone", or "gone, of an earlier model of this name".
    run_id : str
        The training's run, which tells versions of one number apart; "" where no entry names it.
    same_as : str
        The record (DATASET/NAME) whose recording the version saw under this other name; "" where
        it saw what was asked for by name.
    """

    model: str
    version: int
    dataset: str
    subject: str
    records: tuple[str, ...]
    side: str
    simulated: bool
    aliases: tuple[str, ...]
    in_mlflow: str
    run_id: str
    same_as: str = ""


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
