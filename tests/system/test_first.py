"""Nonsense is named before it costs: no server starts and TensorFlow is not loaded for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.ingest.simulate import write_simulated
from tests.conftest import ROOT

#: Each command, its exit code, and what it says of the input at fault; {} is a folder of records.
REFUSED: dict[str, tuple[int, str]] = {
    "evaluate m/1 --on mitdb --data nowhere": (1, "nowhere is not there"),
    "evaluate m/1 --on mitdb --data {}/empty": (1, "has no RECORDS, which lists its records"),
    "evaluate m/1 --on mitbd --data {}": (1, "did you mean 'mitdb'"),
    "evaluate m/1 --on {}/dataset.toml --data {}": (1, "no MLflow server"),
    "evaluate m@ --on {}/dataset.toml --data {}": (2, "model 'm@'"),
    "evaluate m/1 --on {}/dataset.toml --data {} --least-beats 0": (2, "least_beats: found 0"),
    "train {}/dataset.toml --data nowhere": (1, "nowhere is not there"),
    "train {}/dataset.toml --data {} --model resnet22": (2, "resnet21"),
    "train {}/dataset.toml --data {} --balance beat": (2, "found 'beat'"),
    "train {}/dataset.toml --data {} --paradigm patient": (2, "interpatient"),
    "train {}/dataset.toml --data {} --teacher a/b/c": (2, "model 'a/b/c'"),
    "train {}/dataset.toml --data {} --teacher m@champion": (1, "no MLflow server"),
    "train {}/dataset.toml --data {} --learning-rate nan": (2, "learning_rate: found nan"),
    "train {}/dataset.toml --data {} --weight inf": (2, "weight: found inf"),
    "train {}/dataset.toml --data {} --weight 1 --weight 2": (2, "one weight or none"),
    "train {}/dataset.toml --data {} --data {}": (2, "one folder or none"),
    "train {}/dataset.toml {}/dataset.toml": (2, "each data set once"),
    "train {}/dataset.toml --data {} --model rhythm --signal --no-signal": (2, "once for each"),
    "train {}/dataset.toml --data {} --most-failed many": (2, "most_failed: found 'many'"),
    "train {}/dataset.toml --data {} --teacher-weight 0.5": (2, "expected a teacher beside it"),
    "train {}/dataset.toml --data {} --temperature 2": (2, "expected a teacher beside it"),
    "train {}/dataset.toml --data {} --model rhythm --most-beats 9": (2, "is for single beats"),
    "train {}/dataset.toml --data {} --no-signal": (2, "it needs the signal"),
    "retrain {}/dataset.toml --data nowhere": (1, "nowhere is not there"),
    "retrain {}/dataset.toml --data {} --balance beat": (2, "found 'beat'"),
    "retrain {}/dataset.toml --data {} --wait-s 0": (2, "wait_s: found 0; expected above 0"),
    "retrain {}/dataset.toml --data {} --weight 1 --weight 2": (2, "one weight or none"),
    "evaluate m/1 --on {}/dataset.toml --on {}/dataset.toml": (2, "each data set once"),
    "evaluate m/1 --on {}/dataset.toml --data {} --signal --no-signal": (2, "once for each"),
    "drift m/1 --on {}/dataset.toml --data {} --signal --no-signal": (2, "once for each"),
    "run --model resnet22": (2, "resnet21"),
    "run --hours nan": (2, "hours: found nan"),
    "ingest {}/dataset.toml --data {} --record sim7": (1, "no such record"),
    "drift m/1": (2, "give a data set"),
    "drift m/1 --analysis nowhere.json": (2, "nowhere.json"),
    "drift m/1 --on mitdb --data {} --thresholds no.toml": (1, "policy no.toml: cannot be read"),
    "rebuild m/1 --data nowhere": (2, "nowhere"),
    "rebuild m/1": (1, "no MLflow server"),
    "cross-validate rhythm --on mitbd --data {}": (1, "did you mean 'mitdb'"),
    "cross-validate rhythm --on mitdb --data nowhere": (1, "nowhere is not there"),
    "cross-validate rhythm": (2, "on: found no data set"),
    "cross-validate resnet21 --on {}/dataset.toml": (2, "one beat at a time"),
    "cross-validate rhythm --on {}/dataset.toml --data {} --folds x": (2, "patient or dataset"),
    "cross-validate rhythm --on {}/dataset.toml --beside {}/dataset.toml": (2, "once; found"),
    "cross-validate rhythm --on {}/dataset.toml --out x.pdf": (2, "expected .html"),
    "reproduce --data nowhere": (1, "nowhere is not there"),
    "reproduce --dataset mitbd --data {}": (1, "did you mean 'mitdb'"),
    "reproduce --data {} --folds 1": (2, "folds: found 1; expected at least 2"),
    "compare m/1 m@": (2, "model 'm@'"),
    "compare m/1 m/2 --out report.pdf": (2, "found ending '.pdf'"),
    "pareto m/one": (2, "model 'm/one'"),
    "promote m/0": (2, "model 'm/0'"),
    "promote m --policy no.toml": (1, "policy no.toml: cannot be read"),
    "promote m --to latest": (2, "alias 'latest'"),
    "promote m --to v1": (2, "alias 'v1'"),
    "promote m --to a/b": (2, "alias 'a/b'"),
    "rollback m --alias cham@pion": (2, "alias 'cham@pion'"),
    "rollback m/1": (2, "model 'm/1'"),
    "card @champion": (2, "model '@champion'"),
    "lineage m/1/2": (2, "model 'm/1/2'"),
    "verify m@cham/pion": (2, "model 'm@cham/pion'"),
    "edge request m@": (2, "model 'm@'"),
    "edge request m --device a/b": (2, "device 'a/b'"),
    "retrain {}/dataset.toml --device ../x": (2, "device '../x'"),
    "edge request m/1 --wait-s nan": (2, "wait_s: found nan"),
    "edge release m/x --group ward": (2, "model 'm/x'"),
    "data watch {}/dataset.toml --data nowhere": (1, "nowhere is not there"),
    "data watch {}/dataset.toml mitdb": (2, "one data set is watched at a time"),
    "data watch {}/dataset.toml --data {} --quiet -1": (2, "quiet_s: found -1"),
    "data watch {}/dataset.toml --data {} --every 0": (2, "every_s: found 0"),
    "data simulate {}/more --seed -1": (2, "seed: found -1"),
}
#: Runs each command, and tells its exit code, what it said, and what it loaded or started.
CODE = """
import contextlib, io, json, sys
from flows.services import servers
from flows.cli.app import app, plainly
started = []
servers._process = lambda words, *_: started.append(words)
told = []
for words in json.load(sys.stdin):
    sys.argv = ["holter", *words]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            code = plainly(app)
        except SystemExit as end:
            code = end.code
    told.append([code, said.getvalue()])
heavy = [name for name in ("tensorflow", "prefect", "mlflow") if name in sys.modules]
print(json.dumps([told, heavy, started]))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What each command answers, in one process; no server and no slow library was needed."""
    folder = tmp_path_factory.mktemp("records")
    write_simulated(folder, 2, 0.02, 1)
    (folder / "empty").mkdir()
    words = [command.replace("{}", str(folder)).split() for command in REFUSED]
    env = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "HOLTER_LOG")}
    env |= {"HOLTER_HOME": str(folder / "home"), "COLUMNS": "2000", "PYTHONPATH": str(ROOT)}
    env["TERMINAL_WIDTH"] = "2000"
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=json.dumps(words),
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answers, heavy, started = json.loads(done.stdout)
    assert heavy == [], "what is slow to load was loaded"
    assert started == [], "a server was started"
    return {command: (code, said) for command, (code, said) in zip(REFUSED, answers, strict=True)}


@pytest.mark.parametrize("command", REFUSED)
def test_nonsense_is_named_first(command: str, told: dict[str, tuple[int, str]]) -> None:
    """The command ends with its exit code, and its sentence names the input at fault."""
    code, expected = REFUSED[command]
    found, said = told[command]
    assert expected in " ".join(said.split()), said
    assert found == code, said


def test_versions_have_three_forms() -> None:
    """A registered version is named by alias, by number, or alone; nothing else is a name."""
    from storage.registry.reference import parse

    assert parse("holter-fused@champion") == ("holter-fused", "champion", "")
    assert parse("holter-fused/12") == ("holter-fused", "", "12")
    assert parse("holter-fused") == ("holter-fused", "", "")
    for text in ("", " ", "m@", "@a", "m/", "m/0", "m/-1", "m/1.0", "m/1@a", "m@a/1", "m'x", "m:1"):
        with pytest.raises(ValueError, match=r"expected NAME@alias, NAME/version or NAME"):
            parse(text)


def test_a_data_set_of_several_that_is_missing_is_named_first(tmp_path: Path) -> None:
    """The second data set's folder is looked for before the first one's records are read."""
    from flows.ingest.folders import data_sets, resolve_folders
    from storage.errors import SpecError

    toml = write_simulated(tmp_path / "a", 1, 0.02, 1)
    with pytest.raises(SpecError, match="nowhere is not there"):
        resolve_folders(data_sets([str(toml), "mitdb"], data=[toml.parent, tmp_path / "nowhere"]))


def test_a_reproduction_is_looked_for_on_what_is_there(tmp_path: Path) -> None:
    """AFDB where it is, or where nothing is; the stand-ins where they alone are."""
    from flows.ingest.folders import INSTEAD, reproduced_on

    assert reproduced_on(tmp_path) == ("afdb",)
    (tmp_path / "mitdb").mkdir()
    assert reproduced_on(tmp_path) == INSTEAD
    (tmp_path / "afdb").mkdir()
    assert reproduced_on(tmp_path) == ("afdb",)
