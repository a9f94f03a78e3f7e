"""What stays of a person who withdrew, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flows.consent.certificate import Kept, Remade
from flows.consent.person import Saw, Trace
from flows.upkeep.backup import known_backups


def kept_of(person: Trace, remade: Sequence[Remade]) -> Iterator[Kept]:
    """What stays, and why.

    Parameters
    ----------
    person : Trace
        What there is, or was, of the person.
    remade : sequence of Remade
        Versions that are, or were, made again.
    """
    count = len(person.origins)
    yield Kept(f"{count} files of recordings", "their source is yours: delete it where it lies")
    made = {row.version: row.by for row in remade}
    for version in person.versions:
        yield from _of_version(version, made)
    yield Kept("history of Prefect", "names of records in tasks and logs: holter gc lets them go")
    why = "it is not touched: delete it, or forget again after it was put back"
    yield from (Kept(f"backup {backup}", why) for backup in known_backups())


def _of_version(version: Saw, made: Mapping[str, str]) -> Iterator[Kept]:
    name = version.reference
    why = "names and digests prove what it was made of; they hold no signal"
    yield Kept(f"chain and ledger of {name}", why)
    if version.learnt:
        yield from _of_learner(version, made)
    for alias in version.aliases:
        if alias != "candidate" or not made.get(name):  # a training moves that one
            why = "an alias moves by its policy alone: holter promote the one in its place"
            yield Kept(f"@{alias} on {name}", why)
    for device in version.devices:
        yield Kept(f"release of {name} on device {device}", "a device takes what it is sent")
    if version.testset:
        yield Kept(f"figures of {name}", "rates of its patients, by pseudonym, as sealed")
    for run_id in version.evaluations:
        yield Kept(f"figures of evaluation {run_id}", "counts of all its patients, as signed")


def _of_learner(version: Saw, made: Mapping[str, str]) -> Iterator[Kept]:
    name = version.reference
    why = "its weights cannot be parted from the person; "
    why += "its release may hold up to 16 beats of theirs for self-tests"
    yield Kept(f"files of {name}", why)
    if not version.in_use:
        yield Kept(f"{name}, not made again", "no alias is on it, and no device ran it")
    elif name not in made:
        yield Kept(f"{name}, not made again", "it was before, or nobody asked for it")
