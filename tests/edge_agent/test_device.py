"""A device's cycle against a real MLflow server: pull, check, run, report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent import agent as edge
from edge_agent import presence, slots
from edge_agent.agent import Agent
from edge_agent.board.kinds import device_kind
from edge_agent.cli import main as edge_main
from edge_agent.outbox import MOST_TRIES, new_job
from edge_agent.releases import fetch_release
from flows.train.release import name_again
from storage.errors import (
    DeviceError,
    DigestMismatch,
    NotInRegistry,
    OutOfReach,
    RegistryError,
    SignatureError,
)
from storage.files import write_json
from storage.registry import client, evaluations, tracking
from storage.registry.evaluations import RequestState
from storage.registry.model_files import MANIFEST
from storage.registry.models import ModelVersion
from storage.registry.signing import NAME_FILE, check_name, public_key
from tests.conftest import ROOT, Registered
from tests.sealed import made_up_manifest, made_up_version, sides_of


@pytest.fixture(autouse=True)
def tracking_uri(
    mlflow_server: str, registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("HOLTER_EDGE_KEYS", str(registered.keys))


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """A device of the test's own."""
    return f"device-{request.node.name.removeprefix('test_')[:60]}"


@pytest.fixture
def agent(device: str, tmp_path: Path) -> Agent:
    return Agent(device, device_kind("x86-64"), tmp_path / "edge")


def quiet(_: str) -> None:
    """Say nothing."""


def outcome(agent: Agent, request_id: str) -> RequestState:
    edge.once(agent, quiet)
    return evaluations.request_state(request_id)


@pytest.mark.slow
def test_a_process_of_its_own_reports_what_the_server_scores(
    registered: Registered, device: str, tmp_path: Path
) -> None:
    """`python -m edge_agent once` ends the request FINISHED with the server's very metrics."""
    request_id = registered.request(device)
    words = [sys.executable, "-m", "edge_agent", "once", "--device", device, "--kind", "x86-64"]
    env = {**os.environ, "HOLTER_EDGE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    state = evaluations.request_state(request_id)
    assert state.status == "FINISHED"
    assert {k: state.metrics[k] for k in registered.metrics} == registered.metrics
    assert state.metrics["latency_p99_ms"] > 0
    assert not list((tmp_path / "outbox").iterdir())
    sums = state.params["holter.report"].partition(":")[2]
    client.fetch_run_file(request_id, "report/outcome.json", sums, tmp_path)
    assert json.loads((tmp_path / "outcome.json").read_text())["status"] == "FINISHED"


def test_another_runtime_reports_what_the_server_scores(
    registered: Registered, agent: Agent
) -> None:
    """With ONNX Runtime every decision is the server's in LiteRT; the report names it."""
    request_id = registered.request(agent.device)
    state = outcome(replace(agent, runtime="onnx"), request_id)
    assert state.status == "FINISHED"
    assert state.tags["holter.runtime"] == "onnx"
    for name, value in registered.metrics.items():
        assert state.metrics[name] == pytest.approx(value, abs=1e-4), name


def test_a_runtime_that_a_release_lacks_fails_with_the_reason(
    registered: Registered, agent: Agent
) -> None:
    """The request ends FAILED and names what there is."""
    state = outcome(replace(agent, runtime="litert-int8"), registered.request(agent.device))
    assert state.status == "FAILED"
    assert "no file for litert-int8; it has litert-float32, onnx" in str(state.reason)


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "model digest": ({"holter.model_sha256": "0" * 64}, "model.tflite: signed with SHA-256"),
    "no model digest": ({"holter.model_sha256": ""}, "the request says"),
    "test set digest": ({"holter.testset_sha256": "f" * 64}, "expected ffff"),
    "test set path": ({"holter.testset_path": "../../secret"}, "a path that leaves its folder"),
    "no such test set": ({"holter.testset_path": "testset/none.npz"}, "none.npz"),
    "no such model": ({"holter.model": "holter-none"}, "holter-none"),
    "no such run": ({"holter.testset_run_id": "0" * 32}, "0" * 32),
    "threshold": ({"holter.threshold": "high"}, "threshold 'high'"),
    "model that is none": ({"holter.testset_path": "WEIGHTS"}, "found a damaged file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_fails_with_the_reason(
    registered: Registered, agent: Agent, case: str
) -> None:
    """Whatever is wrong with a request, it ends FAILED, saying so, and nothing is left behind."""
    wrong, words = WRONG[case]
    if wrong.get("holter.testset_path") == "WEIGHTS":
        data = b"not a test set"
        path = agent.home / "made" / "bad.npz"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        state = evaluations.request_state(registered.testset_run_id)
        client.upload(state.artifact_uri, "testset", path)
        from storage.files import sha256_file

        wrong = {
            "holter.testset_path": "testset/bad.npz",
            "holter.testset_sha256": sha256_file(path),
        }
    request_id = registered.request(agent.device)
    evaluations.log_tags(request_id, wrong)
    state = outcome(agent, request_id)
    assert state.status == "FAILED"
    assert words in str(state.reason)
    assert not list((agent.home / "work").iterdir())
    assert not list((agent.home / "outbox").iterdir())


def test_inputs_that_do_not_fit_the_model_fail(registered: Registered, agent: Agent) -> None:
    """A test set whose inputs are not the model's ends the request FAILED, naming both."""
    import numpy as np

    from storage.files import sha256_file
    from storage.tables.testset import TestSet, write_testset

    other = TestSet(
        inputs={"rr": np.zeros((5, 3), np.float32)},
        label=np.zeros(5, np.int8),
        record=np.repeat("1", 5),
        subject=np.repeat("1", 5),
        sample=np.arange(5),
    )
    path = write_testset(agent.home / "other.npz", other)
    run = evaluations.request_state(registered.testset_run_id)
    client.upload(run.artifact_uri, "testset", path)
    request_id = registered.request(agent.device)
    wrong = {
        "holter.testset_path": "testset/other.npz",
        "holter.testset_sha256": sha256_file(path),
    }
    evaluations.log_tags(request_id, wrong)
    state = outcome(agent, request_id)
    assert state.status == "FAILED"
    assert "['rr']" in str(state.reason)
    assert "['waveform']" in str(state.reason)


def test_of_agents_that_claim_at_once_one_has_it(registered: Registered, device: str) -> None:
    """Twelve agents claim one request at the same moment: one gets it."""
    state = evaluations.request_state(registered.request(device))
    barrier, got = threading.Barrier(12), []

    def claim(name: str) -> None:
        barrier.wait()
        if evaluations.claim(state, name) is not None:
            got.append(name)

    threads = [threading.Thread(target=claim, args=(f"agent-{i}",)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert evaluations.request_state(state.request_id).holder == got[0]


def test_a_withdrawn_request_takes_no_report(registered: Registered, agent: Agent) -> None:
    """A report that comes after the server gave up changes nothing; the reason stands."""
    request_id = registered.request(agent.device)
    state = evaluations.request_state(request_id)
    number = evaluations.claim(state, "x")
    assert number == 1
    assert evaluations.withdraw(request_id, "no report within 5 s")
    assert edge.serve(agent, new_job(agent.home, state, number, {}), quiet).is_good
    state = evaluations.request_state(request_id)
    assert (state.status, state.reason) == ("FAILED", "no report within 5 s")
    assert state.metrics == {}


def test_a_reported_request_cannot_be_withdrawn(registered: Registered, agent: Agent) -> None:
    """Once the report is decided, giving up comes too late and says so."""
    request_id = registered.request(agent.device)
    assert outcome(agent, request_id).status == "FINISHED"
    assert not evaluations.withdraw(request_id, "too late")
    assert evaluations.request_state(request_id).status == "FINISHED"


def test_a_dead_server_is_told_at_once(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server an agent ends with one sentence that names the address."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(OutOfReach, match=r"127\.0\.0\.1:9: out of reach"):
        edge.once(agent, quiet)


def test_two_agents_with_one_name(
    registered: Registered, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second agent of a device says which one works; after the first one's end it may."""
    monkeypatch.setattr(presence, "BEAT_S", 0.2)
    monkeypatch.setattr(presence, "LEASE_S", 1.0)
    first = presence.Presence(device, "first", {})
    second = Agent(device, device_kind("x86-64"), tmp_path / "second")
    with (
        presence.present(first, quiet),
        pytest.raises(DeviceError, match=r"agent first on .* works"),
    ):
        edge.once(second, quiet)
    request_id = registered.request(device)
    assert outcome(second, request_id).status == "FINISHED"


def test_one_state_folder_has_one_agent(agent: Agent) -> None:
    """A second process in the same state folder is told the first one's number."""
    with (
        presence.lock_home(agent.home),
        pytest.raises(DeviceError, match=f"process {os.getpid()} works in it"),
        presence.lock_home(agent.home),
    ):
        pass


def test_a_dead_agents_request_is_taken_up(
    registered: Registered, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose agent died elsewhere is evaluated by the next one; clocks play no part."""
    monkeypatch.setattr(presence, "BEAT_S", 0.1)
    monkeypatch.setattr(presence, "LEASE_S", 0.4)
    monkeypatch.setattr(time, "time", lambda: 12.0)
    request_id = registered.request(agent.device)
    dead = presence.Presence(agent.device, "dead", {})
    dead.beat(state="evaluates")
    assert evaluations.claim(evaluations.request_state(request_id), "dead") == 1
    said: list[str] = []
    edge.once(agent, said.append)
    assert any("no sign of agent dead" in line for line in said)
    state = evaluations.request_state(request_id)
    assert state.status == "FINISHED"
    assert (state.claims, state.holder) == (2, presence.agent_id(agent.home))
    with pytest.raises(DeviceError, match="works under this name"):
        dead.beat()


def test_a_request_that_kills_the_agent_is_given_up(
    registered: Registered, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation that ends the process again and again is reported as failed, not retried."""
    request_id = registered.request(agent.device)

    def die(*_: Any) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(edge, "evaluate", die)
    for _ in range(MOST_TRIES):
        with pytest.raises(KeyboardInterrupt):
            edge.once(agent, quiet)
    state = outcome(agent, request_id)
    assert state.status == "FAILED"
    assert "ended 5 times" in str(state.reason)


def test_a_missing_file_of_the_system_is_no_full_disk(
    registered: Registered, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the system while a request runs ends it FAILED, not waiting for ever."""

    def broken(*_: Any) -> dict[str, float]:
        raise FileNotFoundError(2, "No such file or directory", "/proc/meminfo")

    monkeypatch.setattr(edge, "evaluate", broken)
    state = outcome(agent, registered.request(agent.device))
    assert state.status == "FAILED"
    assert "/proc/meminfo" in str(state.reason)


def test_credentials_never_leave_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """With credentials, a server elsewhere is spoken to over TLS alone."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "device-1")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with pytest.raises(RegistryError, match="over https:// alone") as caught:
        client.call("GET", "runs/get", run_id="1")
    assert "secret" not in str(caught.value)


def test_a_secrets_file_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secrets file that others may read is refused; a private one is used."""
    path = tmp_path / "secrets"
    path.write_text("MLFLOW_TRACKING_USERNAME=device-1\nMLFLOW_TRACKING_PASSWORD=p=w\n")
    path.chmod(0o640)
    monkeypatch.setenv("HOLTER_SECRETS_FILE", str(path))
    with pytest.raises(RegistryError, match="found mode 640"):
        client.call("GET", "experiments/get", experiment_id="0")
    path.chmod(0o600)
    assert client._authorization("https", "x")["Authorization"].startswith("Basic ")
    client.call("GET", "experiments/get", experiment_id="0")


def test_what_is_not_there_is_told_apart_from_a_dead_server() -> None:
    """A missing run, experiment or file is final, not something to try again."""
    with pytest.raises(NotInRegistry):
        client.call("GET", "runs/get", run_id="0" * 32)
    assert evaluations.device_requests("nobody") == []


def versions_named(
    monkeypatch: pytest.MonkeyPatch, reference: str, home: Path
) -> list[tuple[int, str]]:
    """What `holter-edge bench REFERENCE` ends with, and the name that is signed of its release."""
    seen: list[str] = []

    def bench(model: Path, *_: Any) -> dict[str, Any]:
        assert (model / "model.tflite").is_file()
        statement = json.loads((model / NAME_FILE).read_text())
        seen.append(f"{statement['name']}/{statement['version']}")
        return {}

    monkeypatch.setenv("HOLTER_EDGE_HOME", str(home))
    monkeypatch.setattr("edge_agent.bench.bench", bench)
    with pytest.raises(SystemExit) as ended:
        edge_main(["bench", reference])
    return [(int(str(ended.value.code)), one) for one in seen or [""]]


def test_a_model_is_named_as_on_the_server(
    registered: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NAME, NAME/version and NAME@alias are fetched, checked, and gone at the end; what is none
    ends with one line, and so does a name where no server is said."""
    model, home = registered.model, tmp_path / "edge"
    version: dict[str, Any] = {"name": model.name, "version": str(model.version)}
    client.call("POST", "registered-models/alias", **version, alias="ward")
    for reference in (model.name, model.reference, f"{model.name}@ward"):
        assert versions_named(monkeypatch, reference, home) == [(0, model.reference)]
    for reference in (f"{model.name}@none", f"{model.name}/99", "none", "/none", "a@b@c"):
        assert versions_named(monkeypatch, reference, home) == [(1, "")]
    assert list((home / "work").iterdir()) == []
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert versions_named(monkeypatch, model.reference, home) == [(1, "")]


def test_mlflow_s_own_download_is_a_release(registered: Registered, tmp_path: Path) -> None:
    """A release that `mlflow artifacts download models:/NAME/VERSION` brought is accepted."""
    import mlflow

    source = f"models:/{registered.model.reference}"
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(tmp_path)))
    write_json(folder / "registered_model_meta", {})  # MLflow adds it beside an MLmodel file
    chosen, manifest = slots.choose_release(tmp_path / "edge", folder)
    assert (chosen, "files" in manifest) == (folder, True)
    check_name(folder, registered.model.name, registered.model.version, trusted(registered))


def trusted(registered: Registered) -> list[str]:
    return [path.read_text() for path in registered.keys.glob("*.pub")]


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelVersion:
    """A sealed version from before names were signed."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    path, manifest = made_up_manifest(tmp_path / "records")
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "log_name", lambda *_: None)
        return made_up_version(
            "holter-older", tmp_path / "made", path, manifest, sides_of(manifest)
        )


def test_a_version_from_before_is_signed_again(older: ModelVersion, tmp_path: Path) -> None:
    """A device refuses a version without a signed name and says the command; that makes it."""
    keys, words = {public_key()}, f"make it on the server: holter edge sign {older.reference}"
    arguments = (older.name, older.version)
    with pytest.raises(SignatureError, match=words):
        fetch_release(*arguments, tmp_path / "before", keys)
    assert name_again(older.reference) == older.reference
    for file in (MANIFEST, NAME_FILE):
        client.fetch_model_file(*arguments, file, None, tmp_path / "after")
    check_name(tmp_path / "after", *arguments, keys)


def test_a_manifest_of_another_chain_is_not_named(
    older: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is named again is the manifest that was sealed, whatever the server answers."""
    real = client._persistent

    def other(method: str, path: str, *rest: Any) -> bytes:
        if "get-artifact" in path and "model-versions" in path:
            rest[1].write(b'{"files": {}}')
            return b""
        return real(method, path, *rest)

    monkeypatch.setattr(client, "_persistent", other)
    with pytest.raises(DigestMismatch):
        name_again(older.reference)
