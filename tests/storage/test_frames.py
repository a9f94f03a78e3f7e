"""Beat tables and manifests as DataFrames: what is on disk, typed and named."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from storage.errors import TableError
from storage.tables.beats import Quality, read_beats, write_beats
from storage.tables.beats_manifest import read_manifest
from storage.tables.frames import COLUMNS, FLAGS, as_csv, beats_frame, records_frame
from tests.tiny import SOURCE, tiny_dataset, tiny_table


def test_a_data_set_is_one_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, manifest or a record's table: the same beats, typed, in the tables' order."""
    monkeypatch.setenv("HOLTER_BEATS", str(tmp_path))
    manifest = tiny_dataset(tmp_path / "dataset=tiny", records=3, n=60)
    frame = beats_frame("tiny")
    pd.testing.assert_frame_equal(frame, beats_frame(manifest))
    assert tuple(frame.columns) == COLUMNS
    assert frame.groupby("record", observed=True).size().to_dict() == {"0": 60, "1": 60, "2": 60}
    types = {"time_s": "float64", "rr_prev_s": "float32", "label": "int8", "rhythm": "category"}
    assert {name: str(frame[name].dtype) for name in types} == types
    for number in range(3):
        file = manifest.parent / f"{number}.parquet"
        table, mine = read_beats(file), frame[frame.record == str(number)].reset_index(drop=True)
        for name in ("sample", "time_s", "rr_prev_s", "rr_next_s", "label", "quality", "noise"):
            np.testing.assert_array_equal(mine[name], getattr(table, name))
        assert mine.rhythm.tolist() == table.rhythm.tolist()
        some = beats_frame(str(file), ["rhythm", "time_s"])
        assert list(some.columns) == ["rhythm", "time_s"]
        assert some.rhythm.tolist() == table.rhythm.tolist()


def test_each_flag_is_a_column(tmp_path: Path) -> None:
    """A flag of a beat is true in its column and in no other."""
    table, numbers = tiny_table(0, len(Quality)), np.array([int(flag) for flag in Quality])
    flagged = table.take(slice(None))
    flagged.quality[:] = numbers
    write_beats(tmp_path / "r.parquet", [flagged], SOURCE)
    frame = beats_frame(tmp_path / "r.parquet")
    assert frame[list(FLAGS)].to_numpy().tolist() == np.eye(len(Quality), dtype=bool).tolist()
    assert list(FLAGS)[:3] == ["gap", "flat", "saturated"]


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    """An unknown column gets a hint; a missing manifest and an altered table are errors of ours."""
    manifest = tiny_dataset(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'rr_prev_s'"):
        beats_frame(manifest, ["rr_prev"])
    with pytest.raises(TableError, match="found no file"):
        beats_frame(tmp_path / "none" / "manifest.json")
    file = tmp_path / "1.parquet"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(TableError, match="altered bytes"):
        beats_frame(manifest)


def test_records_are_a_frame(tmp_path: Path) -> None:
    """A row a record of every data set, with the counts that its manifest holds."""
    paths = [tiny_dataset(tmp_path / name, 3, 60, dataset=name) for name in ("one", "two")]
    manifests = [read_manifest(path) for path in paths]
    frame = records_frame(manifests)
    assert frame.groupby("dataset").beats.sum().to_dict() == {"one": 180, "two": 180}
    assert frame.sha256.tolist() == [e.sha256 for m in manifests for e in m.entries]
    assert records_frame([]).empty


def test_tables_are_written_as_csv() -> None:
    """A header and a line a row; no rows give an empty file."""
    assert as_csv(pd.DataFrame([{"a": 1, "b": 0.5}])) == b"a,b\r\n1,0.5\r\n"
    assert as_csv(pd.DataFrame({"a": ["x, y"], "b": [np.nan]})) == b'a,b\r\n"x, y",nan\r\n'
    assert as_csv(pd.DataFrame()) == b""


def test_no_text_of_a_csv_is_a_formula() -> None:
    """Names of records are anybody's: a spreadsheet shows them and computes nothing."""
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "100"]
    frame = pd.DataFrame({"record": names, "kind": pd.Categorical(names), "n": [-1] * 6})
    rows = list(csv.DictReader(io.StringIO(as_csv(frame).decode(), newline="")))
    assert [row["record"] for row in rows] == [*(f"'{name}" for name in names[:-1]), "100"]
    assert [row["kind"] for row in rows] == [row["record"] for row in rows]
    assert {row["n"] for row in rows} == {"-1"}
