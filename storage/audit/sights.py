"""Who ever saw a record: every version of every model, by the signed ledgers and sealed chains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from storage.audit import chain, ledger
from storage.audit.findings import Sight
from storage.audit.ledger_entry import MODEL_CREATED, Entry, entries_of_model
from storage.audit.lineage import aliases_on
from storage.datasets.patients import number_digest
from storage.errors import HolterError, NotInRegistry, OutOfReach, RegistryError
from storage.files import read_json
from storage.places import beats_place
from storage.registry.client import fetch_run_file
from storage.registry.client import pages as answers
from storage.registry.experiments import LEDGER
from storage.registry.models import run_state
from storage.registry.tags import ARTIFACT_TAG, INPUTS_FOLDER, PREFIX, artifact_tag
from storage.tables.beats_manifest import manifest_paths, read_manifest
from storage.tables.record_search import Look, Query, look_into

#: Fetches of chains at the same time.
FETCHES = 4
#: Sides that a network is made of.
LEARNING_SIDES = ("train", "validation")


@dataclass(frozen=True)
class Answer:
    """Who saw what was asked for.

    Attributes
    ----------
    sights : tuple of Sight
        Every version that saw it.
    unreadable : tuple of str
        Of which versions or data sets it cannot be told, and why, in sentences.
    exists : bool
        Whether there is anything of that name, be it of no version.
    names : frozenset of str
        The names that there are: records, with and without their folder, and subjects; each also
        as DATASET/NAME.
    """

    sights: tuple[Sight, ...]
    unreadable: tuple[str, ...]
    exists: bool
    names: frozenset[str]


def sights_of(term: str, trusted: Iterable[str]) -> Answer:
    """Every version of every model that ever saw a record or its subject, deleted ones included.

    The signed ledgers are asked: what was registered once is told, though MLflow may have it no
    more. A version that MLflow has and no ledger, or whose chain cannot be read, is told as one of
    which nobody can tell. Versions of the same data and split share one look. A recording that a
    version saw under another name is told too.

    Parameters
    ----------
    term : str
        A record, with or without its folder, or a subject, each also as DATASET/NAME; the SHA-256
        of a record's beat table or of a file of it, or the first 12 digits or more; or the
        patient's own number, where the data set's TOML has digests of such.
    trusted : iterable of str
        The public keys that may sign a chain.

    Raises
    ------
    OutOfReach
        The MLflow server does not answer.
    """
    keys, query = set(trusted), Query(term, number_digest(term))
    registry = _registry()
    marks: list[_Mark] = []
    unreadable: list[str] = []
    for model in ledger_models():
        model_marks, fault = _marks(model, registry.get(model))
        marks += model_marks
        unreadable += fault
    groups: dict[tuple[str, ...], list[_Mark]] = {}
    for mark in marks:
        if key := _same_look(mark.entry):
            groups.setdefault(key, []).append(mark)
    looks = _looks(groups, query, keys)
    if recordings := tuple(recording for look in looks for recording in look.recordings):
        looks = _looks(groups, replace(query, recordings=recordings), keys)  # by other names too
    sights = [
        Sight(**match, **mark.version)
        for look, group in zip(looks, groups.values(), strict=False)  # the last one is local
        for match in look.matches
        for mark in group
    ]
    by_name = any(look.by_name for look in looks)
    return Answer(
        sights=(*sights, *_students(sights, marks)),
        unreadable=(
            *unreadable,
            *_unsealed_faults(registry, marks),
            *(text for look in looks for text in look.faults),
            *(text for look in looks if not by_name for text in look.uncompared),
        ),
        exists=by_name or any(look.matches for look in looks),
        names=frozenset().union(*(look.names for look in looks)),
    )


@dataclass(frozen=True)
class _Mark:
    """An entry of a ledger about a version, and what a sight tells of that version."""

    entry: Entry
    version: dict[str, Any]


def _registry() -> dict[str, dict[str, Any]]:
    """What MLflow has of each model: when it was made, its aliases, its versions' tags."""
    models: dict[str, dict[str, Any]] = {
        model["name"]: {
            "created_ms": int(model["creation_timestamp"]),
            "aliases": {a["alias"]: int(a["version"]) for a in model.get("aliases", ())},
            "versions": {},
        }
        for model in _search("GET", "registered-models/search", "registered_models")
    }
    for version in _search("GET", "model-versions/search", "model_versions"):
        tags = {tag["key"] for tag in version.get("tags", ())}
        if version["name"] in models:  # made since
            models[version["name"]]["versions"][int(version["version"])] = tags
    return models


def _search(method: str, endpoint: str, kind: str, **fields: Any) -> Iterator[dict[str, Any]]:
    """All that a search of MLflow's gives."""
    for answer in answers(method, endpoint, max_results=1000, **fields):
        yield from answer.get(kind, ())


def ledger_models() -> list[str]:
    """Every model that has a ledger."""
    fields: dict[str, Any] = {"filter": f"name LIKE '{LEDGER}%'", "view_type": "ALL"}
    experiments = _search("POST", "experiments/search", "experiments", **fields)
    return [experiment["name"].removeprefix(LEDGER) for experiment in experiments]


def _marks(model: str, model_now: Mapping[str, Any] | None) -> tuple[list[_Mark], list[str]]:
    """The entries of a model's ledger about versions; or what is wrong with it."""
    try:
        entries = ledger.entries(model)
    except OutOfReach:
        raise
    except RegistryError as error:
        return [], [str(error)]
    model_now = model_now or {"created_ms": None, "aliases": {}, "versions": {}}
    own_numbers = {entry.sequence for entry in entries_of_model(entries, model_now["created_ms"])}
    runs: dict[tuple[object, int | None], str] = {}
    marks = []
    for entry in entries:
        is_own, number = entry.sequence in own_numbers, entry.version
        if number is None:
            continue
        life = is_own or entry.details.get(MODEL_CREATED)
        if entry.action == ledger.REGISTERED:
            runs[life, number] = entry.details.get("run_id", "")
        exists = is_own and number in model_now["versions"]
        is_earlier = model_now["created_ms"] is not None and not is_own
        state = "gone" + ", of an earlier model of this name" * is_earlier
        version = {
            "model": model,
            "version": number,
            "aliases": aliases_on(model_now["aliases"], number) if exists else (),
            "in_mlflow": "yes" if exists else state,
            "run_id": runs.get((life, number), ""),
        }
        marks.append(_Mark(entry, version))
    return marks, []


def _unsealed_faults(
    registry: Mapping[str, Mapping[str, Any]], marks: Iterable[_Mark]
) -> list[str]:
    """Versions of this project's, in MLflow or registered in a ledger, without a sealed chain."""
    sealed, unsealed = set(), set()
    for mark in marks:
        reference = f"{mark.entry.model}/{mark.entry.version}"
        if mark.entry.action != ledger.REGISTERED:
            continue
        if not _same_look(mark.entry):
            unsealed.add(reference)
        elif mark.version["in_mlflow"] == "yes":
            sealed.add(reference)
    unsealed |= {
        f"{model}/{version}"
        for model, model_now in registry.items()
        for version, tags in model_now["versions"].items()
        if any(tag.startswith(PREFIX) for tag in tags)
    }
    return [f"{name}: the ledger has no sealed chain of it" for name in sorted(unsealed - sealed)]


def _students(sights: Iterable[Sight], marks: Iterable[_Mark]) -> Iterator[Sight]:
    """Those who learnt of a subject through a teacher, or a teacher's teacher, alone."""
    learners = {_sight_key(sight): sight for sight in sights if sight.side in LEARNING_SIDES}
    pupils = [mark for mark in marks if "teacher" in mark.entry.details]
    fresh = list(learners.values())
    while fresh:
        students = []
        for teacher in fresh:
            by = f"{teacher.model}/{teacher.version}"
            for pupil in (mark for mark in pupils if _is_pupil_of(mark.entry, by, teacher.run_id)):
                student = replace(teacher, **pupil.version, side=f"taught by {by}")
                if _sight_key(student) not in learners:
                    learners[_sight_key(student)] = student
                    students.append(student)
        yield from students
        fresh = students


def _sight_key(sight: Sight) -> tuple[str, int, str, str, str]:
    """Which version saw whom."""
    return sight.model, sight.version, sight.run_id, sight.dataset, sight.subject


def _is_pupil_of(pupil: Entry, teacher: str, run_id: str) -> bool:
    """Whether a version that was registered so learnt from the one of that name and run."""
    by = pupil.details.get("teacher_run_id") or run_id
    return pupil.details["teacher"] == teacher and by == run_id


def faults(trusted: Iterable[str]) -> list[str]:
    """All that is wrong with any model's ledger: then `sights_of` may lack versions."""
    keys = set(trusted)
    return [f"{model}: {text}" for model in ledger_models() for text in ledger.check(model, keys)]


def _same_look(entry: Entry) -> tuple[str, ...]:
    """What decides which subjects an entry's version saw; () where it saw none."""
    data = entry.details.get("datasets", "")
    if entry.action == ledger.REGISTERED and "chain_sha256" in entry.details:
        return entry.action, data, entry.details.get("split_sha256", "")
    return (entry.action, data) if entry.action == ledger.EVALUATED and data else ()


def _looks(
    groups: Mapping[tuple[str, ...], Sequence[_Mark]], query: Query, trusted: set[str]
) -> list[Look]:
    """A look for each group of marks, and one at what is on this machine."""
    with ThreadPoolExecutor(FETCHES) as pool:
        looks = pool.map(lambda group: _shared_look(group, query, trusted), groups.values())
        return [*looks, _local_look(query)]


def _shared_look(group: Sequence[_Mark], query: Query, trusted: set[str]) -> Look:
    """The look that versions share, by the first of them that can be read."""
    faults = []
    for mark in group:
        reference = f"{mark.entry.model}/{mark.entry.version}"
        try:
            return _look(mark.entry, reference, query, trusted)
        except OutOfReach:
            raise
        except HolterError as error:
            faults.append(f"{reference}: {error}")
    return Look(faults=faults)


def _look(entry: Entry, reference: str, query: Query, trusted: set[str]) -> Look:
    """What an entry's version saw."""
    if entry.action == ledger.EVALUATED:
        return look_into(evaluated_on(entry.details["run_id"]), query, reference)
    document = chain.read_chain(entry, reference, trusted).document
    look = look_into(document["datasets"], query, reference)
    matches = [
        {**match, "side": chain.side_of(document, match["dataset"], match["subject"])}
        for match in look.matches
    ]
    return replace(look, matches=matches)


def _local_look(query: Query) -> Look:
    """What the beat tables of this machine have."""
    try:
        datasets = [asdict(read_manifest(path)) for path in manifest_paths(beats_place())]
    except HolterError as error:
        return Look(faults=[f"beat tables: {error}"])
    return look_into(datasets, query, "the beat tables here")


def evaluated_on(run_id: str) -> list[dict[str, Any]]:
    """The manifests of an evaluation's data sets, as its run has them."""
    start, end = artifact_tag(f"{INPUTS_FOLDER}/"), "/manifest.json"
    tags = run_state(run_id).tags
    manifests = {k: v for k, v in tags.items() if k.startswith(start) and k.endswith(end)}
    if not manifests:
        raise NotInRegistry(f"evaluation {run_id}: found no manifest of its data sets")
    with TemporaryDirectory(prefix="holter-") as folder:
        return [
            read_json(fetch_run_file(run_id, k.removeprefix(ARTIFACT_TAG), v, Path(folder)))
            for k, v in manifests.items()
        ]
