"""Lineage: a version's sealed chain with all that came after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from storage.audit import chain, ledger
from storage.audit.chain import Chain
from storage.audit.findings import MISMATCH, sentences
from storage.audit.ledger_entry import Entry, of_version
from storage.audit.outcomes import read_evaluation
from storage.registry.client import address
from storage.registry.evaluations import RequestState
from storage.registry.models import run_state


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
        The runs of its evaluations, on devices and on data sets, as a `RunState` has them, with the
        figures, parameters and tags that were signed; those that are gone are among the faults.
    server : str
        Address of the MLflow server.
    faults : tuple of str
        What is wrong with the ledger, deleted in MLflow, or not as it was signed, in sentences.
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
    name, number = version.name, version.version
    entries = ledger.own_entries(name)
    signed = [entry for entry in entries if entry.key in keys]
    entry = chain.registration(signed or entries, number)
    sealed = chain.read_chain(entry, f"{name}/{number}", keys)
    version_entries = tuple(of_version(entries, number))
    deleted = chain.deleted_runs(sealed.document["run"], version_entries)
    evaluations = [
        read_evaluation(entry) for entry in version_entries if entry.action == ledger.EVALUATED
    ]
    edited = [
        text for evaluation in evaluations for text in sentences(evaluation.findings, MISMATCH)
    ]
    return Lineage(
        chain=sealed,
        aliases=aliases_on(ledger.mlflow_aliases(name), number),
        entries=version_entries,
        evaluations=tuple(
            _as_signed(evaluation.state) for evaluation in evaluations if evaluation.state
        ),
        server=address(),
        faults=(
            *ledger.check(name, keys),
            *(text for texts in deleted.values() for text in texts),
            *edited,
        ),
    )


def _as_signed(state: RequestState) -> dict[str, Any]:
    """A run as MLflow has it, its figures, parameters and tags as they were signed."""
    signed = {"params": state.params, "tags": state.tags, "metrics": state.metrics}
    return {**vars(run_state(state.request_id)), **signed}


def aliases_on(aliases: Mapping[str, int], version: int) -> tuple[str, ...]:
    """The aliases that are on a version, by name."""
    return tuple(sorted(alias for alias, on in aliases.items() if on == version))
