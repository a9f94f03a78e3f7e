"""PostgreSQL killed under both servers: the next run heals it, and ends the same.

HOLTER_FAULT_RUNS says how often it is killed: once under each command by default, in CI's time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest

from flows.ingest.simulate import write_simulated
from flows.services.access import prefect_environment
from flows.services.servers import MLFLOW, PREFECT, Kind, mlflow_command
from tests.conftest import Many
from tests.services import Postgres, killable_postgres
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
)
from tests.system.test_faults_servers import Here, calm_training, killable, spoken, weights

RUNS = int(os.environ.get("HOLTER_FAULT_RUNS", "1"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600 + 240 * RUNS),
    pytest.mark.filterwarnings("default"),  # Prefect's and TensorFlow's own, at import
]


@dataclass(frozen=True)
class Stack:
    """The two servers, and the PostgreSQL that keeps their databases."""

    here: Here
    database: Postgres

    def bounce(self, down_s: float) -> None:
        """Kill PostgreSQL, and start it again on the same data some seconds later."""
        self.database.kill()
        time.sleep(down_s)
        self.database.start()


def on(database: str) -> tuple[Kind, Kind]:
    """Prefect and MLflow with their databases there."""
    prefect = {"PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}/prefect"}
    mlflow = ["--backend-store-uri", f"postgresql+psycopg2://{database}/mlflow"]
    return (
        replace(PREFECT, environment=lambda *at: {**prefect_environment(*at), **prefect}),
        replace(MLFLOW, command=lambda *at: [*mlflow_command(*at), *mlflow]),
    )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Prefect and MLflow on a PostgreSQL that can be killed."""
    folder = tmp_path_factory.mktemp("servers")
    with (
        killable_postgres(folder, "prefect", "mlflow") as database,
        killable(folder, *on(database.at)) as here,
    ):
        yield Stack(here, database)


def disturbed(stack: Stack, process: Popen[str], kind: str, rng: np.random.Generator) -> int:
    """Kill PostgreSQL under a command; its exit code, 0 or 1 with one sentence."""
    kind = f"PostgreSQL, under {kind}"
    noted(kind, hit(process))
    stack.bounce(rng.uniform(0, 5))
    code, said = spoken(process)
    assert code == 0 or any(at in said for at in (stack.here.at.prefect_page, stack.here.at.mlflow))
    noted(kind, "went on" if code == 0 else "ended with a sentence")
    return code


def test_postgres_killed_under_an_ingest(stack: Stack, many: Many, tmp_path: Path) -> None:
    """An ingest whose servers' PostgreSQL is killed goes on, or ends with the address of the server
    that lost it; the same command again does the rest, makes the undisturbed tables, and no run is
    left open."""
    at, words, rng = stack.here.at, ingest(many.toml), np.random.default_rng(4)
    for n in range(RUNS):
        home = tmp_path / f"home{n}"
        process = start(at, home, *words)
        somewhere(rng, process, home, many.count)
        code = disturbed(stack, process, "an ingest", rng)
        rest = ended(start(at, home, *words))
        assert "(150 kept from before, 0 failed)" in rest or code
        assert result(home).digest() == many.digest
        all_ended(at, home)
        noted("PostgreSQL, under an ingest", "healed")


@pytest.mark.skipif("HOLTER_FAULT_RUNS" not in os.environ, reason="by night: HOLTER_FAULT_RUNS")
def test_postgres_killed_under_a_training(stack: Stack, tmp_path: Path) -> None:
    """A training whose servers' PostgreSQL is killed goes on, or ends with the address of the
    server that lost it; the same command again ends with the same weights, and no run is open."""
    simulated, rng = write_simulated(tmp_path / "simulated", 6, 0.1, 5), np.random.default_rng(6)
    with calm_training(stack.here, simulated, tmp_path / "home") as calm:
        for _ in range(RUNS):
            process = start(stack.here.at, calm.home, *calm.words)
            begun(process, calm.home)
            time.sleep(rng.uniform(0, calm.seconds))
            disturbed(stack, process, "a training", rng)
        calm.again()
        assert weights() == calm.weights
        all_ended(stack.here.at, calm.home)
        noted("PostgreSQL, under a training", "healed: all of them")
