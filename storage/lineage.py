"""Lineage: a version's sealed chain with all that came after, and who ever saw a record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from storage import chain, ledger
from storage.chain import Chain
from storage.errors import NotInRegistry
from storage.files import read_json
from storage.ledger import Entry
from storage.mlflow_rest import address, call, fetch_run_file

#: Fetches of chains at the same time.
FETCHES = 4
#: Sides that a network is made of.
LEARNT = ("train", "validation")


@dataclass(frozen=True)
class Lineage:
    """What made a version, and what became of it.

    Attributes
    ----------
    chain : Chain
        The sealed chain.
    aliases : tuple of str
        The aliases that are on it now.
    entries : tuple of Entry
        What the ledger has of it.
    evaluations : tuple of dict
        The runs of its evaluations, on devices and on data sets, as `chain.run_state`.
    server : str
        Address of the MLflow server.
    """

    chain: Chain
    aliases: tuple[str, ...]
    entries: tuple[Entry, ...]
    evaluations: tuple[dict[str, Any], ...]
    server: str


@dataclass(frozen=True)
class Sight:
    """A version that saw a subject: with which of its records, on which side, and its aliases now.

    `side` is that of the split ("train", "validation", "test"), "evaluated" where the version was
    run on the data set later, or "taught by MODEL/VERSION" where it learnt from the answers of one
    that learnt from the subject.
    """

    model: str
    version: int
    dataset: str
    subject: str
    records: tuple[str, ...]
    side: str
    aliases: tuple[str, ...]


def read_lineage(reference: str, trusted: Iterable[str]) -> Lineage:
    """The lineage of the version that NAME@alias, NAME/version or NAME means.

    Raises
    ------
    NotInRegistry
        There is no such version, or the ledger has no sealed chain of it.
    DigestMismatch
        The chain is not the one that was sealed.
    """
    version = chain.resolve(reference)
    name, number = version["name"], version["version"]
    known = ledger.entries(name)
    sealed = chain.read_chain(chain.registered(known, number), f"{name}/{number}", trusted)
    mine = tuple(entry for entry in known if entry.version == number)
    runs = [entry.details["run_id"] for entry in mine if entry.action == ledger.EVALUATED]
    return Lineage(
        chain=sealed,
        aliases=_on(ledger.aliases(known), number),
        entries=mine,
        evaluations=tuple(chain.run_state(run_id) for run_id in runs),
        server=address(),
    )


def _on(aliases: dict[str, int], version: int) -> tuple[str, ...]:
    return tuple(sorted(alias for alias, on in aliases.items() if on == version))


def saw(record: str, trusted: Iterable[str]) -> list[Sight]:
    """Every version of every model that ever saw a record or its subject, deleted ones included.

    The signed ledgers are asked, not the registry: what was registered once is told. Versions of
    the same data and split share one look.

    Parameters
    ----------
    record : str
        A record or a subject, by itself or as DATASET/NAME.
    trusted : iterable of str
        The public keys that may sign a chain.

    Raises
    ------
    NotInRegistry, DigestMismatch
        A chain is gone, or not the one that was sealed: then nobody can tell.
    """
    keys = set(trusted)
    known = {model: ledger.entries(model) for model in _models()}
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entries in known.values():
        for entry in entries:
            if key := _same_look(entry):
                groups.setdefault(key, []).append(entry)
    standing = {model: ledger.aliases(entries) for model, entries in known.items()}
    with ThreadPoolExecutor(FETCHES) as pool:
        looks = pool.map(lambda mine: _look(mine[0], record, keys), groups.values())
        found = [
            Sight(e.model, e.version, *seen, _on(standing[e.model], e.version))
            for look, entries in zip(looks, groups.values(), strict=True)
            for seen in look
            for e in entries
            if e.version is not None
        ]
    return [*found, *_students(found, known, standing)]


def _students(
    found: Sequence[Sight],
    known: Mapping[str, Sequence[Entry]],
    standing: Mapping[str, dict[str, int]],
) -> Iterator[Sight]:
    """Those who learnt of a subject through a teacher, or a teacher's teacher, alone."""
    learnt = {
        (f"{one.model}/{one.version}", one.dataset, one.subject): one
        for one in found
        if one.side in LEARNT
    }
    pupils = [e for mine in known.values() for e in mine if "teacher" in e.details and e.version]
    fresh = list(learnt.values())
    while fresh:
        taught = []
        for one in fresh:
            teacher = f"{one.model}/{one.version}"
            for e in (pupil for pupil in pupils if pupil.details["teacher"] == teacher):
                key = f"{e.model}/{e.version}", one.dataset, one.subject
                if key not in learnt and e.version:
                    on = _on(standing[e.model], e.version)
                    side = f"taught by {teacher}"
                    learnt[key] = replace(
                        one, model=e.model, version=e.version, side=side, aliases=on
                    )
                    taught.append(learnt[key])
        yield from taught
        fresh = taught


def faults(trusted: Iterable[str]) -> list[str]:
    """All that is wrong with any model's ledger: where something is, `saw` may lack versions."""
    keys = set(trusted)
    return [f"{model}: {text}" for model in _models() for text in ledger.check(model, keys)]


def _models() -> list[str]:
    """Every model that has a ledger."""
    fields: dict[str, Any] = {"filter": f"name LIKE '{ledger.LEDGER}%'", "view_type": "ALL"}
    found: list[str] = []
    while True:
        answer = call("POST", "experiments/search", max_results=1000, **fields)
        found += [one["name"] for one in answer.get("experiments", ())]
        if not answer.get("next_page_token"):
            return [name.removeprefix(ledger.LEDGER) for name in found]
        fields["page_token"] = answer["next_page_token"]


def _same_look(entry: Entry) -> tuple[str, ...]:
    """What decides which subjects an entry's version saw; () where it saw none."""
    data = entry.details.get("datasets", "")
    if entry.action == ledger.REGISTERED and "chain_sha256" in entry.details:
        return entry.action, data, entry.details.get("split_sha256", "")
    return (entry.action, data) if entry.action == ledger.EVALUATED and data else ()


def _look(
    entry: Entry, record: str, trusted: set[str]
) -> list[tuple[str, str, tuple[str, ...], str]]:
    """Data set, subject, records and side of what an entry's version saw of a record's subject."""
    if entry.action == ledger.REGISTERED:
        reference = f"{entry.model}/{entry.version}"
        document = chain.read_chain(entry, reference, trusted).document
        return [
            (data["dataset"], person, rows, chain.side_of(document, data["dataset"], person))
            for data in document["datasets"]
            for person, rows in _people(data, record).items()
        ]
    return [
        (data["dataset"], person, rows, "evaluated")
        for data in _evaluated_on(entry.details["run_id"])
        for person, rows in _people(data, record).items()
    ]


def _people(data: dict[str, Any], wanted: str) -> dict[str, tuple[str, ...]]:
    """The subjects of a data set that a record's or subject's name means, and all their records."""
    owners = {
        entry["subject"]
        for entry in data["entries"]
        for name in (entry["record"], entry["subject"])
        if wanted in (name, f"{data['dataset']}/{name}")
    }
    return {
        owner: tuple(e["record"] for e in data["entries"] if e["subject"] == owner)
        for owner in sorted(owners)
    }


def _evaluated_on(run_id: str) -> list[dict[str, Any]]:
    """The manifests of an evaluation's data sets, as its run has them."""
    start, end = f"{chain.ARTIFACT_TAG}inputs/", "/manifest.json"
    tags = chain.run_state(run_id)["tags"]
    found = {k: v for k, v in tags.items() if k.startswith(start) and k.endswith(end)}
    if not found:
        raise NotInRegistry(f"evaluation {run_id}: found no manifest of its data sets")
    with TemporaryDirectory(prefix="holter-") as folder:
        return [
            read_json(fetch_run_file(run_id, k.removeprefix(chain.ARTIFACT_TAG), v, Path(folder)))
            for k, v in found.items()
        ]
