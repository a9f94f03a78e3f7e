"""Backup and restore: a copy at one moment, checked whole, put back whole or not at all."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sqlite3
import stat
import tarfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flows.services.alive import Alive
from flows.upkeep import backup as work
from flows.upkeep.archive import PREFIX
from flows.upkeep.backup import back_up
from flows.upkeep.restore import restore
from storage.errors import BackupError
from storage.files import sha256_folder, write_bytes, write_json
from storage.registry.signing import public_key
from tests.answers import held
from tests.flows.upkeep.conftest import SECRET


def names_of(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        return {member.name for member in tar}


def state_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("mlflow.db")
    }


def test_what_is_put_back_is_what_was_there(home: Path, archive: Path) -> None:
    """All files come back but keys, logs, locks, notes of this machine, and half-written ones."""
    before = state_of(home)
    home.rename(home.with_name("away"))
    result = restore(archive)
    left_out = ("keys/", "logs/", "locks/", "servers.json", "backups.json")
    kept = {k: v for k, v in before.items() if not k.startswith(left_out) and ".partial" not in k}
    assert state_of(home) == kept
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert not any(path.stat().st_mode & 0o007 for path in home.rglob("*"))
    assert (result.keys, result.key, result.earlier) == ("", "", "")
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM a").fetchone() == (0,)
    assert {path.name for path in home.parent.iterdir()} == {"home", "away"}


def test_a_backup_is_its_owners_alone_and_has_no_key(home: Path, tmp_path: Path) -> None:
    """Mode 600; the keys are in a file of their own, where that is asked, and nowhere else."""
    key = public_key()
    result = back_up(tmp_path / "b.tar", tmp_path / "k.tar")
    for file in ("b.tar", "k.tar"):
        assert stat.S_IMODE((tmp_path / file).stat().st_mode) == 0o600
    private = (home / "keys" / "release.key").read_text().strip().encode()
    assert private not in (tmp_path / "b.tar").read_bytes()
    assert SECRET.encode() not in (tmp_path / "b.tar").read_bytes()
    assert private in (tmp_path / "k.tar").read_bytes()
    assert any("keys" in text for text in result.left_out)
    home.rename(home.with_name("away"))
    restored = restore(tmp_path / "b.tar", tmp_path / "k.tar")
    assert (restored.key, restored.trusted) == (key, True)
    assert public_key() == key
    assert (home / "keys" / "prefect.key").read_text() == SECRET
    assert stat.S_IMODE((home / "keys" / "release.key").stat().st_mode) == 0o600


def test_a_database_is_copied_as_at_one_moment(home: Path, tmp_path: Path) -> None:
    """Rows that a writer adds in one transaction are both there, or neither."""
    database, stop = home / "mlflow" / "mlflow.db", threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(database, 60)) as live:
            n = 0
            while not stop.is_set():
                with live:
                    live.execute("INSERT INTO a VALUES (?)", (n,))
                    live.execute("INSERT INTO b VALUES (?)", (n,))
                write_bytes(home / "ledger" / "holter-a.json", str(n).encode())
                n += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            back_up(tmp_path / f"{number}.tar")
    finally:
        stop.set()
        writer.join()
    for number in range(5):
        restore(tmp_path / f"{number}.tar", replace=True, any_key=True)
        with closing(sqlite3.connect(database)) as copy:
            a, b, last = (
                copy.execute(query).fetchone()[0]
                for query in (
                    "SELECT count(*) FROM a",
                    "SELECT count(*) FROM b",
                    "SELECT coalesce(max(n), -1) FROM a",
                )
            )
        seen = (home / "ledger" / "holter-a.json").read_text()
        assert a == b
        assert seen == "{}" or int(seen) <= last  # no entry was seen that the copy lacks
        for path in home.parent.glob("home.before-*"):
            path.rename(tmp_path / f"aside-{number}")


def test_flows_that_ran_are_told_and_closed_later(home: Path, tmp_path: Path) -> None:
    """The note of a flow is put back as of a process that is gone, though the number lives."""
    note = {"flow_run_id": "r", "flow": "train", "host": platform.node(), "pid": os.getpid()}
    import psutil

    since = psutil.Process().create_time() - psutil.boot_time()
    path = write_json(home / "running" / "r.json", {**note, "since": since})
    assert not Alive(**json.loads(path.read_text())).is_dead()
    result = back_up(tmp_path / "b.tar")
    assert result.running == (f"train (process {os.getpid()} on {platform.node()})",)
    home.rename(home.with_name("away"))
    assert restore(tmp_path / "b.tar").running == result.running
    assert Alive(**json.loads(path.read_text())).is_dead()


def test_no_state_folder_in_use_is_put_aside(home: Path, archive: Path) -> None:
    """A flow that runs in it ends the restore, before anything is unpacked."""
    import psutil

    since = psutil.Process().create_time() - psutil.boot_time()
    note = {"flow_run_id": "r", "flow": "train", "host": platform.node(), "pid": os.getpid()}
    write_json(home / "running" / "r.json", {**note, "since": since})
    with pytest.raises(BackupError, match=r"found flows that run \(train, process"):
        restore(archive, replace=True)


def test_files_are_not_replaced_unasked(home: Path, archive: Path) -> None:
    """Neither a state folder that holds any, nor a backup; and one put aside stays whole."""
    with pytest.raises(BackupError, match="found files; expected none"):
        restore(archive)
    with pytest.raises(BackupError, match="found a file; expected none"):
        back_up(archive)
    before = sha256_folder(home)
    result = restore(archive, replace=True)
    assert sha256_folder(Path(result.earlier)) == before
    assert (home / "keys" / "prefect.key").read_text() == SECRET  # this machine's keys stay
    assert back_up(archive, overwrite=True).file == str(archive)


def test_the_keys_have_a_file_of_their_own(home: Path, tmp_path: Path) -> None:
    """The same file for both is refused; one whose keys cannot be written leaves none."""
    with pytest.raises(BackupError, match="named twice; expected another file"):
        back_up(tmp_path / "b.tar", tmp_path / "b.tar")
    shutil.rmtree(home / "keys")
    with pytest.raises(BackupError, match="found no folder; expected keys"):
        back_up(tmp_path / "b.tar", tmp_path / "k.tar")
    assert not (tmp_path / "b.tar").exists()


@pytest.mark.parametrize("place", ["home/backup.tar", "home/mlflow/backup.tar"])
def test_a_backup_does_not_lie_in_what_it_copies(home: Path, place: str) -> None:
    """A file in the state folder is refused by name."""
    with pytest.raises(BackupError, match="in the state folder; expected one outside"):
        back_up(home.parent / place)


def test_what_is_left_out_is_told(home: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Links, beat tables elsewhere, servers of a team: each in words."""
    (home / "beats" / "link").symlink_to("/etc/passwd")
    (home / "disk").mkdir()
    write_bytes(tmp_path / "disk" / "x", b"on another disk")
    (home / "disk").rmdir()
    (home / "disk").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("HOLTER_BEATS", str(tmp_path / "tables"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://u:{'secret'}@mlflow.example")
    text = "; ".join(back_up(tmp_path / "b.tar").left_out)
    assert "beats/link: a link" in text
    assert "HOLTER_BEATS" in text
    assert "pg_dump" in text
    assert "secret" not in text
    assert PREFIX + "disk/x" in names_of(tmp_path / "b.tar")
    shutil.rmtree(home / "ledger")  # of a registry without a model: nothing lacks
    assert "ledger" not in "; ".join(back_up(tmp_path / "c.tar").left_out)


def test_tables_that_an_ingest_changes_are_told(home: Path, tmp_path: Path) -> None:
    """A table that is not the one of its manifest is of an ingest that was at work."""
    from tests.tiny import tiny_dataset

    path = tiny_dataset(home / "beats" / "dataset=tiny", records=2)
    assert back_up(tmp_path / "1.tar").unsettled == ()
    write_bytes(path.parent / "0.parquet", b"newer")
    assert back_up(tmp_path / "2.tar").unsettled == ("beats/dataset=tiny",)


def test_a_restore_that_fails_at_the_last_step_leaves_the_old_folder(
    home: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the new folder cannot be renamed into place, the old one is there again."""
    before, rename = sha256_folder(home), Path.rename

    def fails(path: Path, target: Path) -> Path:
        if path.name == "home" and ".restore-" in str(path):
            raise OSError("the disk says no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="the disk says no"):
        restore(archive, replace=True)
    assert sha256_folder(home) == before
    assert {path.name for path in home.parent.iterdir()} == {"home"}


def test_a_backup_that_fails_leaves_no_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it harm one that was there."""
    monkeypatch.setattr(work, "snapshot", lambda *_: (_ for _ in ()).throw(BackupError("damaged")))
    with pytest.raises(BackupError, match="damaged"):
        back_up(tmp_path / "out" / "b.tar")
    assert list((tmp_path / "out").iterdir()) == []
    write_bytes(home / "mlflow" / "broken.db", b"SQLite format 3\0" + b"\xff" * 5000)
    monkeypatch.undo()
    monkeypatch.setenv("HOLTER_HOME", str(home))
    with pytest.raises(BackupError, match=r"broken\.db: .*expected one that can be copied"):
        back_up(tmp_path / "out" / "b.tar")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_commands_answer_on_standard_output(
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`--format json` gives the same as an object, and nothing else."""
    from flows.cli.app import app

    file = str(tmp_path / "b.tar")
    app(["backup", file, "--format", "json"], standalone_mode=False)
    value = held(capsys.readouterr().out, "backup")
    assert value["file"] == file
    assert value["databases"] == ["mlflow/mlflow.db"]
    assert value["folders"]["beats"] == {"files": 1, "bytes": 5}
    app(["restore", file, "--replace"], standalone_mode=False)
    text = capsys.readouterr().out
    assert f"Restored {home}" in text
    assert "Aside" in text
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "absent"))
    with pytest.raises(BackupError, match="found nothing; expected one to copy"):
        app(["backup", str(tmp_path / "c.tar")], standalone_mode=False)
    app(["restore", file, "--format", "json"], standalone_mode=False)
    assert held(capsys.readouterr().out, "restore")["folder"] == str(tmp_path / "absent")
