"""`holter-edge analyse`: from a raw record to episodes, burden, annotations and a picture."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import fields
from pathlib import Path

import edfio
import numpy as np
import pytest

from edge_agent import slots
from edge_agent.cli import main
from flows.ingest.build import Plan, build_table
from flows.ingest.simulate import write_simulated
from flows.train.release import seal
from storage.datasets.dataset import load_spec
from storage.files import read_json, write_json
from storage.formats.wfdb_annotation import parse_annotations
from storage.recordings.records import open_alone, read_lead
from storage.registry.model_files import LITERT, MANIFEST
from storage.registry.signing import public_key, sign_name
from storage.tables.beats import read_beats
from tasks.analysis.analyse import analyse, files_of, summary
from tasks.analysis.page import pdf
from tasks.analysis.page.to_pdf import NO_PDF
from tasks.runtimes.inference import probabilities
from tasks.runtimes.litert import LiteRT
from tasks.signal.preprocessing import Preprocessing
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated records of half an hour; the second has AF."""
    folder = tmp_path_factory.mktemp("records")
    write_simulated(folder, 2, 0.5, seed=5)
    toml = (folder / "dataset.toml").read_text()
    (folder / "found.toml").write_text(toml.replace('beats = ["qrs"]', 'beats = ["detect"]'))
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device's home that trusts this test's release key."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "server"))
    monkeypatch.setenv("HOLTER_EDGE_HOME", str(tmp_path / "edge"))
    monkeypatch.delenv("HOLTER_EDGE_KEYS", raising=False)
    slots.enrol(tmp_path / "edge", public_key())
    return tmp_path / "edge"


def released(folder: Path, network: str, threshold: float) -> Path:
    """A sealed release of an untrained network."""
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "golden" / f"{network}-untrained.tflite", folder / LITERT)
    name = network.replace("-", "_")
    write_json(folder / MANIFEST, {"name": name, "threshold": threshold})
    shapes = LiteRT((folder / LITERT).read_bytes()).inputs.items()
    rng = np.random.default_rng(1)
    seal(folder, {key: rng.normal(size=(2, *s)).astype(np.float32) for key, s in shapes})
    return folder


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The untrained rhythm network; its threshold calls about half of the beats AF."""
    return released(tmp_path / "release", "rhythm", 0.5)


def run(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["analyse", *map(str, words)])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("network", ["rhythm", "fused", "resnet21"])
def test_beats_and_answers_are_the_servers(records: Path, tmp_path: Path, network: str) -> None:
    """Every column of the server's Parquet table and every probability, byte for byte."""
    model = released(tmp_path / "release", network, 0.5)
    spec = load_spec(records / "found.toml")
    build_table(Plan(spec, records, tmp_path / "out", Preprocessing(), True), "sim001")
    expected = read_beats(tmp_path / "out" / "sim001.parquet")
    found = analyse(records / "sim001", model, read_json(model / MANIFEST))
    for field in fields(expected):
        server = getattr(expected, field.name)
        if isinstance(server, np.ndarray) and field.name not in ("waveform", "rhythm", "label"):
            device = getattr(found.beats, field.name)
            if field.name == "quality":  # a record alone has no rhythm to know
                server, device = server & ~np.uint16(128), device & ~np.uint16(128)
            assert device.tobytes() == server.astype(device.dtype).tobytes(), field.name
    answer, _ = probabilities(LiteRT((model / LITERT).read_bytes()), network, expected)
    assert found.probability.tobytes() == answer.tobytes()
    assert len(found.beats) > 1_500


def test_files_tell_one_story(records: Path, release: Path, tmp_path: Path) -> None:
    """Episodes, burden and annotations agree; the picture stands alone and has its strips."""
    found = analyse(records / "sim001", release, read_json(release / MANIFEST))
    middle = float(np.median(found.probability))
    write_json(release / MANIFEST, {"name": "rhythm", "threshold": middle})
    from storage.registry.signing import sign_release

    sign_release(release)
    assert run(records / "sim001.hea", "--model", release, "--out", tmp_path / "out") == 0
    out = tmp_path / "out"
    assert {path.suffix for path in out.iterdir()} == {".json", ".csv", ".haf", ".html", ".pdf"}
    figures = json.loads((out / "sim001.json").read_text())
    rows = list(csv.DictReader((out / "sim001.csv").read_text().splitlines()))
    assert len(rows) == len(figures["episodes"]) > 0
    lasted = sum(float(row["duration_s"]) for row in rows)
    assert lasted == pytest.approx(figures["af_s"], abs=0.001 * len(rows))
    assert figures["af_burden"] == pytest.approx(lasted / 1800, abs=1e-3)
    assert sum(int(row["beats"]) for row in rows) == pytest.approx(figures["beats"] / 2, abs=2)
    marks = parse_annotations((out / "sim001.haf").read_bytes(), "sim001", "sim001.haf")
    starts = [marks.sample[k] / 1000 for k, text in marks.aux.items() if text == "(AFIB"]
    np.testing.assert_allclose(starts, [float(row["start_s"]) for row in rows], atol=1e-3)
    text = (out / "sim001.html").read_text()
    assert "not a diagnosis" in text
    assert re.search(r"Longest episode \(number \d+\), onset", text)
    assert not re.search(r"<(image|use|link)|href|url\(", text)


def test_an_edf_that_was_not_closed_is_told(
    records: Path, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a record's files do not tell for certain stands in the log and in the JSON."""
    signal_mv = read_lead(open_alone(records / "sim000"), 0, 60 * 250).astype(np.float64)
    path = tmp_path / "Night.1.EDF"
    edfio.Edf([edfio.EdfSignal(signal_mv, 250, label="EKG", physical_dimension="mV")]).write(path)
    path.write_bytes(path.read_bytes().replace(b"60      1 ", b"-1      1 ")[:-100])
    assert run(path, "--model", release, "--out", tmp_path) == 0
    told = "Night.1.EDF was not closed: its length is that of its 59 whole data records"
    assert f"warning  Night.1: {told}" in capsys.readouterr().err
    figures = json.loads((tmp_path / "Night.1.json").read_text())
    assert (figures["warnings"], figures["lead"]) == ([told], "EKG")


@pytest.mark.parametrize("kind", ["hole", "flat tail"])
def test_what_was_not_recorded_is_no_time_in_af(records: Path, tmp_path: Path, kind: str) -> None:
    """Burden is of what can be analysed; an episode ends with the signal; all files say so."""
    folder = tmp_path / "holed"
    shutil.copytree(records, folder)
    frames = np.fromfile(folder / "sim001.dat", np.uint8).reshape(450_000, 3)  # format 212
    part = slice(150_000, 375_000) if kind == "hole" else slice(300_000, None)
    frames[part] = (0x00, 0x88, 0x00) if kind == "hole" else frames[299_999]
    frames.tofile(folder / "sim001.dat")
    model = released(tmp_path / "all", "rhythm", 0.001)
    found = analyse(folder / "sim001", model, read_json(model / MANIFEST))
    figures = summary(found)
    lasted = {"hole": [600, 300], "flat tail": [1200]}[kind]
    assert figures["hours"] == 0.5
    assert figures["analysable_hours"] == pytest.approx(sum(lasted) / 3600, abs=1e-4)
    assert figures["unanalysable_share"] == pytest.approx(1 - sum(lasted) / 1800, abs=1e-4)
    assert figures["af_burden"] == pytest.approx(1, abs=5e-3)
    lengths = [row["end_s"] - row["start_s"] for row in figures["episodes"]]
    assert lengths == pytest.approx(lasted, abs=2)
    assert lengths <= lasted
    assert 50 < figures["mean_heart_rate_bpm"] < 120
    assert figures["flagged_beats"] == figures["profile"]["bad_beats"]
    files = files_of(found)
    assert "could not be analysed" in files["sim001.html"].decode()
    marks = parse_annotations(files["sim001.haf"], "sim001", "sim001.haf").aux.values()
    assert list(marks).count(")") == len(lasted)


def test_the_active_release_decides(records: Path, release: Path, home: Path) -> None:
    """Without --model the active slot's release is used, and a success ends its trial."""
    sign_name(release, "holter-rhythm", 3)
    slots.install(home, release, "holter-rhythm/3")
    assert run(records / "sim000", "--out", home / "out") == 0
    assert not (home / "slots" / "trial").exists()
    assert (home / "out" / "sim000.json").is_file()


def cut(folder: Path) -> None:
    data = (folder / "sim001.dat").read_bytes()
    (folder / "sim001.dat").write_bytes(data[: len(data) // 2])


def flat(folder: Path) -> None:
    data = (folder / "sim001.dat").read_bytes()
    (folder / "sim001.dat").write_bytes(bytes(len(data)))


def gone(folder: Path) -> None:
    (folder / "sim001.hea").unlink()


def renamed(folder: Path) -> None:
    header = (folder / "sim001.hea").read_text()
    (folder / "sim001.hea").write_text(header.replace("ECG1", "resp").replace("ECG2", "pleth"))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (cut, "bytes of samples; expected"),
        (flat, "expected a signal that varies"),
        (gone, "file sim001.hea: found no such file"),
        (renamed, "found leads 'resp', 'pleth'; expected an ECG, by name and unit"),
    ],
)
def test_a_bad_record_is_refused(
    records: Path,
    release: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    harm: object,
    words: str,
) -> None:
    """Exit code 1, one sentence that names the record, and nothing written."""
    folder = tmp_path / "bad"
    shutil.copytree(records, folder)
    assert callable(harm)
    harm(folder)
    assert run(folder / "sim001", "--model", release, "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "record sim001" in said
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_all_files_or_none(records: Path, release: Path, tmp_path: Path) -> None:
    """Where one file cannot be put in place, none stays, nor any part of one."""
    out = tmp_path / "out"
    (out / "sim001.html").mkdir(parents=True)
    assert run(records / "sim001", "--model", release, "--out", out) == 1
    assert [path.name for path in out.iterdir()] == ["sim001.html"]


def test_an_unsigned_model_decides_nothing(
    records: Path, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model folder that no enrolled key signed, or that was changed, is refused."""
    (release / LITERT).write_bytes(b"another")
    assert run(records / "sim001", "--model", release, "--out", tmp_path / "out") == 1
    assert "not what was signed" in capsys.readouterr().err


def test_a_short_record_is_drawn(records: Path, release: Path, tmp_path: Path) -> None:
    """Twenty seconds of signal give a page too."""
    header = (records / "sim000.hea").read_text().replace("250 450000", "250 5000")
    folder = tmp_path / "short"
    folder.mkdir()
    data = (records / "sim000.dat").read_bytes()
    (folder / "sim000.dat").write_bytes(data[: 5000 * 3])
    (folder / "sim000.hea").write_text(header)
    assert run(folder / "sim000", "--model", release, "--out", tmp_path / "out") == 0
    assert "of the 20 s analysed" in (tmp_path / "out" / "sim000.html").read_text()


def test_without_its_library_there_is_no_pdf(
    records: Path,
    release: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All other files are there, and one line says what is not, and why."""
    monkeypatch.setattr(pdf, "LIBRARY", "no_such_library")
    assert run(records / "sim000", "--model", release, "--out", tmp_path / "out") == 0
    suffixes = {path.suffix for path in (tmp_path / "out").iterdir()}
    assert suffixes == {".json", ".csv", ".haf", ".html"}
    assert capsys.readouterr().err.count(NO_PDF) == 1
