"""The `holter` command: help worth reading, plain errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from flows.cli.app import app
from tests.conftest import ROOT


def holter(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flows", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_every_command_and_option_is_explained() -> None:
    """Each command has a sentence, and each of its options and arguments too."""
    waiting = [("holter", get_command(app))]
    while waiting:
        name, command = waiting.pop()
        assert command.help, name
        waiting += [(f"{name} {k}", c) for k, c in getattr(command, "commands", {}).items()]
        for parameter in command.params:
            assert getattr(parameter, "help", "x"), f"{name}: {parameter.name}"


def test_help_is_quick_to_load() -> None:
    """The command line loads neither TensorFlow nor MLflow nor Prefect before it must."""
    code = (
        "import sys, flows.cli.app;"
        "print([m for m in ('tensorflow', 'mlflow', 'prefect', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("data", "show", "mitbd"), "did you mean 'mitdb'"),
        (("data", "check", "mitdb", "--data", "nowhere"), "nowhere is not there"),
        (("data", "show", "no.toml"), "no.toml: cannot be read"),
    ],
)
def test_failures_are_one_sentence(words: tuple[str, ...], told: str) -> None:
    """A failure is one plain sentence without a traceback, and exit code 1; --debug shows more."""
    done = holter(*words)
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in holter("--debug", *words).stderr


def test_check_lists_a_bad_record(tmp_path: Path) -> None:
    """`holter data check` shows the bad record's reason beside the good ones and exits with 3."""
    assert (
        holter("data", "simulate", str(tmp_path), "--subjects", "2", "--hours", "0.02").returncode
        == 0
    )
    (tmp_path / "sim001.dat").unlink()
    done = holter("data", "check", str(tmp_path / "dataset.toml"), "--data", str(tmp_path))
    assert done.returncode == 3
    answer, problem, *_ = done.stdout.splitlines()
    assert answer == "2 records, 1 with a problem. Checksums of 1 fit."
    assert problem.startswith("problem   record sim001, file sim001.dat")
