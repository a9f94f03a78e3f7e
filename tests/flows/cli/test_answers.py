"""Answers on standard output: whole lines for people, the same as JSON by a schema that is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from edge_agent.cli import main as edge
from flows.cli.answer.contents import report_of
from flows.cli.answer.schema import ANSWERS, document
from flows.cli.app import app
from flows.ingest.simulate import write_simulated
from flows.reports import shown
from flows.services.servers import MLFLOW
from storage.audit import ledger
from storage.json_text import as_json
from tasks.pages.document import Block, Branch, Code, Heading, Picture, Summary, Table, Tile, Words
from tests.answers import SCHEMA, held
from tests.conftest import ROOT
from tests.emptied import DATABASES, Emptied, copy_database
from tests.sealed import made_up_manifest, made_up_report, made_up_version, sides_of

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own, at import
#: Commands without a kind of their own, and why.
WITHOUT = {
    "sbom": "its JSON is CycloneDX's",
}


def leaves(node: Any = None, words: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    node = node or get_command(app)
    if not hasattr(node, "commands"):
        yield words, node
    for name, command in getattr(node, "commands", {}).items():
        yield from leaves(command, f"{words} {name}".strip())


def holter(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def answer(command: str, *words: str, code: int = 0) -> Any:
    """A command's JSON, which keeps its schema; nothing else is on standard output."""
    done = CliRunner().invoke(app, [*command.split(), *words, "--format", "json"])
    assert done.exit_code == code, f"{done.output}\n{done.exception!r}"
    return held(done.stdout, command)


def test_every_command_that_answers_does_so_as_json() -> None:
    """Each command takes --format, and has a kind whose schema is kept, or a reason for none."""
    for words, command in leaves():
        names = {name for option in command.params for name in option.opts}
        assert words in ANSWERS or words in WITHOUT, words
        assert "--format" in names, words
    assert {words for words, _ in leaves()} >= {*ANSWERS, *WITHOUT}


def test_the_schemas_are_those_of_the_kinds() -> None:
    """`python docs/list_answers.py` changes nothing: who reads the JSON is told of a change."""
    assert json.loads(json.dumps(document())) == SCHEMA


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    write_simulated(folder, 3, 0.02, 1)
    return folder


def test_data_sets_as_json(records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the commands of data sets answer keeps its schema, problems too."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    assert {"mitdb", "afdb"} <= {row["name"] for row in answer("data list")["data_sets"]}
    assert answer("data show", "mitdb")["name"] == "mitdb"
    folder, toml = str(records), str(records / "dataset.toml")
    whole = answer("data check", toml, "--data", folder)
    assert (len(whole["records"]), whole["problems"]) == (3, 0)
    made = answer("data simulate", str(tmp_path / "more"), "--subjects", "2", "--hours", "0.02")
    (tmp_path / "more" / "sim001.dat").unlink()
    lacking = answer("data check", made["toml"], "--data", made["folder"], code=3)
    assert "sim001.dat" in lacking["records"][1]["problem"]
    words = (folder, "--no-ask", "--licence", "x", "--one-record-one-subject", "--name", "ward")
    added = answer("data add", *words, "--exclude", "N")
    assert Path(added["toml"]).is_file()
    assert added["changes"] == [{"entry": "rhythms.map.N", "proposal": "N", "value": "no label"}]
    health = answer("doctor", code=1 if answer_fails("doctor") else 0)
    assert health["problems"] == sum(not check["ok"] for check in health["checks"])
    assert len(answer("edge key")["public_key"]) == 64
    assert answer("status") == {
        "up": False, "servers": {}, "worker": "", "closed": [], "runs": [], "models": []
    }  # fmt: skip


def answer_fails(command: str) -> bool:
    return CliRunner().invoke(app, [command]).exit_code != 0


@pytest.fixture(scope="module")
def version(empty_mlflow: Emptied, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A version that was sealed, reported on, and made the champion."""
    folder = tmp_path_factory.mktemp("sealed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", empty_mlflow.address)
        patch.setenv("HOLTER_HOME", str(folder / "home"))
        path, manifest = made_up_manifest(folder / "records")
        made = made_up_version("holter-x", folder / "x", path, manifest, sides_of(manifest))
        made_up_report(made, "belt", folder / "report")
        ledger.move_alias("holter-x", 1, "champion", "F1 of 0.875 on the belt", who="Dr. Who")
        yield made.reference


def test_lineage_and_decisions_as_json(version: str) -> None:
    """What is told of a version keeps its schema."""
    assert answer("lineage", version)["aliases"] == ["candidate", "champion"]
    seen = answer("lineage", "--record", "sim000")["sights"]
    assert {row["model"] for row in seen} == {"holter-x"}
    findings = answer("verify", version)
    assert {row["state"] for row in findings} >= {"match"}
    quick, large = answer("verify", version, "--quick"), ("beat tables", "sources")
    assert [row for row in quick if row["link"] not in large] == [
        row for row in findings if row["link"] not in large
    ]
    assert [(row["link"], row["state"], row["told"]) for row in quick if row["link"] in large] == [
        (link, "out of reach", "not read: --quick") for link in large
    ]
    left_out = answer("pareto")["left_out"]
    assert left_out.keys() <= {version}


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("lineage", "holter-y"), "did you mean 'holter-x'?"),
        (("card", "x@champion"), "there are holter-x"),
        (("verify", "holter-x@champoin"), "did you mean 'champion'?"),
        (("compare", "holter-x/1", "holter-x/7"), "found no version 7; its newest is 1"),
    ],
)
def test_a_model_that_is_not_there_has_a_nearest_name(
    version: str, words: tuple[str, ...], near: str
) -> None:
    """A slip in a model's name, alias or number is answered with what there is."""
    assert version == "holter-x/1"
    done = CliRunner().invoke(app, [*words])
    assert near in str(done.exception)


def test_a_model_is_looked_for_before_a_server_starts(
    version: str, empty_mlflow: Emptied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local registry's database tells that there is no such model; no server is started."""
    assert version == "holter-x/1"
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    database = DATABASES[MLFLOW]
    copy_database(empty_mlflow.home / database, tmp_path / database)
    monkeypatch.setattr("flows.services.servers._start", lambda *_: pytest.fail("a server started"))
    for command in ("lineage", "verify", "card", "promote"):
        done = CliRunner().invoke(app, [command, "holter-y"])
        words = "no registered model 'holter-y' (did you mean 'holter-x'?)"
        assert words in str(done.exception), command


def test_servers_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that the environment names are told; without any, nothing is stopped."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))
    assert answer("down") == {"stopped": False}
    monkeypatch.setenv("PREFECT_API_URL", f"http://me:{'word'}@127.0.0.1:9/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    value = answer("up")
    assert value["servers"]["PREFECT_API_URL"] == "http://127.0.0.1:9/api"
    assert not value["started"]
    assert "nothing is started here" in value["notes"][0]


def test_a_device_s_requests_as_json(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`holter-edge status` keeps its schema, with a request and without."""
    assert version == "holter-x/1"
    for device, count in (("absent", 0), ("belt", 1)):
        with pytest.raises(SystemExit) as ended:
            edge(["status", "--device", device, "--format", "json"])
        assert ended.value.code == 0
        value = held(capsys.readouterr().out, "holter-edge status")
        assert (value["device"], len(value["requests"])) == (device, count)


def test_a_file_or_pipe_gets_whole_lines() -> None:
    """A row is one line, not cut at 80 columns, without colour; nothing of it is on stderr."""
    done = holter("data", "list")
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("cpsc2021 ")]
    assert line.endswith(str(ROOT / "storage" / "datasets" / "cpsc2021.toml"))
    assert len(line) > 80


def test_a_reader_may_leave(tmp_path: Path) -> None:
    """A pipe whose reader wants no more ends the command without a word."""
    line = f"{sys.executable} -m flows data show mitdb | head -1"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    words = ["bash", "-c", line]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_a_terminal_s_table_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal no row is broader than it, and every character of a cell is there."""
    import io

    text, path = io.StringIO(), "/data/" + "x" * 200
    console = Console(file=text, force_terminal=True, width=60, color_system=None)
    monkeypatch.setattr(shown, "stdout", console)
    shown.show_table(["name", "path"], [["a [red]b[/red]", path]], "Title")
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert text.getvalue().count("x") == 200
    assert "[red]b[/red]" in text.getvalue()


def test_logs_as_json_leave_standard_output_to_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With HOLTER_LOG=json the answer is on standard output alone, the rest is JSON lines."""
    monkeypatch.setenv("HOLTER_LOG", "json")
    done = holter("data", "simulate", str(tmp_path), "--subjects", "1", "--hours", "0.02")
    assert done.stdout == f"1 simulated records and {tmp_path / 'dataset.toml'}\n"
    toml = (tmp_path / "dataset.toml").read_text()
    (tmp_path / "dataset.toml").write_text(toml)
    done = holter("data", "check", str(tmp_path / "dataset.toml"), "--data", str(tmp_path))
    assert done.stdout.startswith("1 record, 0 with a problem.")
    for line in done.stderr.splitlines():
        json.loads(line)


@pytest.mark.parametrize(("count", "table"), [(2, True), (21, False)])
def test_many_records_have_no_table_unasked(count: int, table: bool, tmp_path: Path) -> None:
    """`holter data check` answers first; above twenty records a row for each is asked for."""
    write_simulated(tmp_path, count, 0.02, 1)
    (tmp_path / "sim001.dat").write_bytes(b"")
    words = ["data", "check", str(tmp_path / "dataset.toml"), "--data", str(tmp_path)]
    usual = CliRunner().invoke(app, words).stdout
    fit = f"Checksums of {count - 1} fit."
    assert usual.startswith(f"{count} records, 1 with a problem. {fit}\nproblem   record sim001")
    assert ("hours of rhythm" in usual) is table
    for option, expected in (("--table", True), ("--no-table", False)):
        asked = CliRunner().invoke(app, [*words, option]).stdout
        assert ("hours of rhythm" in asked) is expected


def test_no_toml_is_written_where_every_record_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data set of which no record can be used is told, record by record, and not kept."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    write_simulated(tmp_path / "set", 2, 0.02, 1)
    for path in (tmp_path / "set").glob("*.dat"):
        path.write_bytes(b"")
    words = ("--no-ask", "--licence", "x", "--one-record-one-subject")
    done = CliRunner().invoke(app, ["data", "add", str(tmp_path / "set"), *words])
    assert "2 records, 2 with problems." in done.stdout
    assert "found no record of 2 that can be used" in str(done.exception)
    assert not list((tmp_path / "home").rglob("*.toml"))
    value = answer("data add", str(tmp_path / "set"), *words, code=1)
    assert value["toml"] is None


def test_a_report_as_json_has_every_part() -> None:
    """Headings, words, tables and outlines are there with their text, a picture in words."""
    blocks: list[Block] = [
        Heading("A"),
        Words("b", caveat=True),
        Code("c"),
        Summary("d", [Tile("e", "1", "f")], "good"),
        Table(["g"], [["h"]]),
        Picture("i.png", b"", "j"),
        Branch("k", (Branch("l"),)),
    ]
    report = held(as_json(report_of("T", blocks)), "card")
    kinds = [part["kind"] for part in report["parts"]]
    assert kinds == ["heading", "caveat", "code", "summary", "table", "picture", "outline"]
    assert report["parts"][-1]["lines"] == [{"depth": 0, "text": "k"}, {"depth": 1, "text": "l"}]


def test_what_json_cannot_say_is_null() -> None:
    """A figure that is undefined is null; a byte that is no UTF-8 is written as JSON can."""
    assert json.loads(as_json(["caf\udce9"]).encode()) == ["caf\udce9"]
    assert json.loads(as_json({"f1": float("nan"), "n": 2, "inf": [float("inf")]})) == {
        "f1": None,
        "n": 2,
        "inf": [None],
    }
