"""A watched folder: records are taken when they are whole, once, and again when they change."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from flows.ingest.simulate import write_simulated
from storage.datasets.dataset import load_spec
from storage.recordings.arrivals import Look, look, read_states, write_states
from tests.conftest import ROOT

if TYPE_CHECKING:
    from flows.train.settings import WatchSettings

QUIET_S = 30.0


def aged(folder: Path) -> None:
    """Make what has just changed in a folder something that changed an hour ago."""
    for file in folder.iterdir():
        status = file.stat()
        if time.time() - status.st_mtime > 600:
            continue
        os.utime(file, (status.st_atime, status.st_mtime - 3600))


@pytest.fixture
def arriving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A folder that fills, with its TOML and no record yet, and the folder they come from."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    source, folder = tmp_path / "source", tmp_path / "ward"
    write_simulated(source, 4, 0.05, 1)
    folder.mkdir()
    toml = (source / "dataset.toml").read_text().replace('file = "RECORDS"', 'pattern = "sim*"')
    (folder / "dataset.toml").write_text(toml)
    return source, folder


def bring(source: Path, folder: Path, name: str) -> None:
    for file in source.glob(f"{name}.*"):
        shutil.copyfile(file, folder / file.name)


def seen_at(folder: Path) -> Look:
    found = look(load_spec(folder), folder, read_states("ward"), QUIET_S, signal=True)
    write_states("ward", found.states)
    return found


def test_a_record_is_taken_when_it_is_whole(arriving: tuple[Path, Path]) -> None:
    """One that still changes waits, so does half of one; a whole and quiet one is taken once."""
    source, folder = arriving
    bring(source, folder, "sim000")
    bring(source, folder, "sim001")
    half = folder / "sim001.dat"
    whole = half.read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    first = seen_at(folder)
    assert first.ready == ()
    assert set(first.waiting) == {"sim000", "sim001"}
    aged(folder)
    second = seen_at(folder)
    assert second.ready == ("sim000",)
    assert "sim001.dat" in second.waiting["sim001"]
    assert seen_at(folder).ready == ()
    half.write_bytes(whole)
    assert "quiet" in seen_at(folder).waiting["sim001"]
    aged(folder)
    assert seen_at(folder).ready == ("sim001",)
    annotation = folder / "sim000.atr"
    annotation.write_bytes(annotation.read_bytes())
    assert "sim000" in seen_at(folder).waiting
    aged(folder)
    assert seen_at(folder).ready == ("sim000",)


@pytest.mark.slow
@pytest.mark.usefixtures("holter_servers")
@pytest.mark.filterwarnings("default")  # Prefect's and MLflow's own, at import and in threads
def test_arrivals_are_ingested_and_then_a_model_is_trained(
    arriving: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just the new records are ingested, and the training comes when enough of them have come."""
    from flows.ingest.folders import data_sets
    from flows.train import watch as module
    from flows.train.settings import WatchSettings, train_settings
    from storage.places import beats_place
    from storage.tables.beats_manifest import manifest_path, read_manifest

    events: list[str] = []
    monkeypatch.setattr(module, "emit_event", lambda event, **_: events.append(event))
    source, folder = arriving

    def asked(**training: Any) -> WatchSettings:
        sets = data_sets([str(folder / "dataset.toml")], data=[folder])
        how = train_settings(datasets=sets, **training)
        return WatchSettings(training=how, retrain_after=4)

    for name in ("sim000", "sim001"):
        bring(source, folder, name)
    aged(folder)
    done = module.watch(asked())
    assert {o.record: o.state for o in done.outcomes} == {"sim000": "built", "sim001": "built"}
    assert done.trained is None
    for name in ("sim002", "sim003"):
        bring(source, folder, name)
    aged(folder)
    done = module.watch(asked(model="resnet15", epochs=1))
    assert {o.record: o.state for o in done.outcomes} == {"sim002": "built", "sim003": "built"}
    assert done.trained is not None
    assert {o.state for o in done.trained.ingested[0].outcomes} == {"kept"}
    assert events == ["holter.records.arrived", "holter.records.arrived", "holter.retraining.due"]
    manifest = read_manifest(manifest_path(beats_place(), load_spec(folder).name))
    assert len(manifest.entries) == 4
    again = module.watch(asked(model="resnet15", epochs=1))
    assert (again.outcomes, again.trained) == ((), None)
    check_prefect_s_page(done.trained.run_id)


def check_prefect_s_page(run_id: str) -> None:
    """Runs go by the data set's name, not the path of its TOML; the table of records has a link."""
    api = os.environ["PREFECT_API_URL"]
    runs = httpx.post(f"{api}/flow_runs/filter", json={}, timeout=30).raise_for_status().json()
    assert {"ingest-simulated", "watch-simulated"} <= {run["name"] for run in runs}
    assert not [run["name"] for run in runs if "/" in run["name"]]
    table = httpx.get(f"{api}/artifacts/ingest-simulated/latest", timeout=30).raise_for_status()
    assert f"/runs/{run_id}?workflowType=machine_learning)" in table.json()["description"]
    rows = json.loads(table.json()["data"])
    assert [row["record"] for row in rows] == ["sim000", "sim001", "sim002", "sim003"]
    assert {row["side"] for row in rows} == {"train", "validation", "test"}


@pytest.mark.slow
@pytest.mark.usefixtures("holter_servers")
def test_a_flow_s_lines_name_records_and_runs(tmp_path: Path) -> None:
    """All of standard error is JSON; a record's line has record, flow run and task run."""
    toml = write_simulated(tmp_path, 3, 0.02, 1)
    (tmp_path / "sim001.dat").unlink()
    words = [sys.executable, "-m", "flows", "ingest", str(toml), "--data", str(tmp_path)]
    env = {**os.environ, "HOLTER_LOG": "json"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    (failed,) = (line for line in lines if line["level"] == "ERROR" and "record" in line)
    assert (failed["dataset"], failed["record"]) == ("simulated", "sim001")
    assert {line["record"] for line in lines if "record" in line} == {"sim000", "sim001", "sim002"}
    runs = {line["flow_run_id"] for line in lines if line.get("flow_name") == "ingest"}
    assert runs == {failed["flow_run_id"]}
    assert "ingest-simulated" in {line.get("flow_run_name") for line in lines}
    tasks = {line["task_run_id"] for line in lines if line["logger"] == "prefect.task_runs"}
    assert failed["task_run_id"] in tasks
    assert "3 records" in done.stdout or "2 records" in done.stdout, "the report is for people"
