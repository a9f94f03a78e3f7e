"""Trainings and servers killed at random moments: the next run heals it, and ends the same.

HOLTER_FAULT_RUNS says how many of each are killed: one or two by default, in CI's time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from prefect.logging.handlers import APILogHandler

from flows.ingest.simulate import write_simulated
from flows.services.servers import MLFLOW, PREFECT, QUIET, Kind, Servers, answers, servers
from storage.audit import ledger
from storage.registry.client import address, call
from storage.registry.signing import trusted_keys
from tests.conftest import Many
from tests.emptied import Databases
from tests.services import free_port
from tests.system.test_faults import (
    all_ended,
    begun,
    ended,
    hit,
    ingest,
    noted,
    result,
    somewhere,
    start,
    unended,
)

RUNS = int(os.environ.get("HOLTER_FAULT_RUNS", "1"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600 + 240 * RUNS),
    pytest.mark.filterwarnings("default"),  # Prefect's and TensorFlow's own, at import
]
MODEL = "holter-resnet15"


@dataclass
class Killable:
    """A server on a port of its own that is killed, and started again on what it left."""

    kind: Kind
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it where it was; it may not answer yet."""
        env = {**os.environ, **QUIET, **self.kind.environment(self.folder, self.port)}
        log = self.kind.log(self.folder)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                self.kind.command(self.folder, self.port),
                env=env,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def answering(self) -> None:
        """Wait until it answers."""
        assert self.process is not None
        log = self.kind.log(self.folder)
        deadline = time.monotonic() + 300
        while not answers(f"http://127.0.0.1:{self.port}{self.kind.health}"):
            assert self.process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL of the server and of every process that it started."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def bounce(self, down_s: float) -> None:
        """Kill it, and start it again some seconds later."""
        self.kill()
        time.sleep(down_s)
        self.start()
        self.answering()


@dataclass(frozen=True)
class Here:
    """The two servers, and the addresses that commands are given."""

    prefect: Killable
    mlflow: Killable
    at: Servers


@contextmanager
def killable(folder: Path, *kinds: Kind) -> Iterator[Here]:
    """A Prefect and an MLflow server that can be killed, named in the environment."""
    both = [Killable(kind, folder, free_port()) for kind in kinds]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLTER_HOME", str(folder))
        patch.setenv("PREFECT_HOME", str(folder / "prefect"))
        patch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        patch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{both[0].port}/api")
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{both[1].port}")
        try:
            for server in both:
                server.start()
            for server in both:
                server.answering()
            with servers() as at:
                yield Here(both[0], both[1], at)
                APILogHandler().flush()
        finally:
            for server in both:
                server.kill()


@pytest.fixture(scope="module")
def here(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """Both on SQLite, as `holter up` has them."""
    folder = tmp_path_factory.mktemp("servers")
    databases.lay(folder, PREFECT, MLFLOW)
    with killable(folder, PREFECT, MLFLOW) as both:
        yield both


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six simulated records of six minutes."""
    return write_simulated(tmp_path_factory.mktemp("simulated"), 6, 0.1, 5)


def weights() -> str:
    """Digest of the weights of the candidate; its ledger is whole, and its chain sealed."""
    assert ledger.check(MODEL, trusted_keys()) == []
    version = call("GET", "registered-models/alias", name=MODEL, alias="candidate")
    tags = {tag["key"]: tag["value"] for tag in version["model_version"]["tags"]}
    assert "holter.chain_sha256" in tags
    return str(tags["holter.sha256.model.weights.h5"])


@dataclass(frozen=True)
class Calm:
    """An undisturbed training: the command, its state folder, its weights, and its seconds."""

    words: tuple[str, ...]
    home: Path
    weights: str
    seconds: float

    def again(self) -> None:
        """The same training here, to its end."""
        from flows.ingest.folders import data_sets
        from flows.train.flow import train
        from flows.train.settings import train_settings

        simulated = Path(self.words[1])
        sets = data_sets([str(simulated)], data=[simulated.parent])
        train(train_settings(datasets=sets, model="resnet15", epochs=2))


@contextmanager
def calm_training(here: Here, simulated: Path, home: Path) -> Iterator[Calm]:
    """A training that nothing disturbed, in the state folder that the disturbed ones share."""
    data = ("--data", str(simulated.parent))
    words = ("train", str(simulated), *data, "--model", "resnet15", "--epochs", "2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLTER_HOME", str(home))
        began = time.monotonic()
        Calm(words, home, "", 0.0).again()
        assert here.at.mlflow == address()
        yield Calm(words, home, weights(), time.monotonic() - began)


@pytest.fixture(scope="module")
def calm(here: Here, simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calm]:
    with calm_training(here, simulated, tmp_path_factory.mktemp("home")) as training:
        yield training


def test_a_training_killed_at_random_moments(here: Here, calm: Calm) -> None:
    """After any number of SIGKILLs the same command ends with the same weights; the dead runs are
    closed, and the model's ledger is whole."""
    rng = np.random.default_rng(1)
    for _ in range(RUNS):
        process = start(here.at, calm.home, *calm.words)
        begun(process, calm.home)
        time.sleep(rng.uniform(0, calm.seconds))
        process.kill()
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
        noted("a flow that trains", "killed" if process.returncode else "had ended")
    calm.again()
    assert weights() == calm.weights
    assert unended(here.at) == []
    assert not list((calm.home / "running").glob("*.json"))
    noted("a flow that trains", "healed: all of them")


def spoken(process: subprocess.Popen[str]) -> tuple[int, str]:
    """How a command ended whose server was killed: well, or with one sentence that says why."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode in (0, 1), said
    told = [line for line in said.splitlines() if line.startswith("error  ")]
    assert len(told) == process.returncode, said
    assert "Traceback" not in said, said
    return process.returncode, said


def test_mlflow_killed_under_a_training(here: Here, calm: Calm) -> None:
    """A training whose MLflow is killed goes on, or ends with MLflow's address; the same command
    again ends with the same weights, and no run is left open."""
    rng = np.random.default_rng(2)
    for _ in range(RUNS):
        process = start(here.at, calm.home, *calm.words)
        begun(process, calm.home)
        time.sleep(rng.uniform(0, calm.seconds))
        noted("MLflow, under a training", hit(process))
        here.mlflow.bounce(rng.uniform(0, 5))
        code, said = spoken(process)
        assert code == 0 or here.at.mlflow in said
        noted("MLflow, under a training", "went on" if code == 0 else "ended with a sentence")
    calm.again()
    assert weights() == calm.weights
    assert unended(here.at) == []
    noted("MLflow, under a training", "healed: all of them")


def test_prefect_killed_under_an_ingest(here: Here, many: Many, tmp_path: Path) -> None:
    """An ingest whose Prefect is killed goes on, or ends with Prefect's address; the same command
    again does the rest, makes the undisturbed tables, and no run is left open."""
    words = ingest(many.toml)
    rng = np.random.default_rng(3)
    for n in range(RUNS):
        home = tmp_path / f"home{n}"
        process = start(here.at, home, *words)
        somewhere(rng, process, home, many.count)
        noted("Prefect, under an ingest", hit(process))
        here.prefect.bounce(rng.uniform(0, 5))
        code, said = spoken(process)
        assert code == 0 or here.at.prefect_page in said
        noted("Prefect, under an ingest", "went on" if code == 0 else "ended with a sentence")
        rest = ended(start(here.at, home, *words))
        assert ("(150 kept from before, 0 failed)" in rest) or code
        assert result(home).digest() == many.digest
        all_ended(here.at, home)
        noted("Prefect, under an ingest", "healed")


def test_a_prefect_that_is_not_there(here: Here, many: Many, tmp_path: Path) -> None:
    """Its address, and nothing of the secrets in it, is what the user is told."""
    away = replace(here.at, prefect_api=f"http://me:{'secret'}@127.0.0.1:9/api")
    said = ended(start(away, tmp_path, *ingest(many.toml)), code=1)
    assert "Prefect at http://127.0.0.1:9" in said
    assert "secret" not in said
    assert "Traceback" not in said
