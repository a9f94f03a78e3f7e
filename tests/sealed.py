"""A made-up model version with a whole sealed chain, from simulated records, in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.ingest.build import Plan, build_table
from flows.ingest.simulate import write_simulated
from flows.train.evaluate_device import enter
from flows.train.training_run import digests, seal
from storage.audit.provenance import ROOT, beat_code_sha256, environment_sha256, git_state
from storage.datasets.dataset import load_spec, record_names
from storage.files import sha256_json, write_bytes, write_json
from storage.places import beats_place
from storage.registry import evaluations, tracking
from storage.registry.model_files import LITERT, MANIFEST, WEIGHTS, RegisteredModel
from storage.registry.signing import sign_release
from storage.tables.beats_manifest import Manifest, manifest_path, write_manifest
from tasks.signal.preprocessing import Preprocessing


def made_up_manifest(folder: Path, subjects: int = 4) -> tuple[Path, Manifest]:
    """The beat tables of simulated records, made as an ingest makes them, and their manifest."""
    toml = write_simulated(folder, subjects, 0.02, 3)
    spec, config = load_spec(toml), Preprocessing()
    path = manifest_path(beats_place(), spec.name)
    assert isinstance(path, Path)
    entries = [
        build_table(Plan(spec, folder, path.parent, config, True), name)[1]
        for name in record_names(spec, folder)
    ]
    manifest = Manifest(
        dataset=spec.name,
        title=spec.title,
        version=spec.version,
        licence=spec.licence,
        citation=spec.citation,
        origin=str(folder),
        spec_sha256=spec.digest(),
        preprocessing_sha256=config.digest(),
        code_sha256=beat_code_sha256(),
        simulated=True,
        entries=tuple(entries),
        failures={},
        excluded={},
        spec=spec.model_dump(mode="json"),
        preprocessing=asdict(config),
        flow_run_id="an-ingest",
    )
    write_manifest(path, manifest)
    return path, manifest


def sides_of(manifest: Manifest) -> dict[str, Any]:
    """The last subject tests, the one before validates, the others train."""
    people = sorted({f"{manifest.dataset}/{entry.subject}" for entry in manifest.entries})
    cut = {"train": people[:-2], "validation": people[-2:-1], "test": people[-1:]}
    sides = {name: {"subjects": who, "beats": 10, "af_beats": 5} for name, who in cut.items()}
    return {"paradigm": "interpatient", "seed": 3, "sha256": sha256_json(sides), **sides}


def made_up_version(
    name: str,
    folder: Path,
    path: Path,
    manifest: Manifest,
    split: dict[str, Any],
    more: Mapping[str, str] | None = None,
) -> RegisteredModel:
    """Register and seal a version as a training does, but of a model that is a few bytes."""
    tags = {
        **git_state(),
        **digests([manifest]),
        "holter.kind": "training",
        "holter.environment_sha256": environment_sha256(),
        "holter.split_sha256": split["sha256"],
        "prefect.flow_run_id": "a-flow-run",
        **(more or {}),
    }
    run_id = tracking.start_run(f"train/{manifest.dataset}", "made-up", {"epochs": 3}, tags)
    for epoch in range(3):
        tracking.log_metrics(run_id, {"loss": 1 / (epoch + 1)}, step=epoch)
    tracking.log_metrics(run_id, {"test_f1": 0.875})
    tracking.log_file(run_id, path, f"inputs/{manifest.dataset}")
    tracking.log_file(run_id, write_json(folder / "split.json", split), "inputs")
    tracking.log_file(run_id, ROOT / "constraints.txt", "inputs")
    write_bytes(folder / "figures" / "roc.png", b"a picture")
    tracking.log_folder(run_id, folder / "figures", "figures")
    for file in (LITERT, WEIGHTS, "data/model.keras"):
        write_bytes(folder / "model" / file, f"{file} of {run_id}".encode())
    write_json(folder / "model" / MANIFEST, {})
    sign_release(folder / "model")
    version = tracking.register_model(
        run_id,
        name=name,
        folder=folder / "model",
        tags={**digests([manifest]), "holter.split_sha256": split["sha256"]},
        description="Made up.",
    )
    tracking.finish_run(run_id, "FINISHED")
    seal(version, [manifest], split, folder / "model", "made up")
    return version


def made_up_report(version: RegisteredModel, device: str, folder: Path) -> str:
    """A device's report on a version, delivered as its agent does; gives its request."""
    request_id = evaluations.request_evaluation(
        device=device,
        model=version,
        testset_run_id=version.run_id,
        testset_path="testset/testset.npz",
        testset_sha256="",
        tags={},
    )
    claim = evaluations.claim(evaluations.request_state(request_id), "an-agent")
    outcome = {
        "claim": claim,
        "status": "FINISHED",
        "metrics": {"f1": 0.875, "latency_p99_ms": 1.5, "energy_j_per_24_h": None},
        "tags": {"holter.kind": "edge-report"},
        "time_ms": 1,
    }
    write_json(folder / evaluations.OUTCOME, outcome)
    assert evaluations.deliver(request_id, folder) == "reported"
    enter(evaluations.request_state(request_id))
    return request_id
