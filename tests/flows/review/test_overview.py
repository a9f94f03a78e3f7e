"""The review page's overview: what servers tell, and what needs a person."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.review import overview
from flows.review.library import Library
from storage.audit import ledger
from tests import made_up
from tests.review import fill


@pytest.mark.server
def test_what_needs_a_person_comes_first(fresh_model: str, tmp_path: Path) -> None:
    """A version that the gate refused needs a person, until it is approved; faults come first."""
    version = made_up.register(tmp_path, name=fresh_model)
    ledger.append(fresh_model, 1, overview.REFUSED, "F1 too low", who="gate", alias="champion")
    registry = overview.read_registry()
    assert registry.fault == ""
    row = next(row for row in registry.versions if row["reference"] == version.model.reference)
    assert row["state"] == "refused"
    assert 0 < row["f1"] <= 1
    assert f"/runs/{version.model.run_id}" in row["run"]
    needs = [need for need in registry.needs if fresh_model in need.words]
    assert [need.words for need in needs] == [f"{fresh_model}/1 was refused: F1 too low"]
    assert needs[0].is_fault
    ledger.append(fresh_model, 1, "approved", "looked at", who="ada", alias="champion")
    assert not [n for n in overview.read_registry().needs if fresh_model in n.words]


def test_data_sets_tell_their_state_without_any_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no registry is, that is told, none is started, and the data sets are there."""
    for name in ("HOLTER_BEATS", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    monkeypatch.setattr(overview, "_LAST", [])
    fill(tmp_path)
    page = overview.overview(Library())
    assert "No registry" in page["registry"].fault
    states = {row["name"]: row["state"] for row in page["datasets"]}
    assert states == {"simulated": "ready", "hostile": "1 failed"}
    assert [need.is_fault for need in page["needs"]] == [True]
