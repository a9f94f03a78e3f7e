"""Verify: every digest of a version's chain that is within reach, computed again and compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from storage import chain, ledger
from storage.beats_manifest import Entry, known_entries, manifest_from, manifest_places
from storage.errors import (
    DigestMismatch,
    HolterError,
    NotInRegistry,
    OutOfReach,
    PlaceError,
    RegistryError,
)
from storage.evaluations import OUTCOME, REPORT, report_folder
from storage.files import read_json, sha256_file, sha256_folder
from storage.mlflow_rest import call, fetch_model_file, fetch_run_file
from storage.model_files import WEIGHTS
from storage.places import Place, beats_place
from storage.provenance import beat_code_at, beat_code_sha256, has_commit

MATCH, MISMATCH, OUT = "match", "mismatch", "out of reach"
ABSENT = "is not there"
#: The links of a chain, in the order of the work, and what each compares.
LINKS = {
    "ledger": "entries, their order and signatures; aliases; its run is not deleted",
    "seal": "the chain's document, its signature, the version's tag",
    "version": "description, tags and run of the registered version",
    "run": "parameters, tags and every value of each metric; it is not deleted",
    "artifacts": "inputs, split, environment, test set and figures of the run",
    "model files": "each exported file, and the weights of the version that taught it",
    "evaluations": "reports of devices and on data sets",
    "environment": "the locked environment",
    "code": "the commit, and the code that shaped the beat tables",
    "beat tables": "one Parquet file a record",
    "sources": "the files of the recordings",
}


@dataclass(frozen=True)
class Finding:
    """One comparison: its link of the chain, what was compared, the outcome, and what was found."""

    link: str
    name: str
    state: str
    told: str = ""


def verify(reference: str, trusted: Iterable[str]) -> Iterator[Finding]:
    """Compare a version's chain, link by link, with what is there now.

    Parameters
    ----------
    reference : str
        NAME@alias, NAME/version or NAME.
    trusted : iterable of str
        The public keys that may sign, 64 hexadecimal digits each.

    Raises
    ------
    NotInRegistry
        There is no such version.
    OutOfReach
        The MLflow server does not answer.
    """
    keys = set(trusted)
    version = chain.resolve(reference)
    name, number = version["name"], version["version"]
    wrong = ledger.check(name, keys)
    yield from (Finding("ledger", name, MISMATCH, text) for text in wrong)
    try:
        known = ledger.own_entries(name)
    except RegistryError:
        return  # told above: without a ledger nothing says which chain is the version's
    if not wrong:
        yield Finding("ledger", name, MATCH, f"{len(known)} entries")
    entry = chain.registered(known, number)
    try:
        sealed = chain.read_chain(entry, f"{name}/{number}", keys)
    except OutOfReach:
        raise
    except RegistryError as error:
        yield Finding("seal", "document", MISMATCH, str(error))
        return
    yield Finding("seal", "document", MISMATCH if sealed.fault else MATCH, sealed.fault)
    mine = [one for one in known if one.version == number and one.action == ledger.EVALUATED]
    for link, texts in chain.deleted_runs(sealed.document["run"], mine).items():
        yield from (Finding(link, "kept by MLflow", MISMATCH, text) for text in texts)
    document = sealed.document
    yield same("seal", chain.SHA256_TAG, sealed.sha256, version["tags"].get(chain.SHA256_TAG))
    yield from _version(document["model"], version)
    yield from _run(document["run"])
    with TemporaryDirectory(prefix="holter-") as folder:
        yield from _artifacts(document["run"], Path(folder))
        yield from _files(document["model"], Path(folder))
        yield from _teacher(document["run"]["tags"], Path(folder))
        yield from _evaluations(mine, Path(folder))
    yield from _environment(document["run"]["tags"])
    yield from _code(document)
    for data in document["datasets"]:
        yield from table_findings(data)
        yield from _sources(data)


def same(link: str, name: str, sealed: object, now: object) -> Finding:
    """Whether a value is what was sealed."""
    if sealed == now:
        return Finding(link, name, MATCH)
    return Finding(link, name, MISMATCH, f"found {_short(now)}; sealed was {_short(sealed)}")


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _all(link: str, kind: str, sealed: Mapping[str, Any], now: Mapping[str, Any]) -> list[Finding]:
    return [same(link, f"{kind} {key}", value, now.get(key)) for key, value in sealed.items()]


def fetched(link: str, name: str, fetch: Callable[[], object]) -> Finding:
    """Whether a file of the server is what was sealed; `fetch` compares its digest."""
    try:
        fetch()
    except OutOfReach as error:
        return Finding(link, name, OUT, str(error))
    except DigestMismatch as error:
        return Finding(link, name, MISMATCH, str(error))
    except RegistryError:
        return Finding(link, name, MISMATCH, "found no such file on the server")
    return Finding(link, name, MATCH)


def _version(sealed: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Finding]:
    for name in ("run_id", "description"):
        yield same("version", name, sealed[name], now[name])
    yield from _all("version", "tag", sealed["tags"], now["tags"])


def _run(sealed: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        now = chain.run_state(sealed["run_id"])
        metrics = chain.with_histories(sealed["run_id"], now["metrics"])
    except OutOfReach:
        raise
    except RegistryError as error:
        yield Finding("run", sealed["run_id"], MISMATCH, str(error))
        return
    for kind in ("params", "tags"):
        yield from _all("run", kind[:-1], sealed[kind], now[kind])
    for key, value in sealed["metrics"].items():
        found = metrics.get(key, {})
        yield same("run", f"metric {key}", value["value"], found.get("value"))
        yield same("run", f"history of {key}", value["history_sha256"], found.get("history_sha256"))


def _artifacts(run: Mapping[str, Any], folder: Path) -> Iterator[Finding]:
    run_id = run["run_id"]
    for tag, digest in run["tags"].items():
        if tag.startswith(chain.ARTIFACT_TAG):
            file = tag.removeprefix(chain.ARTIFACT_TAG)
            yield fetched("artifacts", file, partial(fetch_run_file, run_id, file, digest, folder))
        elif tag.startswith(chain.FOLDER_TAG):
            name = tag.removeprefix(chain.FOLDER_TAG)
            yield same("artifacts", name, digest, _digest_of(run_id, name, folder / "all"))


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
        yield fetched("model files", file, fetch)


def _teacher(tags: Mapping[str, str], folder: Path) -> Iterator[Finding]:
    """The weights that a version learnt from are still those in the registry."""
    if reference := tags.get(chain.TEACHER_TAG):
        name, _, version = reference.partition("/")
        about = (name, int(version), WEIGHTS, tags[chain.TEACHER_SHA256_TAG], folder / "teacher")
        fetch = partial(fetch_model_file, *about)
        yield fetched("model files", f"teacher {reference}", fetch)


def _evaluations(known: Sequence[ledger.Entry], folder: Path) -> Iterator[Finding]:
    """Reports are what the ledger says; a device's figures in MLflow are those of its report."""
    for entry in known:
        run_id, digest = entry.details["run_id"], entry.details["report"]
        name = f"{entry.reason}, run {run_id}"
        try:
            run = chain.run_state(run_id)
            if "datasets" in entry.details:
                now = _digest_of(run_id, "evaluation", folder / "all")
                yield same("evaluations", name, digest, now)
                continue
            claim, _, said = run["params"].get(REPORT, "").partition(":")
            yield same("evaluations", name, digest, said)
            file = f"{report_folder(int(claim or 1))}/{OUTCOME}"
            outcome = read_json(fetch_run_file(run_id, file, digest, folder))
        except OutOfReach:
            raise
        except HolterError as error:
            yield Finding("evaluations", name, MISMATCH, str(error))
            continue
        metrics = {k: v for k, v in outcome["metrics"].items() if v is not None}
        yield from _all("evaluations", f"{name}: metric", metrics, run["metrics"])


def _environment(tags: Mapping[str, str]) -> Iterator[Finding]:
    lock = tags.get(f"{chain.ARTIFACT_TAG}inputs/constraints.txt")
    yield same("environment", "lock", tags.get("holter.environment_sha256"), lock)


def _code(document: Mapping[str, Any]) -> Iterator[Finding]:
    tags = document["run"]["tags"]
    commit, dirty = tags["git.commit"], tags["git.dirty"] == "true"
    there = has_commit(commit)
    told = "" if there else f"commit {commit[:12]} is not in this checkout"
    yield Finding("code", "commit", MATCH if there else OUT, told)
    for data in document["datasets"]:
        name, digest = f"beat tables of {data['dataset']}", data["code_sha256"]
        if digest == beat_code_sha256():
            yield Finding("code", name, MATCH, "this checkout's")
        elif there and not dirty:
            yield same("code", name, digest, beat_code_at(commit))
        else:
            yield Finding("code", name, OUT, "the code has moved on, or was not committed")


def table_findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the beat tables of a sealed manifest are what they were, in any place of theirs."""
    manifest = manifest_from(data)
    try:
        places = [
            (path.parent, known_entries(path)) for path in manifest_places(beats_place(), manifest)
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
    return same("beat tables", name, entry.sha256, sha256)


def _sources(data: Mapping[str, Any]) -> Iterator[Finding]:
    folder = Path(data["origin"])
    for entry in data["entries"]:
        for file, digest in entry["files"].items():
            path = folder / file
            if path.is_file():
                yield same("sources", f"{data['dataset']}: {file}", digest, sha256_file(path))
            else:
                yield Finding("sources", f"{data['dataset']}: {file}", OUT, ABSENT)


def as_json(found: Iterable[Finding]) -> str:
    """Findings as JSON, one object each."""
    return json.dumps([vars(one) for one in found], indent=1)
