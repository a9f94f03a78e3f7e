"""The reproduction: its table, its folds, its resumption, its report."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from flows.train.reproduce_worker import read_result, run_missing, run_training
from storage.errors import TrainingStopped
from storage.files import write_bytes
from storage.places import Place
from storage.tables.results import read_arrays, write_arrays
from tasks.learning.reproduction import (
    PUBLISHED,
    Result,
    Training,
    describe,
    patient_counts,
    row,
    split_of,
    weighted_averages,
)
from tasks.pages.document import Block, Code, Heading, Picture, Table, Words, to_html, to_markdown
from tests.conftest import ROOT
from tests.tiny import tiny_dataset

TRAINING = Training("data", "code", "resnet21", "interpatient", epochs=1, learning_rate=1e-3)


def _result(seed: int = 0, n: int = 400) -> Result:
    random = np.random.default_rng(seed)
    label = (random.random(n) < 0.3).astype(np.int8)
    probability = np.clip(0.3 * label + random.random(n) * 0.7, 0, 1).astype(np.float32)
    subject = np.array([f"d/{k % 7}" for k in range(n)])
    return Result(label, probability, subject, best_epoch=2, cpu_s=60.0)


def test_weighted_averages_are_scikit_learns() -> None:
    """Weighted precision, recall and F1 equal scikit-learn's, summed over patients' counts."""
    from sklearn.metrics import precision_recall_fscore_support  # slow: workers import this module

    result = _result()
    found = weighted_averages(patient_counts([result]).sum(0, keepdims=True))[:, 0]
    decided = result.probability >= 0.5
    expected = precision_recall_fscore_support(result.label, decided, average="weighted")[:3]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_row_stands_beside_the_published_one() -> None:
    """A row holds the published figures and ours with bounds that enclose the value."""
    cells = row("interpatient", "resnet25", [_result()])
    assert cells[2] == "0.8599 / 0.8608 / 0.8589"
    for cell in cells[3:6]:
        value, low, high = map(
            float, cell.replace("(", "").replace(")", "").replace("to", " ").split()
        )
        assert low <= value <= high
    assert len(PUBLISHED) == 6


def test_one_patient_has_no_interval() -> None:
    """Where one patient tests, the row says so instead of giving an interval of no width."""
    alone = replace(_result(), subject=np.full(400, "d/0"))
    assert row("interpatient", "resnet25", [alone])[5].endswith("(one patient, no interval)")


def test_a_key_changes_with_everything() -> None:
    """Any setting, the data or the code gives another key, so an old result is never taken."""
    others = [
        replace(TRAINING, dataset_sha256="x"),
        replace(TRAINING, code_sha256="x"),
        replace(TRAINING, epochs=2),
        replace(TRAINING, seed=1),
        replace(TRAINING, most_beats=5),
        replace(TRAINING, fold=1, folds=5, repeats=1),
    ]
    assert len({t.key() for t in [TRAINING, *others]}) == len(others) + 1


def test_folds_test_every_patient_once() -> None:
    """The folds of a repeat test each subject once, and the single split is the paradigm's."""
    subject = np.repeat([f"d/{k}" for k in range(10)], 30)
    label = np.tile(np.arange(300) % 2, 1).astype(np.int8)
    folds = [replace(TRAINING, fold=k, folds=5, repeats=1) for k in range(5)]
    tested = [s for t in folds for s in split_of(t, subject, label).test_subjects]
    assert sorted(tested) == sorted(set(subject.tolist()))
    assert split_of(TRAINING, subject, label).paradigm == "interpatient"


def test_a_damaged_result_is_none(tmp_path: Path) -> None:
    """A result that is missing or cut short is none, so that its training runs again."""
    path = tmp_path / "r.npz"
    assert read_result(path) is None
    write_arrays(path, {"label": np.arange(3), "probability": np.zeros(3)})
    assert read_arrays(path) is not None
    path.write_bytes(path.read_bytes()[:-30])
    assert read_arrays(path) is None


def test_reports_hold_everything_and_load_nothing() -> None:
    """Markdown and HTML hold the same table; the HTML escapes text and needs no other file."""
    blocks: list[Block] = [
        Heading("Part"),
        Words("a < b"),
        Code("holter x"),
        Table(("a", "b"), [("1", "2")]),
        Picture("p.png", b"\x89PNG", "a curve"),
    ]
    assert "| 1 | 2 |" in to_markdown("T", blocks)
    html = to_html("T", blocks)
    assert "a &lt; b" in html
    assert "<td>1</td><td>2</td>" in html
    assert 'src="data:image/png;base64,' in html
    assert "http" not in html


def test_the_report_tells_folds_and_limits() -> None:
    """The report has the six networks, the folds pooled by repeat, the limits and the figures."""
    results = {
        replace(TRAINING, model=model, paradigm=paradigm): _result(k)
        for k, (paradigm, model) in enumerate(PUBLISHED)
    }
    for fold in range(4):
        results[replace(TRAINING, fold=fold, folds=2, repeats=2)] = _result(fold)
    blocks = describe("mitdb", results, ["It is not AFDB."])
    tables = [block for block in blocks if isinstance(block, Table)]
    assert [len(table.rows) for table in tables] == [6, 2]
    assert Words("It is not AFDB.") in blocks
    said = "\n".join(block.text for block in blocks if isinstance(block, Words))
    *_, last = (r for t, r in results.items() if t.paradigm == "interpatient" and not t.folds)
    common = float((last.label == 0).mean())
    assert common > 0.5
    assert f"weighted F1 of {2 * common**2 / (1 + common):.4f} (interpatient)" in said
    assert sum(isinstance(block, Picture) for block in blocks) == 12


@pytest.mark.slow
def test_a_training_answers_its_whole_test_side(tmp_path: Path) -> None:
    """A training leaves the label, subject and probability of every test beat, learnt."""
    manifest = tiny_dataset(tmp_path)
    training = replace(TRAINING, model="squeeze", epochs=2, batch=16)
    result = read_result(run_training(training, manifest, tmp_path / "r.npz"))
    assert result is not None
    assert len(result.label) == len(result.probability) == 60
    assert len(set(result.subject.tolist())) == 1
    few = read_result(run_training(replace(training, most_beats=20), manifest, tmp_path / "f.npz"))
    assert few is not None
    assert not np.array_equal(few.probability, result.probability)


@pytest.mark.slow
def test_a_killed_experiment_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process is an error that says what is kept; a second call does only the rest."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    first, second = TRAINING, replace(TRAINING, paradigm="intrapatient")
    done = run_missing([first], tmp_path, 1, _quick)[first]
    path = tmp_path / "home" / "reproduce" / f"{first.key()}.npz"
    made = path.stat().st_mtime_ns
    with pytest.raises(TrainingStopped, match="What is done is kept"):
        run_missing([first, second], tmp_path, 1, _killed)
    both = run_missing([first, second], tmp_path, 2, _quick)
    assert path.stat().st_mtime_ns == made
    np.testing.assert_array_equal(both[first].probability, done.probability)
    assert len(both[second].label) == 4


def _quick(training: Training, _: Place, out: Path) -> Path:
    answer = np.random.default_rng(len(training.paradigm)).random(4)
    counts = {"best_epoch": np.array(0), "cpu_s": np.array(1.0)}
    names = np.array(["a", "a", "b", "b"])
    return write_arrays(
        out, {"label": np.arange(4) % 2, "probability": answer, "subject": names} | counts
    )


def _killed(*_: object) -> Path:
    os.kill(os.getpid(), signal.SIGKILL)
    return Path()


#: An experiment in a process of its own, to be killed.
EXPERIMENT = """
from pathlib import Path
from flows.train.reproduce_worker import run_missing
from tests.flows.test_reproduce import TRAINING, _endless
if __name__ == "__main__":
    run_missing([TRAINING], Path(), 1, _endless)
"""


def test_a_killed_experiment_leaves_nothing_running(tmp_path: Path) -> None:
    """SIGKILL of the experiment ends the training that it had started, too."""
    script = tmp_path / "experiment.py"  # spawn reads the main module from a file
    script.write_text(EXPERIMENT)
    env = {**os.environ, "HOLTER_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    told = tmp_path / "pid"
    with subprocess.Popen([sys.executable, str(script)], env=env, cwd=ROOT) as process:
        until(told.is_file)
        process.kill()
    worker = int(told.read_text())
    until(lambda: not runs(worker))


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def until(true: Callable[[], bool], limit_s: float = 120.0) -> None:
    """Wait for something to be so."""
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def _endless(*_: object) -> Path:
    path = Path(os.environ["HOLTER_HOME"], "pid")
    write_bytes(path, str(os.getpid()).encode())
    time.sleep(600)
    return path
