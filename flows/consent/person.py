"""What was made of a person: beat tables, test sets, versions, evaluations, and what is of them.

The ledgers and the sealed chains that they name are asked, and the state folder is looked through.
A recording that is there under another name counts too, by its prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from storage.audit import chain, ledger
from storage.audit.findings import Sight
from storage.audit.ledger_entry import Entry, of_version
from storage.audit.outcomes import device_of
from storage.audit.sights import LEARNING_SIDES, evaluated_on, faults, sights_of
from storage.datasets.patients import number_digest
from storage.errors import ConsentError, HolterError, OutOfReach
from storage.places import beats_place
from storage.registry.signing import trusted_keys
from storage.registry.tags import TEACHER_TAG, TESTSET_SHA256_TAG, TESTSET_TAG
from storage.tables.beats_manifest import Manifest, manifest_from, manifest_paths, read_manifest
from storage.tables.content import Recording, recordings
from storage.tables.record_search import Query, look_into
from storage.text import did_you_mean


@dataclass(frozen=True)
class VersionTrace:
    """A version that saw a person.

    Attributes
    ----------
    reference, run_id : str
        NAME/version, and the run that trained it.
    sides : tuple of str
        What it saw them as; see `storage.audit.sights.Sight`.
    aliases, devices : tuple of str
        The aliases on it, and the devices that reported on it.
    in_mlflow : str
        Whether MLflow has it: "yes", or how it is gone.
    teacher : str
        The version that it learnt from; "" where from none.
    testset, testset_sha256 : str
        Its test set among its run's artifacts; "" where they are not in it.
    evaluations : mapping of str to tuple of str
        Runs of its evaluations that scored them, and the data sets of theirs.
    """

    reference: str
    run_id: str
    sides: tuple[str, ...]
    aliases: tuple[str, ...]
    devices: tuple[str, ...]
    in_mlflow: str
    teacher: str = ""
    testset: str = ""
    testset_sha256: str = ""
    evaluations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_learner(self) -> bool:
        """Whether its network is made of them, directly or through a teacher."""
        parts = {part for side in self.sides for part in side.split("+")}
        return any(part in LEARNING_SIDES or part.startswith("taught by") for part in parts)

    @property
    def in_use(self) -> bool:
        """Whether an alias is on it, or a device has run it."""
        return bool(self.aliases or self.devices)


@dataclass(frozen=True)
class Trace:
    """What there is of a person.

    Attributes
    ----------
    person : str
        DATASET/SUBJECT, as asked for.
    people : tuple of str
        The same person under every name, DATASET/SUBJECT.
    records : mapping of str to tuple of str
        Names of their records by data set.
    recordings : tuple of Recording
        Their recordings, as manifests tell them.
    tables, sources : frozenset of str
        SHA-256 of every beat table and of every source file of theirs.
    origins : tuple of str
        Where their recordings were read: files, none of which is touched.
    versions : tuple of VersionTrace
        Versions that saw them.
    doubts : tuple of str
        Of what nobody can tell whether it is of them, in sentences.
    """

    person: str
    people: tuple[str, ...]
    records: Mapping[str, tuple[str, ...]]
    recordings: tuple[Recording, ...]
    tables: frozenset[str]
    sources: frozenset[str]
    origins: tuple[str, ...]
    versions: tuple[VersionTrace, ...]
    doubts: tuple[str, ...]


def trace(person: str) -> Trace:
    """Everything of a person that ledgers, chains, and this machine's tables tell.

    Parameters
    ----------
    person : str
        DATASET/SUBJECT.

    Raises
    ------
    ValueError
        It is of another form.
    ConsentError
        Nothing here has such a person, or the name is of several.
    OutOfReach
        The MLflow server does not answer.
    """
    if not all(person.partition("/")[::2]):
        raise ValueError(f"subject {person!r}: expected DATASET/SUBJECT")
    keys = set(trusted_keys())
    answer = sights_of(person, keys)
    local = [read_manifest(path) for path in manifest_paths(beats_place())]
    people = _people(person, answer.sights, local)
    if not people:
        raise ConsentError(
            f"subject {person}: found none of that name{did_you_mean(person, answer.names)}; "
            "expected one of a sealed version, an evaluation, or the beat tables here"
        )
    versions, sealed = [], list[Manifest]()
    for group in _by_version(answer.sights).values():
        version, manifests = _trace_version(group, people, keys)
        versions.append(version)
        sealed += manifests
    manifests = [*local, *sealed]
    entries = [
        (manifest, entry)
        for manifest in manifests
        for entry in manifest.entries
        if f"{manifest.dataset}/{entry.subject}" in people
    ]
    records: dict[str, set[str]] = {}
    for manifest, entry in entries:
        records.setdefault(manifest.dataset, set()).add(entry.record)
    return Trace(
        person=person,
        people=tuple(sorted(people)),
        records={name: tuple(sorted(names)) for name, names in sorted(records.items())},
        recordings=_recordings(manifests, people),
        tables=frozenset(entry.sha256 for _, entry in entries),
        sources=frozenset(sha256 for _, entry in entries for sha256 in entry.files.values()),
        origins=tuple(
            sorted({str(Path(m.origin) / f) for m, e in entries for f in e.files if "#" not in f})
        ),
        versions=tuple(sorted(versions, key=lambda version: version.reference)),
        doubts=(*answer.unreadable, *faults(keys)),
    )


def _recordings(manifests: Iterable[Manifest], people: set[str]) -> tuple[Recording, ...]:
    """The recordings of people, each once where several manifests tell the same of it."""
    rows: list[Recording] = []
    for recording in (r for manifest in manifests for r in recordings(manifest)):
        if recording.subject in people and recording not in rows:
            rows.append(recording)
    return tuple(rows)


def _people(person: str, sights: Iterable[Sight], local: Iterable[Manifest]) -> set[str]:
    """The names of a person, DATASET/SUBJECT: as asked, and of copies of their recordings."""
    query = Query(person, number_digest(person))
    datasets = [_document(manifest) for manifest in local]
    look = look_into(datasets, query, "the beat tables here")
    if look.recordings:
        query = Query(person, query.number, tuple(look.recordings))
        look = look_into(datasets, query, "the beat tables here")
    matches = {(m["dataset"], m["subject"], bool(m["same_as"])) for m in look.matches}
    matches |= {(s.dataset, s.subject, bool(s.same_as)) for s in sights}
    own = {f"{dataset}/{subject}" for dataset, subject, copied in matches if not copied}
    if len(own) > 1:
        raise ConsentError(
            f"subject {person}: found {', '.join(sorted(own))}; expected the name of one person"
        )
    return {f"{dataset}/{subject}" for dataset, subject, _ in matches}


def _document(manifest: Manifest) -> dict[str, object]:
    return asdict(manifest)


def _by_version(sights: Iterable[Sight]) -> dict[tuple[str, int, str], list[Sight]]:
    groups: dict[tuple[str, int, str], list[Sight]] = {}
    for sight in sights:
        groups.setdefault((sight.model, sight.version, sight.run_id), []).append(sight)
    return groups


def _trace_version(
    sights: list[Sight], people: set[str], keys: set[str]
) -> tuple[VersionTrace, list[Manifest]]:
    """A version that saw a person, and the manifests of its sealed chain."""
    first = sights[0]
    reference = f"{first.model}/{first.version}"
    sides = tuple(dict.fromkeys(sight.side for sight in sights if sight.side))
    entries = of_version(ledger.entries(first.model), first.version)
    registrations = [
        e for e in entries if e.action == ledger.REGISTERED and _is_of_run(e, first.run_id)
    ]
    evaluations = chain.evaluations(entries)
    manifests: list[Manifest] = []
    tags: dict[str, str] = {}
    for entry in registrations[:1]:
        try:
            document = chain.read_chain(entry, reference, keys).document
        except OutOfReach:
            raise
        except HolterError:  # told as a doubt by whoever looked for the person
            continue
        manifests = [manifest_from(data) for data in document["datasets"]]
        tags = document["model"]["tags"]
    is_tested = any("test" in side.split("+") for side in sides)
    version = VersionTrace(
        reference=reference,
        run_id=first.run_id,
        sides=sides,
        aliases=first.aliases,
        devices=tuple(sorted({name for e in evaluations if (name := device_of(e))})),
        in_mlflow=first.in_mlflow,
        teacher=tags.get(TEACHER_TAG, ""),
        testset=tags.get(TESTSET_TAG, "") if is_tested else "",
        testset_sha256=tags.get(TESTSET_SHA256_TAG, "") if is_tested else "",
        evaluations=dict(_evaluations(evaluations, people)),
    )
    return version, manifests


def _is_of_run(entry: Entry, run_id: str) -> bool:
    return not run_id or entry.details.get("run_id") == run_id


def _evaluations(
    entries: Iterable[Entry], people: set[str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The evaluations on data sets that scored a person, and the data sets of theirs."""
    for entry in entries:
        if device_of(entry):
            continue
        try:
            manifests = [manifest_from(data) for data in evaluated_on(entry.details["run_id"])]
        except OutOfReach:
            raise
        except HolterError:  # told as a doubt
            continue
        names = tuple(
            manifest.dataset
            for manifest in manifests
            if any(f"{manifest.dataset}/{e.subject}" in people for e in manifest.entries)
        )
        if names:
            yield entry.details["run_id"], names
