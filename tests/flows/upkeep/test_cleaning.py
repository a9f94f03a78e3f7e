"""Clean-up: what nobody needs goes, what a version, chain, ledger or flow needs stays."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from flows.cli.app import app
from flows.services.servers import Servers
from flows.upkeep import cleaning, history
from flows.upkeep.needs import Needs, read_needs
from flows.upkeep.retention import retention
from storage.audit import ledger
from storage.audit.verify import MISMATCH, verify
from storage.errors import BackupError
from storage.files import home, sha256_folder, write_bytes, write_json
from storage.places import beats_place
from storage.registry import tracking
from storage.registry.client import call
from storage.registry.models import ModelVersion
from storage.registry.signing import trusted_keys
from tests.answers import held
from tests.emptied import Emptied
from tests.sealed import made_up_manifest, made_up_version, sides_of
from tests.tiny import tiny_dataset

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]  # MLflow's own, at import

JUNK = {
    "testsets/" + "0" * 64 + ".npz": "test set",
    "profiles/" + "1" * 64 + ".json": "profile",
    "checkpoints/" + "2" * 64 + ".npz": "checkpoint",
    "folds/" + "3" * 64 + ".npz": "answers of a fold",
    "runs/abc/report.html": "work folder of a run",
}


@flow
def needed_work() -> None:
    """A flow that a chain names."""


@flow
def idle_work() -> None:
    """A flow that nobody names."""


def run_id_of(work: Any) -> str:
    return str(work(return_state=True).state_details.flow_run_id)


@dataclass(frozen=True)
class Registered:
    """A sealed version, and the flow run that its chain names."""

    version: ModelVersion
    run_id: str


@pytest.fixture(scope="module")
def registered(holter_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """A version with its beat tables in the state folder."""
    assert holter_servers.mlflow
    folder = tmp_path_factory.mktemp("registered")
    path, manifest = made_up_manifest(folder / "records", subjects=3)
    run_id = run_id_of(needed_work)
    manifest = replace(manifest, flow_run_id=run_id)
    sides = sides_of(manifest)
    version = made_up_version("holter-needed", folder / "work", path, manifest, sides)
    return Registered(version, run_id)


@pytest.fixture
def junk(registered: Registered) -> list[Path]:
    """What nobody needs: a data set's tables, and one thing of every other kind."""
    assert registered.run_id
    paths = [write_bytes(home() / name, b"junk") for name in JUNK]
    folder = home() / "beats" / "dataset=tiny"
    tiny_dataset(folder, records=2)
    return [*paths, folder]


def gc(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What the command answers on standard output."""
    capsys.readouterr()
    app(["gc", "--format", "json", *words], standalone_mode=False)
    value: dict[str, Any] = held(capsys.readouterr().out, "gc")
    return value


def findings_of(registered: Registered) -> list[tuple[str, str, str]]:
    keys = trusted_keys()
    assert ledger.check(registered.version.name, keys) == []
    findings = [
        (one.link, one.name, one.state) for one in verify(registered.version.reference, keys)
    ]
    assert MISMATCH not in {state for _, _, state in findings}
    return findings


def flow_runs() -> set[str]:
    with get_client(sync_client=True) as client:
        return {str(run.id) for run in client.read_flow_runs()}


def test_what_nobody_needs_goes_and_lineage_stays(
    registered: Registered, junk: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Chain and ledger verify before and after; a dry run changes nothing, and tells the same."""
    idle, before, all_files = run_id_of(idle_work), findings_of(registered), sha256_folder(home())
    told = gc(capsys, "--dry-run", "--keep-days", "0")
    assert sha256_folder(home()) == all_files
    assert idle in flow_runs()
    result = gc(capsys, "--keep-days", "0", "--yes")
    assert result["items"] == told["items"]
    assert {item["kind"] for item in result["items"]} == {*JUNK.values(), "beat tables"}
    assert [item["name"] for item in result["items"] if item["kind"] == "beat tables"] == ["tiny"]
    assert result["bytes"] == sum(item["bytes"] for item in result["items"]) > 0
    assert not any(path.exists() for path in junk)
    assert findings_of(registered) == before
    assert idle not in flow_runs()
    assert registered.run_id in flow_runs()
    assert gc(capsys, "--keep-days", "0", "--yes")["items"] == []


def test_the_reason_of_what_stays_is_told(
    registered: Registered, junk: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """By version where one needs it, by age where it has changed of late."""
    told = gc(capsys, "--dry-run", "--reasons")
    kept = {item["kind"]: item["reason"] for item in told["items"] if item["name"] != "simulated"}
    assert set(kept.values()) == {"changed within 30 days"}
    (tables,) = (item for item in told["items"] if item["name"] == "simulated")
    assert tables["reason"] == f"needed by {registered.version.reference}"
    told = gc(capsys, "--dry-run", "--reasons", "--keep-days", "0")
    kept = {run["run_id"]: run["reason"] for run in told["kept_runs"]}
    assert kept[registered.run_id] == f"needed by {registered.version.reference}"
    app(["gc", "--dry-run", "--reasons", "--keep-days", "0"], standalone_mode=False)
    text = capsys.readouterr().out
    assert "would go" in text
    assert f"beat tables simulated: needed by {registered.version.reference}" in text
    assert all(path.exists() for path in junk)


@pytest.mark.parametrize("host", ["here", "elsewhere"])
def test_what_a_flow_may_use_is_not_touched(
    junk: list[Path], capsys: pytest.CaptureFixture[str], host: str
) -> None:
    """While any flow runs, on this machine or on another, no file goes."""
    note = {
        "flow_run_id": "r",
        "flow": "train",
        "host": platform.node() if host == "here" else host,
        "pid": os.getpid(),
        "since": psutil.Process().create_time() - psutil.boot_time(),
    }
    path = write_json(home() / "running" / "r.json", note)
    try:
        told = gc(capsys, "--keep-days", "0", "--yes", "--reasons")
        words = f"in use: train, process {os.getpid()} on {note['host']}"
        assert {item["reason"] for item in told["items"] if item["name"] == "tiny"} == {words}
        assert all(item["reason"] for item in told["items"])
        assert all(each.exists() for each in junk)
        with pytest.raises(BackupError, match="in use: train"):
            cleaning.remove(cleaning.Item("beat tables", "tiny", 0, "", (junk[-1],), "ingest-tiny"))
        assert junk[-1].is_dir()
    finally:
        path.unlink()


def test_tables_stay_where_nobody_can_tell_who_needs_them(
    registered: Registered, junk: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A version without a sealed chain, and one of a server that is not asked."""
    needs = read_needs()
    assert needs.unreadable == []
    seen = {"seen": [{"head": "1:" + "a" * 64, "marks": ["server https://other.example"]}]}
    path = write_json(home() / "ledger" / "holter-other.json", seen)
    try:
        told = gc(capsys, "--dry-run", "--reasons", "--keep-days", "0")
        (tables,) = (item for item in told["items"] if item["name"] == "tiny")
        assert "https://other.example: ledgers of it were seen here" in tables["reason"]
        assert told["prefect_runs"] == 0
        assert registered.run_id
        assert junk[-1].is_dir()
    finally:
        path.unlink()


def test_a_registry_that_is_not_asked_is_told(
    registered: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local database with a model that the server which is asked has not."""
    assert registered.run_id
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    (tmp_path / "mlflow").mkdir()
    with closing(sqlite3.connect(tmp_path / "mlflow" / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE registered_models (name TEXT, creation_time BIGINT)")
        database.execute("INSERT INTO registered_models VALUES ('holter-mine', 1)")
    (text,) = read_needs().unreadable
    assert text.startswith("holter-mine: ")
    assert "the server that is asked has not" in text


def test_a_table_of_no_manifest_goes_unless_a_chain_has_it(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """In a folder that is needed, a record's table that the manifest has no more."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    folder = tmp_path / "beats" / "dataset=tiny"
    tiny_dataset(folder, records=2)
    orphan = write_bytes(folder / "9.parquet", b"of a record that is gone")
    needs = Needs(folders={folder: ["holter-a/1"]})
    view = replace(cleaning.view_of(needs, 0), since_s=1e12)
    items = {item.name: item for item in cleaning.look(view)}
    assert items["tiny"].reason == "needed by holter-a/1"
    assert items["tiny/9.parquet"].paths == (orphan,)
    assert set(items) == {"tiny", "tiny/9.parquet"}
    from storage.files import sha256_file

    needs.tables[sha256_file(orphan)] = "holter-b/2"
    items = {item.name: item for item in cleaning.look(view)}
    assert items["tiny/9.parquet"].reason == "needed by holter-b/2"


def test_tables_that_others_may_share_are_not_looked_at(tmp_path: Path, monkeypatch: Any) -> None:
    """A folder of HOLTER_BEATS outside the state folder, whose other users are not known."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOLTER_BEATS", str(tmp_path / "shared"))
    place = beats_place()
    assert isinstance(place, Path)
    tiny_dataset(place / "dataset=tiny", records=1)
    view = replace(cleaning.view_of(Needs(), 0), since_s=1e12)
    assert cleaning.look(view) == []
    assert "HOLTER_BEATS" in cleaning.outside()


def test_nothing_goes_unasked(
    junk: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a terminal and without --yes the command ends, with what would go."""
    with pytest.raises(ValueError, match=r"found no terminal to ask at; expected --yes"):
        app(["gc", "--keep-days", "0"], standalone_mode=False)
    assert "beat tables tiny" in capsys.readouterr().err
    assert all(path.exists() for path in junk)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    with pytest.raises(SystemExit):
        app(["gc", "--keep-days", "-1"])


def test_runs_are_measured_and_their_room_given_back(
    registered: Registered, kept_prefect: Emptied
) -> None:
    """The bytes of a run's rows in Prefect's database; it shrinks when they are gone."""
    assert registered.run_id
    database = kept_prefect.home / "prefect" / "prefect.db"
    runs = [history.Run(uuid4(), "absent", "")]
    assert history.held_bytes(database, [run.run_id for run in runs]) == 0
    idle = run_id_of(idle_work)
    (run,) = (one for one in history.look(Needs(), 1e11) if str(one.run_id) == idle)
    assert history.held_bytes(database, [run.run_id]) > 200
    count: Callable[[int], None] = print
    history.remove([run, *runs], count)
    assert idle not in flow_runs()
    assert history.held_bytes(database, [run.run_id]) < 200
    assert history.shrink(database) >= 0
    assert registered.run_id in flow_runs()


def run_of(experiment: str, status: str, **tags: str) -> str:
    """A run of MLflow that has ended, with an artifact."""
    run_id = tracking.start_run(experiment, "made-up", {"epochs": 3}, tags)
    tracking.finish_run(run_id, status)
    return run_id


def stage_of(run_id: str) -> str:
    return str(call("GET", "runs/get", run_id=run_id)["run"]["info"]["lifecycle_stage"])


def test_runs_of_mlflow_go_where_nobody_names_them(
    registered: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed training goes, if that is asked; versions, ledgers and evidence stay, each told."""
    before = findings_of(registered)
    going = [run_of("train/x", "FAILED"), run_of("train/x", "FINISHED"), run_of("edge/x", "KILLED")]
    kept = {
        run_of("drift/x", "FINISHED", **{"holter.kind": "drift"}): "a look for drift",
        run_of("edge/x", "FINISHED"): "a device's report",
        registered.version.run_id: f"needed by {registered.version.reference}",
    }
    running = tracking.start_run("train/x", "made-up", {}, {})
    assert gc(capsys, "--keep-days", "0", "--yes")["mlflow_runs"] == []
    told = gc(capsys, "--keep-days", "0", "--mlflow", "--dry-run", "--reasons")
    reasons = {run["run_id"]: run["reason"] for run in told["mlflow_runs"]}
    assert {run_id for run_id, reason in reasons.items() if not reason} == set(going)
    assert all(reasons[run_id].startswith(reason) for run_id, reason in kept.items())
    assert "a ledger" in reasons.values()
    assert running not in reasons
    assert {stage_of(run_id) for run_id in going} == {"active"}
    assert gc(capsys, "--mlflow", "--yes")["mlflow_runs"] == []  # they are young
    gc(capsys, "--keep-days", "0", "--mlflow", "--yes")
    assert {stage_of(run_id) for run_id in going} == {"deleted"}
    assert {stage_of(run_id) for run_id in [*kept, running]} == {"active"}
    assert findings_of(registered) == before
    command = told["mlflow_for_good"].split()
    assert command[:2] == ["mlflow", "gc"]
    assert set(command[-1].split(",")) == set(going)
    tracking.finish_run(running, "FINISHED")


def test_a_schedule_does_what_the_command_does(registered: Registered, junk: list[Path]) -> None:
    """The flow is no flow that keeps itself from cleaning up; a dry run of it tells alone."""
    idle = run_id_of(idle_work)
    told = retention(keep_days=0, dry_run=True)
    assert all(path.exists() for path in junk)
    went = retention(keep_days=0)
    runs = "run of Prefect"  # the dry run is one more
    assert {**went, runs: 0} == {**told, runs: 0}
    assert went["beat tables"] == 1
    assert not any(path.exists() for path in junk)
    assert idle not in flow_runs()
    assert registered.run_id in flow_runs()
