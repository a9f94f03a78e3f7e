"""Lineage: a version's sealed chain with all that came after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from storage import chain, ledger
from storage.chain import Chain
from storage.errors import NotInRegistry
from storage.ledger_entry import Entry, of_version
from storage.mlflow_rest import address


@dataclass(frozen=True)
class Lineage:
    """What made a version, and what became of it.

    Attributes
    ----------
    chain : Chain
        The sealed chain.
    aliases : tuple of str
        The aliases that are on it in MLflow.
    entries : tuple of Entry
        What the ledger has of it, and of aliases that left it.
    evaluations : tuple of dict
        The runs of its evaluations, on devices and on data sets, as `chain.run_state`; those that
        are gone are among the faults.
    server : str
        Address of the MLflow server.
    faults : tuple of str
        What is wrong with the ledger, or deleted in MLflow, in sentences.
    """

    chain: Chain
    aliases: tuple[str, ...]
    entries: tuple[Entry, ...]
    evaluations: tuple[dict[str, Any], ...]
    server: str
    faults: tuple[str, ...]


def read_lineage(reference: str, trusted: Iterable[str]) -> Lineage:
    """The lineage of the version that NAME@alias, NAME/version or NAME means.

    Raises
    ------
    NotInRegistry
        There is no such version, or the ledger has no sealed chain of it.
    DigestMismatch
        The chain is not the one that was sealed.
    """
    keys = set(trusted)
    version = chain.resolve(reference)
    name, number = version["name"], version["version"]
    known = ledger.own_entries(name)
    sealed = chain.read_chain(chain.registered(known, number), f"{name}/{number}", keys)
    mine = tuple(of_version(known, number))
    deleted = chain.deleted_runs(sealed.document["run"], mine)
    return Lineage(
        chain=sealed,
        aliases=aliases_on(ledger.mlflow_aliases(name), number),
        entries=mine,
        evaluations=tuple(run for one in chain.evaluation_runs(mine) for run in _state(one)),
        server=address(),
        faults=(*ledger.check(name, keys), *(text for one in deleted.values() for text in one)),
    )


def _state(run_id: str) -> list[dict[str, Any]]:
    try:
        return [chain.run_state(run_id)]
    except NotInRegistry:
        return []


def aliases_on(aliases: Mapping[str, int], version: int) -> tuple[str, ...]:
    """The aliases that are on a version, by name."""
    return tuple(sorted(alias for alias, on in aliases.items() if on == version))
