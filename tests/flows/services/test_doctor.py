"""`holter doctor` finds what is wrong, and says what to do."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.services import doctor
from flows.services.access import prefect_key, prefect_key_path
from flows.services.up_state import Servers, announce
from storage.errors import ServerError
from storage.files import make_folder, write_bytes, write_json
from storage.registry.signing import public_key
from storage.run_notes import dead_runs
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "HOLTER_BEATS"):
        monkeypatch.delenv(name, raising=False)


def problems() -> dict[str, str]:
    return {check.name: check.state for check in doctor.examine() if check.advice}


def test_a_sound_installation_has_no_problem() -> None:
    """The environment that these tests run in is as constraints.txt has it, and all is well."""
    assert problems() == {}


def test_another_version_is_found(tmp_path: Path) -> None:
    """A package of another version than the pinned one is named, with both versions."""
    text = (ROOT / "constraints.txt").read_text()
    assert "\nSQLAlchemy==2.0." in text
    (tmp_path / "constraints.txt").write_text(text.replace("SQLAlchemy==2.0.", "SQLAlchemy==1.4."))
    (found,) = doctor.versions(tmp_path / "constraints.txt")
    assert found.state.startswith("SQLAlchemy 2.0.")
    assert "==1.4." in found.state
    assert "constraints.txt" in found.advice


def test_folders_space_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that cannot be written, a full disk and a readable key are problems."""
    assert public_key()
    (tmp_path / "home" / "keys" / "release.key").chmod(0o644)
    prefect_key(make=True)
    prefect_key_path().chmod(0o640)
    assert all("chmod 600" in found.advice for found in doctor.secrets())
    (found,) = doctor.space(least_gb=1e9)
    assert "GB" in found.advice
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOLTER_BEATS", str(tmp_path / "file"))
    assert "beat tables" in {check.name for check in doctor.folders() if check.advice}


def test_the_disk_of_the_beat_tables_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where tables lie on a disk of their own, its room and its files are measured too."""
    monkeypatch.setenv("HOLTER_BEATS", str(tmp_path / "tables" / "not yet made"))
    full = SimpleNamespace(f_bavail=1, f_frsize=4096, f_files=9, f_favail=9)
    room = SimpleNamespace(f_bavail=1 << 40, f_frsize=4096, f_files=1 << 20, f_favail=1 << 19)
    (tmp_path / "tables").mkdir()
    monkeypatch.setattr(
        "flows.services.doctor.os.statvfs",
        lambda path: full if path == tmp_path / "tables" else room,
    )
    assert [found.name for found in doctor.space() if found.advice] == ["free space, beat tables"]
    full.f_bavail = 1 << 40  # room, and no file more
    assert [found.name for found in doctor.space() if found.advice] == ["free space, beat tables"]
    monkeypatch.setenv("HOLTER_BEATS", "s3://holter/beats")
    assert [found.name for found in doctor.space()] == ["free space, state folder"]


def test_the_state_folder_is_made_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever makes state folder or table folder first gives it mode 700; one that is there and
    that others can read is a problem, one that a group shares is not; nothing below is for others.
    """
    home, beats = tmp_path / "home", tmp_path / "beats"
    monkeypatch.setenv("HOLTER_BEATS", str(beats))
    makers: list[Callable[[], object]] = [
        lambda: write_json(home / "logs" / "a.json", 1),
        public_key,
        lambda: prefect_key(make=True),
        lambda: make_folder(home / "mlflow"),
    ]
    for maker in makers:
        maker()
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        shutil.rmtree(home)
    write_json(beats / "dataset=a" / "manifest.json", 1)
    assert stat.S_IMODE(beats.stat().st_mode) == 0o700
    home.mkdir()
    for mode, told in ((0o755, True), (0o750, False)):
        home.chmod(mode)
        write_json(home / "beats" / f"dataset={mode}" / "a.json", 1)
        assert stat.S_IMODE(home.stat().st_mode) == mode
        for below in (home / "beats", home / "beats" / f"dataset={mode}"):
            assert stat.S_IMODE(below.stat().st_mode) & 0o707 == 0o700
        assert ("privacy, state folder" in problems()) is told


def test_what_has_ended_behind_our_back_is_told(tmp_path: Path) -> None:
    """Servers that `holter up` kept and that answer no more are a problem, with their logs' ends,
    for `doctor` and `status` alike; `holter down` takes the note away."""
    log = write_bytes(tmp_path / "home" / "logs" / "up.log", b"found no space left on the device\n")
    gone = Servers("http://127.0.0.1:9/api", "http://127.0.0.1:9", 1, 1, up_pid=2**22 - 1)
    with pytest.raises(RuntimeError), announce(gone):
        raise RuntimeError
    assert "no space left" in problems()["`holter up`"]
    assert str(log) in problems()["`holter up`"]
    told = CliRunner().invoke(app, ["status"])
    assert isinstance(told.exception, ServerError)
    assert "no space left" in str(told.exception)
    assert CliRunner().invoke(app, ["down"]).exit_code == 0
    assert problems() == {}


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
    assert {run.flow for run in dead_runs()} == {"killed", "renumbered"}
    assert "killed" in problems()["killed runs"]


def test_doctor_loads_no_server_package() -> None:
    """A look at the installation imports neither Prefect nor MLflow, nor what they bring."""
    code = (
        "import sys\n"
        "from flows.cli.app import app\n"
        "try:\n    app(['doctor', '--format', 'json'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = ('prefect', 'mlflow', 'pandas', 'tensorflow', 'httpx')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    words = [sys.executable, "-c", code]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip().splitlines()[-1] == "[]"
