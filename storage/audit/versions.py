"""What is recorded of a model version: its sealed training, its evaluations, its test set.

A training is believed where the ledger names its sealed chain, an evaluation or a device's report
where the ledger has it, by entries that a trusted key signed. Every figure here is a signed one:
what MLflow's database has instead is told, and `check_unedited` refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from storage.audit import ledger
from storage.audit.chain import deleted_runs, read_chain, registration, resolve
from storage.audit.findings import MISMATCH, OUT, Finding, compare_values, sentences
from storage.audit.ledger_entry import CARD, CARD_FILE, of_version
from storage.audit.outcomes import read_evaluation
from storage.consent.orders import CERTIFIED
from storage.errors import DigestMismatch, NotInRegistry, RegistryError, SignatureError
from storage.files import home, sha256_file
from storage.registry import tracking
from storage.registry.client import call, fetch_model_file, fetch_run_file
from storage.registry.evaluations import RequestState
from storage.registry.model_files import LITERT
from storage.registry.models import ModelVersion, run_state
from storage.registry.signing import trusted_keys
from storage.registry.tags import CARD_FOLDER, TESTSET_SHA256_TAG, TESTSET_TAG, artifact_tag
from storage.tables.beats_manifest import Manifest, manifest_from
from storage.tables.testset import TestSet, read_testset

#: Edits of a version that are told one by one where it is refused.
MOST_EDITS = 5


@dataclass(frozen=True)
class VersionRecord:
    """What is recorded of a version.

    Attributes
    ----------
    model : ModelVersion
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
        On whole data sets, newest first; no device. Figures, parameters and tags as signed.
    reports : tuple of RequestState
        The newest report of every device, by device; as signed too.
    entries : tuple of Entry
        What the ledger says of the version, and of aliases that left it.
    deleted : tuple of str
        What MLflow has deleted of the runs behind it, in sentences.
    edited : tuple of str
        What MLflow has of its runs that is not as it was signed, in sentences with both values.
    unsigned : tuple of str
        Evaluations whose figures nobody signed, in sentences: they are not among the figures.
    """

    model: ModelVersion
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
    edited: tuple[str, ...]
    unsigned: tuple[str, ...]


def read_version(reference: str) -> VersionRecord:
    """Read what is recorded of the version that NAME@alias, NAME/version or NAME means.

    Raises
    ------
    NotInRegistry
        There is no such version, or the ledger has no sealed chain of it.
    SignatureError, DigestMismatch
        The chain is not what a trusted key sealed.
    """
    model = resolve(reference)
    name, version = model.name, model.version
    keys = trusted_keys()
    entries = ledger.own_entries(name)
    trusted_entries = [entry for entry in entries if entry.key in keys]
    entry = registration(trusted_entries, version)
    if entry is None and (strange := registration(entries, version)):
        raise SignatureError(
            f"the chain of {name}/{version}: entered by key {strange.key[:16]}, which this machine "
            "does not trust"
        )
    sealed = read_chain(entry, f"{name}/{version}", keys)
    if sealed.fault:
        raise SignatureError(f"the chain of {name}/{version}: {sealed.fault}")
    fields, run = sealed.document["model"], sealed.document["run"]
    version_entries = tuple(of_version(trusted_entries, version))
    evaluations = [
        read_evaluation(entry)
        for entry in reversed(version_entries)
        if entry.action == ledger.EVALUATED
    ]
    evaluated = [evaluation.state for evaluation in evaluations if evaluation.state is not None]
    findings = [
        *_training(run),
        *(finding for evaluation in evaluations for finding in evaluation.findings),
    ]
    newest: dict[str, RequestState] = {}
    for state in evaluated:
        newest.setdefault(state.device, state)
    return VersionRecord(
        model=ModelVersion(name, version, fields["run_id"], fields["tags"]),
        chain_sha256=sealed.sha256,
        time_utc=sealed.document["time_utc"],
        description=fields["description"],
        params=run["params"],
        tags=run["tags"],
        metrics={key: float(metric["value"]) for key, metric in run["metrics"].items()},
        files=fields["files"],
        manifests=tuple(manifest_from(data) for data in sealed.document["datasets"]),
        split=sealed.document["split"],
        evaluations=tuple(state for state in evaluated if not state.device),
        reports=tuple(newest[device] for device in sorted(newest) if device),
        entries=version_entries,
        deleted=tuple(
            text for texts in deleted_runs(run, version_entries).values() for text in texts
        ),
        edited=sentences(findings, MISMATCH),
        unsigned=sentences(findings, OUT),
    )


def _training(sealed: Mapping[str, Any]) -> list[Finding]:
    """The newest figures and the parameters of a training against those that were sealed.

    None where MLflow no longer has the run, which is told as deleted; `storage.audit.verify`
    compares all that was logged.
    """
    try:
        now = run_state(sealed["run_id"])
    except NotInRegistry:
        return []
    metrics = {key: metric["value"] for key, metric in sealed["metrics"].items()}
    kinds = (("metric", metrics, now.metrics), ("param", sealed["params"], now.params))
    title = f"training, run {sealed['run_id']}"
    return [
        finding
        for kind, values, current in kinds
        for finding in compare_values("run", f"{title}: {kind}", values, current)
    ]


def check_unedited(version: VersionRecord) -> VersionRecord:
    """The same version, where MLflow has its figures and parameters as they were signed.

    Raises
    ------
    DigestMismatch
        It has others: run, figure and both values are named.
    """
    if version.edited:
        more = f"; and {len(version.edited) - MOST_EDITS} more" * (len(version.edited) > MOST_EDITS)
        raise DigestMismatch(
            f"{version.model.reference}: {'; '.join(version.edited[:MOST_EDITS])}{more}; holter "
            f"verify {version.model.reference} tells all"
        )
    return version


def all_references() -> list[str]:
    """All registered versions, NAME/version, by name and number."""
    fields: dict[str, Any] = {"max_results": 200}  # an answer is read up to 8 MiB
    versions: list[tuple[str, int]] = []
    while True:
        answer = call("GET", "model-versions/search", **fields)
        versions += [(row["name"], int(row["version"])) for row in answer.get("model_versions", ())]
        if not answer.get("next_page_token"):
            return [f"{name}/{number}" for name, number in sorted(versions)]
        fields["page_token"] = answer["next_page_token"]


def model_bytes(model: ModelVersion) -> bytes:
    """The version's LiteRT file, its digest checked."""
    digest = model.tags[artifact_tag(LITERT)]
    with TemporaryDirectory() as folder:
        file = fetch_model_file(model.name, model.version, LITERT, digest, Path(folder))
        return file.read_bytes()


def testset_of(model: ModelVersion) -> TestSet:
    """The version's test set; kept on disk by its digest, which is checked each time.

    Raises
    ------
    RegistryError
        The version names no test set.
    """
    file, digest = (model.tags.get(name, "") for name in (TESTSET_TAG, TESTSET_SHA256_TAG))
    if not (file and digest):
        raise RegistryError(f"{model.reference}: found no tag {TESTSET_TAG}; expected a test set")
    try:
        return _fetched_testset(model, file, digest)
    except NotInRegistry:
        if rest := _testset_without_withdrawn(model):
            return _fetched_testset(model, *rest)
        raise


def _fetched_testset(model: ModelVersion, file: str, digest: str) -> TestSet:
    path = home() / "testsets" / f"{digest}.npz"
    if not (path.is_file() and sha256_file(path) == digest):
        fetch_run_file(model.run_id, file, digest, path.parent / digest).replace(path)
        (path.parent / digest).rmdir()
    return read_testset(path)


def enter_card(model: ModelVersion, folder: Path) -> None:
    """Log a card's files to a version's run, and enter their digests into the ledger."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    marks = {f"{CARD_FILE}{p.relative_to(folder).as_posix()}": sha256_file(p) for p in paths}
    tracking.log_folder(model.run_id, folder, CARD_FOLDER)
    entries = [e for e in ledger.own_entries(model.name) if e.action == CARD]
    last = [entry.details for entry in entries if entry.version == model.version][-1:]
    if not all(marks.items() <= details.items() for details in last or [{}]):
        ledger.append(model.name, model.version, CARD, "model card", **marks)


def _testset_without_withdrawn(model: ModelVersion) -> tuple[str, str] | None:
    """File and digest of what is left of a test set that was deleted on request, as was signed."""
    entries = of_version(ledger.trusted_entries(model.name, trusted_keys()), model.version)
    certified = [e.details for e in entries if e.action == CERTIFIED and "testset" in e.details]
    return (certified[-1]["testset"], certified[-1]["testset_sha256"]) if certified else None
