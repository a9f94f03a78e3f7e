"""What registered versions need of the state folder, by their ledgers and sealed chains.

Every chain counts that a ledger names: of versions that MLflow has no longer too, and whoever
signed it. Where one cannot be read, nobody can tell what it needs: tables and history then stay.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.audit import chain, ledger
from storage.audit.sights import ledger_models
from storage.audit.versions import all_references
from storage.errors import HolterError, NotInRegistry, OutOfReach
from storage.files import home
from storage.places import beats_place
from storage.registry.client import address
from storage.registry.models import resolve, run_state
from storage.registry.signing import trusted_keys
from storage.registry.tags import PREFIX, TESTSET_SHA256_TAG
from storage.tables.beats_manifest import manifest_from, manifest_places

#: How Prefect's runs and task runs are named, wherever a chain or a ledger names them.
RUN_ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

#: How MLflow's runs are named there.
MLFLOW_RUN = re.compile(r"\b[0-9a-f]{32}\b")

LOCKED_S = 30.0
#: The address of a server in what was seen of its ledgers; see `storage.audit.witness`.
SERVER = re.compile(r'"server ([^"]+)"')


@dataclass
class Needs:
    """What is needed, each with the version that needs it.

    Attributes
    ----------
    folders : dict of Path to list of str
        Folders of beat tables, and the versions whose chains name tables in them.
    tables : dict of str to str
        SHA-256 of a beat table, and a version.
    datasets : dict of str to str
        Digest of a whole data set that a ledger names, and a version.
    testsets, chains : dict of str to str
        SHA-256 of a test set and of a chain, and a version.
    run_ids : dict of str to str
        Prefect's flow runs and task runs, and a version.
    mlflow_runs : dict of str to str
        MLflow's runs, and a version.
    unreadable : list of str
        Versions of which nobody can tell what they need, and why.
    """

    folders: dict[Path, list[str]] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)
    testsets: dict[str, str] = field(default_factory=dict)
    chains: dict[str, str] = field(default_factory=dict)
    run_ids: dict[str, str] = field(default_factory=dict)
    mlflow_runs: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def read_needs() -> Needs:
    """Read every ledger and every chain that it names.

    Raises
    ------
    RegistryError
        A ledger cannot be read, or the server is out of reach.
    """
    needs, keys = Needs(unreadable=list(_elsewhere())), trusted_keys()
    sealed = set()
    for model in ledger_models():
        for entry in ledger.entries(model):
            reference = f"{model}/{entry.version}" if entry.version else model
            _note_entry(needs, entry, reference)
            if entry.action != ledger.REGISTERED:
                continue
            try:
                document = chain.read_chain(entry, reference, keys).document
                _note_chain(needs, document, reference)
                sealed.add(reference)
            except OutOfReach:
                raise
            except (HolterError, KeyError, TypeError, ValueError) as error:
                needs.unreadable.append(f"{reference}: {error}")
    for reference in all_references():
        version = resolve(reference)
        tags = version.tags
        _note_ids(needs, {"run": version.run_id, **tags}, reference)
        if TESTSET_SHA256_TAG in tags:
            needs.testsets.setdefault(tags[TESTSET_SHA256_TAG], reference)
        if reference not in sealed and any(tag.startswith(PREFIX) for tag in tags):
            needs.unreadable.append(f"{reference}: the ledger has no sealed chain of it")
    return needs


def _elsewhere() -> Iterator[str]:
    """Registries that this state folder has worked with, and that are not asked here."""
    database = home() / "mlflow" / "mlflow.db"
    if database.is_file():
        for model in _local_models(database):
            yield f"{model}: {database} has it, and the server that is asked has not"
    servers = set()
    for path in (home() / "ledger").rglob("*.json"):
        for mark in SERVER.findall(path.read_text(errors="replace")):
            servers.add(mark)
    for server in sorted(servers - {address()}):
        yield f"{server}: ledgers of it were seen here, and it is not asked"


def _local_models(database: Path) -> Iterator[str]:
    """The models of a local MLflow database that the server which is asked does not have."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", LOCKED_S, uri=True)) as live:
        rows = live.execute("SELECT name, creation_time FROM registered_models").fetchall()
    for name, made_ms in rows:
        try:
            same = ledger.created_ms(name) == made_ms
        except NotInRegistry:
            same = False
        if not same:
            yield str(name)


def _note_entry(needs: Needs, entry: ledger.Entry, reference: str) -> None:
    for digest in entry.details.get("datasets", "").split():
        needs.datasets.setdefault(digest, reference)
    if sha256 := entry.details.get("chain_sha256"):
        needs.chains.setdefault(sha256, reference)
    _note_ids(needs, dict(entry.details), reference)
    if entry.action == ledger.EVALUATED:
        try:
            _note_ids(needs, run_state(entry.details["run_id"]).tags, reference)
        except OutOfReach:
            raise
        except (HolterError, KeyError):  # deleted: it names no run any more
            return


def _note_ids(needs: Needs, value: Mapping[str, Any], reference: str) -> None:
    text = json.dumps(value)
    for run_id in RUN_ID.findall(text):
        needs.run_ids.setdefault(run_id, reference)
    for run_id in MLFLOW_RUN.findall(text):
        needs.mlflow_runs.setdefault(run_id, reference)


def _note_chain(needs: Needs, document: Mapping[str, Any], reference: str) -> None:
    _note_ids(needs, document, reference)
    if sha256 := document["model"]["tags"].get(TESTSET_SHA256_TAG):
        needs.testsets.setdefault(sha256, reference)
    for data in document["datasets"]:
        needs.datasets.setdefault(data["sha256"], reference)
        manifest = manifest_from(data)
        for entry in manifest.entries:
            needs.tables.setdefault(entry.sha256, reference)
        for path in manifest_places(beats_place(), manifest):
            if isinstance(path, Path):
                references = needs.folders.setdefault(path.parent, [])
                if reference not in references:
                    references.append(reference)


def reasons(references: list[str]) -> str:
    """Which versions need a thing, in words."""
    first = ", ".join(references[:3])
    more = f" and {len(references) - 3} more" if len(references) > 3 else ""
    return f"needed by {first}{more}"


def manifests_below(folder: Path) -> Iterator[Path]:
    """The folders of beat tables on this machine, manifest or not."""
    yield from sorted(path for path in folder.glob("dataset=*") if path.is_dir())
