"""Fixtures of upkeep: a state folder that is a few files, and its backup."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flows.upkeep.backup import back_up
from storage.files import write_bytes

SECRET = "5ec4e7" * 8


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with a database, some files, keys, and what is of its machine alone."""
    folder = tmp_path / "place" / "home"
    monkeypatch.setenv("HOLTER_HOME", str(folder))
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "HOLTER_BEATS", "HOLTER_RELEASE_KEY"):
        monkeypatch.delenv(name, raising=False)
    files = {
        "beats/dataset=a/1.parquet": b"beats",
        "mlflow/artifacts/1/run/artifacts/model.bin": b"model" * 1000,
        "ledger/holter-a.json": b"{}",
        "logs/up.log": b"log",
        "locks/servers.lock": b"",
        "servers.json": b"{}",
        "keys/prefect.key": SECRET.encode(),
        "beats/dataset=a/.2.parquet.0.partial": b"half",
    }
    for name, data in files.items():
        write_bytes(folder / name, data)
    with closing(sqlite3.connect(folder / "mlflow" / "mlflow.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript("CREATE TABLE a (n); CREATE TABLE b (n)")
    return folder


@pytest.fixture
def archive(home: Path, tmp_path: Path) -> Path:
    """A backup of it, which no key signed."""
    assert home.is_dir()
    back_up(tmp_path / "backup.tar")
    return tmp_path / "backup.tar"
