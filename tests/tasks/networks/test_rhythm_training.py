"""Training of the rhythm family: the same result after a kill, on the path to the device."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pytest

from storage.errors import TableError
from storage.tables.checkpoint import Arrays, Checkpoint, read_checkpoint, write_checkpoint
from tasks.features.rhythm import RhythmRecord
from tests.conftest import ROOT

#: The training below in a process of its own, to be killed.
TRAIN = """
import sys
from pathlib import Path
from tests.tasks.networks.test_rhythm_training import trained
trained(Path(sys.argv[1]))
"""


def patients() -> list[RhythmRecord]:
    """Three made-up patients with two episodes each."""
    random = np.random.default_rng(5)
    label = np.repeat([0, 1, 0, 1], 500).astype(np.int8)
    spread = np.where(label == 1, 0.15, 0.01)
    return [
        RhythmRecord(f"a/{k}", f"a/{k}", random.normal(0.8, spread).astype(np.float32), label)
        for k in range(3)
    ]


def trained(path: Path) -> np.ndarray:
    """Weights of a short training that keeps its checkpoint at `path` and goes on from it."""
    from tasks.learning.rhythm_training import RhythmConfig, fit_rhythm
    from tasks.learning.training import Course

    def keep(state: Checkpoint) -> None:
        write_checkpoint(path, state)
        print(state.epoch, flush=True)

    config = RhythmConfig(epochs=4, steps=3, batch=4, simulated=1, patience=4)
    learn, validate = patients()[:2], patients()[2:]
    model, _ = fit_rhythm(
        "rhythm_tiny", learn, config, validate, Course(read_checkpoint(path), keep)
    )
    return np.concatenate([w.ravel() for w in model.get_weights()])


@pytest.mark.slow
def test_a_killed_training_ends_as_an_uninterrupted_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL after an epoch, then the same training again: bit for bit the same weights."""
    whole = trained(tmp_path / "whole.npz")
    path = tmp_path / "killed.npz"
    command = [sys.executable, "-c", TRAIN, str(path)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "1"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    state = read_checkpoint(path)
    assert state is not None
    assert 1 <= state.epoch < 4
    capsys.readouterr()
    assert np.array_equal(trained(path), whole)
    assert capsys.readouterr().out.split() == [str(k) for k in range(state.epoch + 1, 5)]


@pytest.mark.slow
def test_stretches_are_learnt_from_as_records_of_their_own() -> None:
    """No window of a training joins what lies on two sides of a hole."""
    from tasks.learning.rhythm_training import RhythmConfig, fit_rhythm

    config = RhythmConfig(epochs=1, steps=2, batch=2, simulated=0)
    (whole, *_) = patients()
    holed = replace(whole, rr_s=whole.rr_s.copy())
    holed.rr_s[[0, 700]] = np.nan
    parts = [
        replace(holed, rr_s=holed.rr_s[part], label=holed.label[part])
        for part in (slice(700), slice(700, None))
    ]
    weights = [fit_rhythm("rhythm_tiny", r, config)[0].get_weights() for r in ([holed], parts)]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.slow
def test_strips_of_half_a_minute_agree_with_the_record_that_they_are_cut_from() -> None:
    """Of forty beats, a trained network says what it says of them amid the whole record."""
    from tasks.learning.rhythm_training import RhythmConfig, fit_rhythm, predict_beats

    *learn, tested = patients()
    config = RhythmConfig(epochs=6, steps=20, batch=8, simulated=0)
    model, _ = fit_rhythm("rhythm_tiny", learn, config)
    whole = predict_beats(model, tested) >= 0.5
    assert (whole == (tested.label == 1)).mean() > 0.97
    same = []
    for at in range(0, len(tested), 50):
        part = slice(at + 5, at + 45)
        rr_s = tested.rr_s[part].copy()
        rr_s[0] = np.nan
        strip = replace(tested, rr_s=rr_s, label=tested.label[part])
        same.append((predict_beats(model, strip) >= 0.5) == whole[part])
    assert np.mean(same) > 0.95


@pytest.mark.slow
def test_the_last_epochs_are_averaged_and_resumed(tmp_path: Path) -> None:
    """Weights are the mean of the last epochs' ones; a broken-off training has the same ones."""
    from tasks.learning.rhythm_training import RhythmConfig, fit_rhythm, usual_averaged
    from tasks.learning.training import Course

    config = RhythmConfig(epochs=5, steps=2, batch=2, simulated=0, averaged=0.6)
    kept: list[Checkpoint] = []
    model, state = fit_rhythm(
        "rhythm_tiny", patients()[:2], config, course=Course(keep=kept.append)
    )
    found = model.get_weights()
    for k, array in enumerate(found):
        expected = np.mean([np.asarray(one.weights[k], np.float64) for one in kept[2:]], axis=0)
        assert array == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert [bool(one.mean) for one in kept] == [False, False, True, True, True]
    assert not all(np.array_equal(a, b) for a, b in zip(found, state.weights, strict=True))
    for path, halfway in ((tmp_path / f"{one.epoch}.npz", one) for one in kept[1:4:2]):
        write_checkpoint(path, halfway)
        again, _ = fit_rhythm(
            "rhythm_tiny", patients()[:2], config, course=Course(read_checkpoint(path))
        )
        assert all(np.array_equal(a, b) for a, b in zip(found, again.get_weights(), strict=True))
    for more in ({"patience": 2}, {"sparsity": 0.5}):
        with pytest.raises(ValueError, match="averaged without early stopping and pruning"):
            fit_rhythm("rhythm_tiny", patients(), replace(config, **more), patients())
    for share in (-0.1, 1.5):
        with pytest.raises(ValueError, match=f"averaged: found {share}; expected at least 0"):
            fit_rhythm("rhythm_tiny", patients(), replace(config, averaged=share))
    usual = [("rhythm", 0, 0.0), ("fused", 0, 0.0), ("fused", 2, 0.0), ("fused", 0, 0.5)]
    assert [usual_averaged(*one) for one in usual] == [0, 0.5, 0, 0]


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Arrays, numbers and history come back; none gives None; a damaged one says so."""
    path = tmp_path / "c.npz"
    assert read_checkpoint(path) is None
    arrays: Arrays = [np.arange(12, dtype=np.float32) + k for k in range(11)]
    state = Checkpoint(3, arrays, arrays[:2], [], 1, 0.25, {"loss": [1.0, 0.5, 0.25]})
    write_checkpoint(path, state)
    found = read_checkpoint(path)
    assert found is not None
    assert (found.epoch, found.best_epoch, found.best_loss) == (3, 1, 0.25)
    assert found.history == state.history
    assert all(np.array_equal(a, b) for a, b in zip(found.weights, arrays, strict=True))
    assert len(found.optimizer) == 2
    assert found.best == []
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TableError, match="damaged"):
        read_checkpoint(path)


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.usefixtures("holter_servers")
@pytest.mark.filterwarnings("default")  # Prefect's and MLflow's own, at import and in threads
def test_from_annotations_alone_to_a_device_report(real_data: Path, tmp_path: Path) -> None:
    """Two data sets without signals train a network; the device scores it as the server does."""
    from flows.decide.evaluate import evaluate
    from flows.ingest.folders import data_sets
    from flows.services.servers import local_agent
    from flows.train.retrain import retrain
    from flows.train.settings import RetrainSettings, train_settings
    from storage.audit.sights import sights_of
    from storage.audit.verify import MISMATCH, verify
    from storage.registry.signing import trusted_keys

    for name, few in (("afdb", slice(2, 8)), ("nsrdb", slice(2))):
        chosen = sorted((real_data / name).glob("*.hea"))[few]
        folder = tmp_path / name
        folder.mkdir()
        for path in chosen:
            for file in (real_data / name).glob(f"{path.stem}.*"):
                shutil.copy(file, folder)
        (folder / "RECORDS").write_text("\n".join(path.stem for path in chosen))
    with local_agent("rhythm-device", start=True):
        sets = data_sets(
            ["afdb", "nsrdb"],
            data=[tmp_path / "afdb", tmp_path / "nsrdb"],
            weight=[1.0, 0.5],
            signal=False,
        )
        how = train_settings(datasets=sets, model="rhythm_tiny", balance="patient", epochs=1)
        made = retrain(RetrainSettings(training=how, device="rhythm-device", wait_s=120))
    done, report = made.trained, made.device
    assert done.version.name == "holter-rhythm_tiny"
    assert done.metrics["n_beats"] > 30_000
    for name, value in done.metrics.items():
        assert report.metrics.get(name, float("nan")) == pytest.approx(value, nan_ok=True), name
    folders = [tmp_path / "afdb", tmp_path / "nsrdb"]
    seen = evaluate(done.version.reference, ["afdb", "nsrdb"], folders, signal=False)
    assert {"afdb", "nsrdb"} <= set(seen.figures)
    assert "nsrdb without AFL" not in seen.figures
    assert "record_f1" not in seen.figures["afdb"]
    assert seen.figures["afdb"]["patients"] == 6
    assert 0.3 < seen.figures["nsrdb"]["beat_specificity"] <= 1
    assert "longest mistakes" in seen.report.read_text()
    table = f"runs:/{seen.run_id}/tables/afdb_per_patient.json"
    assert len(mlflow.artifacts.load_dict(table)["data"]) == 6
    assert len(list(seen.report.parent.glob("annotations/*/*.haf"))) == 8
    found = list(verify(done.version.reference, trusted_keys()))
    assert [one for one in found if one.state == MISMATCH] == []
    evaluated = [one.name for one in found if one.link == "evaluations"]
    assert len({name.partition(":")[0] for name in evaluated if "afdb, nsrdb" in name}) == 1
    sides = [sight.side for sight in sights_of("afdb/04048", trusted_keys()).sights]
    assert len(sides) == 2
    assert "evaluated" in sides
    strips = tmp_path / "cinc2017"
    strips.mkdir()
    rows = (real_data / "cinc2017" / "REFERENCE.csv").read_text().split()
    rows = [row for label in "AN~" for row in [r for r in rows if r.endswith(label)][:4]]
    (strips / "REFERENCE.csv").write_text("\n".join(rows))
    for row in rows:
        for file in (real_data / "cinc2017").glob(f"{row[:-2]}.*"):
            shutil.copy(file, strips)
    seen = evaluate(done.version.reference, ["cinc2017"], [strips])
    assert seen.figures["cinc2017"]["records"] == 12
    assert seen.figures["cinc2017"]["labelled_records"] == 8
    assert 0 <= seen.figures["cinc2017"]["record_auc"] <= 1
    assert "Record F1" in seen.report.read_text()


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.usefixtures("holter_servers")
@pytest.mark.filterwarnings("default")  # Prefect's and MLflow's own, at import and in threads
def test_shape_and_rhythm_from_records_to_a_device_report(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fused network goes the same way, its two inputs by name; a few steps are enough here."""
    from flows.decide.ec57 import ec57
    from flows.decide.evaluate import evaluate
    from flows.ingest.folders import data_sets
    from flows.services.servers import local_agent
    from flows.train.evaluate_device import evaluate_on_device
    from flows.train.flow import train
    from flows.train.settings import train_settings
    from storage.audit.verify import MISMATCH, verify
    from storage.registry.signing import trusted_keys
    from tasks.learning import rhythm_training as module
    from tasks.learning.rhythm_training import RhythmConfig

    names = ("100", "103", "201", "203", "210", "219", "222")
    for name in names:
        for file in (real_data / "mitdb").glob(f"{name}.*"):
            shutil.copy(file, tmp_path)
    (tmp_path / "RECORDS").write_text("\n".join(names))
    monkeypatch.setattr(module, "RhythmConfig", partial(RhythmConfig, steps=4, batch=2))
    sets = data_sets(["mitdb"], data=[tmp_path])
    done = train(train_settings(datasets=sets, model="fused", epochs=1))
    assert done.version.name == "holter-fused"
    with local_agent("fused-device", start=True):
        report = evaluate_on_device(done.version.reference, "fused-device", 120)
    for name, value in done.metrics.items():
        assert report.metrics.get(name, float("nan")) == pytest.approx(value, nan_ok=True), name
    seen = evaluate(done.version.reference, ["mitdb"], [tmp_path])
    assert seen.figures["mitdb"]["patients"] == len(names)
    assert "<polyline" in seen.report.read_text()
    tested = ec57(done.version.reference, "mitdb", tmp_path)
    assert tested.figures["ec57_qrs_records"] == tested.figures["ec57_af_records"] == len(names)
    assert tested.figures["ec57_qrs_sensitivity_gross"] > 0.99
    assert {"mitdb_qrs.txt", "mitdb_shutdown.txt", "mitdb_af.txt"} <= set(tested.files)
    found = list(verify(done.version.reference, trusted_keys()))
    assert [one for one in found if one.state == MISMATCH] == []
    assert any("by EC57 on mitdb" in one.name for one in found if one.link == "evaluations")
