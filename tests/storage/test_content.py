"""The same recording under two names: found by samples, beats or files, refused where it leaks."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import edfio
import numpy as np
import pytest

from flows.decide import evaluate
from flows.ingest.build import Plan, build_table
from flows.ingest.simulate import write_simulated
from flows.train.teacher import Teacher, refuse_unless_fit
from storage.datasets.dataset import DatasetSpec, load_spec, record_names
from storage.errors import NotInRegistry, SplitError
from storage.recordings.records import open_record, read_lead
from storage.tables.beats import read_source
from storage.tables.beats_manifest import Entry, Manifest, manifest_path, write_manifest
from storage.tables.content import (
    LeadPrints,
    Recording,
    beat_prints,
    copies_among,
    duplicates,
    recordings,
    without_prints,
)
from tasks.learning.splits import Split, assert_no_copy
from tasks.signal.preprocessing import Preprocessing

FS_HZ = 250


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four simulated records of 72 s, as WFDB."""
    folder = tmp_path_factory.mktemp("source")
    write_simulated(folder, 4, 0.02, 9)
    return folder


def renamed(source: Path, folder: Path, dataset: str, names: dict[str, str]) -> Path:
    """A data set of copies of some records, each by another name."""
    toml = (source / "dataset.toml").read_text()
    folder.mkdir()
    (folder / "dataset.toml").write_text(toml.replace(load_spec(source).name, dataset, 1))
    (folder / "RECORDS").write_text("\n".join(names.values()) + "\n")
    for name, other in names.items():
        copied(source, name, folder, other)
    return folder


def copied(source: Path, name: str, folder: Path, other: str) -> None:
    """A record's files by another name."""
    for file in source.glob(f"{name}.*"):
        shutil.copy(file, folder / f"{other}{file.suffix}")
    header = (source / f"{name}.hea").read_text()
    (folder / f"{other}.hea").write_text(header.replace(name, other))


def as_edf(source: Path, folder: Path, name: str, other: str, rest_s: int) -> None:
    """A record as EDF in microvolts, and a rest of nothing behind it, as whole blocks need one."""
    record = open_record(load_spec(source), source, name)
    x = np.append(read_lead(record).astype(np.float64), np.zeros(rest_s * FS_HZ))
    lead = str(record.lead)
    signal = edfio.EdfSignal(
        1000 * x, FS_HZ, label=lead, physical_dimension="uV", physical_range=(-12_345, 17_000)
    )
    edfio.Edf([signal]).write(folder / f"{other}.edf")


def edf_spec(source: Path, dataset: str) -> DatasetSpec:
    """How EDF files without annotated beats are read."""
    spec = load_spec(source).model_dump(mode="json")
    spec |= {"name": dataset, "records": {"format": "edf", "pattern": "*"}}
    spec["annotations"] = {"beats": ["detect"]}
    spec["rhythms"]["unmarked"] = "N"
    return DatasetSpec.model_validate(spec)


def ingested(spec: DatasetSpec, folder: Path, out: Path, *, signal: bool = True) -> Manifest:
    """The manifest of a folder's beat tables."""
    entries = [
        build_table(Plan(spec, folder, out, Preprocessing(), signal), name)[1]
        for name in record_names(spec, folder)
    ]
    about = (spec.name, spec.title, "1", "", "", str(folder), "", "", "")
    said = spec.model_dump(mode="json")
    return Manifest(*about, True, tuple(entries), {}, {}, spec=said, signal=signal)


@pytest.fixture(scope="module")
def first(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return ingested(load_spec(source), source, tmp_path_factory.mktemp("tables"))


def named(manifests: list[Manifest]) -> set[tuple[str, str]]:
    return {(mine.name, theirs.name) for mine, theirs in copies_among(manifests)}


def test_different_recordings_are_not_taken_for_copies(first: Manifest, tmp_path: Path) -> None:
    """No two of the simulated ones, whose prints lie in the manifest and in the tables."""
    assert named([first]) == set()
    assert all(len(entry.content["signal"]) == 16 for entry in first.entries)
    assert without_prints([first]) == []
    spec, folder = load_spec(first.origin), Path(first.origin)
    entry = build_table(Plan(spec, folder, tmp_path, Preprocessing(), True), "sim000")[1]
    assert read_source(tmp_path / entry.file).content == first.entries[0].content


def test_a_copy_by_another_name_is_found(source: Path, first: Manifest, tmp_path: Path) -> None:
    """In the data set and in another one, byte for byte or as annotations alone."""
    folder = renamed(source, tmp_path / "ward", "ward", {"sim001": "p7", "sim003": "p8"})
    copied(source, "sim001", folder, "p9")
    (folder / "RECORDS").write_text("p7\np8\np9\n")
    ward = ingested(load_spec(folder), folder, tmp_path / "tables")
    pairs = {("simulated/sim001", "ward/p7"), ("simulated/sim001", "ward/p9")}
    pairs |= {("simulated/sim003", "ward/p8"), ("ward/p7", "ward/p9")}
    assert named([first, ward]) == pairs
    for record in ("p7", "p8", "p9"):
        (folder / f"{record}.dat").unlink()
    alone = ingested(load_spec(folder), folder, tmp_path / "annotations", signal=False)
    assert named([first, alone]) == pairs


@pytest.mark.parametrize("rest_s", [0, 5])
def test_a_copy_in_another_format_is_found(
    source: Path, first: Manifest, tmp_path: Path, rest_s: int
) -> None:
    """EDF in other units and steps, without annotations, filled up to whole blocks."""
    folder = tmp_path / "edf"
    folder.mkdir()
    as_edf(source, folder, "sim002", "night", rest_s)
    export = ingested(edf_spec(source, "export"), folder, tmp_path / "tables")
    assert named([first, export]) == {("simulated/sim002", "export/night")}


def test_files_tell_where_there_are_no_prints(source: Path, first: Manifest) -> None:
    """A manifest of before has digests of files; headers and texts that agree tell nothing."""
    files = {"sim000.dat": "d" * 64, "sim000.hea": "h" * 64, "sim000.csv": "c" * 64}
    entry = replace(first.entries[0], content={}, files=files)
    old = replace(first, dataset="old", entries=(entry,))
    same = replace(entry, record="x", files={"x.dat": "d" * 64})
    other = replace(entry, record="y", files={**files, "sim000.dat": "e" * 64})
    new = replace(first, dataset="new", entries=(same, other))
    assert named([old, new]) == {("old/sim000", "new/x")}
    assert without_prints([old, first]) == ["old"]
    assert source.is_dir()


def test_prints_are_of_the_lead_however_it_is_read() -> None:
    """Blocks of any size that overlap, gain, offset and holes alike; what is unread is read."""
    x = np.random.default_rng(1).integers(-200, 200, 20_000).astype(np.float32)
    x[5000:5100] = np.nan

    def lead(values: np.ndarray) -> LeadPrints:
        return LeadPrints(lambda start, stop: values[start:stop], len(values))

    whole = lead(x).prints()
    assert len(whole) == 16
    for size in (1, 511, 512, 513, 4096):
        blocks = lead(3.7 * x + 0.25)
        for start in range(0, 15_000, size):
            blocks.read(max(start - 100, 0), start + size)
        assert blocks.prints() == whole
    assert lead(x[::-1]).prints() != whole
    assert lead(np.zeros(20_000, np.float32)).prints() == []
    assert len(lead(x[:300]).prints()) == 1


def test_a_steady_rhythm_tells_nothing() -> None:
    """A pacemaker's intervals are equal in many people; others' are not, symbols included."""
    symbol = np.repeat("N", 401)
    assert beat_prints(np.arange(401) * 250, symbol) == []
    sample = np.cumsum(np.random.default_rng(2).integers(150, 300, 401))
    prints = beat_prints(sample, symbol)
    assert prints
    assert beat_prints(sample + 1000, symbol) == prints
    assert beat_prints(sample, np.where(np.arange(401) % 2, "V", "N")) != prints
    assert beat_prints(sample[:0], symbol[:0]) == []


def recording(name: str, subject: str, prints: str = "a") -> Recording:
    none = frozenset[str]()
    marks = {"signal": frozenset(prints), "beats": none}
    return Recording(name, subject, marks, {"signal": none, "beats": none}, has_signal=True)


def split_of(paradigm: str, train: tuple[str, ...], test: tuple[str, ...]) -> Split:
    none = np.empty(0, np.int64)
    return Split(paradigm, 0, none, none, none, train, (), test)


def test_a_copy_on_another_side_is_refused() -> None:
    """Both names and sides are told; on one side it is passed and given back."""
    pair = recording("d/1", "d/a"), recording("e/2", "e/b")
    apart = split_of("interpatient", ("d/a",), ("e/b",))
    with pytest.raises(SplitError, match=r"d/1 \(train\) and e/2 \(test\); expected each"):
        assert_no_copy(apart, [pair])
    assert assert_no_copy(split_of("interpatient", ("d/a", "e/b"), ()), [pair]) == [pair]
    assert assert_no_copy(split_of("interpatient", ("d/a",), ()), [pair]) == []
    shuffled = split_of("intrapatient", ("d/a",), ("d/a",))
    with pytest.raises(SplitError, match="the same recording is on two sides"):
        assert_no_copy(shuffled, [(pair[0], recording("d/2", "d/a"))])


def test_a_teacher_that_knows_a_test_recording_is_refused() -> None:
    """The subject has another name in the teacher's data."""
    learnt = (recording("d/1", "d/a"),)
    teacher = Teacher("holter-fused/3", "run", "fused", "0" * 64, b"", {"d/a": "x"}, learnt)
    with pytest.raises(SplitError, match="under another name: e/2 as d/1"):
        refuse_unless_fit(teacher, "rhythm_tiny", ["e/b"], [recording("e/2", "e/b")])
    fresh = replace(
        recording("e/2", "e/b"), prints={"signal": frozenset("b"), "beats": frozenset()}
    )
    refuse_unless_fit(teacher, "rhythm_tiny", ["e/b"], [fresh])


@pytest.fixture
def version(first: Manifest, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A version that learnt from three of the records and was tested on the last."""
    people = [f"simulated/{entry.subject}" for entry in first.entries]
    sides = {"train": people[:2], "validation": people[2:3], "test": people[3:]}
    split = {side: {"subjects": names} for side, names in sides.items()}
    made = SimpleNamespace(manifests=(first,), split=split, tags={})
    monkeypatch.setattr(evaluate, "read_version", lambda _: made)
    return made


def test_an_evaluation_on_what_was_learnt_by_another_name_is_refused(
    version: SimpleNamespace, source: Path, tmp_path: Path
) -> None:
    """The test side's copy is no leak; records learnt by their own name are told."""
    folder = renamed(source, tmp_path / "ward", "ward", {"sim002": "p2", "sim003": "p3"})
    ward = ingested(load_spec(folder), folder, tmp_path / "tables")
    with pytest.raises(SplitError, match=r"another name: ward/p2 as simulated/sim002; expected"):
        evaluate.known_records("holter-x/1", [ward])
    tested = replace(ward, entries=ward.entries[1:])
    assert evaluate.known_records("holter-x/1", [tested]) == []
    (note,) = evaluate.known_records("holter-x/1", list(version.manifests))
    assert "on 3 of the 4 records of simulated" in note


def test_what_cannot_be_told_of_an_evaluation_is_said(
    version: SimpleNamespace, first: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables without prints, and a version whose chain is not to be had."""
    bare = tuple(replace(entry, content={}, files={}) for entry in first.entries)
    version.manifests = (replace(first, entries=bare),)
    other = replace(first, dataset="other")
    (note,) = evaluate.known_records("holter-x/1", [other])
    assert "cannot be told of all: tables of simulated have no prints" in note

    def gone(_: str) -> None:
        raise NotInRegistry("holter-x/1: the ledger has no sealed chain of it")

    monkeypatch.setattr(evaluate, "read_version", gone)
    (note,) = evaluate.known_records("holter-x/1", [other])
    assert "cannot be told: holter-x/1: the ledger has no sealed chain" in note


def test_an_ingest_names_what_is_there_already(
    first: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the data set itself and in others; its own tables of annotations alone are no copies."""
    again = replace(first.entries[1], record="again", subject="z")
    own = replace(first, entries=(*first.entries, again))
    alone = replace(own, signal=False)
    ward = replace(first, dataset="ward", entries=first.entries[3:])
    for manifest in (alone, ward):
        write_manifest(
            manifest_path(tmp_path, manifest.dataset, signal=manifest.has_signal), manifest
        )
    assert duplicates(own, tmp_path) == {
        "again": ["simulated/sim001"],
        "sim001": ["simulated/again"],
        "sim003": ["ward/sim003"],
    }
    assert "simulated/sim001 and simulated/again are the same recording" in caplog.text


def test_entries_of_before_are_read() -> None:
    """A manifest without prints has empty ones, and no record of it has a copy."""
    entry = Entry("r", "s", "r.parquet", "0" * 64, "k", "II", 1.0, 9, 3, 0, 0, {})
    told = {name: value for name, value in asdict(entry).items() if name != "content"}
    assert Entry(**told) == entry
    manifest = Manifest("d", "", "", "", "", "", "", "", "", False, (entry, entry), {}, {})
    assert [one.prints["signal"] for one in recordings(manifest)] == [frozenset(), frozenset()]
    assert named([manifest]) == set()
