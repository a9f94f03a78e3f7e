"""What is recorded of a model version: its sealed training, its evaluations, its test set.

A training is believed where the ledger names its sealed chain, an evaluation or a device's report
where the ledger has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from storage import ledger
from storage.beats_manifest import Manifest, manifest_from
from storage.chain import deleted_runs, evaluation_runs, read_chain, registered, resolve
from storage.errors import NotInRegistry, RegistryError, SignatureError
from storage.evaluations import RequestState, request_state
from storage.files import home, sha256_file
from storage.ledger_entry import of_version
from storage.mlflow_rest import call, fetch_model_file, fetch_run_file
from storage.model_files import LITERT, RegisteredModel
from storage.signing import trusted_keys
from storage.testset import TestSet, read_testset


@dataclass(frozen=True)
class Recorded:
    """What is recorded of a version.

    Attributes
    ----------
    model : RegisteredModel
        The version, its tags as they were sealed.
    chain_sha256, time_utc, description : str
        Digest of the sealed chain, when it was sealed, and the version's description.
    params, tags, metrics : mapping
        Of the run that trained it.
    files : mapping of str to str
        Digests of the model's files.
    manifests : tuple of Manifest
        The data sets it learnt from.
    split : mapping
        Paradigm, seed, and of each side subjects, beats and AF beats.
    evaluations : tuple of RequestState
        On whole data sets, newest first; no device.
    reports : tuple of RequestState
        The newest report of every device, by device.
    entries : tuple of Entry
        What the ledger says of the version, and of aliases that left it.
    deleted : tuple of str
        What MLflow has deleted of the runs behind it, in sentences.
    """

    model: RegisteredModel
    chain_sha256: str
    time_utc: str
    description: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    files: Mapping[str, str]
    manifests: tuple[Manifest, ...]
    split: Mapping[str, Any]
    evaluations: tuple[RequestState, ...]
    reports: tuple[RequestState, ...]
    entries: tuple[ledger.Entry, ...]
    deleted: tuple[str, ...]


def recorded(reference: str) -> Recorded:
    """Read what is recorded of the version that NAME@alias, NAME/version or NAME means.

    Raises
    ------
    NotInRegistry
        There is no such version, or the ledger has no sealed chain of it.
    SignatureError, DigestMismatch
        The chain is not what a trusted key sealed.
    """
    found = resolve(reference)
    name, version = str(found["name"]), int(found["version"])
    known = ledger.own_entries(name)
    sealed = read_chain(registered(known, version), f"{name}/{version}", trusted_keys())
    if sealed.fault:
        raise SignatureError(f"the chain of {name}/{version}: {sealed.fault}")
    said, run = sealed.document["model"], sealed.document["run"]
    mine = tuple(of_version(known, version))
    runs = evaluation_runs(mine)
    evaluated = [state for run_id in reversed(runs) for state in _states(run_id)]
    newest: dict[str, RequestState] = {}
    for state in evaluated:
        newest.setdefault(state.device, state)
    return Recorded(
        model=RegisteredModel(name, version, said["run_id"], said["tags"]),
        chain_sha256=sealed.sha256,
        time_utc=sealed.document["time_utc"],
        description=said["description"],
        params=run["params"],
        tags=run["tags"],
        metrics={key: float(one["value"]) for key, one in run["metrics"].items()},
        files=said["files"],
        manifests=tuple(manifest_from(one) for one in sealed.document["datasets"]),
        split=sealed.document["split"],
        evaluations=tuple(state for state in evaluated if not state.device),
        reports=tuple(newest[device] for device in sorted(newest) if device),
        entries=mine,
        deleted=tuple(text for one in deleted_runs(run, mine).values() for text in one),
    )


def _states(run_id: str) -> list[RequestState]:
    """An evaluation's state; none where MLflow no longer has its run, which is told elsewhere."""
    try:
        return [request_state(run_id)]
    except NotInRegistry:
        return []


def every() -> list[str]:
    """All registered versions, NAME/version, by name and number."""
    fields: dict[str, Any] = {"max_results": 200}  # an answer is read up to 8 MiB
    found: list[tuple[str, int]] = []
    while True:
        answer = call("GET", "model-versions/search", **fields)
        found += [(one["name"], int(one["version"])) for one in answer.get("model_versions", ())]
        if not answer.get("next_page_token"):
            return [f"{name}/{number}" for name, number in sorted(found)]
        fields["page_token"] = answer["next_page_token"]


def model_bytes(model: RegisteredModel) -> bytes:
    """The version's LiteRT file, its digest checked."""
    digest = model.tags[f"holter.sha256.{LITERT}"]
    with TemporaryDirectory() as folder:
        file = fetch_model_file(model.name, model.version, LITERT, digest, Path(folder))
        return file.read_bytes()


def testset_of(model: RegisteredModel) -> TestSet:
    """The version's test set; kept on disk by its digest, which is checked each time.

    Raises
    ------
    RegistryError
        The version names no test set.
    """
    file, digest = (
        model.tags.get(name, "") for name in ("holter.testset", "holter.testset_sha256")
    )
    if not (file and digest):
        raise RegistryError(f"{model.reference}: found no tag holter.testset; expected a test set")
    kept = home() / "testsets" / f"{digest}.npz"
    if not (kept.is_file() and sha256_file(kept) == digest):
        fetch_run_file(model.run_id, file, digest, kept.parent / digest).replace(kept)
        (kept.parent / digest).rmdir()
    return read_testset(kept)
