"""Labels of whole records: by a CSV of the data set, by paths, and where annotations are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.ingest.build import Plan, build_table
from flows.ingest.flow import table_description
from storage.datasets.dataset import (
    DatasetSpec,
    absent_records,
    excluded_records,
    load_spec,
    record_names,
)
from storage.datasets.dataset_write import write_spec
from storage.datasets.labels import MOST_CSV_BYTES, rows_without_record
from storage.errors import BadLabel, MissingFile, RecordError, SpecError, UnknownRhythm
from storage.formats.wfdb_annotation import encode_annotations
from storage.recordings.arrivals import look
from storage.recordings.check import check_record
from storage.recordings.records import open_record
from storage.recordings.survey import survey
from storage.tables.beats import read_source
from storage.tables.beats_manifest import Entry
from tasks.signal.preprocessing import Preprocessing
from tests.made_up import manifest

ABOUT = {"name": "made", "title": "x", "version": "1", "licence": "x", "citation": "x"}
RHYTHMS = {"af": ["AFIB"], "map": {"A": "AFIB", "AFIB": "AFIB", "N": "N", "~": ""}}
NAMES = ("af/p01", "af/p02", "nsr/p03")


def spec(
    labels: Mapping[str, Any] | None = None,
    subjects: Mapping[str, Any] | None = None,
    **rhythms: str,
) -> DatasetSpec:
    """A data set with annotated beats, whose rhythms are as `labels` say."""
    return DatasetSpec.model_validate(
        {
            **ABOUT,
            "records": {"pattern": "**/*"},
            "annotations": {"beats": ["qrs"], "rhythm": "atr"},
            "labels": labels or {},
            "leads": {"prefer": ["II"]},
            "rhythms": {**RHYTHMS, **rhythms},
            "subjects": subjects or {},
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three records without samples, of ten beats each and no rhythm mark."""
    beats = np.arange(1, 11, dtype=np.int64) * 200
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.hea").write_text(f"{Path(name).name} 0 250 2500\n")
        (tmp_path / f"{name}.qrs").write_bytes(encode_annotations(beats, ["N"] * 10))
    return tmp_path


def rhythms(folder: Path, how: DatasetSpec, names: tuple[str, ...] = NAMES) -> list[Any]:
    """Rhythms of each record, and what told them."""
    records = [open_record(how, folder, name, signal=False) for name in names]
    return [(record.rhythms.tolist(), record.label_source) for record in records]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("p01,A\np02,~\np03,N\n", {"columns": {"record": 1, "label": 2}}),
        ("label,record\nA,af/p01\n~,af/p02.hea\nN,./nsr/p03\n", {}),
        ("\ufeffid;dx;more\r\naf\\p01;A;1\r\np02;~;2\r\n\r\np03;N;3\r\n",
         {"columns": {"record": "id", "label": "dx"}}),
        ('record\tlabel\np01\t"A"\np02\t~\np03\tN\np03\tN\n', {}),
    ],
)  # fmt: skip
def test_a_csv_labels_whole_records(folder: Path, text: str, labels: dict[str, Any]) -> None:
    """A row gives its record a rhythm, with a header or without, by whole name or its last part."""
    (folder / "REFERENCE.csv").write_bytes(text.encode())
    how = spec({"file": "REFERENCE.csv", **labels})
    told = [(["AFIB"], "record label"), ([""], "record label"), (["N"], "record label")]
    assert rhythms(folder, how) == told
    assert rows_without_record(how, folder, record_names(how, folder)) == []


@pytest.mark.parametrize("code", ["utf-8-sig", "latin-1", "utf-16"])
def test_a_csv_of_any_code_and_case(folder: Path, code: str) -> None:
    """Rows name records in any case, with their files' endings; Latin-1 and UTF-16 are read."""
    text = "record;label;why\r\naf\\P01.HEA;A;\r\nP02.Hea;~;unruhig, für 1 h\r\np03;N\r\n"
    (folder / "r.csv").write_bytes(text.encode(code))
    how = spec({"file": "r.csv", "columns": {"record": 1, "label": 2}})
    assert [told for told, _ in rhythms(folder, how)] == [["AFIB"], [""], ["N"]]
    (table,) = survey(folder).tables
    assert table.columns == {"record": "record", "label": "label", "why": "why"}
    assert table.records == set(NAMES), "a row of fewer cells hides no column"


def test_paths_label_whole_records(folder: Path) -> None:
    """A pattern of a record's path gives it a rhythm, in exactly the letters of the pattern."""
    how = spec({"paths": {"af/*": "AFIB", "NSR/*": "N"}}, unmarked="N")
    told = [(["AFIB"], "record label"), (["AFIB"], "record label"), (["N"], "unmarked")]
    assert rhythms(folder, how) == told


def test_an_annotation_wins_over_a_label(folder: Path) -> None:
    """Where a rhythm is marked the marks are taken, the record's label where none is."""
    marks = encode_annotations(np.array([0, 1000]), ["+", "+"], {0: "(N", 1: "(AFIB"})
    (folder / "af/p02.atr").write_bytes(encode_annotations(np.array([500]), ["~"]))
    how = spec({"paths": {"af/*": "AFIB", "nsr/*": "N"}})
    for file in ("af/p01.atr", "af/P01.ATR"):
        (folder / file).write_bytes(marks)
        assert rhythms(folder, how) == [
            (["N", "AFIB"], "annotation"), (["AFIB"], "record label"), (["N"], "record label")
        ], file  # fmt: skip
        assert survey(folder).records[0].annotators["atr"].rhythms == {"N": 1, "AFIB": 1}, file
        (folder / file).unlink()


def test_a_comment_and_then_the_unmarked_follow_a_label(folder: Path) -> None:
    """Without a label a header's comment tells the rhythm, then the TOML's `unmarked`."""
    (folder / "af/p02.hea").write_text("p02 0 250 2500\n# no AF\n")
    (folder / "r.csv").write_text("record,label\naf/p01,A\naf/p02,\n")
    how = spec({"file": "r.csv"}, unmarked="N", from_comments={"no AF": "N"})  # type: ignore[arg-type] # a table of the TOML
    sources = [source for _, source in rhythms(folder, how)]
    assert sources == ["record label", "comment", "unmarked"]


def test_an_absent_annotation_file_is_unmarked_where_that_is_said(folder: Path) -> None:
    """A record without its annotation file has the rhythm of the unmarked, or is refused."""
    assert rhythms(folder, spec(unmarked="N"), ("af/p01",)) == [(["N"], "unmarked")]
    with pytest.raises(MissingFile, match=r"af/p01\.atr"):
        open_record(spec(), folder, "af/p01", signal=False)


@pytest.mark.parametrize(
    ("text", "labels", "kind", "said"),
    [
        ("record,label\np03,N\np01,A\np01,N\n", {}, BadLabel, "rows that differ ('A', 'N')"),
        ("record,label\np03,N\np01,X\n", {}, UnknownRhythm, "r.csv: found rhythm 'X'"),
        ("record,label\np03,N\np01\n", {}, BadLabel, "a row of 1 cells"),
        ("record,label,exclude\np03,N,no\np01,A,?\n", {}, BadLabel, "exclude '?'"),
        ("record,label\np03,N\np01,A\n", {"paths": {"af/*": "N"}}, BadLabel, "'A' by r.csv"),
        (
            "record,label\np03,N\n",
            {"paths": {"*": "N", "af/*": "A"}},
            BadLabel,
            "'A' by [labels.paths] 'af/*'",
        ),
        ("record,label,subject\np03,N,s\np01,A,\n", {}, BadLabel, "no subject"),
    ],
)
def test_a_label_that_cannot_be_used_is_its_record_s_alone(
    folder: Path, text: str, labels: dict[str, Any], kind: type[RecordError], said: str
) -> None:
    """Rows that differ, an unknown label and a bad cell are errors of one record; others go on."""
    (folder / "r.csv").write_text(text)
    how = spec({"file": "r.csv", **labels})
    with pytest.raises(kind, match=re.escape(said)):
        open_record(how, folder, "af/p01", signal=False)
    assert check_record(how, folder, "nsr/p03", signal=False).problem is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "has no r.csv, which labels its records"),
        ("id,label\np01,A\n", "header 'id,label' .record, and label wanted."),
        ("record,label\n\"p01,A\n", "expected a CSV of records"),
        ("", "the header ''"),
    ],
)  # fmt: skip
def test_a_csv_that_cannot_be_read_is_the_data_set_s(
    folder: Path, text: str | None, said: str
) -> None:
    """A CSV that is not there, or has no such columns, stops the data set and says so."""
    if text is not None:
        (folder / "r.csv").write_text(text)
    with pytest.raises(SpecError, match=said):
        record_names(spec({"file": "r.csv"}), folder)


def test_a_row_that_may_be_two_records_is_refused(folder: Path) -> None:
    """A row names one record: a last part that two have is refused, whole names are not."""
    (folder / "nsr/p01.hea").write_text("p01 0 250 2500\n")
    how = spec({"file": "r.csv"})
    (folder / "r.csv").write_text("record,label\np01,A\n")
    with pytest.raises(SpecError, match="'p01', which may be af/p01 and nsr/p01"):
        record_names(how, folder)
    (folder / "r.csv").write_text("record,label\naf/p01,A\nnsr/p01,N\n")
    assert len(record_names(how, folder)) == 4


def test_a_csv_tells_subjects_and_who_is_left_out(folder: Path) -> None:
    """Rows give subjects and leave records out, with the reason; the TOML's own table wins."""
    lines = (
        "record,label,subject,exclude,why",
        "p01,A,s1,,",
        "p02,A,s1,1,lead off",
        "p03,N,s2,no,",
    )
    (folder / "r.csv").write_text("\n".join(lines))
    how = spec({"file": "r.csv"}, {"map": {"nsr/p03": "s9"}})
    assert record_names(how, folder) == ["af/p01", "nsr/p03"]
    assert excluded_records(how, folder) == {"af/p02": "lead off"}
    subjects = [open_record(how, folder, name, signal=False).subject for name in NAMES]
    assert subjects == ["s1", "s1", "s9"]


def test_a_record_that_no_pattern_fits_is_nobody_s(folder: Path) -> None:
    """Where a pattern tells subjects, a record that it does not fit is refused, not a new one."""
    how = spec(subjects={"pattern": r"(?P<subject>p0[12])", "map": {}}, unmarked="N")
    assert open_record(how, folder, "af/p01", signal=False).subject == "p01"
    with pytest.raises(BadLabel, match="nsr/p03: found no subject; expected a name that"):
        open_record(how, folder, "nsr/p03", signal=False)
    mapped = spec(subjects={"pattern": "(?P<subject>x)", "map": {"nsr/p03": "s"}}, unmarked="N")
    assert open_record(mapped, folder, "nsr/p03", signal=False).subject == "s"


def test_one_changed_label_rebuilds_one_record(folder: Path, tmp_path: Path) -> None:
    """A record's table says what labelled it, and is made anew when its own row changes alone."""
    how, out = spec({"file": "r.csv"}), tmp_path / "beats"
    out.mkdir()

    def built(known: Mapping[str, Entry]) -> dict[str, tuple[str, Entry]]:
        return {
            name: build_table(Plan(how, folder, out, Preprocessing(), False), name, known.get(name))
            for name in NAMES
        }

    (folder / "r.csv").write_text("record,label\np01,A\np02,A\np03,N\n")
    first = built({})
    assert {entry.label_source for _, entry in first.values()} == {"record label"}
    assert read_source(out / "af/p01.parquet").label_source == "record label"
    assert first["af/p01"][1].af_beats == 10
    (folder / "r.csv").write_text("record,label\np03,N\np01,A\np02,N\n")
    again = built({name: entry for name, (_, entry) in first.items()})
    states = {name: state for name, (state, _) in again.items()}
    assert states == {"af/p01": "kept", "af/p02": "built", "nsr/p03": "kept"}
    assert again["af/p02"][1].af_beats == 0


def test_check_tells_what_labelled_and_what_is_not_there(folder: Path) -> None:
    """`holter data check` tells what labelled each record, who is left out, and absent records."""
    (folder / "r.csv").write_text("record,label,exclude,why\np01,A,x,noise\np02,A,,\ngone,N,,\n")
    how = spec({"file": "r.csv"}, unmarked="N")
    toml = write_spec(folder / "made.toml", how)
    words = ["data", "check", str(toml), "--data", str(folder), "--no-signal"]
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "left out  af/p01: noise" in done.output
    assert "1 records that have a label are not there: gone" in done.output
    assert "record label" in done.output
    assert "unmarked" in done.output


def test_a_huge_csv_is_refused_unread(folder: Path) -> None:
    """A CSV beyond any number of records is refused by its size, and no survey reads it."""
    with (folder / "r.csv").open("wb") as file:
        file.write(b"record,label\np01,A\n")
        file.truncate(MOST_CSV_BYTES + 1)
    with pytest.raises(SpecError, match=f"at most {MOST_CSV_BYTES} are read"):
        record_names(spec({"file": "r.csv"}), folder)
    assert survey(folder).tables == ()


def test_a_label_that_comes_later_is_looked_at(folder: Path) -> None:
    """A watched record without a label is looked at again when the CSV has a row for it."""
    (folder / "r.csv").write_text("record,label\np01,A\np02,A\n")
    how = spec({"file": "r.csv"})
    first = look(how, folder, {}, 0.0, signal=False)
    assert first.ready == ("af/p01", "af/p02")
    (folder / "r.csv").write_text("record,label\np02,N\np01,A\np03,N\n")
    assert look(how, folder, first.states, 0.0, signal=False).ready == ("af/p02", "nsr/p03")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"file": "r.csv", "columns": {"label": 1}}, "columns needs record"),
        ({"file": "r.csv", "columns": {"record": 1, "label": "x"}}, "all named by the header, or"),
        ({"file": "r.csv", "columns": {"record": 0, "label": 1}}, "greater than or equal to 1"),
    ],
)
def test_columns_are_named_or_numbered(labels: dict[str, Any], said: str) -> None:
    """Columns are all named by the header, or all numbered from 1, and one is the record's."""
    with pytest.raises(ValueError, match=said):
        spec(labels)


@pytest.mark.real
def test_cinc2017_is_read_as_it_is_shipped(real_data: Path) -> None:
    """The challenge's labels are those of its table: A is AF, N and O are not, ~ is unknown."""
    folder, how = real_data / "cinc2017", load_spec("cinc2017")
    names = record_names(how, folder)
    assert rows_without_record(how, folder, names) == []
    rows = dict(line.split(",") for line in (folder / "REFERENCE.csv").read_text().split())
    first = {rows[name]: name for name in reversed(names)}
    meaning = {"A": "AFIB", "N": "N", "O": "other", "~": ""}
    assert first.keys() == meaning.keys()
    for label, name in first.items():
        check = check_record(how, folder, name, signal=True)
        assert check.problem is None
        assert [*check.rhythm_hours] == [meaning[label]]
        assert check.label_source == "record label"
        assert check.subject == name
    assert f"REFERENCE.csv#{first['A']}" in open_record(how, folder, first["A"]).digests


def test_the_ingest_s_report_tells_of_absent_records(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A label whose record is not there is told above the ingest's table, and in the log."""
    (folder / "r.csv").write_text("record,label\np01,A\ngone,N\n")
    absent = absent_records(spec({"file": "r.csv"}), folder)
    told = "1 records that have a label are not there: gone"
    assert table_description(manifest("a"), [], absent).endswith(f"; {told}")
    assert told in caplog.text
    assert "not there" not in table_description(manifest("a"), [], "")
