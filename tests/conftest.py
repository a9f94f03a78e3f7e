"""Fixtures shared by the tests."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, settings
from prefect.events.worker import EventsWorker

from flows.ingest.simulate import write_simulated
from flows.services.servers import MLFLOW, PREFECT, QUIET, Servers, servers
from storage.registry.models import ModelVersion
from tests import ROOT as ROOT
from tests.emptied import Databases, Emptied

# No test is timed: a busy machine is slow.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


#: Free memory, in bytes, of which the temporary files of all tests take a part.
ROOM = 8 << 30


def pytest_configure() -> None:
    """Temporary files lie in memory where there is room: the tests wait for thousands of syncs."""
    memory = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own in it
    if "TMPDIR" in os.environ or not os.access(memory, os.W_OK):
        return
    at = os.statvfs(memory)
    free = min(at.f_bavail * at.f_frsize, psutil.virtual_memory().available)
    if free > ROOM and not at.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = str(memory)
        tempfile.tempdir = None  # to be looked up again


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server; modules in the order of what they may take, the longest first.

    So two processes that share the modules end at about the same time.
    """
    weights: Counter[Path] = Counter()
    for item in items:
        if "databases" in getattr(item, "fixturenames", ()):
            item.add_marker("server")
        marks = {mark.name for mark in item.iter_markers()}
        weights[item.path] += 100 if "slow" in marks else 30 if "server" in marks else 1
    items.sort(key=lambda item: -weights[item.path])


@pytest.fixture(autouse=True)
def no_server_unasked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect and MLflow start for tests that are marked `server` or `slow`, and for no other."""
    if {"server", "slow"} & {mark.name for mark in request.node.iter_markers()}:
        return

    def refused(*_: object) -> list[str]:
        raise AssertionError("a server was started; expected the mark `server`")

    monkeypatch.setenv("PREFECT_SERVER_EPHEMERAL_ENABLED", "false")
    for name in ("prefect_command", "mlflow_command"):
        monkeypatch.setattr(f"flows.services.servers.{name}", refused)
    monkeypatch.setattr("flows.services.servers.MLFLOW", replace(MLFLOW, command=refused))


@pytest.fixture(scope="session", autouse=True)
def no_file_left(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Where no test failed its temporary files go with the last one: they may lie in memory."""
    yield
    if not request.session.testsfailed:
        shutil.rmtree(tmp_path_factory.getbasetemp(), ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def no_server_left() -> Iterator[None]:
    """Stop Prefect's server of this process, as its atexit would: xdist's workers end without.

    Prefect lists them in no public place.
    """
    yield
    if module := sys.modules.get("prefect.server.api.server"):
        for server in list(module.SubprocessASGIServer._instances.values()):
            server.stop()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings, or a skip that says why."""
    folder = (ROOT / os.environ.get("HOLTER_REAL_DATA", "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real recordings: {folder} is not there (set HOLTER_REAL_DATA)")
    return folder


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """The servers' databases with every table made, shared by the processes of a run."""
    folder = tmp_path_factory.getbasetemp()
    return Databases((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "empty")


@pytest.fixture(scope="session")
def mlflow_server(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MLflow server on loopback, one for the whole session."""
    with databases.started(tmp_path_factory.mktemp("mlflow"), MLFLOW) as (server,):
        yield server.address


@pytest.fixture(scope="session")
def kept_mlflow(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Emptied]:
    """An MLflow server that is emptied for each module that asks for an empty one."""
    with databases.started(tmp_path_factory.mktemp("emptied"), MLFLOW) as (server,):
        yield server


@pytest.fixture(scope="session")
def kept_prefect(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Emptied]:
    """A Prefect server that is emptied for each module that asks for the servers."""
    home = tmp_path_factory.mktemp("emptied")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLTER_HOME", str(home))  # where a key of its own would lie
        with databases.started(home, PREFECT) as (server,):
            yield server


@pytest.fixture(scope="module")
def empty_mlflow(kept_mlflow: Emptied) -> Emptied:
    """An MLflow server without a model, a run or an artifact, and where its database lies."""
    kept_mlflow.empty()
    return kept_mlflow


@pytest.fixture
def fresh_model(mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model's name of the test's own, on the session's server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    return f"holter-{tmp_path.name}".replace("_", "-")


@dataclass(frozen=True)
class Registered:
    """A model version on the session's server, its test set, and what the server scores with it."""

    model: ModelVersion
    testset_run_id: str
    testset_sha256: str
    keys: Path
    metrics: dict[str, float]

    def request(self, device: str, **tags: str) -> str:
        """Ask a device to evaluate it."""
        from storage.registry.evaluations import request_evaluation

        return request_evaluation(
            device=device,
            model=self.model,
            testset_run_id=self.testset_run_id,
            testset_path="testset/testset.npz",
            testset_sha256=self.testset_sha256,
            tags=tags,
        )


@pytest.fixture(scope="session")
def registered(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """An untrained network, registered as a training registers it, with 600 made-up beats."""
    return register_made_up(mlflow_server, tmp_path_factory.mktemp("registered"))


def register_made_up(mlflow_server: str, folder: Path) -> Registered:
    """Register an untrained network and 600 made-up beats on a server."""
    from flows.train.release import seal
    from storage.files import sha256_file, write_bytes
    from storage.registry import tracking
    from storage.registry.model_files import LITERT, MANIFEST, WEIGHTS
    from storage.registry.signing import public_key
    from storage.tables.testset import TestSet, write_testset
    from tasks.runtimes.litert import LiteRT, af_probability
    from tasks.scores.metrics import beat_metrics

    rng = np.random.default_rng(7)
    waveform = rng.normal(size=(600, 300, 1)).astype(np.float32)
    testset = TestSet(
        inputs={"waveform": waveform},
        label=rng.integers(0, 2, 600).astype(np.int8),
        record=np.repeat(["100", "101", "102"], 200),
        subject=np.repeat(["a", "a", "b"], 200),
        sample=np.tile(np.arange(200, dtype=np.int64) * 250, 3),
    )
    path = write_testset(folder / "testset.npz", testset)
    # The golden file is `to_litert(build("resnet21", seed=3))`, without TensorFlow's minute.
    golden = ROOT / "tests" / "golden"
    litert = (golden / "resnet21-untrained.tflite").read_bytes()
    runtimes = {"litert-float32": {"file": LITERT}, "onnx": {"file": "model.onnx"}}
    files = {
        LITERT: litert,
        "model.onnx": (golden / "resnet21-untrained.onnx").read_bytes(),
        WEIGHTS: b"{}",
        MANIFEST: json.dumps({"runtimes": runtimes}).encode(),
        "notes/about.md": b"{}",
    }
    for name, data in files.items():
        write_bytes(folder / "model" / name, data)
    probability = af_probability(LiteRT(litert).predict(waveform))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
        patch.setenv("HOLTER_HOME", str(folder / "home"))
        seal(folder / "model", {"waveform": waveform})
        keys = folder / "keys"
        write_bytes(keys / "release.pub", public_key().encode())
        run_id = tracking.start_run("train/made-up", "made-up", {}, {})
        tracking.log_file(run_id, path, "testset")
        version = tracking.register_model(
            run_id,
            name="holter-made-up",
            folder=folder / "model",
            tags={"holter.threshold": "0.5"},
            description="",
        )
    return Registered(
        version, run_id, sha256_file(path), keys, beat_metrics(testset.label, probability, 0.5)
    )


@pytest.fixture
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a network of one beat that is known while the test runs."""
    from tasks.networks.models import MODELS, ModelSpec
    from tests.tiny import two_layers

    monkeypatch.setitem(MODELS, "tiny", ModelSpec(two_layers))
    return "tiny"


@contextmanager
def state_folder(home: Path) -> Iterator[pytest.MonkeyPatch]:
    """A fresh state folder, with no server named, until the block ends."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUIET.items():
            patch.setenv(name, value)
        for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        patch.setenv("HOLTER_HOME", str(home))
        patch.setenv("PREFECT_HOME", str(home / "prefect"))
        patch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        # Prefect 3.8.8 sends a process's events to its first server for good: begin anew.
        EventsWorker.drain_all(timeout=30)
        yield patch


@pytest.fixture(scope="module")
def holter_servers(
    kept_prefect: Emptied, empty_mlflow: Emptied, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """A Prefect and an MLflow server on loopback with nothing in them, and a fresh state folder."""
    with state_folder(tmp_path_factory.mktemp("home")) as patch:
        kept_prefect.empty()
        patch.setenv("PREFECT_API_URL", f"{kept_prefect.address}/api")
        patch.setenv("MLFLOW_TRACKING_URI", empty_mlflow.address)
        with servers() as here:
            yield replace(here, prefect_pid=kept_prefect.pid, mlflow_pid=empty_mlflow.pid)


@pytest.fixture(scope="module")
def own_servers(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """Both servers of the module's own: of those that count all that runs, or that react to it."""
    home = tmp_path_factory.mktemp("home")
    with state_folder(home):
        databases.lay(home, PREFECT, MLFLOW)
        with servers() as here:
            yield here


@dataclass(frozen=True)
class Many:
    """Simulated records of a minute, three tasks of Prefect's; the digest of undisturbed tables."""

    toml: Path
    count: int
    digest: str


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Many:
    """150 records, and the digest of their tables as one undisturbed process makes them."""
    from flows.ingest.build import Plan, build_table
    from storage.datasets.dataset import load_spec, record_names
    from storage.files import sha256_json
    from tasks.signal.preprocessing import Preprocessing

    toml = write_simulated(tmp_path_factory.mktemp("many"), 150, 0.02, 5)
    spec, out = load_spec(str(toml)), tmp_path_factory.mktemp("calm")
    names = record_names(spec, toml.parent)
    made = [
        build_table(Plan(spec, toml.parent, out, Preprocessing(), True), name)[1]
        for name in sorted(names)
    ]
    return Many(toml, len(made), sha256_json([[e.record, e.subject, e.sha256] for e in made]))
