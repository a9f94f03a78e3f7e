"""Many recordings: a row for each, whatever befalls it, and nothing is written over."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import edfio
import numpy as np
import psutil
import pytest

from edge_agent.cli import main as edge
from flows.ingest.simulate import write_simulated
from storage.errors import SpecError
from storage.recordings.records import open_alone, read_lead
from tasks.analysis import many
from tasks.analysis.many import COLUMNS, Order, Recording, recordings_in, rows_of
from tests.answers import held
from tests.conftest import ROOT
from tests.tasks.analysis.deadly import deadly


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated records of six minutes."""
    folder = tmp_path_factory.mktemp("records")
    write_simulated(folder, 2, 0.1, seed=7)
    return folder


def copy(records: Path, name: str, to: Path) -> None:
    """A record under another name and folder."""
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(records / f"{name}.dat", to.with_suffix(".dat"))
    header = (records / f"{name}.hea").read_text().replace(name, to.name)
    to.with_suffix(".hea").write_text(header)


def as_edf(records: Path, name: str, to: Path, seconds: int = 60) -> None:
    signal_mv = read_lead(open_alone(records / name), 0, 250 * seconds).astype(np.float64)
    edfio.Edf([edfio.EdfSignal(signal_mv, 250, label="II", physical_dimension="mV")]).write(to)


@pytest.fixture
def ward(records: Path, tmp_path: Path) -> Path:
    """A folder with what wards have: names twice, folders below, damaged and useless files."""
    ward = tmp_path / "ward"
    copy(records, "sim000", ward / "a")
    copy(records, "sim001", ward / "bed 2" / "a")
    as_edf(records, "sim001", ward / "A.EDF")
    as_edf(records, "sim000", ward / "summary.edf")
    as_edf(records, "sim000", ward / "short.edf", seconds=4)
    (ward / "junk.edf").write_bytes(b"junk" * 100)
    (ward / "notes.txt").write_text("no recording")
    copy(records, "sim000", ward / "cut")
    (ward / "cut.dat").write_bytes((ward / "cut.dat").read_bytes()[:1000])
    return ward


def run(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        edge(["analyse", *map(str, words)])
    return int(ended.value.code or 0)


def files_under(folder: Path) -> list[str]:
    paths = folder.rglob("*")
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.is_file())


def test_a_folder_is_answered_whole(
    ward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each recording has its row and its own files; what is wrong with one stops no other."""
    monkeypatch.setenv("HOLTER_EDGE_HOME", str(tmp_path / "edge"))
    out = tmp_path / "out"
    assert run(ward, "--out", out, "--format", "json") == 3
    captured = capsys.readouterr()
    document = held(captured.out, "holter-edge analyse")
    rows = {row["record"]: row for row in document["records"]}
    assert list(rows) == ["A_edf", "a_wfdb", "bed 2/a", "cut", "junk", "short", "summary_edf"]
    states = {name: row["state"] for name, row in rows.items()}
    assert states.pop("short") == "cannot tell"
    assert {name for name, state in states.items() if state == "failed"} == {"cut", "junk"}
    assert document["unanswered"] == 3
    assert "1000 bytes of samples" in rows["cut"]["note"]
    assert rows["short"]["af_burden"] is None
    assert "7/7" in captured.err
    table = list(csv.DictReader(io.StringIO((out / "summary.csv").read_text())))
    assert [row["record"] for row in table] == list(rows)
    assert tuple(table[0]) == COLUMNS
    alone = {name: json.loads((out / f"{name}.json").read_text()) for name in ("A_edf", "bed 2/a")}
    for name, figures in alone.items():
        assert rows[name]["af_burden"] == figures["af_burden"]
    assert run(ward, "--out", out) == 3
    text = capsys.readouterr().out
    assert [row["note"] for row in rows.values() if row["note"] not in text] == []
    assert "7 recordings, 3 without an answer" in text
    table_lines = text.splitlines()[: 1 + len(rows)]
    assert max(map(len, table_lines)) <= 80
    assert not any(name.endswith(".partial") for name in files_under(out))


def test_all_that_fail_are_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And their reasons are in the table."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "junk.edf").write_bytes(b"junk" * 100)
    assert run(tmp_path / "in", "--out", tmp_path / "out") == 1
    assert "junk: failed: record junk" in capsys.readouterr().out
    assert files_under(tmp_path / "out") == ["summary.csv"]


def test_names_that_no_terminal_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A byte that is no UTF-8, and an escape: refused by name, and the terminal obeys nothing."""
    (tmp_path / "in").mkdir()
    for name in (b"caf\xe9.edf", b"\x1b[31mred.edf", b"=cmd.edf"):
        path = os.fsencode(tmp_path / "in") + b"/" + name
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    assert run(tmp_path / "in", "--out", tmp_path / "out") == 1
    text = capsys.readouterr().out
    assert "caf?" in text
    assert "?[31mred" in text
    assert "\x1b" not in text
    table = (tmp_path / "out" / "summary.csv").read_text()
    assert "caf\\udce9" in table
    assert [line[:6] for line in table.splitlines() if "=cmd" in line] == ["'=cmd,"]
    assert run(tmp_path / "in", "--out", tmp_path / "out", "--format", "json") == 1
    document = held(capsys.readouterr().out, "holter-edge analyse")
    assert {row["record"] for row in document["records"]} >= {"=cmd", "caf\udce9"}


def test_a_folder_without_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said which kinds of file were looked for."""
    assert run(tmp_path, "--out", tmp_path / "out") == 1
    assert "found no recording; expected some: .hea (wfdb)" in capsys.readouterr().err


def test_another_s_table_is_not_replaced(
    ward: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A summary.csv that no analysis wrote is named before any work."""
    (tmp_path / "summary.csv").write_text("patient,diagnosis\n")
    assert run(ward, "--out", tmp_path) == 1
    assert "summary.csv: found another table" in capsys.readouterr().err
    assert (tmp_path / "summary.csv").read_text() == "patient,diagnosis\n"


def test_segments_are_parts_of_their_record(records: Path, tmp_path: Path) -> None:
    """A record in segments is one recording, and a name that is free is not lengthened."""
    for name in ("one", "two"):
        copy(records, "sim000", tmp_path / name)
    (tmp_path / "whole.hea").write_text("whole/2 2 250 180000\none 90000\ntwo 90000\n")
    assert [recording.name for recording in recordings_in(tmp_path)] == ["whole"]


def test_no_two_recordings_share_a_name(tmp_path: Path) -> None:
    """Whatever the case of their letters, and whatever the others are called."""
    names = ("x.edf", "X.ecg", "x.hea", "x_edf.edf", "summary.ecg", "d/x.edf", "y.z.edf")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    given = [recording.name for recording in recordings_in(tmp_path)]
    assert len({name.lower() for name in given}) == len(names)
    assert "summary" not in given
    assert {"x_edf", "x_edf_2", "x_wfdb", "X_ishne", "d/x", "y.z"} <= set(given)
    with pytest.raises(SpecError, match="found no recording"):
        recordings_in(tmp_path / "e")


def test_a_process_that_dies_takes_no_other_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were at work beside it are done again; its own row says what happened."""
    monkeypatch.setattr(many, "row_of", deadly)
    recordings = [Recording(tmp_path / name, name) for name in ("a", "b", "c", "d")]
    rows = rows_of(recordings, Order(tmp_path), 2)
    assert [row["record"] for row in rows] == ["a", "b", "c", "d"]
    assert [row["state"] for row in rows] == ["analysed", "failed", "analysed", "analysed"]
    assert "its process ended" in rows[1]["note"]


def test_an_interrupt_leaves_no_half_file(records: Path, tmp_path: Path) -> None:
    """Ctrl-C ends every process soon; whatever files are there are whole."""
    for number in range(40):
        copy(records, "sim000", tmp_path / "in" / f"r{number:02}")
    out = tmp_path / "out"
    words = [sys.executable, "-m", "edge_agent", "analyse", str(tmp_path / "in"), "--out", str(out)]
    environment = {**os.environ, "HOLTER_EDGE_HOME": str(tmp_path / "edge")}
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
        # Who starts the tests in the background has its children ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    process.stderr.readline()  # the first recording is done
    while not list(out.glob("*.json")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    left = files_under(out)
    assert not [name for name in left if name.endswith(".partial")]
    assert 0 < len({name.split(".")[0] for name in left}) < 40
    for name in left:
        if name.endswith(".json"):
            assert json.loads((out / name).read_text())["record"] == name[:3]
    assert "summary.csv" not in left
    until = time.monotonic() + 20
    while alive_in(process.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert alive_in(process.pid) == []


def alive_in(group: int) -> list[str]:
    """Commands of the processes of a group that have not ended."""
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["pid", "status", "cmdline"])
        if process.info["status"] != psutil.STATUS_ZOMBIE and _group(process.info["pid"]) == group
    ]


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0
