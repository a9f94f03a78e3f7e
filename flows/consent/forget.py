"""Forget: what was made of a person who withdrew goes, and what must be made again is made again.

It goes step by step, and each step may be done twice: one that was killed goes on when it is called
again. Ingest refuses the person first, so that nothing comes back meanwhile. Then an order is
signed into the ledgers, so that what is deleted is told as deleted on request. Beat tables and
files go, and versions in use are made again and compared. What MLflow holds goes last, as the
comparison needs it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.consent import certificate as certificates
from flows.consent import journal as journals
from flows.consent.certificate import Certificate, Remade, Removal, State, VersionSides
from flows.consent.holdings import ANYBODYS, files_of, remove_tables, table_bytes, tables_of
from flows.consent.journal import Journal, now_utc
from flows.consent.person import Trace, VersionTrace, trace
from flows.consent.remainder import remainder_of
from flows.consent.remake import remake, to_remake
from flows.reports.card import card, log_card
from flows.reports.version_page import renew_pages
from flows.upkeep.cleaning import busy
from storage.audit import ledger
from storage.audit.versions import read_version
from storage.consent.blocks import block, known_digest, read_blocks, recording_of_files
from storage.consent.orders import CERTIFIED, FOLDER, ORDERED, Order, mark_of
from storage.errors import ConsentError, NotInRegistry, OutOfReach, RegistryError
from storage.files import home, sha256_file, write_json
from storage.registry import tracking
from storage.registry.client import fetch_run_file
from storage.registry.evaluations import OUTCOME
from storage.registry.signing import trusted_keys
from storage.registry.tags import CARD_FOLDER, EVALUATION_FOLDER
from storage.tables.testset import read_testset, without_subjects, write_testset

Tell = Callable[[str], None]
#: Of an evaluation's folder what stays: its figures, as they were signed.
FIGURES = f"{EVALUATION_FOLDER}/{OUTCOME}"
#: Where MLflow's own tables of an evaluation lie, and a version's card, which shows beats.
TABLES, CARDS = "tables/", f"{CARD_FOLDER}/"


@dataclass(frozen=True)
class Plan:
    """What a withdrawal of a person is to do: where it has begun before, what is left of it.

    Attributes
    ----------
    trace : Trace
        What there is of the person.
    going : tuple of Removal
        What goes of it.
    remaking : tuple of VersionTrace
        Versions that are to be made again, teachers first.
    journal : Journal or None
        The withdrawal that has begun and is not done.
    """

    trace: Trace
    going: tuple[Removal, ...]
    remaking: tuple[VersionTrace, ...]
    journal: Journal | None = None

    @property
    def nothing_left(self) -> bool:
        """Whether there is nothing to delete, to make again or to go on with."""
        going = [row for row in self.going if row.kind not in ANYBODYS]
        return not (going or self.remaking or self.journal or _without_order(self.trace, ""))


def plan(person: str) -> Plan:
    """What a withdrawal of a person, DATASET/SUBJECT, is to do; nothing is changed.

    Raises
    ------
    ConsentError
        A flow runs, or there is no such person.
    """
    if words := busy():
        raise ConsentError(f"subject {person}: found it {words}; expected no flow to run")
    journal = journals.open_journal(person)
    footprint = journal.trace if journal else _trace_or_blocked(person)
    return Plan(footprint, tuple(_going(footprint)), tuple(to_remake(footprint)), journal)


def _trace_or_blocked(person: str) -> Trace:
    """What there is of a person; nothing, of one who is blocked and of whom nothing is left."""
    try:
        return trace(person)
    except ConsentError:
        unread = recording_of_files("", person, {}, has_signal=False)
        if not read_blocks().withdrawal_of(unread):
            raise
        return Trace(person, (person,), {}, (), frozenset(), frozenset(), (), (), ())


def _going(person: Trace) -> Iterator[Removal]:
    """What is there to be deleted, by kind and place."""
    for path, records in tables_of(person).items():
        name = path.parent.name.removeprefix("dataset=")
        yield Removal("beat tables", name, len(records), table_bytes(path, records))
    counts, sizes = Counter[str](), Counter[str]()
    for kind, path in files_of(person):
        counts[kind] += 1
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        sizes[kind] += sum(file.stat().st_size for file in files)
    yield from (Removal(kind, str(home()), n, sizes[kind]) for kind, n in sorted(counts.items()))
    for run_id, names in _artifacts(person).items():
        if artifacts := _artifacts_left(run_id, names):
            yield Removal("artifacts in MLflow", f"run {run_id}", len(artifacts), None)


def _artifacts(person: Trace) -> dict[str, tuple[str, ...]]:
    """What MLflow holds of a person, by run: names of files, and of folders with a slash behind."""
    files: dict[str, tuple[str, ...]] = {}
    for version in person.versions:
        if version.testset and version.run_id:
            files[version.run_id] = (CARDS, version.testset)
        for run_id, datasets in version.evaluations.items():
            names = tuple(f"{TABLES}{name}_" for name in datasets)
            files[run_id] = (f"{EVALUATION_FOLDER}/", *names)
    return files


def _artifacts_left(run_id: str, names: Sequence[str]) -> list[str]:
    """What of it is there, in the order in which it goes.

    A card goes before its test set: one beside no test set was made since, without the person.
    """
    if CARDS in names and not _below(run_id, names[-1]):
        return []
    return [file for name in names for file in _below(run_id, name)]


def _below(run_id: str, name: str) -> list[str]:
    """The artifacts of a run that a name means, but for what stays; none where the run is gone."""
    try:
        if name.startswith(TABLES):
            files = tracking.list_files(run_id, TABLES)
            return [file for file in files if file.startswith(name)]
        folder = name if name.endswith("/") else name.rpartition("/")[0] + "/"
        files = tracking.list_files(run_id, folder)
        return [f for f in files if (f == name or name.endswith("/")) and f != FIGURES]
    except RegistryError:
        return []


def preview(work: Plan) -> Certificate:
    """What a plan would do, as its certificate will tell."""
    state: State = "begun" if work.journal else "nothing left" if work.nothing_left else "to go"
    return _certificate(state, work, work.going, [Remade(v.reference) for v in work.remaking])


def _certificate(
    state: State,
    work: Plan,
    deleted: Sequence[Removal],
    remade: Sequence[Remade],
) -> Certificate:
    journal, person = work.journal, work.trace
    return Certificate(
        state=state,
        withdrawal=journal.withdrawal if journal else "",
        subject=journal.subject if journal else known_digest(person.person),
        begun_utc=journal.begun_utc if journal else "",
        ended_utc=now_utc() if state == "done" else "",
        author=journal.author if journal else ledger.user(),
        reason=journal.reason if journal else "",
        blocked=len(person.recordings),
        versions=[
            VersionSides(v.reference, [*v.sides], [*v.aliases], [*v.devices])
            for v in person.versions
        ],
        deleted=[*deleted],
        remade=[*remade],
        remainder=list(remainder_of(person, remade)),
        doubts=[*person.doubts],
    )


def forget(work: Plan, *, reason: str = "", remaking: bool = True, tell: Tell) -> Certificate:
    """Carry a withdrawal out, or go on with the one that has begun; gives its certificate.

    Parameters
    ----------
    work : Plan
        What is to be done.
    reason : str
        Why, for the certificate and the ledgers.
    remaking : bool
        Make versions in use again that learnt from the person.
    tell : callable
        Is told what is done now.

    Raises
    ------
    ConsentError
        Something that was to go is there still.
    RegistryError
        MLflow is out of reach, or a ledger takes no entry: the journal stays.
    """
    journal = work.journal or journals.begin(work.trace, [*work.going], ledger.user(), reason)
    person = journal.trace
    tell("Blocking what may come back")
    block(journal.withdrawal, person.people, person.recordings)
    _order(journal)
    tell("Deleting beat tables and files")
    _remove_local(person)
    for version in work.remaking if remaking else ():
        if version.reference not in {row.version for row in journal.remade}:
            tell(f"Making {version.reference} again")
            row = remake(version, journal.remade, journal.begun_utc)
            journal = journals.keep(journal, remade=[*journal.remade, row])
    _remove_local(person)  # what a training has fetched or left
    tell("Deleting what MLflow holds")
    journal = _remove_artifacts(journal)
    if rest := list(_going(person)):
        names = ", ".join(f"{row.kind} ({row.place})" for row in rest)
        raise ConsentError(
            f"withdrawal {journal.withdrawal}: found {names} still there; expected all of it gone. "
            "Call it again"
        )
    certificate = _certify(Plan(person, (), (), journal), journal)
    _renew_cards(journal)
    journals.end(journal)
    return certificate


def _order(journal: Journal) -> None:
    """Sign what is to go into the ledger of every version that saw the person, once."""
    person = journal.trace
    order = Order(
        withdrawal=journal.withdrawal,
        time_utc=journal.begun_utc,
        subject=journal.subject,
        tables=tuple(sorted(map(mark_of, person.tables))),
        sources=tuple(sorted(map(mark_of, person.sources))),
        files=_artifacts(person),
    )
    with TemporaryDirectory(prefix="holter-") as folder:
        file = write_json(Path(folder) / f"{journal.withdrawal}-order.json", order.document())
        for version in _without_order(person, journal.withdrawal):
            tracking.log_file(version.run_id, file, FOLDER)
            _enter(version, journal, ORDERED, f"{FOLDER}/{file.name}", sha256_file(file))


def _without_order(person: Trace, withdrawal: str) -> list[VersionTrace]:
    """Versions in MLflow whose ledger has no order of a withdrawal; of any, where none is named."""
    return [
        version
        for version in person.versions
        if version.in_mlflow == "yes" and not _entries(version, ORDERED, withdrawal)
    ]


def _entries(version: VersionTrace, action: str, withdrawal: str = "") -> list[ledger.Entry]:
    name, _, number = version.reference.partition("/")
    return [
        entry
        for entry in ledger.trusted_entries(name, trusted_keys())
        if entry.action == action
        and str(entry.version) == number
        and (not withdrawal or entry.details.get("withdrawal") == withdrawal)
    ]


def _enter(
    version: VersionTrace, journal: Journal, action: str, file: str, sha256: str, **details: str
) -> None:
    """An entry about a version, with the file that it names."""
    name, _, number = version.reference.partition("/")
    kind = "order" if action == ORDERED else "certificate"
    marks = {kind: file, f"{kind}_sha256": sha256, "run_id": version.run_id, **details}
    text = journal.reason or "consent was withdrawn"
    entry = ledger.append(
        name,
        int(number),
        action,
        text,
        who=journal.author,
        withdrawal=journal.withdrawal,
        **marks,
    )
    renew_pages(entry)


def _remove_local(person: Trace) -> None:
    for path, records in tables_of(person).items():
        remove_tables(path, records)
    for _, path in files_of(person):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _remove_artifacts(journal: Journal) -> Journal:
    """Delete what MLflow holds; of a test set what is of others is kept in one of its own."""
    for version in journal.trace.versions:
        if version.testset and version.run_id not in journal.testsets:
            rest = _reduce(version, journal)
            journal = journals.keep(journal, testsets={**journal.testsets, version.run_id: rest})
    for run_id, names in _artifacts(journal.trace).items():
        for file in _artifacts_left(run_id, names):
            tracking.delete_file(run_id, file)
    return journal


def _reduce(version: VersionTrace, journal: Journal) -> list[str]:
    """Log a version's test set without the person; its name and digest, "" where none is left."""
    with TemporaryDirectory(prefix="holter-") as folder:
        to = Path(folder)
        try:
            file = fetch_run_file(version.run_id, version.testset, version.testset_sha256, to)
        except OutOfReach:
            raise
        except (NotInRegistry, RegistryError):
            return ["", ""]
        rest = without_subjects(read_testset(file), journal.trace.people)
        if not len(rest):
            return ["", ""]
        path = write_testset(to / f"without-{journal.withdrawal}.npz", rest)
        place = version.testset.rpartition("/")[0]
        tracking.log_file(version.run_id, path, place)
        return [f"{place}/{path.name}", sha256_file(path)]


def _certify(work: Plan, journal: Journal) -> Certificate:
    """Seal the certificate, and enter it into the ledgers."""
    certificate = certificates.read(journal.withdrawal) or _certificate(
        "done", work, journal.going, journal.remade
    )
    path, sha256 = certificates.seal(certificate)
    successors = {row.version: row.by for row in journal.remade if row.by}
    for version in journal.trace.versions:
        if version.in_mlflow != "yes" or _entries(version, CERTIFIED, journal.withdrawal):
            continue
        file, digest = journal.testsets.get(version.run_id, ["", ""])
        details = {"testset": file, "testset_sha256": digest} if file else {}
        if by := successors.get(version.reference):
            details["remade"] = by
        tracking.log_file(version.run_id, path, FOLDER)
        _enter(version, journal, CERTIFIED, f"{FOLDER}/{path.name}", sha256, **details)
    return certificate


def _renew_cards(journal: Journal) -> None:
    """A card from what is left of a test set, where something is."""
    for version in journal.trace.versions:
        if version.in_mlflow == "yes" and journal.testsets.get(version.run_id, [""])[0]:
            record = read_version(version.reference)
            log_card(record, card(record))
