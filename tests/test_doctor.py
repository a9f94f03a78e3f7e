"""`holter doctor` finds what is wrong, and says what to do."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil
import pytest

from flows import alive, doctor
from storage.files import write_json
from storage.signing import public_key
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "HOLTER_BEATS"):
        monkeypatch.delenv(name, raising=False)


def problems() -> dict[str, str]:
    return {check.name: check.found for check in doctor.examine() if check.advice}


def test_a_sound_installation_has_no_problem() -> None:
    """The environment that these tests run in is as constraints.txt has it, and all is well."""
    assert problems() == {}


def test_another_version_is_found(tmp_path: Path) -> None:
    """A package of another version than the pinned one is named, with both versions."""
    text = (ROOT / "constraints.txt").read_text()
    assert "\nSQLAlchemy==2.0." in text
    (tmp_path / "constraints.txt").write_text(text.replace("SQLAlchemy==2.0.", "SQLAlchemy==1.4."))
    (found,) = doctor.versions(tmp_path / "constraints.txt")
    assert found.found.startswith("SQLAlchemy 2.0.")
    assert "==1.4." in found.found
    assert "constraints.txt" in found.advice


def test_folders_space_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that cannot be written, a full disk and a readable key are problems."""
    assert public_key()
    (tmp_path / "home" / "keys" / "release.key").chmod(0o644)
    (found,) = doctor.secrets()
    assert "chmod 600" in found.advice
    (found,) = doctor.space(least_gb=1e9)
    assert "GB" in found.advice
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOLTER_BEATS", str(tmp_path / "file"))
    assert "beat tables" in {check.name for check in doctor.folders() if check.advice}


def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is named and does not answer is a problem of its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert list(problems()) == ["MLflow"]


def test_killed_runs_are_told_from_living_ones(tmp_path: Path) -> None:
    """A run is dead when its process is gone, or another process has its number."""
    since_start = psutil.Process().create_time() - psutil.boot_time()
    for name, pid, since in (
        ("living", os.getpid(), since_start),
        ("killed", 2**22 - 1, since_start),
        ("renumbered", os.getpid(), since_start - 60),
    ):
        note = {"flow_run_id": name, "flow": name, "host": platform.node()}
        write_json(
            tmp_path / "home" / "running" / f"{name}.json", {**note, "pid": pid, "since": since}
        )
    assert {run.flow for run in alive.dead_runs()} == {"killed", "renumbered"}
    assert "killed" in problems()["killed runs"]
