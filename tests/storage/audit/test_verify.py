"""Verify: what was sealed is still so, and one byte that is not is found, wherever it lies."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer import Exit

from flows.cli.lineage import verify as verify_command
from storage.audit import chain, ledger
from storage.audit.ledger_run import ledger_run
from storage.audit.verify import LINKS, MATCH, MISMATCH, OUT, Finding, _version, verify
from storage.audit.versions import enter_card, read_version
from storage.errors import ServerError
from storage.exchange.stamps import FOLDER
from storage.files import sha256_file, write_bytes
from storage.places import beats_place
from storage.registry.client import call, upload
from storage.registry.models import ModelVersion
from storage.registry.signing import public_key
from storage.tables.beats_manifest import manifest_path, read_manifest, write_manifest
from tests import made_up
from tests.emptied import Emptied
from tests.sealed import made_up_manifest, made_up_report, made_up_version, sides_of

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import


@dataclass(frozen=True)
class Sealed:
    """A sealed version, and where all that it hangs on lies."""

    version: ModelVersion
    key: str
    home: Path
    mlflow: Path
    records: Path

    def verified(self) -> list[Finding]:
        """What verifying it finds."""
        return list(verify(self.version.reference, {self.key}))

    def edit(self, statement: str) -> None:
        """Change the server's database behind its back."""
        with sqlite3.connect(self.mlflow / "mlflow.db") as database:
            assert database.execute(statement).rowcount > 0, statement


@pytest.fixture(scope="module")
def whole(empty_mlflow: Emptied, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    """A sealed version that nobody has touched."""
    folder = tmp_path_factory.mktemp("sealed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", empty_mlflow.address)
        patch.setenv("HOLTER_HOME", str(folder / "home"))
        path, manifest = made_up_manifest(folder / "records")
        split = sides_of(manifest)
        version = made_up_version("holter-x", folder / "work", path, manifest, split)
        made_up_report(version, "belt", folder / "report")
        made_up.on_data_set(read_version(version.reference), simulated_beat_f1=0.9)
        enter_card(version, write_bytes(folder / "card" / "card.html", b"A card.").parent)
        mlflow = empty_mlflow.home / "mlflow"
        yield Sealed(version, public_key(), folder / "home", mlflow, folder / "records")


@pytest.fixture
def sealed(whole: Sealed, tmp_path: Path) -> Iterator[Sealed]:
    """The same, put back as it was after the test: database, artifacts, tables, records, keys."""
    places = (whole.home, whole.mlflow / "artifacts", whole.records)
    for place in places:
        shutil.copytree(place, tmp_path / place.name)
    with (
        sqlite3.connect(whole.mlflow / "mlflow.db") as live,
        sqlite3.connect(tmp_path / "mlflow.db") as kept,
    ):
        live.backup(kept)
        yield whole
        kept.backup(live)
    for place in places:
        shutil.copytree(tmp_path / place.name, place, dirs_exist_ok=True)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def wrong(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.link, one.name) for one in found if one.state == MISMATCH]


def test_what_nobody_touched_matches(whole: Sealed) -> None:
    """Every link of an untouched chain is compared, and none differs or is out of reach."""
    found = whole.verified()
    assert [one for one in found if one.state != MATCH] == []
    assert {one.link for one in found} == set(LINKS)
    assert sum(one.link == "beat tables" for one in found) == 4
    assert sum(one.link == "model files" for one in found) == 5


def artifact(sealed: Sealed, name: str) -> Path:
    (path,) = (sealed.mlflow / "artifacts").rglob(name)
    return path


def test_a_stamp_of_nothing_is_found(sealed: Sealed, capsys: pytest.CaptureFixture[str]) -> None:
    """A time stamp that is none, put among the ledger's artifacts, is told by `holter verify`."""
    pytest.importorskip("rfc3161_client", reason="no rfc3161-client: pip install '.[exchange]'")
    run = ledger_run("holter-x", make=False)["info"]
    file = write_bytes(sealed.home / "000001.tsr", b"nonsense")
    upload(run["artifact_uri"], FOLDER, file)
    with pytest.raises(Exit):
        verify_command(sealed.version.reference, key=[sealed.key])
    artifact(sealed, "000001.tsr").unlink()
    assert "time stamp 000001 time stamp: found a response that cannot be read" in " ".join(
        capsys.readouterr().out.split()
    )


FILES: dict[str, tuple[str, str, Callable[[Sealed], Path]]] = {
    "source": ("sources", "simulated: sim001.dat", lambda s: s.records / "sim001.dat"),
    "annotation": ("sources", "simulated: sim001.atr", lambda s: s.records / "sim001.atr"),
    "table": (
        "beat tables",
        "simulated/sim002",
        lambda s: s.home / "beats" / "dataset=simulated" / "sim002.parquet",
    ),
    "model": ("model files", "model.tflite", lambda s: artifact(s, "model.tflite")),
    "weights": ("model files", "model.weights.h5", lambda s: artifact(s, "model.weights.h5")),
    "split": ("artifacts", "inputs/split.json", lambda s: artifact(s, "split.json")),
    "lock": ("artifacts", "inputs/constraints.txt", lambda s: artifact(s, "constraints.txt")),
    "report": (
        "evaluations",
        "report of device belt",
        lambda s: artifact(s, "report/outcome.json"),
    ),
    "evaluation": ("evaluations", "made up", lambda s: artifact(s, "report.html")),
    "card": ("decisions", "card/card.html", lambda s: artifact(s, "card.html")),
    "figure": ("artifacts", "figures", lambda s: artifact(s, "roc.png")),
}


@pytest.mark.parametrize("what", FILES)
def test_one_bit_of_a_file_is_found(sealed: Sealed, what: str) -> None:
    """A recording, an annotation, a table, a model file, an artifact: its name is told, alone."""
    link, name, place = FILES[what]
    flip(place(sealed))
    ((found, told),) = wrong(sealed.verified())
    assert (found, told.partition(", run")[0]) == (link, name)


@pytest.mark.parametrize("end", ["json", "sig"])
def test_a_changed_seal_is_found(sealed: Sealed, end: str) -> None:
    """The sealed document and its signature cannot be changed, not by one bit."""
    flip(artifact(sealed, f"holter-x-v1.{end}"))
    shutil.rmtree(sealed.home / "chains")
    assert wrong(sealed.verified()) == [("seal", "document")]


EDITS = {
    "UPDATE model_version_tags SET value = value || '0' WHERE key = 'holter.split_sha256'": (
        "version",
        "tag holter.split_sha256",
    ),
    "UPDATE model_versions SET description = 'The best.'": ("version", "description"),
    "UPDATE model_version_tags SET value = 'x' WHERE key = 'holter.chain_sha256'": (
        "seal",
        "holter.chain_sha256",
    ),
    "UPDATE tags SET value = 'false ' WHERE key = 'git.dirty'": ("run", "tag git.dirty"),
    "DELETE FROM tags WHERE key = 'git.commit'": ("run", "tag git.commit"),
    "UPDATE params SET value = '4' WHERE key = 'epochs'": ("run", "param epochs"),
    "UPDATE latest_metrics SET value = 0.876 WHERE key = 'test_f1'": ("run", "metric test_f1"),
    "UPDATE metrics SET value = 0.876 WHERE key = 'test_f1'": ("run", "history of test_f1"),
    "UPDATE metrics SET value = 0.1 WHERE key = 'loss' AND step = 0": ("run", "history of loss"),
    "UPDATE params SET value = replace(value, 'newest', 'best') WHERE key LIKE 'entry.%2'": (
        "ledger",
        "holter-x",
    ),
    "UPDATE latest_metrics SET value = 0.9 WHERE key = 'f1'": (
        "evaluations",
        "report of device belt: metric f1",
    ),
    "UPDATE latest_metrics SET value = 0.99 WHERE key = 'simulated_beat_f1'": (
        "evaluations",
        "made up: metric simulated_beat_f1",
    ),
    "UPDATE params SET value = '9' WHERE key = 'least_beats'": (
        "evaluations",
        "made up: param least_beats",
    ),
    "UPDATE tags SET value = 'other' WHERE key = 'holter.kind' AND value = 'evaluation'": (
        "evaluations",
        "made up: tag holter.kind",
    ),
    "UPDATE tags SET value = 'wall' WHERE key = 'holter.device'": (
        "evaluations",
        "report of device belt: device",
    ),
    "UPDATE model_versions SET source = 'models:/m-0'": ("version", "source"),
    "UPDATE registered_model_aliases SET alias = 'champion'": ("ledger", "holter-x"),
}


@pytest.mark.parametrize("statement", EDITS)
def test_an_edit_of_the_database_is_found(sealed: Sealed, statement: str) -> None:
    """A tag, a description, a parameter, a metric or any of its steps, an entry, an alias."""
    sealed.edit(statement)
    ((link, told),) = set(wrong(sealed.verified()))
    assert (link, re.sub(r", run \w+", "", told)) == EDITS[statement]


def test_a_deleted_run_or_file_is_found(sealed: Sealed) -> None:
    """What is gone from the server is a mismatch, not out of reach."""
    artifact(sealed, "split.json").unlink()
    assert wrong(sealed.verified()) == [("artifacts", "inputs/split.json")]
    sealed.edit(f"DELETE FROM runs WHERE run_uuid = '{sealed.version.run_id}'")
    found = wrong(sealed.verified())
    assert ("run", sealed.version.run_id) in found
    assert ("artifacts", "figures") in found


@pytest.mark.parametrize(
    ("what", "link"),
    [("train/simulated", "run"), ("edge/belt", "evaluations"), ("ledger/holter-x", "ledger")],
)
@pytest.mark.parametrize("whole_experiment", [False, True])
def test_a_run_that_can_still_be_restored_is_found(
    sealed: Sealed, what: str, link: str, *, whole_experiment: bool
) -> None:
    """A run or experiment that is deleted, and not yet removed, is told with what restores it."""
    experiment = call("GET", "experiments/get-by-name", experiment_name=what)["experiment"]
    number = experiment["experiment_id"]
    (run,) = call("POST", "runs/search", experiment_ids=[number])["runs"]
    if whole_experiment:
        call("POST", "experiments/delete", experiment_id=number)
    else:
        call("POST", "runs/delete", run_id=run["info"]["run_id"])
    found = [one for one in sealed.verified() if one.state == MISMATCH]
    assert {one.link for one in found} == {link}
    told = "\n".join(one.told for one in found)
    assert f"run {run['info']['run_id']} is deleted in MLflow: restore it" in told
    assert (f"experiment {what} is deleted" in told) == whole_experiment


def test_what_is_elsewhere_is_out_of_reach(sealed: Sealed) -> None:
    """Recordings and tables that this machine does not have are said to be out of reach."""
    shutil.rmtree(sealed.records)
    (sealed.home / "beats" / "dataset=simulated" / "sim000.parquet").unlink()
    found = [one for one in sealed.verified() if one.state != MATCH]
    assert {one.state for one in found} == {OUT}
    assert {one.link for one in found} == {"sources", "beat tables"}


def test_a_table_that_no_signed_ingest_replaced_is_found(sealed: Sealed) -> None:
    """Table, manifest and key that were replaced together do not pass for a later ingest."""
    path = manifest_path(beats_place(), "simulated")
    assert isinstance(path, Path)
    manifest = read_manifest(path)
    flip(path.parent / manifest.entries[2].file)
    entry = replace(
        manifest.entries[2],
        sha256=sha256_file(path.parent / manifest.entries[2].file),
        key="0" * 64,
    )
    entries = (*manifest.entries[:2], entry, *manifest.entries[3:])
    write_manifest(path, replace(manifest, entries=entries))
    assert wrong(sealed.verified()) == [("beat tables", "simulated/sim002")]
    write_manifest(path, replace(manifest, entries=entries), signed=True)
    (later,) = [one for one in sealed.verified() if one.state != MATCH]
    assert (later.state, later.told) == (OUT, "a later ingest took its place")


def test_what_a_chain_was_sealed_without_is_told(whole: Sealed) -> None:
    """An earlier chain says nothing of the version's source: that is out of reach, not a match."""
    about: dict[str, Any] = {"run_id": "r", "description": "d", "tags": {}}
    now = replace(chain.resolve(whole.version.reference), **about)
    assert [(one.name, one.state) for one in _version(about, now)] == [
        ("run_id", MATCH),
        ("description", MATCH),
        ("source", OUT),
    ]


def test_a_version_without_a_chain_is_told(sealed: Sealed) -> None:
    """A version whose registration the ledger does not have does not pass."""
    sealed.edit("DELETE FROM params WHERE key LIKE 'entry.%'")
    assert ("seal", "document") in wrong(sealed.verified())


def test_a_seal_of_another_key_is_found(whole: Sealed) -> None:
    """Whoever sealed with a key that the auditor does not trust is named."""
    found = list(verify(whole.version.reference, {"0" * 64}))
    assert {link for link, _ in wrong(found)} == {"ledger", "seal"}
    assert whole.key[:16] in str(found)


def test_the_ledger_has_the_version(whole: Sealed) -> None:
    """A sealed version is registered and is the candidate."""
    known = ledger.entries(whole.version.name)
    assert [e.action for e in known] == ["registered", "alias", "evaluated", "evaluated", "card"]
    assert ledger.aliases(known) == {"candidate": 1}


def test_the_command_tells_and_ends_with_1(
    sealed: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    """`holter verify` ends with 0 on what is whole; else with 1 and the name of what differs."""
    verify_command(sealed.version.reference)
    assert "is what was sealed" in capsys.readouterr().out
    flip(sealed.records / "sim001.dat")
    with pytest.raises(Exit) as ended:
        verify_command(sealed.version.reference, as_json=True)
    assert ended.value.exit_code == 1
    told = capsys.readouterr()
    assert "1 of " in told.err
    (one,) = [each for each in json.loads(told.out) if each["state"] == MISMATCH]
    assert one["name"] == "simulated: sim001.dat"


def test_a_machine_without_a_server_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading starts no empty server: it says that there is none."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ServerError, match="has no database"):
        verify_command("holter-x/1")
