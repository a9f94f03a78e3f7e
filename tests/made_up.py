"""Model versions with all that a training records, made up: what compare, promote and card read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from flows.reports.version_page import renew_pages
from flows.train import training_run as recorded
from flows.train.evaluate_device import enter
from flows.train.release import seal
from storage.audit import ledger, outcomes, versions
from storage.audit.fleet import server_metrics
from storage.audit.versions import VersionRecord
from storage.files import sha256_file, sha256_folder, sha256_json, write_bytes, write_json
from storage.registry import evaluations, tracking
from storage.registry.model_files import LITERT, MANIFEST, WEIGHTS
from storage.registry.tags import EVALUATION_FOLDER
from storage.tables.beats_manifest import Entry, Manifest
from storage.tables.testset import TestSet, write_testset
from tasks.runtimes.litert import LiteRT, af_probability
from tasks.scores.metrics import beat_metrics
from tests.conftest import ROOT

PATIENTS = ("a", "b", "c", "d", "e", "f")
NETWORK = ROOT / "tests" / "golden" / "resnet21-untrained.tflite"
BEATS = 40
#: Labels are the untrained network's own decisions here, one in ten turned: nearly right.
THRESHOLD = 0.5187


def manifest(
    records: str = "abcdefghij", licence: str = "ODC-By 1.0", *, simulated: bool = False
) -> Manifest:
    """A data set of a record a letter, each of a subject of the same name."""
    entries = tuple(
        Entry(r, r, f"{r}.parquet", r.encode().hex() * 32, "k", "II", 1.0, 90, 30, 0, 0, {})
        for r in records
    )
    digest = "0" * 64
    about = ("made-up", "Made up", "1", licence, "none", "nowhere", digest, digest, digest)
    return Manifest(*about, simulated=simulated, entries=entries, failures={}, excluded={})


def beats_of(patients: tuple[str, ...] = PATIENTS) -> TestSet:
    """Beats of each patient; a patient's are the same whoever else is there."""
    waveform = [
        np.random.default_rng(ord(patient)).normal(size=(BEATS, 300, 1)).astype(np.float32)
        for patient in patients
    ]
    probability = af_probability(LiteRT(NETWORK.read_bytes()).predict(np.concatenate(waveform)))
    turned = np.arange(len(probability)) % 10 == 9
    label = ((probability >= THRESHOLD) ^ turned).astype(np.int8)
    names = np.repeat([f"made-up/{patient}" for patient in patients], BEATS)
    sample = np.tile(np.arange(BEATS, dtype=np.int64) * 250, len(patients))
    return TestSet({"waveform": np.concatenate(waveform)}, label, names, names, sample)


#: A runtime that answers as Keras does.
PARITY = {
    "max_abs_error": 1e-7,
    "p99_abs_error": 1e-7,
    "mean_abs_error": 1e-8,
    "f1_change": 0.0,
}


def register(
    folder: Path,
    *,
    name: str,
    threshold: float = THRESHOLD,
    patients: tuple[str, ...] = PATIENTS,
    data: Manifest | None = None,
    paradigm: str = "interpatient",
    train: tuple[str, ...] = ("g", "h"),
    flip: str = "",
    runtime: str = "litert-float32",
    parity: Mapping[str, float] | None = None,
    marks: Mapping[str, str] | None = None,
    simulated: int = 0,
) -> VersionRecord:
    """Register a version as a training does; labels of the patients in `flip` are turned round.

    `parity` is what was found of the runtime that devices run, `marks` are more of its tags, and
    `simulated` are the records that each epoch draws beside the data set.
    """
    data = data or manifest()
    testset = beats_of(patients)
    turned = np.isin(testset.subject, [f"made-up/{p}" for p in flip])
    testset = replace(testset, label=np.where(turned, 1 - testset.label, testset.label))
    path = write_testset(folder / "testset.npz", testset)
    model = folder / "model"
    for file in (LITERT, WEIGHTS, MANIFEST):
        write_bytes(model / file, NETWORK.read_bytes() if file == LITERT else b"{}")
    seal(model, {"waveform": testset.inputs["waveform"][:]})
    probability = af_probability(
        LiteRT(NETWORK.read_bytes()).predict(testset.inputs["waveform"][:])
    )
    metrics = beat_metrics(testset.label, probability, threshold)
    run_id = tracking.start_run(
        "train/made-up",
        name,
        {
            **{"model": name, "epochs": 3, "seed": 1, "threshold": threshold},
            **{"paradigm": paradigm, "simulated": simulated},
        },
        {"git.commit": "c" * 40, "git.dirty": "false", "holter.environment_sha256": "e" * 64},
    )
    sides = {"train": train, "validation": ("i",), "test": patients}
    split: dict[str, Any] = {
        side: {"subjects": [f"made-up/{p}" for p in people], "beats": 90, "af_beats": 30}
        for side, people in sides.items()
    }
    tracking.log_file(run_id, path, "testset")
    tracking.log_metrics(run_id, {f"test_{k}": v for k, v in metrics.items()})
    tracking.log_metrics(run_id, {"parity_max_abs_error": 1e-7})
    tracking.finish_run(run_id, "FINISHED")
    version = tracking.register_model(
        run_id,
        name=name,
        folder=model,
        tags={
            "holter.threshold": str(threshold),
            "holter.testset": "testset/testset.npz",
            "holter.testset_sha256": sha256_file(path),
            "holter.paradigm": paradigm,
            "holter.simulated": "true",
            "holter.runtime": runtime,
            f"holter.runtime.{runtime}": json.dumps({**PARITY, **(parity or {})}),
            **(marks or {}),
        },
        description="made up",
    )
    about = {"paradigm": paradigm, "seed": 1, "sha256": sha256_json(split), **split}
    recorded.seal(version, [data], about, model, "made up")
    return versions.read_version(version.reference)


def on_device(version: VersionRecord, device: str, **metrics: float) -> None:
    """A device's report on a version that agrees with the server's but for `metrics`."""
    request = evaluations.request_evaluation(
        device=device,
        model=version.model,
        testset_run_id=version.model.run_id,
        testset_path="testset/testset.npz",
        testset_sha256=version.model.tags["holter.testset_sha256"],
        tags={},
    )
    claim = evaluations.claim(evaluations.request_state(request), "an-agent")
    outcome = {
        "claim": claim,
        "status": "FINISHED",
        "metrics": {**server_metrics(version.model), "latency_p99_ms": 3.0, **metrics},
        "tags": {},
        "time_ms": 1,
    }
    with TemporaryDirectory() as folder:
        write_json(Path(folder) / evaluations.OUTCOME, outcome)
        assert evaluations.deliver(request, Path(folder)) == "reported"
    enter(evaluations.request_state(request))


def on_data_set(version: VersionRecord, **metrics: float) -> None:
    """An evaluation of a version on whole data sets."""
    _evaluated(version, metrics, signed=True)


def on_data_set_unsigned(version: VersionRecord, **metrics: float) -> None:
    """One as earlier versions entered it: nobody signed its figures."""
    _evaluated(version, metrics, signed=False)


def _evaluated(version: VersionRecord, metrics: Mapping[str, float], *, signed: bool) -> None:
    name, number = version.model.name, version.model.version
    about = {"least_beats": 1}, {"holter.kind": "evaluation"}
    run_id = tracking.start_run(f"evaluate/{name}", name, *about)
    tracking.log_metrics(run_id, metrics)
    marks = {"run_id": run_id, "datasets": "made up"}
    with TemporaryDirectory() as folder:
        write_bytes(Path(folder) / "report.html", b"made up")
        if signed:
            marks[outcomes.DETAIL] = outcomes.write_outcome(run_id, Path(folder))
        tracking.log_folder(run_id, Path(folder), EVALUATION_FOLDER)
        marks["report"] = sha256_folder(Path(folder))
    tracking.finish_run(run_id, "FINISHED")
    renew_pages(ledger.append(name, number, ledger.EVALUATED, "made up", **marks))
