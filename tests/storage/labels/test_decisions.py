"""Decisions: kept once and for good, or not at all, whatever is asked and whoever is killed."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from storage.errors import DecisionError
from storage.labels import decisions as module
from storage.labels.decisions import (
    FILE,
    MOST_REMARK,
    Decision,
    append_decision,
    check_decision,
    log_heads,
    read_decisions,
    reviewed_datasets,
)
from tests.conftest import ROOT
from tests.deciding import decision


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def kept(*rows: Decision) -> Path:
    """A log with these decisions."""
    for row in rows:
        assert append_decision(row)
    return Path(os.environ["HOLTER_HOME"]) / "labels" / rows[0].dataset / FILE


def forget() -> None:
    """What a new process knows of logs: nothing."""
    module._BOOKS.clear()


def test_a_decision_is_kept_once() -> None:
    """It comes back as it was, in order, by its record too; its id counts once."""
    first, second = decision(0, 100, "AFIB"), decision(50, 90, "", record="a/b", remark="P?\nno")
    kept(first, second)
    assert not append_decision(first)
    with pytest.raises(DecisionError, match="id: found"):
        append_decision(replace(first, remark="another thing under the same id"))
    for look in range(2):
        assert read_decisions("simulated") == (first, second), look
        assert read_decisions("simulated", "a/b") == (second,)
        assert read_decisions("simulated", "b") == read_decisions("other") == ()
        forget()
    assert reviewed_datasets() == ["simulated"]
    assert len(log_heads("simulated")) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "../../etc/passwd"),
        ("id", "A" * 32),
        ("dataset", "../afdb"),
        ("dataset", "a/b"),
        ("dataset", ""),
        ("record", "../sim001"),
        ("record", "/sim001"),
        ("record", "a\\b"),
        ("record", "sim\x00"),
        ("record", "a" * 2_000),
        ("start", -1),
        ("start", 100),
        ("start", True),
        ("end", 1 << 60),
        ("end", 5.5),
        ("verdict", "maybe"),
        ("rhythm", "(AFIB"),
        ("rhythm", "AFIB\n"),
        ("rhythm", ""),
        ("rhythm", None),
        ("remark", "x" * (MOST_REMARK + 1)),
        ("remark", "a\x1b[31mred"),
        ("remark", "\x00"),
        ("remark", "from right to left \u202e"),
        ("remark", "half a pair \ud800"),
        ("reviewer", ""),
        ("reviewer", " Anna"),
        ("reviewer", "Anna\nBen"),
        ("reviewer", "x" * 101),
        ("time", "yesterday"),
        ("time", "2026-01-31T08:15:00"),
        ("time", "2026-01-31\x1b08:15:00+00:00"),
        ("time", "2026-01-31T08:15:00+01:00"),
        ("version", "holter-x"),
        ("version", "holter/x/1"),
        ("version", "holter-x/0"),
        ("version", "x\u202e/1"),
    ],
)
def test_what_cannot_be_kept_is_refused(field: str, value: Any, home: Path) -> None:
    """Names that leave their folder, controls, what is too long or of another kind: no trace."""
    name = "passage" if field in ("start", "end") and type(value) is int else field
    with pytest.raises(DecisionError, match=f"decision, {name}: found ") as refused:
        append_decision(replace(decision(0, 100, "AFIB"), **{field: value}))
    assert len(str(refused.value)) < 300
    assert not home.exists()


@pytest.mark.parametrize(
    "remark",
    ["<script>alert(1)</script>", "=1+1", "[bold]x[/bold]", '"; DROP', "é 心 👩‍⚕️\nline", "\u00a0"],
)
def test_markup_is_text(remark: str) -> None:
    """What means something elsewhere is kept as it was written, on one line of the log."""
    path = kept(decision(0, 100, "AFIB", remark=remark))
    forget()
    assert [row.remark for row in read_decisions("simulated")] == [remark]
    assert path.read_bytes().count(b"\n") == 1


def test_a_torn_line_is_set_aside(caplog: pytest.LogCaptureFixture) -> None:
    """Wherever a killed writer stopped, what was saved is there once, and the rest is told."""
    first, last = decision(0, 100, "AFIB"), decision(200, 300, "N", remark="torn")
    path = kept(first, last)
    data = path.read_bytes()
    begin = data.index(b"\n") + 1
    for cut in (*range(begin + 1, len(data), 40), len(data) - 1):
        path.write_bytes(data[:cut])
        forget()
        with caplog.at_level(logging.WARNING, "holter"):
            assert read_decisions("simulated") == (first,)
        (torn,) = path.parent.glob("torn-*.txt")
        assert torn.read_bytes() == data[begin:cut]
        assert "torn" in caplog.text
        assert torn.name in caplog.text
        assert append_decision(last)
        assert not append_decision(last)
        assert path.read_bytes() == data
        torn.unlink()
        caplog.clear()


def test_a_write_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full, or does not take it, is an error; the same may be asked again."""
    path, second = kept(decision(0, 100, "AFIB")), decision(100, 200, "N")
    before = path.read_bytes()

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("storage.labels.log.os.fsync", refuse)
        with pytest.raises(OSError, match="No space left"):
            append_decision(second)
    assert path.read_bytes() == before
    assert append_decision(second)
    assert len(read_decisions("simulated")) == 2


def edited(lines: list[bytes]) -> list[bytes]:
    value = json.loads(lines[1])
    return [lines[0], json.dumps({**value, "rhythm": "N"}, sort_keys=True).encode(), *lines[2:]]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (edited, 3),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: [lines[0], b"{}", *lines[2:]], 2),
        (lambda lines: [lines[0], b"[" * 5_000, *lines[2:]], 2),
        (lambda lines: [lines[0], *lines], 2),
    ],
    ids=["edited", "removed", "swapped", "emptied", "deep", "doubled"],
)
def test_a_changed_log_is_found(change: Callable[[list[bytes]], list[bytes]], line: int) -> None:
    """A line that was edited, removed, moved or put in is named; nothing is added after it."""
    path = kept(*(decision(100 * n, 100 * n + 50, "AFIB") for n in range(4)))
    path.write_bytes(b"\n".join([*change(path.read_bytes().splitlines()), b""]))
    data = path.read_bytes()
    for look in (lambda: read_decisions("simulated"), lambda: kept(decision(0, 9, "N"))):
        with pytest.raises(DecisionError, match=f"{FILE}: found line {line} damaged"):
            look()
    assert path.read_bytes() == data


def test_an_append_reads_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the log, an append takes its own line alone, and a look at it none."""
    lines = []

    def counted(value: Decision) -> Decision:
        lines.append(value)
        return check_decision(value)

    monkeypatch.setattr(module, "check_decision", counted)
    for n in range(50):
        append_decision(decision(100 * n, 100 * n + 50, "AFIB"))
        read_decisions("simulated", "sim001")
    assert len(lines) == 100  # each is checked when it is asked for, and when it is read back


WRITER = """
import sys
from dataclasses import replace
from storage.labels.decisions import append_decision
from tests.deciding import decision
name, count, distinct = sys.argv[1], *map(int, sys.argv[2:])
for n in range(count):
    n %= distinct
    row = replace(decision(n, n + 1, "N", reviewer=name), id=f"{n:031x}{name}")
    print(row.id * append_decision(row), flush=True)
"""


def test_two_writers_of_whom_one_is_killed() -> None:
    """What either was told to be saved is there, once, in a log that is whole."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    first, second = (
        Popen([sys.executable, "-c", WRITER, *words], stdout=PIPE, text=True, env=env)
        for words in (("a", "80", "40"), ("b", "100000", "100000"))
    )
    with first, second:
        assert first.stdout is not None
        assert second.stdout is not None
        ids = [second.stdout.readline().strip() for _ in range(30)]
        second.kill()
        ids += [line.strip() for line in second.stdout if line.endswith("\n")]
        ids += [line.strip() for line in first.stdout]
    assert (first.returncode, second.returncode) == (0, -9)
    rows = [row.id for row in read_decisions("simulated")]
    assert {*filter(None, ids)} <= {*rows}
    assert len({*rows}) == len(rows)
    assert sum(row.endswith("a") for row in rows) == 40
    assert append_decision(decision(0, 1, "N"))
    assert [row.id for row in read_decisions("simulated")][:-1] == rows


def test_a_copy_that_comes_back_is_read() -> None:
    """A log that was put back from a copy, longer or shorter, is what counts from then on."""
    path = kept(*(decision(n, n + 1, "N") for n in range(3)))
    short = path.read_bytes()
    kept(decision(9, 10, "N"))
    path.write_bytes(short)
    assert len(read_decisions("simulated")) == 3
    other = path.with_name("other")
    path.rename(other)
    kept(*(decision(n, n + 1, "AFIB") for n in range(2)))
    path.write_bytes(other.read_bytes())  # another log, in the same file
    assert [row.rhythm for row in read_decisions("simulated")] == ["N"] * 3
