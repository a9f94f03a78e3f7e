"""What stays of a person who withdrew, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flows.consent.certificate import Remade, Remainder
from flows.consent.person import Trace, VersionTrace
from flows.upkeep.backup import known_backups


def remainder_of(person: Trace, remade: Sequence[Remade]) -> Iterator[Remainder]:
    """What stays, and why.

    Parameters
    ----------
    person : Trace
        What there is, or was, of the person.
    remade : sequence of Remade
        Versions that are, or were, made again.
    """
    count = len(person.origins)
    yield Remainder(
        f"{count} files of recordings", "their source is yours: delete it where it lies"
    )
    successors = {row.version: row.by for row in remade}
    for version in person.versions:
        yield from _of_version(version, successors)
    yield Remainder(
        "history of Prefect", "names of records in tasks and logs: holter gc lets them go"
    )
    reason = "it is not touched: delete it, or forget again after it was put back"
    yield from (Remainder(f"backup {backup}", reason) for backup in known_backups())


def _of_version(version: VersionTrace, successors: Mapping[str, str]) -> Iterator[Remainder]:
    name = version.reference
    reason = "names and digests prove what it was made of; they hold no signal"
    yield Remainder(f"chain and ledger of {name}", reason)
    if version.is_learner:
        yield from _of_learner(version, successors)
    for alias in version.aliases:
        if alias != "candidate" or not successors.get(name):  # a training moves that one
            reason = "an alias moves by its policy alone: holter promote the one in its place"
            yield Remainder(f"@{alias} on {name}", reason)
    for device in version.devices:
        reason = "a device takes what it is sent; its report has rates by record's name"
        yield Remainder(f"release of {name} on device {device}", reason)
    if version.testset:
        yield Remainder(f"figures of {name}", "rates of its patients, by pseudonym, as sealed")
    for run_id in version.evaluations:
        yield Remainder(f"figures of evaluation {run_id}", "counts of all its patients, as signed")


def _of_learner(version: VersionTrace, successors: Mapping[str, str]) -> Iterator[Remainder]:
    name = version.reference
    reason = "its weights cannot be parted from the person; "
    reason += "its release may hold up to 16 beats of theirs for self-tests"
    yield Remainder(f"files of {name}", reason)
    if not version.in_use:
        yield Remainder(f"{name}, not made again", "no alias is on it, and no device ran it")
    elif name not in successors:
        yield Remainder(f"{name}, not made again", "it was before, or nobody asked for it")
