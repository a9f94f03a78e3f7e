"""`holter data add`: proposals from a folder, what must be said, and the walk-through."""

from __future__ import annotations

import os
import re
import shlex
import struct
import subprocess
import sys
from binascii import crc_hqx
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest
import tomllib
from typer.testing import CliRunner

from flows.cli.app import app
from flows.services.runners import BATCH_BYTES, batches
from storage.datasets.dataset import DatasetSpec, load_spec, record_names
from storage.datasets.dataset_write import dataset_toml, write_spec
from storage.datasets.patients import number_digest
from storage.datasets.sections import Subjects
from storage.errors import PlaceError, SpecError
from storage.formats.wfdb_annotation import encode_annotations
from storage.recordings.survey import survey
from storage.tables.beats_manifest import read_manifest
from tasks.learning.simulate import simulate_subject
from tasks.proposals.proposal import Proposal, propose
from tasks.proposals.record_names import name_pattern
from tests.conftest import ROOT

FS_HZ = 250
PAGE = "docs/adding-a-data-set.md"


def ward(folder: Path, patients: tuple[str, ...] = ("anna", "bela", "cora", "dora")) -> Path:
    """A hospital's export: a folder a patient, two nights in EDF each, rhythms in a CSV."""
    for number, patient in enumerate(patients):
        for night in (1, 2):
            made = simulate_subject(10 * number + night, 5 / 60, float(FS_HZ), "paroxysmal")
            (folder / patient).mkdir(parents=True, exist_ok=True)
            breath = np.sin(np.arange(300 * 10) / 10)
            lead = made.signal_mv[:, 0].astype(np.float64)
            edfio.Edf(
                [
                    edfio.EdfSignal(breath, 10, label="Resp", physical_dimension="mV"),
                    edfio.EdfSignal(0.6 * lead, FS_HZ, label="V5", physical_dimension="mV"),
                    edfio.EdfSignal(lead, FS_HZ, label="II", physical_dimension="mV"),
                ]
            ).write(folder / patient / f"night{night}.edf")
            code = {"N": "SR", "AFIB": "AF"}
            starts = [*(made.rhythm_start / FS_HZ).tolist(), 300.0]
            lines = [
                f"{start},{stop},{code[rhythm]}"
                for start, stop, rhythm in zip(
                    starts, starts[1:], made.rhythms.tolist(), strict=False
                )
            ]
            text = "\n".join(["start_s,end_s,rhythm", *lines, ""])
            (folder / patient / f"night{night}.csv").write_text(text)
    return folder


def ishne(samples: int, leads: int = 1, text: int = 0, ecg_at: int | None = None) -> bytes:
    """An ISHNE file's header that announces so much, with a CRC that fits, and 100 bytes more."""
    head = bytearray(522)
    head[:8] = b"ISHNE1.0"
    struct.pack_into("<4ih", head, 10, text, samples, 522, ecg_at or 522 + max(text, 0), 1)
    struct.pack_into("<h12h12h12h", head, 156, leads, *[6] * 12, *[0] * 12, *[2500] * 12)
    struct.pack_into("<h", head, 272, 250)
    struct.pack_into("<H", head, 8, crc_hqx(bytes(head[10:]), 0xFFFF))
    return bytes(head) + b"\0" * 100


def wfdb(folder: Path, names: tuple[str, ...], *, comment: str = "") -> Path:
    """Records without samples: a header, beats, and one rhythm mark at the start."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        header = f"{Path(name).name} 0 250 2500\n{comment.format(name=name)}"
        (folder / f"{name}.hea").write_text(header)
        beats = np.arange(0, 2500, 200)
        marks = {0: "(N"}
        symbols = ["+", *["N"] * len(beats)]
        data = encode_annotations(np.concatenate([[0], beats]), symbols, marks)
        (folder / f"{name}.atr").write_bytes(data)
    return folder


def add(*words: str, cwd: Path, answers: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HOLTER_HOME": str(cwd / "home"), "PYTHONPATH": str(ROOT)}
    env.pop("HOLTER_DATASETS", None)
    command = [sys.executable, "-m", "flows", "data", "add", *words]
    return subprocess.run(command, cwd=cwd, env=env, input=answers, capture_output=True, text=True)


@pytest.mark.real
@pytest.mark.parametrize("name", ["cpsc2021", "mitdb", "afdb"])
def test_real_sets_are_proposed_as_they_are_shipped(name: str, real_data: Path) -> None:
    """Taken as unknown, a real data set is proposed as its shipped TOML says, written by hand."""
    shipped = load_spec(name)
    proposal = propose(survey(real_data / name))
    about = {"name": name, "title": "x", "version": "1", "licence": "x", "citation": "x"}
    spec = DatasetSpec.model_validate({**about, **proposal.values})
    assert spec.annotations == shipped.annotations
    assert spec.leads.prefer == shipped.leads.prefer[: len(spec.leads.prefer)]
    assert spec.rhythms.af == shipped.rhythms.af
    assert spec.rhythms.map.items() <= shipped.rhythms.map.items()
    assert spec.rhythms.before_first == shipped.rhythms.before_first
    assert spec.rhythms.from_comments == shipped.rhythms.from_comments
    assert spec.subjects == shipped.subjects
    assert ("subjects" in proposal.doubts) == (name != "cpsc2021")


def test_a_folder_of_nobody_knows_what_is_proposed(tmp_path: Path) -> None:
    """Format, lead by name, beats, rhythm codes and the patients' folders are found."""
    proposal = propose(survey(ward(tmp_path)))
    assert proposal.values == {
        "records": {"format": "edf", "pattern": "**/*"},
        "annotations": {"beats": ["detect"], "rhythm": "csv"},
        "leads": {"prefer": ["II"]},
        "rhythms": {"af": ["AFIB"], "map": {"AF": "AFIB", "SR": "N"}},
        "subjects": {"pattern": "(?P<subject>[^/]+)/.*"},
    }
    assert proposal.doubts == {}


def test_a_patients_number_is_not_kept(tmp_path: Path) -> None:
    """Numbers in the headers tell the patient, and are replaced by numbers of our own."""
    folder = wfdb(tmp_path / "set", ("x", "y"), comment="# Patient ID: 4711-{name}\n")
    wfdb(folder, ("z",), comment="# Patient ID: 4711-x\n")
    proposal = propose(survey(folder))
    assert proposal.values["subjects"]["map"] == {"x": "p0001", "y": "p0002", "z": "p0001"}
    assert "4711" not in repr(proposal)


@pytest.mark.parametrize("words", [(), ("--subjects-from-comments", r"Patient ID: (\S+)")])
def test_a_patients_number_finds_its_subject(words: tuple[str, ...], tmp_path: Path) -> None:
    """The TOML has keyed digests in place of numbers; the key is its owner's alone to read."""
    wfdb(tmp_path / "set", ("x", "y"), comment="# Patient ID: 4711-{name}\n")
    done = add("set", "--no-ask", "--licence", "x", *words, cwd=tmp_path)
    toml = tmp_path / "home" / "datasets" / "set.toml"
    assert "4711" not in toml.read_text() + done.stdout + done.stderr
    spec, key = load_spec(toml), tmp_path / "home" / "keys" / "patients.key"
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLTER_HOME", str(tmp_path / "home"))
        number = number_digest("4711-y")
        key.chmod(0o644)
        with pytest.raises(PlaceError, match="found mode 644; expected 600"):
            number_digest("4711-y")
    assert number is not None
    assert spec.subjects.numbers[number] == spec.subject_of("y") == "p0002"
    plain = spec.model_copy(update={"subjects": Subjects(map=spec.subjects.map)})
    assert spec.digest() == plain.digest()  # no table is made anew for them


def test_numbers_of_edf_and_ishne_headers_tell_the_patient(tmp_path: Path) -> None:
    """EDF+'s patient code and ISHNE's number tell whose a record is; withheld ones do not."""
    flat = edfio.EdfSignal(np.arange(250.0), FS_HZ, label="II", physical_dimension="mV")
    for form in ("coded", "withheld", "ishne"):
        (tmp_path / form).mkdir()
    for name, code in {"a": "4711", "b": "4711", "c": "0815"}.items():
        annotations = [edfio.EdfAnnotation(0.0, None, "a note")]
        patient = edfio.Patient(code=code)
        edfio.Edf([flat], patient=patient, annotations=annotations).write(
            tmp_path / "coded" / f"{name}.edf"
        )
        edfio.Edf([flat]).write(tmp_path / "withheld" / f"{name}.edf")
        head = bytearray(ishne(50))
        head[108:128] = code.encode().ljust(20, b"\0")
        struct.pack_into("<H", head, 8, crc_hqx(bytes(head[10:522]), 0xFFFF))
        (tmp_path / "ishne" / f"{name}.ecg").write_bytes(head)
    for form in ("coded", "ishne"):
        proposal = propose(survey(tmp_path / form))
        assert proposal.values["subjects"]["map"] == {"a": "p0001", "b": "p0001", "c": "p0002"}
        assert proposal.values["leads"]["prefer"] == ["II"]
        assert "4711" not in repr(proposal)
    assert "subjects" in propose(survey(tmp_path / "withheld")).doubts


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["data_0_1", "data_0_2", "data_7_1"], r"data_(?P<subject>\d+)_\d+"),
        (["a1-x", "a1-y", "b2-x"], r"(?P<subject>[^_-]+)\-[^_-]+".replace(r"\-", "-")),
        (["100", "101"], None),
        (["rec_1", "rec_2"], None),
        (["a_1", "b_1_2"], None),
        (["p01_1", "p01_2"], r"(?P<subject>[^_-]+)_\d+"),
        (["w7_p01_1", "w7_p02_1", "w7_p02_2"], r"w\d+_(?P<subject>[^_-]+)_\d+"),
        (["p1_2026-11-29", "p1_2026-11-30"], r"(?P<subject>[^_-]+)_\d+-\d+-\d+"),
        (["2026.11.29_p01", "2026.11.30_p02"], r"\d+\.\d+\.\d+_(?P<subject>[^_-]+)"),
        (["2026-11-29", "2026-11-30"], None),
        (["29.11.2026_p01", "30.11.2026_p02"], r"\d+\.\d+\.\d+_(?P<subject>[^_-]+)"),
        (["29112026_p01_1", "30112026_p02_1"], r"\d+_(?P<subject>[^_-]+)_\d+"),
    ],
)
def test_names_tell_the_patient_or_not(names: list[str], pattern: str | None) -> None:
    """The first part that varies is whose, or the numbered one before it; a date is nobody's."""
    found = name_pattern(names)
    assert (found and found.replace(r"\-", "-")) == pattern


def proposed(folder: Path, names: Iterable[str], *, marked: bool = False) -> Proposal:
    """What is proposed for records of these names, with a rhythm mark or without."""
    wfdb(folder, tuple(names))
    if not marked:
        for path in folder.rglob("*.atr"):
            path.unlink()
    return propose(survey(folder))


def test_two_folders_of_labels_are_no_two_patients(tmp_path: Path) -> None:
    """Folders that are labels give the label, not the patient; whose each is must be said."""
    names = [f"{'af' if n < 20 else 'NSR'}/p{n:02d}" for n in range(35)]
    proposal = proposed(tmp_path / "set", names)
    assert proposal.values["labels"] == {"paths": {"NSR/*": "NSR", "af/*": "af"}}
    assert proposal.values["rhythms"]["map"] == {"NSR": "N", "af": "AFIB"}
    assert proposal.values["subjects"] == {}
    assert proposal.doubts.keys() == {"subjects"}
    assert "af: 20 records, NSR: 15 records" in proposal.doubts["subjects"]
    marked = proposed(tmp_path / "marked", names, marked=True)
    assert "labels" not in marked.values
    assert marked.doubts.keys() == {"subjects"}


@pytest.mark.parametrize(
    ("names", "pattern", "doubt"),
    [
        ([f"{p}/n{n}" for p in "abc" for n in (1, 2)], "(?P<subject>[^/]+)/.*", ""),
        ([f"{p}/n{n}" for p in "ab" for n in range(11)], "(?P<subject>[^/]+)/.*", "a: 11 records"),
        (["a/x", "a/y", "b/v", "b/w"], "(?P<subject>[^/]+)/.*", "whether each folder"),
        (["a/n1", "a/n2"], "(?P<subject>[^/]+)/.*", "whether each folder"),
        (["train/x", "test/x"], None, "nor do the folders"),
        (
            [f"{rhythm}/p{n}/x" for n, rhythm in enumerate(("af", "sinus", "af"))],
            "[^/]+/(?P<subject>[^/]+)/.*",
            "",
        ),
        ([f"{rhythm}/p1/x" for rhythm in ("af", "sinus")], "[^/]+/(?P<subject>[^/]+)/.*", "p1: 2"),
        (["w/p1_1", "w/p1_2"], r"(?P<subject>[^_-]+)_\d+", "every record is of p1"),
        (["w/p1_1", "w/p2_1", "w/p2_2"], r"(?P<subject>[^_-]+)_\d+", ""),
        (["v/p1_1", "w/p1_2", "w/p2_1"], r"(?P<subject>[^_-]+)_\d+", "p1 lies in more than one"),
        (["20261129_1", "20261129_2", "20261130_1"], r"\d+_(?P<subject>\d+)", "begin with a date"),
        (["261129_p1", "261129_p2", "261130_p1"], r"(?P<subject>\d+)_[^_-]+", "begin with a date"),
        (["29.11.26_p1", "30.11.26_p2", "30.11.26_p1"], r"(?P<subject>[^_-]+)_[^_-]+", "a date"),
        ([f"2026-11-{day}/p{n}" for day in (29, 30) for n in (1, 2)], None, "nor do the folders"),
        ([f"{day}.11.2026/p{n}" for day in (29, 30) for n in (1, 2)], None, "nor do the folders"),
    ],
)
def test_folders_and_names_are_asked_about(
    names: list[str], pattern: str | None, doubt: str, tmp_path: Path
) -> None:
    """A patient's folder holds few records of recurring names; anything else is asked about."""
    proposal = proposed(tmp_path, names, marked=True)
    assert proposal.values["subjects"].get("pattern") == pattern
    assert ("subjects" in proposal.doubts) == bool(doubt)
    assert doubt in proposal.doubts.get("subjects", "")


def test_a_pattern_of_one_patient_finds_the_next(tmp_path: Path) -> None:
    """Proposed of one patient's records, the patterns find the next one's, and tell it apart."""
    proposal = proposed(tmp_path, ["p01_1", "p01_2"], marked=True)
    about = {"name": "x", "title": "x", "version": "1", "licence": "x", "citation": "x"}
    spec = DatasetSpec.model_validate({**about, **proposal.values})
    wfdb(tmp_path, ("q02_1", "later/p03_1"))
    names = record_names(spec, tmp_path)
    assert names == ["later/p03_1", "p01_1", "p01_2", "q02_1"]
    assert [spec.subject_of(name) for name in names] == ["p03", "p01", "p01", "q02"]


@pytest.mark.parametrize(
    ("file", "text", "labels", "doubts"),
    [
        ("REFERENCE.csv", "a,A\nb,N\nc,N\n", {"columns": {"record": 1, "label": 2}},
         {"labels": "what the labels A of", "subjects": ""}),
        ("x/list.csv", "record,label,subject\na,AF,1\nb,N,1\nc.hea,N,2\n",
         {"columns": {"record": "record", "label": "label", "subject": "subject"}}, {}),
        ("l.csv", "ID;Diagnosis;Patient ID\na;Sinus rhythm;1\nb;atrial fibrillation;2\nc;SR;2\n",
         {"columns": {"record": "ID", "label": "Diagnosis", "subject": "Patient ID"}}, {}),
        ("l.csv", "record,label\na,AF\nb,N\n", {}, {"unmarked": "1 records", "subjects": ""}),
        ("l.csv", "name,age\na,70\nb,71\nc,72\n", None, {"unmarked": "3 records", "subjects": ""}),
        ("l.csv", "1,2\n3,4\n", None, {"unmarked": "3 records", "subjects": ""}),
    ],
)  # fmt: skip
def test_a_csv_of_labels_is_proposed(
    file: str, text: str, labels: dict[str, Any] | None, doubts: dict[str, str], tmp_path: Path
) -> None:
    """A CSV that names the records is proposed with its columns; what it cannot tell is open."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    proposal = proposed(tmp_path, "abc")
    expected = None if labels is None else {"file": file, **labels}
    if labels and all(name == place for name, place in labels.get("columns", {}).items()):
        expected = {"file": file}
    assert proposal.values.get("labels") == expected
    assert proposal.doubts.keys() == doubts.keys()
    for key, words in doubts.items():
        assert words in proposal.doubts[key]


@pytest.mark.real
def test_the_labels_of_a_challenge_are_proposed_as_shipped(real_data: Path) -> None:
    """Taken as unknown, the challenge's CSV is found; what its letters are must be said."""
    shipped = load_spec("cinc2017")
    proposal = propose(survey(real_data / "cinc2017"))
    assert proposal.values["labels"]["columns"] == shipped.labels.columns
    assert proposal.values["labels"]["file"] in shipped.labels.files
    assert proposal.values["leads"]["prefer"] == [*shipped.leads.prefer]
    assert proposal.doubts.keys() == {"subjects", "labels"}
    assert "the labels A, O, ~ of" in proposal.doubts["labels"]


def test_labels_are_said_by_options(tmp_path: Path) -> None:
    """--label labels by path and --labels-csv chooses a CSV; an unknown label must be said."""
    folder = wfdb(tmp_path / "set", ("af/a", "control/b"))
    for path in folder.rglob("*.atr"):
        path.unlink()
    runner = CliRunner(env={"HOLTER_HOME": str(tmp_path / "home"), "HOLTER_DATASETS": ""})
    words = ["data", "add", str(folder), "--no-ask", "--licence", "x", "--one-record-one-subject"]

    def refusal(*more: str) -> str:
        return str(runner.invoke(app, [*words, *more]).exception)

    assert "what the labels control of" in refusal()
    assert "none.csv: found no such CSV in the folder" in refusal("--labels-csv", "none.csv")
    assert "expected PATTERN=LABEL" in refusal("--label", "control")
    toml = tmp_path / "home" / "datasets" / "set.toml"
    assert not toml.exists()
    runner.invoke(app, [*words, "--label", "control/*=N"])
    spec = load_spec(toml)
    assert spec.labels.paths == {"af/*": "af", "control/*": "N"}
    assert spec.rhythms.map == {"af": "AFIB", "control": "", "N": "N"}
    for name in ("l.csv", "m.csv"):
        (folder / name).write_text(f"record,label\naf/a,{name[0]}\ncontrol/b,N\n")
    assert "which CSV tells of the records (l.csv, m.csv)" in refusal("--replace")
    chosen = ("--labels-csv", str(folder / "m.csv"), "--rhythm", "m=AFIB", "--replace")
    runner.invoke(app, [*words, *chosen])
    spec = load_spec(toml)
    assert spec.labels.files == ("m.csv",)
    assert spec.rhythms.map.items() >= {"N": "N", "m": "AFIB"}.items()


def test_dots_in_a_name_are_the_name_s_own(tmp_path: Path) -> None:
    """The annotation beside 2026.11.29_p01 is found, and not taken for another record's."""
    wfdb(tmp_path, ("2026.11.29_p01", "2026.11.29_p01.b", "2026"))
    (tmp_path / "2026.11.29_p01.rhythm.csv").write_text("start_s,end_s,rhythm\n0,5,AFIB\n")
    seen = {one.name: sorted(one.annotators) for one in survey(tmp_path).records}
    assert seen == {
        "2026": ["atr"],
        "2026.11.29_p01": ["atr", "rhythm.csv"],
        "2026.11.29_p01.b": ["atr"],
    }
    with (tmp_path / "2026.11.29_p01.dat").open("wb") as file:
        file.truncate(BATCH_BYTES)
    alone = ["2026.11.29_p01"]
    assert batches(tmp_path, sorted(seen)) == [["2026"], alone, ["2026.11.29_p01.b"]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), ["whose each record is", "under which licence"]),
        (("--licence", "x"), ["whose each record is"]),
        (("--licence", "x", "--subject-pattern", "p(.*)"), ["needs a group named subject"]),
        (("--licence", "x", "--subjects-csv", "none.csv"), ["none.csv", "columns record and"]),
        (("--licence", "x", "--subjects-csv", "half.csv"), ["no subject of 1 records (r2)"]),
        (("--licence", "x", "--subjects-from-comments", "ID (.)"), ["no subject of 2 records"]),
        (("--licence", "x", "--one-record-one-subject", "--name", "mitdb"), ["is there already"]),
        (("--licence", "x", "--one-record-one-subject", "--exclude", "AFL"), ["there are N, AFIB"]),
        (("--licence", "x", "--one-record-one-subject", "--rhythm", "N"), ["CODE=NAME"]),
    ],
)
def test_what_is_open_must_be_said(words: tuple[str, ...], told: list[str], tmp_path: Path) -> None:
    """What a folder cannot tell is asked for by name of the option; nothing is written."""
    wfdb(tmp_path / "set", ("r1", "r2"))
    (tmp_path / "half.csv").write_text("record,subject\nr1,a\n")
    done = add("set", "--no-ask", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    for text in told:
        assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.toml"))


def test_subjects_from_a_csv(tmp_path: Path) -> None:
    """A CSV says whose each record is; rhythms can be renamed, counted as AF and left out."""
    wfdb(tmp_path / "set", ("r1", "r2"))
    (tmp_path / "who.csv").write_text("subject;record\na;.\\r1.HEA\na;r2\n")
    words = ["set", "--no-ask", "--licence", "x", "--subjects-csv", "who.csv"]
    words += ["--rhythm", "SR=N", "--exclude", "N", "--beats", "atr", "--lead", "V5"]
    done = add(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No picture" in done.stdout
    assert "--no-signal" not in done.stdout
    spec = load_spec(tmp_path / "home" / "datasets" / "set.toml")
    assert {spec.subject_of(name) for name in ("r1", "r2")} == {"a"}
    assert spec.rhythms.map == {"N": "", "AFIB": "AFIB", "SR": "N"}
    assert spec.leads.prefer == ("V5",)
    assert not spec.records.signal, "there are annotations alone"
    assert spec.source.folder == str(tmp_path / "set")


def test_it_asks_on_a_terminal(tmp_path: Path) -> None:
    """Asked, the open points are answered one by one, and Enter takes what is proposed."""
    wfdb(tmp_path / "Set 1", ("r1", "r2", "r3"))
    (tmp_path / "Set 1" / "r2.atr").unlink()
    (tmp_path / "Set 1" / "r3.atr").unlink()
    (tmp_path / "Set 1" / "labels.csv").write_text("record,label\nr2,X\nr3,Y\n")
    answers = "\nAFIB\n\n\ny\nset-one\n\ninternal\n"
    done = add("Set 1", "--ask", cwd=tmp_path, answers=answers)
    assert done.returncode == 0, done.stderr
    spec = load_spec(tmp_path / "home" / "datasets" / "set-one.toml")
    assert (spec.title, spec.licence, spec.rhythms.af) == ("set-one", "internal", ("AFIB",))
    assert spec.rhythms.map.items() >= {"N": "N", "X": "AFIB", "Y": ""}.items()


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    """A folder without a known format is an error that says what is there instead."""
    (tmp_path / "a.dat").write_bytes(b"")
    with pytest.raises(SpecError, match=r"found 1 \.dat; expected recordings: \.hea"):
        survey(tmp_path)


def test_parts_of_a_record_are_no_records(tmp_path: Path) -> None:
    """Segments of a multi-segment record are not taken for records of their own."""
    wfdb(tmp_path, ("whole_1", "whole_2"))
    (tmp_path / "whole.hea").write_text("whole/2 0 250 5000\nwhole_1 2500\nwhole_2 2500\n")
    found = survey(tmp_path)
    assert [one.name for one in found.records] == ["whole"]
    assert propose(found).values["records"] == {"format": "wfdb", "names": ["whole"]}


@pytest.mark.parametrize("name", ["mitdb", "cpsc2021", "afdb", "ltafdb", "nsrdb", "cinc2017"])
def test_a_toml_reads_back(name: str, tmp_path: Path) -> None:
    """What is written reads back the same, whatever characters a text holds."""
    spec = load_spec(name).model_copy(update={"title": 'Ward "7"\\ \x7f\tµ\n🫀'})
    assert load_spec(write_spec(tmp_path / "x.toml", spec)) == spec
    assert tomllib.loads(dataset_toml(spec))["name"] == name
    assert [path.name for path in tmp_path.iterdir()] == ["x.toml"]


@pytest.mark.slow
@pytest.mark.usefixtures("holter_servers")
@pytest.mark.filterwarnings("default")  # Prefect's and MLflow's own, at import and in threads
def test_the_walk_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of docs/adding-a-data-set.md run as they stand there, in order, on a new set."""
    ward(tmp_path / "ward7")
    text = (ROOT / PAGE).read_text()
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    commands = [line[2:] for line in "".join(blocks).splitlines() if line.startswith("$ ")]
    assert len(commands) == 5
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HOLTER_DATASETS", raising=False)
    monkeypatch.chdir(tmp_path)
    for command in commands:
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        assert done.exit_code == 0, f"{command}\n{done.output}\n{done.exception}"
    picture = (tmp_path / "home" / "datasets" / "ward7.png").read_bytes()
    assert picture[:4] == b"\x89PNG"
    manifest = read_manifest(tmp_path / "home" / "beats" / "dataset=ward7" / "manifest.json")
    assert {entry.subject for entry in manifest.entries} == {"anna", "bela", "cora", "dora"}
    assert len(manifest.entries) == 8
    assert all(0 < entry.af_beats < entry.beats for entry in manifest.entries)


def test_the_page_s_toml_is_valid() -> None:
    """The TOMLs that the page shows are read by the project, folders telling the patient."""
    examples = re.findall(r"```toml\n(.*?)```", (ROOT / PAGE).read_text(), re.DOTALL)
    values, labels = (tomllib.loads(example) for example in examples)
    spec = DatasetSpec.model_validate({**values, **labels})
    assert spec.subject_of("anna/night1") == "anna"
    assert spec.labels.paths["nsr/*"] in spec.rhythms.map
