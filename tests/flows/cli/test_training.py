"""What a training ends with on a terminal: its figures, its pages, its lineage."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from flows.cli.answer.contents import training_of
from flows.cli.app import app
from flows.cli.training import train as cli_train
from flows.train.flow import TrainingResult
from storage.registry.models import ModelVersion

LINKS = {"Run": "http://x/#/experiments/1/runs/a", "Version": "http://x/#/models/holter-x/2"}


@pytest.fixture
def result() -> TrainingResult:
    version = ModelVersion("holter-x", 2, "a", {})
    figures = {"f1": 0.9876, "sensitivity": 0.5, "ppv": float("nan")}
    return TrainingResult([], "a", version, figures, "0" * 64, "ward7, seed 0", "One split.")


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def test_a_training_ends_with_figures_and_links(
    result: TrainingResult, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures of the test side, both pages, and the commands of its audit, each on its line."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://x")
    cli_train._show_training(result, training_of(result, LINKS))
    output = lines(capsys)
    assert any(line.split() == ["Beat", "F1", "0.9876"] for line in output)
    assert any(line.split() == ["Beat", "PPV", "-"] for line in output)
    assert f"Run     {LINKS['Run']}" in output
    assert f"Version {LINKS['Version']}" in output
    assert "Model   holter-x version 2 (@candidate)" in output
    assert "Audit   holter lineage holter-x/2" in output
    assert "One split." in output


def test_a_device_s_figures_stand_beside_them(
    result: TrainingResult, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a retraining, the device has a column of its own, and its costs their rows."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://x")
    device = SimpleNamespace(metrics={"f1": 0.9875, "latency_p50_ms": 0.25})
    retraining = cast(Any, SimpleNamespace(device=device, device_name="belt"))
    cli_train._show_training(result, training_of(result, LINKS), retraining)
    output = [line.split() for line in lines(capsys)]
    assert ["beat", "level,", "test", "side", "server", "belt"] in output
    assert ["Beat", "F1", "0.9876", "0.9875"] in output
    assert ["One", "beat,", "median,", "ms", "0.25"] in output


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("evaluate", "m", "--on", "mitdb", "--out", "report.pdf"), "expected .html"),
        (("data", "add", ".", "--format", "edf"), "'edf' is not one of 'text'"),
        (("train", "mitdb", "--model", "rhytm"), "did you mean 'rhythm'?"),
    ],
)
def test_a_wrong_word_is_told_at_once(words: tuple[str, ...], reason: str) -> None:
    """A page's ending, a form, and a network are looked at before anything is loaded."""
    done = CliRunner(env={"TERMINAL_WIDTH": "200"}).invoke(app, words)
    assert reason in done.output + str(done.exception)
