"""The examples: each runs by itself in an empty folder and prints the figures that it promises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

EXAMPLES = ROOT / "examples"


def run(script: str, folder: Path, *words: str) -> str:
    """What an example prints."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HOLTER_HOME": str(folder / "home"),
        "HOLTER_EDGE_HOME": str(folder / "edge"),
    }
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def numbers(pattern: str, text: str) -> list[float]:
    """The numbers that the groups of a pattern match."""
    match = re.search(pattern, text)
    assert match, text
    return [float(group) for group in match.groups()]


def test_the_table_lists_every_example() -> None:
    """The examples' README has a row for each script, and none for another."""
    rows = re.findall(r"^\| \[(\w+\.py)\]\(\1\)", (EXAMPLES / "README.md").read_text(), re.M)
    assert sorted(rows) == sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_a_recording_becomes_a_table_that_an_analyst_reads(tmp_path: Path) -> None:
    """The table holds the beats that its making counted; AF's intervals are the more irregular."""
    output = run("ingest_record.py", tmp_path)
    beats, af_beats = numbers(r"(\d+) beats, (\d+) of them in AF", output)
    assert 700 < af_beats < beats < 1_500
    output = run("read_table.py", tmp_path)
    assert numbers(r"simulated/sim001: (\d+) beats", output) == [beats]
    rows = {
        rhythm: numbers(rf"{rhythm} +(\d+) +(\S+) +(\S+) +(\S+)", output)
        for rhythm in ("AFIB", "N")
    }
    assert af_beats - 10 < rows["AFIB"][0] <= af_beats
    assert rows["AFIB"][3] > 2 * rows["N"][3]


def test_predictions_become_figures_with_intervals(tmp_path: Path) -> None:
    """Every rate lies within its interval, and intervals over twelve patients are not narrow."""
    output = run("score_predictions.py", tmp_path)
    assert numbers(r"(\d+) patients, (\d+) beats", output) == [12, 12_000]
    for rate in ("f1", "sensitivity", "specificity", "ppv", "accuracy"):
        value, low, high = numbers(rf"(?m)^{rate} +(\S+) \((\S+)-(\S+)\)$", output)
        assert 0 < low < value < high < 1
        assert high - low > 0.01


def test_a_record_is_analysed_as_on_a_device(tmp_path: Path) -> None:
    """What is printed is what its files say, and that nothing was trained is said first."""
    output = run("analyse_record.py", tmp_path)
    assert output.startswith("simulated record, untrained network")
    assert sorted(path.suffix for path in (tmp_path / "analysis").iterdir()) == [
        ".csv",
        ".haf",
        ".html",
        ".json",
        ".pdf",
    ]
    figures = json.loads((tmp_path / "analysis" / "patient.json").read_text())
    assert numbers(r"lead ECG1: (\d+) beats", output) == [figures["beats"]]
    assert numbers(r"(\S+) minutes can", output) == [round(60 * figures["analysable_hours"], 1)]
    burden, episodes = numbers(r"AF burden (\S+) %, (\d+) episodes", output)
    assert burden == pytest.approx(100 * figures["af_burden"], abs=0.05)
    assert episodes == len(figures["episodes"])


def test_a_release_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    """The same example with a folder of one's own asks for its signature."""
    run("analyse_record.py", tmp_path)
    with pytest.raises(AssertionError, match="SignatureError"):
        run("analyse_record.py", tmp_path, "records/patient", "release")


def test_a_network_is_one_function(tmp_path: Path) -> None:
    """It is in the table, has the weights of its layers, and answers with two probabilities."""
    output = run("add_network.py", tmp_path)
    parameters, products = numbers(r"(\d+) parameters, (\d+) multiply-adds", output)
    assert parameters == 31 * 16 + 16 + 16 * 2 + 2
    assert products == 68 * 31 * 16 + 16 * 2
    assert sum(numbers(r"not AF (\S+), AF (\S+)", output)) == pytest.approx(1, abs=0.011)
