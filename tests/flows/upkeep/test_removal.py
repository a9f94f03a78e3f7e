"""Removal of a data set: TOML and tables go; what a version needs, and recordings, stay."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.cli.app import app
from flows.upkeep import removal
from flows.upkeep.needs import Needs
from storage.datasets.dataset import available_specs
from storage.errors import BackupError, SpecError
from storage.files import home, sha256_file, write_bytes, write_json
from storage.recordings.download import FETCH_NOTE
from storage.tables.beats_manifest import read_manifest, write_manifest
from storage.tables.results import ArrayFolder
from tests.answers import held
from tests.tiny import tiny_dataset


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of the user's own: TOML, picture, tables of two kinds, what was seen of it."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    for name in ("HOLTER_DATASETS", "HOLTER_BEATS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    spec = available_specs()["mitdb"].read_text().replace('name = "mitdb"', 'name = "ward"')
    write_bytes(home() / "datasets" / "ward.toml", spec.encode())
    write_bytes(home() / "datasets" / "ward.png", b"picture")
    for variant in ("ward", "ward.annotations"):
        path = tiny_dataset(home() / "beats" / f"dataset={variant}", records=2)
        write_manifest(path, replace(read_manifest(path), dataset="ward"))
    tiny_dataset(home() / "beats" / "dataset=ward2", records=1)
    write_json(home() / "watch" / "ward.json", {})
    write_json(home() / "watch" / "ward2.json", {})
    for key, names in (("a", ("afdb/1", "ward/1")), ("b", ("ward2/1",))):
        ArrayFolder(home() / "folds").write(key, {name: np.zeros(1) for name in names})
    write_bytes(home() / "folds" / "cut.npz", b"cut")
    return write_bytes(tmp_path / "records" / "100.dat", b"a recording").parent


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    app(["data", "remove", *words, "--format", "json"], standalone_mode=False)
    value: dict[str, Any] = held(capsys.readouterr().out, "data remove")
    return value


def test_all_of_it_goes_and_nothing_else(ward: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables of every kind, TOML, picture, what was seen, answers of folds; recordings stay."""
    told = answer(capsys, "ward", "--dry-run")
    assert "ward" in available_specs()
    result = answer(capsys, "ward", "--yes")
    assert result["items"] == told["items"]
    assert {item["kind"] for item in result["items"]} == {
        "TOML",
        "picture",
        "beat tables",
        "watch note",
        "answers of a fold",
    }
    assert "ward" not in available_specs()
    assert [path.name for path in (home() / "beats").iterdir()] == ["dataset=ward2"]
    assert [path.name for path in (home() / "watch").iterdir()] == ["ward2.json"]
    assert sorted(path.name for path in (home() / "folds").iterdir()) == ["b.npz", "cut.npz"]
    assert (ward / "100.dat").read_bytes() == b"a recording"
    with pytest.raises(SpecError, match=r"no data set named 'ward'; known: afdb"):
        answer(capsys, "ward", "--yes")


def test_tables_that_a_version_needs_stay(ward: Path) -> None:
    """The versions are named; the other tables and the TOML may go."""
    assert ward.is_dir()
    needs = Needs(folders={home() / "beats" / "dataset=ward": ["holter-a/1", "holter-a/2"]})
    kept = {item.name: item.reason for item in removal.plan("ward", needs).items if item.reason}
    assert kept == {"ward": "needed by holter-a/1, holter-a/2"}
    doubt = Needs(unreadable=["holter-b/1: gone"])
    reasons = {item.reason for item in removal.plan("ward", doubt).items if item.lock}
    assert reasons == {"nobody can tell who needs it (holter-b/1: gone)"}


def test_a_shipped_toml_stays(capsys: pytest.CaptureFixture[str], ward: Path) -> None:
    """It is part of the installation, which is told."""
    assert ward.is_dir()
    result = answer(capsys, "mitdb", "--yes")
    assert result["items"] == []
    assert "is part of this installation and stays" in result["notes"][0]


@pytest.mark.parametrize("name", ["../ward", "", "wa*d", "/etc/passwd"])
def test_a_name_that_leads_elsewhere_is_none(ward: Path, name: str) -> None:
    """Nothing outside the folders of data sets is ever matched."""
    assert ward.is_dir()
    with pytest.raises(SpecError, match="no data set named"):
        removal.plan(name, Needs())


def test_recordings_go_where_they_were_fetched_and_that_is_asked(
    ward: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files that the fetch noted, unaltered; others, and altered ones, stay and are told."""
    with pytest.raises(BackupError, match="Recordings of another origin are never removed"):
        answer(capsys, "ward", "--fetched", str(ward), "--yes")
    assert "ward" in available_specs()
    names = ("100.dat", "sub/101.dat", "102.dat")
    digests = {name: sha256_file(write_bytes(ward / name, name.encode())) for name in names}
    write_json(ward / FETCH_NOTE, digests)
    write_bytes(ward / "102.dat", b"edited by hand")
    write_bytes(ward / "notes.txt", b"my own")
    result = answer(capsys, "ward", "--fetched", str(ward), "--yes")
    assert result["kept_recordings"] == ["102.dat", "notes.txt"]
    assert sorted(path.name for path in ward.iterdir()) == ["102.dat", "notes.txt"]


def test_nothing_goes_unasked(ward: Path) -> None:
    """Without a terminal and without --yes it is a misuse."""
    with pytest.raises(ValueError, match=r"Remove data set ward\? found no terminal"):
        app(["data", "remove", "ward"], standalone_mode=False)
    assert "ward" in available_specs()
    shutil.rmtree(ward)
