"""`holter analyse`, `holter-edge analyse` with nothing installed: the box decides, and says so."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import edfio
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.cli import main as edge
from flows.cli import app as holter
from flows.ingest.simulate import write_simulated
from storage.recordings.records import open_alone, read_lead
from storage.registry.boxed import BOXED, boxed_release
from tasks.analysis.choice import usual_network
from tasks.analysis.reliability import ppv_at, reliability
from tasks.analysis.words import how_sure, percent, span
from tests.answers import held
from tests.conftest import ROOT

FS_HZ = 250
DAY = datetime(2026, 3, 4, 23, 50, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three minutes without AF as WFDB, and as an EDF that began ten minutes before midnight."""
    folder = tmp_path_factory.mktemp("recordings")
    write_simulated(folder, 2, 0.2, seed=5)
    signal_mv = read_lead(open_alone(folder / "sim001")).astype(np.float64)
    write_edf(folder / "night.edf", signal_mv)
    return folder


def write_edf(path: Path, signal_mv: NDArray[np.float64]) -> Path:
    signal = edfio.EdfSignal(signal_mv, FS_HZ, label="ECG II", physical_dimension="mV")
    recording = edfio.Recording(startdate=DAY.date())
    edfio.Edf([signal], recording=recording, starttime=DAY.time()).write(path)
    return path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder that does not exist, of server and device."""
    home = tmp_path / "state"
    monkeypatch.setenv("HOLTER_HOME", str(home))
    monkeypatch.setenv("HOLTER_EDGE_HOME", str(home / "edge"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return home


def server(*words: str | Path) -> int:
    """`holter analyse`; its exit code."""
    exit_code = 0

    def work() -> None:
        nonlocal exit_code
        exit_code = holter.app(["analyse", *map(str, words)], standalone_mode=False) or 0

    return holter.plainly(work) or exit_code


def device(*words: str | Path) -> int:
    """`holter-edge analyse`; its exit code."""
    with pytest.raises(SystemExit) as ended:
        edge(["analyse", *map(str, words)])
    return int(ended.value.code or 0)


@pytest.fixture(params=[server, device])
def command(request: pytest.FixtureRequest) -> Callable[..., int]:
    """Either command."""
    run: Callable[..., int] = request.param
    return run


def test_an_answer_with_nothing_installed(
    command: Callable[..., int],
    folder: Path,
    tmp_path: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Network, version, reason and figures are told; no key, server or state folder is needed."""
    assert command(folder / "night.edf", "--out", tmp_path / "out", "--format", "json") == 0
    name = {server: "analyse", device: "holter-edge analyse"}[command]
    figures = held(capsys.readouterr().out, name)
    assert figures["start"] == DAY.isoformat()
    model = figures["model"]
    assert model["name"] in BOXED
    _, manifest = boxed_release(model["name"])
    assert model["registered"] == manifest["registered"]
    assert "from the box" in model["origin"]
    assert model["reason"]
    assert [row["dataset"] for row in figures["reliability"]] == [
        entry["dataset"] for entry in manifest["figures"]
    ]
    assert not home.exists()
    written = json.loads((tmp_path / "out" / "night.json").read_text())
    assert written == {name: value for name, value in figures.items() if name != "files"}
    assert sorted(figures["files"]) == sorted(map(str, (tmp_path / "out").iterdir()))


def test_text_has_the_same_content(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each figure of the JSON stands in the text, on standard output; the rest is elsewhere."""
    words = (folder / "night.edf", "--out", tmp_path / "out")
    assert server(*words, "--format", "json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert server(*words) == 0
    text = capsys.readouterr().out
    shown = [figures["lead"], f"{figures['beats']:,}", figures["model"]["name"], "2026-03-04 23:50"]
    shown += [figures["model"]["registered"], figures["model"]["reason"], *figures["files"]]
    shown += [row["dataset"] for row in figures["reliability"]]
    assert [words for words in shown if words not in text] == []
    assert percent(figures["af_burden"]) in text
    assert "not a diagnosis" in text


def test_clock_times_pass_midnight(folder: Path, tmp_path: Path) -> None:
    """Each episode has the recorder's time beside its seconds; without a date they are empty."""
    rows = {}
    for name in ("night.edf", "sim001.hea"):
        assert device(folder / name, "--out", tmp_path) == 0
        table = (tmp_path / f"{Path(name).stem}.csv").read_text()
        rows[name] = list(csv.DictReader(io.StringIO(table)))
    assert rows["night.edf"]
    for row in rows["night.edf"]:
        expected = DAY + timedelta(seconds=float(row["start_s"]))
        assert abs(datetime.fromisoformat(row["start_time"]) - expected) < timedelta(seconds=0.002)
    assert {row["start_time"] for row in rows["sim001.hea"]} == {""}


def silent(n: int) -> NDArray[np.float64]:
    return np.append(np.zeros(n - 1), 1e-3)


def noise(n: int) -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(0, 0.3, n)


def walk(n: int) -> NDArray[np.float64]:
    return np.cumsum(np.random.default_rng(0).normal(0, 0.02, n))


@pytest.mark.parametrize(
    ("signal", "seconds", "reason"),
    [
        (silent, 60, "0 beats"),
        (noise, 300, "poor signal at"),
        (walk, 300, "poor signal at"),
        (None, 4, "4.0 s that can be analysed"),
        (None, 1, "0 beats where it can be analysed"),
    ],
)
def test_what_cannot_be_told_is_no_burden(
    command: Callable[..., int],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    signal: Callable[[int], NDArray[np.float64]] | None,
    seconds: int,
    reason: str,
) -> None:
    """No beats, noise, a few seconds: the words are `cannot tell`, with exit code 1 and why."""
    n = FS_HZ * seconds
    real = read_lead(open_alone(folder / "sim000"), 0, n).astype(np.float64)
    path = write_edf(tmp_path / "rec.edf", signal(n) if signal else real)
    assert command(path, "--out", tmp_path / "out") == 1
    text = capsys.readouterr().out
    assert "rec: cannot tell: found" in text
    assert reason in text
    assert "AF in" not in text
    assert "no AF" not in text
    assert command(path, "--out", tmp_path / "out", "--format", "json") == 1
    figures = json.loads(capsys.readouterr().out)
    assert figures["af_burden"] is None
    assert reason in figures["cannot_tell"]
    for file in (tmp_path / "out").glob("*.html"):
        assert "annot tell" in file.read_text()


def test_a_short_strip_has_its_caveat(folder: Path, tmp_path: Path) -> None:
    """Twenty-five seconds are answered, and are said to be too short for clinical AF."""
    signal_mv = read_lead(open_alone(folder / "sim000"), 0, FS_HZ * 25).astype(np.float64)
    assert server(write_edf(tmp_path / "rec.edf", signal_mv), "--out", tmp_path / "out") == 0
    figures = json.loads((tmp_path / "out" / "rec.json").read_text())
    assert any("clinical AF lasts 30 s" in words for words in figures["caveats"])
    (short,) = [row for row in figures["reliability"] if row["dataset"] == "cinc2017"]
    expected = f"cinc2017's strips of a minute it finds {percent(short['sensitivity'])}"
    assert any(expected in words for words in figures["caveats"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("notes.txt", "found a file .txt; expected a recording: .hea, .edf, .ecg, .dcm, .dat"),
        ("gone.edf", "record gone, file gone.edf: found no such file; expected an EDF file"),
        ("gone", "record gone, file gone.hea: found no such file; expected its header"),
        ("junk.edf", "record junk, file junk.edf: found"),
        ("empty.ecg", "record empty, file empty.ecg: found 0 bytes"),
    ],
)
def test_a_wrong_file_is_one_sentence(
    command: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    words: str,
) -> None:
    """It names the file, what was found and what was expected; nothing is written."""
    for file, data in {"notes.txt": b"hi", "junk.edf": b"junk" * 100, "empty.ecg": b""}.items():
        (tmp_path / file).write_bytes(data)
    assert command(tmp_path / name, "--out", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert words in " ".join(captured.err.split())
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_wfdb_by_any_of_its_names(folder: Path, tmp_path: Path) -> None:
    """Header, signal file and bare name are one recording."""
    for number, name in enumerate(("sim000", "sim000.hea", "sim000.dat")):
        assert device(folder / name, "--out", tmp_path / str(number)) == 0
    answers = {(tmp_path / str(number) / "sim000.json").read_bytes() for number in range(3)}
    assert len(answers) == 1


def test_a_user_s_files_are_not_replaced(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Annotations beside a recording have the name of our table; an earlier answer is replaced."""
    (tmp_path / "night.csv").write_text("start_s,end_s,rhythm\n0,20,N\n")
    assert server(folder / "night.edf", "--out", tmp_path) == 1
    assert "night.csv: found one that no analysis wrote" in " ".join(
        capsys.readouterr().err.split()
    )
    assert [path.name for path in tmp_path.iterdir()] == ["night.csv"]
    assert (tmp_path / "night.csv").read_text().endswith("0,20,N\n")
    for _ in range(2):
        assert server(folder / "night.edf", "--out", tmp_path / "out") == 0


def test_a_named_network_wins(
    command: Callable[..., int], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its name in the box, or by its folder: and the answer says that it was named."""
    name = "rhythm_tiny"
    for model in (name, boxed_release(name)[0]):
        words = (folder / "sim000", "--out", tmp_path, "--model", model, "--format", "json")
        assert command(*words) == 0
        told = json.loads(capsys.readouterr().out)["model"]
        assert (told["name"], "named by --model" in told["origin"]) == (name, True)


def test_a_model_that_is_nowhere_is_told(
    folder: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reference where no registry is, and a folder that nobody signed."""
    assert server(folder / "sim000", "--out", tmp_path, "--model", "holter-x@candidate") == 1
    assert "no MLflow server" in capsys.readouterr().err
    assert server(folder / "sim000", "--out", tmp_path, "--model", folder) == 1
    assert "manifest.json" in capsys.readouterr().err
    assert not home.exists()


def test_the_usual_network_decides(folder: Path, tmp_path: Path) -> None:
    """RR intervals decide, and the report says why; another is taken where that one is missing."""
    assert usual_network(BOXED).name == "rhythm"
    assert usual_network(["rhythm_tiny"]) == ("rhythm_tiny", "rhythm is not in the box")
    with pytest.raises(ValueError, match="found none of rhythm"):
        usual_network(["another"])
    assert server(folder / "sim000", "--out", tmp_path) == 0
    model = json.loads((tmp_path / "sim000.json").read_text())["model"]
    assert (model["name"], model["reason"]) == ("rhythm", usual_network().reason)


def test_ppv_is_bayes_at_the_burden_found() -> None:
    """By counts of 10,000 beats; and where there is none, why."""
    right, wrong = 0.9 * 2000, 0.05 * 8000
    ppv, reason = ppv_at(0.9, 0.95, 0.2)
    assert ppv == pytest.approx(right / (right + wrong))
    assert reason == ""
    assert ppv_at(0.9, 0.95, 1.0)[0] == 1
    cases: dict[str, tuple[float | None, float | None, float | None]] = {
        "no AF was found": (0.9, 0.95, 0.0),
        "nobody in it had AF": (None, 0.95, 0.2),
        "all of it was AF": (0.9, None, 0.2),
        "burden is not known": (0.9, 0.95, None),
        "calls nothing AF": (0.0, 1.0, 0.2),
    }
    for words, values in cases.items():
        ppv, reason = ppv_at(*values)
        assert ppv is None
        assert words in reason


def test_a_reason_for_no_ppv_is_told_once() -> None:
    """Data sets that share a reason share its line."""
    entries = [
        {"dataset": name, "side": "test", "sensitivity": 0.9, "specificity": 0.9} for name in "ab"
    ]
    nobody = {"dataset": "c", "side": "test", "sensitivity": None, "specificity": 0.9}
    lines = how_sure({"reliability": reliability(entries, 0.0), "af_burden": 0.0})
    (line,) = [line.strip() for line in lines if "no PPV" in line]
    assert line.startswith("all: no PPV, as no AF was found")
    lines = how_sure({"reliability": reliability([*entries, nobody], 0.2), "af_burden": 0.2})
    (line,) = [line.strip() for line in lines if "no PPV" in line]
    assert line.startswith("c: no PPV, as nobody in it had AF")


def test_figures_that_are_none_are_left_out() -> None:
    """NaN, text and shares beyond 1 of a manifest are no figures."""
    entries = [{"dataset": "x", "sensitivity": value, "specificity": 0.9} for value in BAD_SHARES]
    for row in reliability(entries, 0.5):
        assert (row["sensitivity"], row["ppv_at_burden"]) == (None, None)
        assert row["false_alarm_share"] == pytest.approx(0.1)


BAD_SHARES = (float("nan"), "0.9", 1.2, -0.1, None, True)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        *((0, "0 %"), (0.0, "0 %"), (1e-5, "<0.1 %"), (0.1234, "12.3 %")),
        *((0.99999, ">99.9 %"), (1.0, "100 %"), (None, "-")),
    ],
)
def test_a_share_is_not_rounded_to_none_or_all(share: float | None, text: str) -> None:
    """A little is not nothing, and nearly all is not all; terminal and page say the same."""
    assert percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s"), (0.01, "<0.1 s"), (4.25, "4.2 s"), (9.96, "10 s"), (59.4, "59 s")),
        *((59.6, "1 min"), (60, "1 min"), (61, "1 min 1 s"), (3599.9, "1 h"), (3600, "1 h")),
        *((5430, "1 h 30 min"), (79_800, "22 h 10 min"), (86_399, "24 h")),
        *((2 * 86_400 - 1, "2 d"), (14 * 86_400, "14 d"), (3 * 86_400 + 3_599, "3 d 1 h")),
    ],
)
def test_a_length_of_time_has_two_units(seconds: float, text: str) -> None:
    """Never sixty of one unit; of hours that were divided, the same as of seconds."""
    assert span(seconds) == span(3600 * (seconds / 3600)) == text


def test_it_loads_little() -> None:
    """Neither server nor training library is loaded: an answer is quick."""
    heavy = "mlflow prefect tensorflow keras pandas pyarrow pydantic matplotlib wfdb sklearn httpx"
    code = (
        "import sys, flows.cli.app, flows.cli.analyse, tasks.analysis.command; "
        f"print(sorted(set('{heavy}'.split()) & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "low", "high"), [("mitdb/219", 0.6, 1.0), ("mitdb/100", 0.0, 0.05)]
)
def test_real_recordings(
    real_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    low: float,
    high: float,
) -> None:
    """A patient in AF most of the time, and one in sinus rhythm."""
    words = (real_data / name, "--out", tmp_path, "--model", "rhythm_tiny", "--format", "json")
    assert device(*words) == 0
    assert low <= json.loads(capsys.readouterr().out)["af_burden"] <= high
