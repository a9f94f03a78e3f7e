"""Ingest leaves withdrawn recordings out, tells of them, and goes on with the others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from flows.ingest.build import Plan, build_table
from flows.ingest.flow import Outcome, _build, report_row
from flows.ingest.simulate import write_simulated
from flows.ingest.withdrawn import WITHDRAWN, leave_out
from storage.consent.blocks import block
from storage.datasets.dataset import load_spec
from storage.errors import Withdrawn
from storage.tables.beats_manifest import manifest_path, read_manifest
from storage.tables.content import recordings
from tasks.signal.preprocessing import Preprocessing
from tests.sealed import made_up_manifest


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two simulated records, in a state folder of the test's own."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HOLTER_BEATS", raising=False)
    return write_simulated(tmp_path / "records", 2, 0.02, 3).parent


def plan_of(folder: Path, out: Path) -> Plan:
    return Plan(load_spec(str(folder / "dataset.toml")), folder, out, Preprocessing(), True)


def test_a_withdrawn_record_is_not_even_read(records: Path, tmp_path: Path) -> None:
    """By its subject and, in another data set by another name, by its files; no table is made."""
    path, manifest = made_up_manifest(records, subjects=2)
    first = next(recordings(manifest))
    block("w-1", [first.subject], [first])
    out = tmp_path / "out"
    plan = plan_of(records, out)
    with pytest.raises(Withdrawn, match=r"record sim000: .*\(withdrawal w-1\)"):
        build_table(plan, "sim000")
    assert _build(plan, "sim000", None) == Outcome("sim000", WITHDRAWN, 0.0)
    assert _build(plan, "sim001", None).state == "built"
    toml = (records / "dataset.toml").read_text().replace('"simulated"', '"elsewhere"', 1)
    for file in records.glob("sim000.*"):
        text = file.read_bytes().replace(b"sim000", b"x") if file.suffix == ".hea" else None
        target = records.parent / "elsewhere" / f"x{file.suffix}"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(file, target) if text is None else target.write_bytes(text)
    elsewhere = records.parent / "elsewhere"
    (elsewhere / "dataset.toml").write_text(toml)
    (elsewhere / "RECORDS").write_text("x\n")
    with pytest.raises(Withdrawn):
        build_table(plan_of(elsewhere, out), "x")
    assert [file.name for file in out.rglob("*.parquet")] == ["sim001.parquet"]
    assert path.is_file()


def test_a_table_that_a_worker_made_is_taken_away(records: Path) -> None:
    """A worker with another state folder knows of no withdrawal: the flow holds tables to it."""
    path, manifest = made_up_manifest(records, subjects=2)
    first = next(recordings(manifest))
    nameless = replace(first, subject="x/y", files={"signal": frozenset(), "beats": frozenset()})
    block("w-1", [], [nameless])  # known by its prints alone
    block("w-2", ["x/nobody"], [])
    outcomes = [Outcome(e.record, "built", 1.0, e) for e in manifest.entries]
    after, told = leave_out(manifest, outcomes, path.parent)
    assert [entry.record for entry in after.entries] == ["sim001"]
    assert after.withdrawn == 1
    assert "sim000" not in str(after.excluded) + str(after.failures)
    assert [(o.record, o.state) for o in told] == [("sim000", WITHDRAWN), ("sim001", "built")]
    assert report_row(told[0], ())["error"] == ""
    assert [file.name for file in path.parent.glob("*.parquet")] == ["sim001.parquet"]
    assert manifest_path(path.parent.parent, "simulated") == path
    assert read_manifest(path) == manifest  # the flow writes the new one
