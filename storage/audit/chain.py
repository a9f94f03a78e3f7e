"""The chain: all that a model version was made from and by, sealed when it is registered.

One JSON document a version, an artifact of its training run (`chain/NAME-vN.json`), with an
Ed25519 signature of the release key beside it and its digest in the ledger's entry and in the
version's tag. It holds, as they stood then: the version's tags, description and files; the run's
parameters, tags and metrics; of each data set the manifest whole (version, licence, annotators,
preprocessing, code, and of every record the source files, the beat table and the Prefect task);
and the subjects on each side of the split. `storage.audit.verify` compares it with what is there
now.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from storage.audit.ledger import EVALUATED, REGISTERED, Entry, aliases, entries, own_entries
from storage.errors import NotInRegistry, SignatureError
from storage.files import (
    home,
    parse_text,
    read_json,
    sha256_bytes,
    sha256_file,
    sha256_json,
    write_bytes,
)
from storage.registry import models
from storage.registry.answers import part, rows, text
from storage.registry.client import call, deletions, fetch_run_file, server_time_s
from storage.registry.model_files import MANIFEST
from storage.registry.models import ModelVersion, run_state
from storage.registry.reference import parse
from storage.registry.signing import SIGNATURE, sign, signed_by
from storage.registry.tags import CHAIN_FOLDER, TEACHER_RUN_TAG
from storage.tables.beats_manifest import Manifest
from storage.text import did_you_mean

CHAIN_VERSION = 1
SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class Chain:
    """A version's sealed chain: the document, its digest, and what is wrong with its seal ("")."""

    document: dict[str, Any]
    sha256: str
    fault: str

    @property
    def reference(self) -> str:
        """NAME/version."""
        return f"{self.document['model']['name']}/{self.document['model']['version']}"


#: Names of models that a sentence lists.
MOST_NAMES = 8


def resolve(reference: str) -> ModelVersion:
    """The version that NAME@alias, NAME/version or NAME (its newest) means, as MLflow tells it.

    Raises
    ------
    NotInRegistry
        There is no such version; what the ledger has of it is told.
    ValueError
        The name is of none of the three forms.
    """
    try:
        return models.resolve(reference)
    except NotInRegistry as error:
        raise NotInRegistry(_missing_words(reference, str(error))) from error


def _missing_words(reference: str, words: str) -> str:
    """Why a version was not found: what the ledger has of it, else which name is near."""
    name, alias, number = parse(reference)
    if number and (registration := _registration_words(name, number)):
        return registration
    registered = _registered_aliases()
    if name not in registered:
        if entries(name):
            return words + "; its ledger has versions that are gone from MLflow"
        return unknown_name(name, registered)
    if number:
        newest = models.resolve(name).version
        return f"model {name}: found no version {number}; its newest is {newest}"
    if alias:
        on = aliases(own_entries(name)).get(alias)
        near, listing = did_you_mean(alias, registered[name]), ", ".join(registered[name])
        ledger_words = f"; the ledger has it on version {on}" if on else ""
        return f"{words}{near}; it has {listing or 'none'}{ledger_words}"
    return words


def unknown_name(name: str, names: Collection[str]) -> str:
    """The sentence on a name that no registered model has, with the nearest one that there is."""
    first = ", ".join(sorted(names)[:MOST_NAMES]) + ", ..." * (len(names) > MOST_NAMES)
    listing = f"there are {first}" if names else "the registry has none yet"
    return f"no registered model {name!r}{did_you_mean(name, names)}; {listing}"


def _registered_aliases() -> dict[str, list[str]]:
    """The aliases of each registered model, by its name; those of the first thousand."""
    answer = call("GET", "registered-models/search", max_results=1000)
    return {
        text(part(row, "name"), "model's name"): [
            text(part(alias, "alias"), "alias") for alias in rows(row, "aliases")
        ]
        for row in rows(answer, "registered_models")
    }


def _registration_words(name: str, number: str) -> str:
    """What the ledger says of a version that MLflow has not; "" where that is nothing."""
    registrations = [e for e in entries(name) if (e.action, str(e.version)) == (REGISTERED, number)]
    if not registrations:
        return ""
    last = registrations[-1]
    return (
        f"{name}/{number} is gone from MLflow; the ledger has that it was registered "
        f"{last.time_utc} by training run {last.details.get('run_id', 'unknown')}"
    )


def evaluations(history: Iterable[Entry]) -> list[Entry]:
    """The entries of a version's evaluations, in their order."""
    return [entry for entry in history if entry.action == EVALUATED]


def evaluation_runs(history: Iterable[Entry]) -> list[str]:
    """The runs of a version's evaluations, as its entries name them, in their order."""
    return [entry.details["run_id"] for entry in evaluations(history)]


def deleted_runs(run: Mapping[str, Any], history: Iterable[Entry]) -> dict[str, list[str]]:
    """What MLflow has deleted of the runs behind a version, by link of the chain.

    Parameters
    ----------
    run : mapping
        Its training's run, as the chain has it.
    history : iterable of Entry
        Its entries of the ledger.
    """
    teacher = run["tags"].get(TEACHER_RUN_TAG)
    runs = {
        "run": [run["run_id"]],
        "model files": [teacher] if teacher else [],
        "evaluations": evaluation_runs(history),
    }
    return {
        link: [t for run_id in run_ids for t in deletions(run_id)] for link, run_ids in runs.items()
    }


def with_histories(run_id: str, metrics: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Each metric's newest value, and the digest of all that were logged under its name."""
    histories = {}
    for key in sorted(metrics):
        answer = call("GET", "metrics/get-history", run_id=run_id, metric_key=key)
        points = [[p["timestamp"], p.get("step", 0), p["value"]] for p in answer["metrics"]]
        histories[key] = {"value": metrics[key], "history_sha256": sha256_json(sorted(points))}
    return histories


def document(
    name: str,
    version: int,
    manifests: Sequence[Manifest],
    split: Mapping[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """All that a version was made from and by, as it stands now.

    Parameters
    ----------
    name, version : str, int
        The registered version.
    manifests : sequence of Manifest
        Its data sets.
    split : mapping
        Paradigm, seed, digest, and subjects and beats of each side.
    folder : Path
        The model's folder, signed.
    """
    model = resolve(f"{name}/{version}")
    run = run_state(model.run_id)
    files = {
        MANIFEST: sha256_file(folder / MANIFEST),
        SIGNATURE: sha256_file(folder / SIGNATURE),
        **{k: v["sha256"] for k, v in read_json(folder / MANIFEST).get("files", {}).items()},
    }
    now = datetime.fromtimestamp(server_time_s(), tz=timezone.utc)
    return {
        "chain_version": CHAIN_VERSION,
        "time_utc": now.isoformat(timespec="seconds"),
        "model": {
            "name": name,
            "version": version,
            "run_id": model.run_id,
            "description": model.description,
            "source": model.source,
            "tags": model.tags,
            "files": files,
        },
        "run": {**vars(run), "metrics": with_histories(run.run_id, run.metrics)},
        "datasets": [{**asdict(manifest), "sha256": manifest.digest()} for manifest in manifests],
        "split": dict(split),
    }


def write_sealed(folder: Path, chain: Mapping[str, Any]) -> tuple[str, list[Path]]:
    """Write a chain and its signature into a folder; its digest, and the two files."""
    data = json.dumps(chain, sort_keys=True, indent=1).encode() + b"\n"
    path = folder / chain_file(chain["model"]["name"], chain["model"]["version"])
    write_bytes(path, data)
    signature = write_bytes(path.with_suffix(".sig"), json.dumps(sign(data)).encode())
    return sha256_bytes(data), [path, signature]


def chain_file(name: str, version: int) -> str:
    """The name of a version's chain among its run's artifacts."""
    return f"{name}-v{version}.json"


def registration(history: Iterable[Entry], version: int) -> Entry | None:
    """The entry of a version's registration among a model's own; the first, no other counts."""
    registrations = (e for e in history if e.action == REGISTERED and e.version == version)
    return next(registrations, None)


def read_chain(entry: Entry | None, reference: str, trusted: Iterable[str]) -> Chain:
    """The sealed chain that a ledger's entry names; kept on disk, its digest checked each time.

    Raises
    ------
    NotInRegistry
        The ledger has no sealed registration of the version, or the document is gone.
    DigestMismatch
        The document is not the one that was sealed.
    """
    sha256 = entry.details.get("chain_sha256", "") if entry else ""
    if entry is None or entry.version is None or not sha256:
        raise NotInRegistry(f"{reference}: the ledger has no sealed chain of it")
    path = home() / "chains" / f"{sha256}.json"
    if not (path.is_file() and sha256_file(path) == sha256 and path.with_suffix(".sig").is_file()):
        file = f"{CHAIN_FOLDER}/{chain_file(entry.model, entry.version)}"
        with TemporaryDirectory() as folder:
            run_id = entry.details.get("run_id", "")
            download = fetch_run_file(run_id, file, sha256, Path(folder))
            beside = file.removesuffix(".json") + ".sig"
            signature = fetch_run_file(run_id, beside, None, Path(folder))
            write_bytes(path.with_suffix(".sig"), signature.read_bytes())
            write_bytes(path, download.read_bytes())
    data = path.read_bytes()
    fault = _fault(data, path.with_suffix(".sig").read_bytes(), set(trusted))
    return Chain(parse_text(data), sha256, fault)


def _fault(data: bytes, signature: bytes, trusted: set[str]) -> str:
    try:
        seal = parse_text(signature)
        whole, key = signed_by(data, seal), str(seal["key"])
    except (ValueError, KeyError, TypeError, SignatureError):
        return "its signature cannot be read"
    if not whole:
        return "it is not what was signed"
    return "" if key in trusted else f"signed by key {key[:16]}, which this machine does not trust"


def side_of(chain: Mapping[str, Any], dataset: str, subject: str) -> str:
    """Where a subject is: "train", or "train+test" where beats were dealt singly.

    Empty where no beat of theirs has a known label.
    """
    person = f"{dataset}/{subject}"
    sides = [side for side in SIDES if person in chain["split"][side]["subjects"]]
    return "+".join(sides)
