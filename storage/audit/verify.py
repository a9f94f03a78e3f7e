"""Verify: every digest of a version's chain that is within reach, computed again and compared."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from storage.audit import chain, ledger, outcomes
from storage.audit.findings import ABSENT, NO_FILE, compare, compare_file, compare_values
from storage.audit.findings import DELETED as DELETED
from storage.audit.findings import MATCH as MATCH
from storage.audit.findings import MISMATCH as MISMATCH
from storage.audit.findings import OUT as OUT
from storage.audit.findings import Finding as Finding
from storage.audit.ledger_entry import (
    APPROVED,
    CARD,
    CARD_FILE,
    DECISION,
    OVERRIDDEN,
    decision_tags,
    of_version,
)
from storage.audit.provenance import beat_code_at, beat_code_sha256, has_commit
from storage.audit.reviews import decisions_finding
from storage.consent.orders import ORDERED, links_of, read_orders
from storage.errors import (
    NotInRegistry,
    OutOfReach,
    PlaceError,
    RegistryError,
    SignatureError,
)
from storage.files import sha256_file, sha256_folder
from storage.places import Place, beats_place
from storage.recordings.review import decisions_key
from storage.registry.client import call, fetch_model_file, fetch_run_file
from storage.registry.evaluations import OUTCOME
from storage.registry.model_files import WEIGHTS
from storage.registry.models import ModelVersion, run_state
from storage.registry.signing import read_description
from storage.registry.tags import (
    ARTIFACT_TAG,
    CHAIN_SHA256_TAG,
    ENVIRONMENT_TAG,
    EVALUATION_FOLDER,
    FOLDER_TAG,
    GIT_COMMIT_TAG,
    GIT_DIRTY_TAG,
    INPUTS_FOLDER,
    TEACHER_SHA256_TAG,
    TEACHER_TAG,
    artifact_tag,
)
from storage.tables.beats_manifest import (
    Entry,
    is_signed,
    known_entries,
    manifest_from,
    manifest_places,
)

NOT_READ = "not read: --quick"
#: The links of a chain, in the order of the work, and what each compares.
LINKS = {
    "ledger": "entries, order, signatures, time stamps; aliases; its run is not deleted",
    "seal": "the chain's document, its signature, the version's tag",
    "version": "description, tags and run of the registered version",
    "run": "parameters, tags and every value of each metric; it is not deleted",
    "artifacts": "inputs, split, environment, test set and figures of the run",
    "model files": "each exported file, and the weights of the version that taught it",
    "evaluations": "reports of devices and on data sets: files, figures, parameters, tags",
    "decisions": "results of promotions, their tags, withdrawals, the newest model card",
    "environment": "the locked environment",
    "code": "the commit, and the code that shaped the beat tables",
    "beat tables": "one Parquet file a record",
    "sources": "the files of the recordings",
}
#: Links whose files are as large as the recordings.
LARGE = ("beat tables", "sources")
#: The files that an entry of the ledger may name, each with its digest beside it.
FILE_DETAILS = ("result", "order", "certificate")


def verify(reference: str, trusted: Iterable[str], *, quick: bool = False) -> Iterator[Finding]:
    """Compare a version's chain, link by link, with what is there now.

    Parameters
    ----------
    reference : str
        NAME@alias, NAME/version or NAME.
    trusted : iterable of str
        The public keys that may sign, 64 hexadecimal digits each.
    quick : bool
        Leave out what is as large as the recordings, `LARGE`: each data set's is out of reach then.

    Raises
    ------
    NotInRegistry
        There is no such version.
    OutOfReach
        The MLflow server does not answer.
    """
    keys = set(trusted)
    version = chain.resolve(reference)
    name, number = version.name, version.version
    wrong = ledger.check(name, keys)
    yield from (Finding("ledger", name, MISMATCH, text) for text in wrong)
    try:
        entries = ledger.trusted_entries(name, keys)
    except RegistryError:
        return  # told above: without a ledger nothing says which chain is the version's
    if not wrong:
        yield Finding("ledger", name, MATCH, f"{len(entries)} entries")
    entry = chain.registration(entries, number)
    try:
        sealed = chain.read_chain(entry, f"{name}/{number}", keys)
    except OutOfReach:
        raise
    except RegistryError as error:
        yield Finding("seal", "document", MISMATCH, str(error))
        return
    yield Finding("seal", "document", MISMATCH if sealed.fault else MATCH, sealed.fault)
    version_entries = [entry for entry in entries if entry.version == number]
    document = sealed.document
    yield compare("seal", CHAIN_SHA256_TAG, sealed.sha256, version.tags.get(CHAIN_SHA256_TAG))
    yield from _version(document["model"], version, of_version(entries, number), keys)
    titles = {e.details["run_id"]: outcomes.title(e) for e in chain.evaluations(version_entries)}
    try:
        orders = read_orders(e.details for e in version_entries if e.action == ORDERED)
        deletions = links_of(orders, document, titles)
    except OutOfReach:
        raise
    except RegistryError as error:
        deletions = set()
        yield Finding("decisions", "order of a withdrawal", MISMATCH, str(error))
    tables = None if quick else keys
    for finding in _link_findings(document, version, version_entries, deletions, tables):
        top = f"{finding.name.partition('/')[0]}/"
        names = {(finding.link, finding.name), (finding.link, top)}
        is_deleted = bool(names & deletions) and finding.told in (ABSENT, NO_FILE)
        yield replace(finding, state=DELETED, told="") if is_deleted else finding


def _link_findings(
    document: Mapping[str, Any],
    version: ModelVersion,
    entries: Sequence[ledger.Entry],
    deletions: Container[tuple[str, str]],
    keys: set[str] | None,
) -> Iterator[Finding]:
    """Everything that a chain names, link by link; what is large where there are keys to ask."""
    evaluations = chain.evaluations(entries)
    for link, texts in chain.deleted_runs(document["run"], evaluations).items():
        yield from (Finding(link, "kept by MLflow", MISMATCH, text) for text in texts)
    yield from _run(document["run"])
    with TemporaryDirectory(prefix="holter-") as folder:
        yield from _artifacts(document["run"], Path(folder))
        yield from _files(document["model"], Path(folder))
        yield from _teacher(document["run"]["tags"], Path(folder))
        yield from _evaluations(evaluations, Path(folder), deletions)
        yield from _decision_files(entries, document["run"]["run_id"], Path(folder))
    yield from _decision_tags(entries, document["model"]["tags"], version.tags)
    yield from _environment(document["run"]["tags"])
    yield from _code(document)
    for data in document["datasets"]:
        if keys is None:
            yield from (Finding(link, data["dataset"], OUT, NOT_READ) for link in LARGE)
            continue
        yield from table_findings(data, keys)
        yield from _sources(data)


def _version(
    sealed: Mapping[str, Any],
    now: ModelVersion,
    history: Iterable[ledger.Entry] = (),
    keys: Iterable[str] = (),
) -> Iterator[Finding]:
    for name in ("run_id", "description", "source"):
        if name not in sealed:
            yield Finding("version", name, OUT, "this chain was sealed without it")
        elif name == "description" and now.description != sealed[name]:
            yield _description(sealed[name], now, history, keys)
        else:
            yield compare("version", name, sealed[name], getattr(now, name))
    yield from compare_values("version", "tag", sealed["tags"], now.tags)


def _description(
    sealed: str, now: ModelVersion, history: Iterable[ledger.Entry], keys: Iterable[str]
) -> Finding:
    """Whether all that stands before a sealed description is a signed text of decisions."""
    link, name = "version", "description"
    try:
        entry, key = read_description(now.name, now.version, sealed, now.description)
    except SignatureError:
        return compare(link, name, sealed, now.description)
    if key not in keys:
        text = f"signed by key {key[:16]}, which this machine does not trust"
        return Finding(link, name, MISMATCH, text)
    last = max((e.sequence for e in history if e.action != CARD), default=0)
    if entry < last:
        text = f"it tells the ledger up to entry {entry}, not {last}: the next decision renews it"
        return Finding(link, name, OUT, text)
    return Finding(link, name, MATCH)


def _run(sealed: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        now = run_state(sealed["run_id"])
        metrics = chain.with_histories(sealed["run_id"], now.metrics)
    except OutOfReach:
        raise
    except RegistryError as error:
        yield Finding("run", sealed["run_id"], MISMATCH, str(error))
        return
    for kind in ("params", "tags"):
        yield from compare_values("run", kind[:-1], sealed[kind], getattr(now, kind))
    for key, value in sealed["metrics"].items():
        metric = metrics.get(key, {})
        yield compare("run", f"metric {key}", value["value"], metric.get("value"))
        yield compare(
            "run", f"history of {key}", value["history_sha256"], metric.get("history_sha256")
        )


def _artifacts(run: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    run_id = run["run_id"]
    for tag, digest in run["tags"].items():
        if tag.startswith(ARTIFACT_TAG):
            file = tag.removeprefix(ARTIFACT_TAG)
            yield compare_file(
                "artifacts", file, partial(fetch_run_file, run_id, file, digest, folder)
            )
        elif tag.startswith(FOLDER_TAG):
            name = tag.removeprefix(FOLDER_TAG)
            yield compare("artifacts", name, digest, _digest_of(run_id, name, folder / "all"))


def _digest_of(run_id: str, name: str, folder: Path) -> str | None:
    """The digest of all artifacts under a folder, as `sha256_folder` of what was logged."""
    waiting, top = [name], folder / run_id
    while waiting:
        try:
            answer = call("GET", "artifacts/list", run_id=run_id, path=waiting.pop())
        except NotInRegistry:
            return None
        for file in answer.get("files", ()):
            if file.get("is_dir"):
                waiting.append(file["path"])
                continue
            place = top / Path(file["path"]).parent
            fetch_run_file(run_id, file["path"], None, place)
    return sha256_folder(top / name) if (top / name).is_dir() else None


def _files(model: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    name, version = model["name"], model["version"]
    for file, digest in model["files"].items():
        fetch = partial(fetch_model_file, name, version, file, digest, folder)
        yield compare_file("model files", file, fetch)


def _teacher(tags: Mapping[str, str], folder: Path) -> Iterator[Finding]:
    """The weights that a version learnt from are still those in the registry."""
    if reference := tags.get(TEACHER_TAG):
        name, _, version = reference.partition("/")
        arguments = (name, int(version), WEIGHTS, tags[TEACHER_SHA256_TAG], folder / "teacher")
        fetch = partial(fetch_model_file, *arguments)
        yield compare_file("model files", f"teacher {reference}", fetch)


def _evaluations(
    entries: Sequence[ledger.Entry], folder: Path, deletions: Container[tuple[str, str]] = ()
) -> Iterator[Finding]:
    """Reports and outcomes are what the ledger says; MLflow's figures are those of the outcomes."""
    for entry in entries:
        if not outcomes.device_of(entry):
            run_id, title = entry.details["run_id"], outcomes.title(entry)
            now = _digest_of(run_id, EVALUATION_FOLDER, folder / "all")
            rest = [*(folder / "all" / run_id / EVALUATION_FOLDER).rglob("*")]
            if ("evaluations", title) in deletions and {path.name for path in rest} <= {OUTCOME}:
                yield Finding("evaluations", title, DELETED, "its figures are kept")
            else:
                yield compare("evaluations", title, entry.details["report"], now)
        yield from outcomes.read_evaluation(entry).findings


def _decision_files(
    entries: Sequence[ledger.Entry], run_id: str, folder: Path
) -> Iterator[Finding]:
    """Results of promotions, withdrawals, and the newest card, are what the ledger says."""
    details = [entry.details for entry in entries]
    files = {
        fields[name]: fields.get(f"{name}_sha256")
        for fields in details
        for name in FILE_DETAILS
        if name in fields
    }
    cards = [entry.details for entry in entries if entry.action == CARD]
    files |= {name: sha for card in cards[-1:] for name, sha in card.items() if CARD_FILE in name}
    for file, digest in files.items():
        target = folder / "decisions" / Path(file).parent
        fetch = partial(fetch_run_file, run_id, file, digest, target)
        yield compare_file("decisions", file, fetch)


def _decision_tags(
    entries: Sequence[ledger.Entry], sealed: Mapping[str, str], now: Mapping[str, str]
) -> Iterator[Finding]:
    """Tags that name a decision and who took it are those of the ledger's last one of the alias.

    Those that a promotion that broke off has not set are not asked for.
    """
    signed: dict[str, str] = {}
    for entry in entries:
        if entry.action in (APPROVED, OVERRIDDEN) and "alias" in entry.details:
            signed |= decision_tags(entry)
    for tag, value in now.items():
        if tag not in sealed and tag.rpartition(".")[2] in ("decision", "by", *DECISION):
            yield compare("decisions", f"tag {tag}", signed.get(tag), value)


def _environment(tags: Mapping[str, str]) -> Iterator[Finding]:
    lock = tags.get(artifact_tag(f"{INPUTS_FOLDER}/constraints.txt"))
    yield compare("environment", "lock", tags.get(ENVIRONMENT_TAG), lock)


def _code(document: Mapping[str, Any]) -> Iterator[Finding]:
    tags = document["run"]["tags"]
    commit, dirty = tags[GIT_COMMIT_TAG], tags[GIT_DIRTY_TAG] == "true"
    in_checkout = has_commit(commit)
    reason = "" if in_checkout else f"commit {commit[:12]} is not in this checkout"
    yield Finding("code", "commit", MATCH if in_checkout else OUT, reason)
    for data in document["datasets"]:
        name, digest = f"beat tables of {data['dataset']}", data["code_sha256"]
        if digest == beat_code_sha256():
            yield Finding("code", name, MATCH, "this checkout's")
        elif in_checkout and not dirty:
            yield compare("code", name, digest, beat_code_at(commit))
        else:
            yield Finding("code", name, OUT, "the code has moved on, or was not committed")


def table_findings(data: Mapping[str, Any], trusted: Iterable[str]) -> Iterator[Finding]:
    """Whether the beat tables of a sealed manifest are what they were, in any place of theirs.

    Other bytes are a later ingest's where its manifest has them and a trusted key signed it.
    """
    keys = set(trusted)
    manifest = manifest_from(data)
    try:
        places = [
            (path.parent, known_entries(path) if is_signed(path, keys) else {})
            for path in manifest_places(beats_place(), manifest)
        ]
    except PlaceError as error:  # a store that is away: nothing of it is asked for again
        yield Finding("beat tables", manifest.dataset, OUT, str(error))
        return
    for entry in manifest.entries:
        name = f"{manifest.dataset}/{entry.record}"
        findings = [_table(name, entry, folder, later) for folder, later in places]
        yield min(findings, key=lambda finding: (MATCH, MISMATCH, OUT).index(finding.state))


def _table(name: str, entry: Entry, folder: Place, later: Mapping[str, Entry]) -> Finding:
    """A table in one of the folders where it may lie."""
    file = folder / entry.file
    if not file.is_file():
        return Finding("beat tables", name, OUT, ABSENT)
    sha256, newer = sha256_file(file), later.get(entry.record)
    if newer and sha256 == newer.sha256 != entry.sha256 and newer.key != entry.key:
        return Finding("beat tables", name, OUT, "a later ingest took its place")
    return compare("beat tables", name, entry.sha256, sha256)


def _sources(data: Mapping[str, Any]) -> Iterator[Finding]:
    folder = Path(data["origin"])
    for entry in data["entries"]:
        for file, digest in entry["files"].items():
            path = folder / file
            if file == decisions_key(data["dataset"], entry["record"]):
                yield decisions_finding(data["dataset"], entry["record"], file, digest)
            elif path.is_file():
                yield compare("sources", f"{data['dataset']}: {file}", digest, sha256_file(path))
            else:
                yield Finding("sources", f"{data['dataset']}: {file}", OUT, ABSENT)
