"""The whole path on real servers: records, tables, training, MLflow, the agent, its report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from flows.decide.drift import drift, reference_of
from flows.decide.rebuild import BIT_EQUAL, DIFFERS, compare_versions, rebuild
from flows.exchange.emitter import VARIABLE
from flows.ingest.flow import ingest
from flows.ingest.folders import data_sets
from flows.ingest.simulate import write_simulated
from flows.reports.card import card
from flows.services.servers import Servers, local_agent
from flows.train.evaluate_device import evaluate_on_device
from flows.train.flow import train
from flows.train.retrain import RetrainResult, retrain
from flows.train.settings import RetrainSettings, train_settings
from flows.train.teacher import read_teacher
from storage.audit import ledger
from storage.audit.chain import read_chain, side_of
from storage.audit.lineage import read_lineage
from storage.audit.verify import LINKS, MATCH, MISMATCH, verify
from storage.audit.versions import read_version
from storage.errors import DeviceError, DigestMismatch, SplitError, TableError
from storage.files import sha256_file, write_json
from storage.registry.evaluations import device_requests
from storage.registry.model_files import WEIGHTS
from storage.registry.policy import DRIFT
from storage.registry.signing import trusted_keys
from storage.registry.tags import CHAIN_SHA256_TAG
from storage.tables.beats import read_beats, read_source
from tasks.learning.splits import SIDES
from tasks.pages.lineage_page import outline
from tasks.pages.provenance_graph import graph
from tests.conftest import ROOT
from tests.receiver import Receiver, receiving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("holter_servers"),
    pytest.mark.filterwarnings("default"),  # Prefect's and MLflow's own, at import and in threads
]

DEVICE = "test-device"


@pytest.fixture(scope="module", autouse=True)
def receiver(holter_servers: Servers) -> Iterator[Receiver]:
    """A receiver of lineage events, which all flows of this module tell."""
    assert holter_servers.prefect_pid
    with receiving() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "1")
        patch.setattr("flows.exchange.emitter.MOST_WAIT_S", 100.0)  # a busy machine is slow
        patch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "http")
        patch.setenv("OPENLINEAGE__TRANSPORT__URL", server.url)
        yield server


@pytest.fixture(scope="module")
def agent(holter_servers: Servers) -> Iterator[str]:
    """An edge agent that runs as a process of its own while this module's tests do."""
    assert holter_servers.mlflow.startswith("http://127.0.0.1:")
    with local_agent(DEVICE, start=True):
        yield DEVICE


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six simulated records of six minutes, one of them spoilt, as a data set's TOML."""
    toml = write_simulated(tmp_path_factory.mktemp("simulated"), 7, 0.1, 5)
    signal = toml.parent / "sim004.dat"
    signal.write_bytes(signal.read_bytes()[:1000])
    return toml


def check_report(done: RetrainResult, dataset: str) -> None:
    """What must hold of a retraining, whatever its data: the device agrees, all is linked."""
    server, device = done.trained.metrics, done.device.metrics
    for name in ("tp", "fp", "tn", "fn", "accuracy", "f1_weighted", "n_beats"):
        assert device[name] == server[name], name
    assert device["latency_p99_ms"] >= device["latency_p50_ms"] > 0
    assert device["peak_memory_mb"] > 0
    client = mlflow.MlflowClient()
    run = client.get_run(done.trained.run_id)
    manifest = done.trained.ingested[0].manifest
    assert run.info.status == "FINISHED"
    assert run.data.tags["prefect.flow_run_id"]
    assert run.data.tags["holter.edge_run_id"] == done.device.request_id
    assert run.data.tags["holter.dataset_sha256"] == manifest.digest()
    assert run.inputs is not None
    (logged,) = run.inputs.dataset_inputs
    assert logged.dataset.name == dataset
    assert {tag.key: tag.value for tag in logged.tags}["sha256"] == manifest.digest()
    pictures = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
    assert {f"figures/{n}.png" for n in ("confusion_matrix", "roc", "training")} <= pictures
    cards = {file.path for file in client.list_artifacts(run.info.run_id, "card")}
    assert {"card/card.html", "card/card.md"} <= cards
    version = client.get_model_version_by_alias(done.trained.version.name, "candidate")
    assert int(version.version) == done.trained.version.version
    assert version.run_id == run.info.run_id
    assert version.tags["holter.dataset_sha256"] == manifest.digest()
    edge = client.get_run(done.device.request_id)
    assert edge.info.status == "FINISHED"
    assert edge.data.tags["holter.training_run_id"] == run.info.run_id
    assert edge.data.tags["holter.model_sha256"] == version.tags["holter.sha256.model.tflite"]
    assert version.tags["holter.runtime"] in ("litert-int8", "litert-float32")
    reference = json.loads(version.tags["holter.runtime.litert-float32"])
    assert reference["max_abs_error"] <= reference["limits"]["max_abs_error"]
    assert "mean_abs_error" in json.loads(version.tags["holter.runtime.litert-int8"])
    onnx = json.loads(version.tags["holter.runtime.onnx"])
    assert onnx["file"] == "model.onnx"
    assert onnx["max_abs_error"] < 1e-3
    assert run.data.metrics["multiply_adds"] > 1e6
    check_chain(done, version.tags["holter.chain_sha256"])


def check_chain(done: RetrainResult, sha256: str) -> None:
    """What must hold of a version's sealed chain: whole, complete, and linked both ways."""
    version = done.trained.version
    known = ledger.entries(version.name)
    mine = [entry for entry in known if entry.version == version.version]
    assert [entry.action for entry in mine] == ["registered", "alias", "card", "evaluated"]
    assert ledger.check(version.name, trusted_keys()) == []
    sealed = read_chain(mine[0], version.reference, trusted_keys())
    assert (sealed.sha256, sealed.fault) == (sha256, "")
    run = sealed.document["run"]
    assert run["metrics"]["test_f1"]["value"] == done.trained.metrics["f1"]
    steps = ("fit_network", "export_network", "score", "hand_over_testset", "register")
    assert all(run["tags"][f"prefect.task_run.{step}"] for step in steps)
    assert run["tags"]["prefect.flow_run_url"] in run["tags"]["mlflow.note.content"]
    for file in ("split.json", "environment.json", "constraints.txt"):
        assert run["tags"][f"holter.sha256.inputs/{file}"]
    (data,) = sealed.document["datasets"]
    assert data["flow_run_id"]
    assert data["spec"]["annotations"]["rhythm"]
    assert data["preprocessing"]["wavelet"] == "db4"
    for entry in data["entries"]:
        assert entry["task_run_id"]
        assert any(name.endswith(".hea") for name in entry["files"])
        for name, digest in entry["files"].items():
            assert sha256_file(Path(data["origin"]) / name) == digest
        assert side_of(sealed.document, data["dataset"], entry["subject"])
    found = list(verify(version.reference, trusted_keys()))
    assert [one for one in found if one.state == MISMATCH] == []
    assert {one.link for one in found if one.state == MATCH} == set(LINKS)


@pytest.fixture(scope="module")
def retrained(agent: str, simulated: Path) -> RetrainResult:
    """A retraining on the simulated records, up to the device's report."""
    sets = data_sets([str(simulated)], data=[simulated.parent])
    how = train_settings(datasets=sets, model="resnet15", epochs=1, learning_rate=1e-3)
    return retrain(RetrainSettings(training=how, device=agent, wait_s=120))


def test_events_tell_the_whole_path(retrained: RetrainResult, receiver: Receiver) -> None:
    """A retraining's parts begin and end within it, each reads what the one before has made."""
    version = retrained.trained.version
    assert receiver.refused == []
    events = {event["job"]["name"]: event for event in receiver.events}
    whole = events[f"retrain.{version.name}"]
    train, device = (events[f"{flow}.{version.name}"] for flow in ("train", "evaluate-on-device"))
    ingest = events["ingest.simulated"]
    for part, parent in ((ingest, train), (train, whole), (device, whole)):
        assert part["eventType"] == "COMPLETE"
        facet = part["run"]["facets"]["parent"]
        assert facet["run"]["runId"] == parent["run"]["runId"]
        assert facet["root"]["run"]["runId"] == whole["run"]["runId"]
    names = [(data["namespace"], data["name"]) for data in ingest["outputs"]]
    assert [(data["namespace"], data["name"]) for data in train["inputs"]] == names
    (made,), (read,) = train["outputs"], device["inputs"]
    assert (made["namespace"], made["name"]) == (read["namespace"], read["name"])
    assert made["facets"]["version"]["datasetVersion"] == str(version.version)
    assert made["facets"]["holter_version"]["chainSha256"] == version.tags[CHAIN_SHA256_TAG]
    figures = train["run"]["facets"]["holter_training"]["figures"]
    assert figures["f1"] == retrained.trained.metrics["f1"]
    (report,) = device["outputs"]
    assert report["name"] == f"{version.name}/reports/{DEVICE}"
    assert report["facets"]["holter_figures"]["figures"]["f1"] == retrained.device.metrics["f1"]


def test_simulated_path(retrained: RetrainResult) -> None:
    """Simulated records end in a device report; the spoilt one is in the report and stops none."""
    check_report(retrained, "simulated")
    failed = retrained.trained.ingested[0].failed
    assert [outcome.record for outcome in failed] == ["sim004"]
    assert "sim004.dat" in str(failed[0].error)
    assert "sim004" in retrained.trained.ingested[0].manifest.failures
    assert "simulated" in retrained.trained.caveat


def test_second_ingest_redoes_only_what_changed(simulated: Path) -> None:
    """Unchanged records are kept; altered, deleted and changed ones are rebuilt, and only those."""

    def states() -> dict[str, str]:
        done = ingest(str(simulated), simulated.parent)
        return {outcome.record: outcome.state for outcome in done.outcomes}

    first = ingest(str(simulated), simulated.parent)
    assert isinstance(first.path, Path)
    folder = first.path.parent
    kept = dict.fromkeys((f"sim00{i}" for i in range(7)), "kept") | {"sim004": "failed"}
    assert states() == kept
    written = {file: sha256_file(file) for file in folder.glob("*.parquet")}
    (folder / "sim000.parquet").unlink()
    altered = bytearray((folder / "sim001.parquet").read_bytes())
    altered[200] ^= 1
    (folder / "sim001.parquet").write_bytes(altered)
    rhythm = simulated.parent / "sim002.hea"
    before, sums = rhythm.read_bytes(), simulated.parent / "SHA256SUMS.txt"
    listed = sums.read_text()
    rhythm.write_bytes(before + b"# another comment\n")
    sums.write_text("".join(x for x in listed.splitlines(True) if "sim002.hea" not in x))
    assert states() == kept | dict.fromkeys(("sim000", "sim001", "sim002"), "built")
    rhythm.write_bytes(before)
    sums.write_text(listed)
    assert states() == kept | {"sim002": "built"}
    assert {file: sha256_file(file) for file in folder.glob("*.parquet")} == written
    assert not list(folder.glob("*.partial"))
    policy = ingest(str(simulated), simulated.parent, policy="reference")
    assert {o.state for o in policy.outcomes} == {"built", "failed"}


@pytest.mark.real
def test_real_path(agent: str, real_data: Path, tmp_path: Path) -> None:
    """Eight mitdb records, real AF among them, go from WFDB to a report of the device."""
    names = ["100", "101", "103", "201", "202", "203", "219", "222"]
    spec = (ROOT / "storage" / "datasets" / "mitdb.toml").read_text()
    toml = tmp_path / "few.toml"
    toml.write_text(spec.replace('file = "RECORDS"', f"names = {json.dumps(names)}"))
    sets = data_sets([str(toml)], data=[real_data / "mitdb"])
    how = train_settings(datasets=sets, model="resnet21", epochs=1, learning_rate=1e-3)
    done = retrain(RetrainSettings(training=how, device=agent, wait_s=240))
    check_report(done, "mitdb")
    manifest = done.trained.ingested[0].manifest
    assert [entry.record for entry in manifest.entries] == names
    assert {e.subject for e in manifest.entries if e.record in ("201", "202")} == {"201"}
    table = read_beats(done.trained.ingested[0].path.parent / "201.parquet")
    assert set(np.unique(table.rhythm)) >= {"N", "AFIB"}
    assert table.waveform is not None
    assert table.waveform.shape == (len(table), 300)
    source = read_source(done.trained.ingested[0].path.parent / "201.parquet")
    assert source.files["201.dat"] == sha256_file(real_data / "mitdb" / "201.dat")
    assert source.lead == "MLII"
    assert not source.simulated


def test_drift_of_what_came_back(retrained: RetrainResult, simulated: Path, tmp_path: Path) -> None:
    """The training's own recordings are held against it; another model's analysis is refused."""
    version = read_version(retrained.trained.version.reference)
    done = drift(version.model.reference, DRIFT, [str(simulated)], [simulated.parent])
    found = {one.figure: one for one in done.verdicts}
    assert found["heart_rate_psi"].state == "passed"
    assert len(found) == len(done.verdicts) == 6
    logged = mlflow.MlflowClient().list_artifacts(done.run_id, "drift")
    assert {"drift/report.html", "drift/report.md"} <= {file.path for file in logged}
    told = {"model": {"sha256": version.files["model.tflite"]}}
    told["profile"] = reference_of(version).as_json()
    analysis = write_json(tmp_path / "rec.json", told)
    same = drift(version.model.reference, DRIFT, analyses=[analysis])
    assert not same.drifted
    assert {one.found for one in same.verdicts if "psi" in one.figure} == {"0"}
    write_json(analysis, {**told, "model": {"sha256": "0" * 64}})
    with pytest.raises(TableError, match=r"rec\.json: found one by model 0000"):
        drift(version.model.reference, DRIFT, analyses=[analysis])
    with pytest.raises(ValueError, match="give a data set, or analyses"):
        drift(version.model.reference, DRIFT)


def test_a_rebuild_is_the_same(retrained: RetrainResult, simulated: Path) -> None:
    """The training done again gives the same file to the byte, and touches no registry or table.

    A source that changed since is named, and folders that are gone are refused.
    """
    version = read_version(retrained.trained.version.reference)
    known = ledger.entries(version.model.name)
    done = rebuild(version)
    assert (done.outcome, done.changes, done.figures) == (BIT_EQUAL, (), {})
    assert all(done.files.values())
    assert ledger.entries(version.model.name) == known
    other = replace(version, metrics={**version.metrics, "test_f1": 2.0})
    other = replace(other, files={**version.files, "model.tflite": "0" * 64})
    told = compare_versions(version, other)
    assert told.outcome == DIFFERS
    assert told.figures == {"test_f1": (version.metrics["test_f1"], 2.0)}
    with pytest.raises(TableError, match="expected the records; give --data"):
        rebuild(replace(version, manifests=(replace(version.manifests[0], origin="/gone"),)))
    with pytest.raises(ValueError, match="one folder for each data set"):
        rebuild(version, [simulated.parent] * 2)


def test_single_beats_of_two_data_sets(agent: str, simulated: Path, tmp_path: Path) -> None:
    """Both are dealt by patient, drawn by weight, sealed with the version, and built again."""
    assert agent
    other = write_simulated(tmp_path, 4, 0.05, 9)
    other.write_text(other.read_text().replace('name = "simulated"', 'name = "other"', 1))
    sets = data_sets(
        [str(other), str(simulated)],
        data=[other.parent, simulated.parent],
        weight=[1.0, 1 / 3],
    )
    done = train(train_settings(datasets=sets, model="resnet15", balance="patient", epochs=1))
    assert [len(made.failed) for made in done.ingested] == [0, 1]
    assert done.title.startswith("SIMULATED data other + simulated, interpatient 80:20")
    version = read_version(done.version.reference)
    assert version.params["dataset"] == "other+simulated"
    assert (version.params["balance"], version.params["weight"]) == ("patient", f"1.0,{1 / 3}")
    people = [p for side in SIDES for p in version.split[side]["subjects"]]
    assert {name.split("/")[0] for name in people} == {"other", "simulated"}
    assert len(people) == len(set(people)) == 10
    found = list(verify(version.model.reference, trusted_keys()))
    assert [one for one in found if one.state == MISMATCH] == []
    built = rebuild(version)
    assert (built.outcome, built.changes) == (BIT_EQUAL, ())


def test_a_student_tells_its_teacher(
    retrained: RetrainResult, simulated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version, run and digest of the teacher are sealed, shown, verified, and built again.

    Where beats are dealt singly it knows the test subjects and is refused; one whose weights are
    not the sealed ones does not teach, and is found.
    """
    first = retrained.trained.version
    sets = data_sets([str(simulated)], data=[simulated.parent])
    asked: dict[str, Any] = {"datasets": sets, "epochs": 1}
    asked |= {"model": "resnet15", "teacher": first.reference, "temperature": 2.0}
    student = read_version(train(train_settings(**asked)).version.reference)
    digest = read_version(first.reference).files[WEIGHTS]
    marks = {
        "holter.teacher": first.reference,
        "holter.teacher_run_id": first.run_id,
        "holter.teacher_weights_sha256": digest,
    }
    assert marks.items() <= student.tags.items()
    assert marks.items() <= student.model.tags.items()
    how = {"teacher": first.reference, "teacher_weight": "0.5", "temperature": "2.0"}
    assert how.items() <= student.params.items()
    assert first.reference in str(card(student))
    lineage = read_lineage(student.model.reference, trusted_keys())
    assert f"teacher {first.reference}, weights SHA-256 {digest[:16]}" in str(outline(lineage))
    assert any(node.id == "teacher" for node in graph(lineage, detailed=False).nodes)
    built = rebuild(student)
    assert (built.outcome, built.changes) == (BIT_EQUAL, ())
    with pytest.raises(SplitError, match=f"cannot teach resnet15: {first.reference} was trained"):
        train(train_settings(**asked, paradigm="intrapatient"))

    def taught() -> set[str]:
        found = verify(student.model.reference, trusted_keys())
        return {one.state for one in found if one.name == f"teacher {first.reference}"}

    def altered(*_: object) -> Path:
        raise DigestMismatch("altered")

    assert taught() == {MATCH}
    for module in ("flows.train.teacher", "storage.audit.verify"):
        monkeypatch.setattr(f"{module}.fetch_model_file", altered)
    assert taught() == {MISMATCH}
    with pytest.raises(DigestMismatch, match="altered"):
        read_teacher(first.reference)


def test_no_device_fails_clearly(retrained: RetrainResult) -> None:
    """A request that no device takes ends FAILED with the reason, and says what to start."""
    with pytest.raises(DeviceError, match="holter-edge run --device nobody"):
        evaluate_on_device(retrained.trained.version.reference, "nobody", 2.0)
    (state,) = device_requests("nobody")
    assert state.status == "FAILED"
    assert mlflow.MlflowClient().get_run(state.request_id).info.status == "FAILED"


@pytest.mark.real
def test_annotations_alone_make_tables(real_data: Path, tmp_path: Path) -> None:
    """afdb without its signals gives a table a record, waveforms null, rhythms known."""
    folder = tmp_path / "afdb"
    folder.mkdir()
    for name in ("00735", "04048"):
        for file in (real_data / "afdb").glob(f"{name}.*"):
            shutil.copy(file, folder)
    (folder / "RECORDS").write_text("00735\n04048\n")
    done = ingest("afdb", folder, signal=False)
    assert not done.failed
    table = read_beats(done.path.parent / "00735.parquet")
    assert table.waveform is None
    assert {"N", "AFIB"} <= set(np.unique(table.rhythm))
