"""A state folder is copied while its servers run, deleted, and put back: work goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prefect.events.worker import EventsWorker

from flows.services.servers import MLFLOW, PREFECT, servers
from flows.upkeep.backup import back_up
from flows.upkeep.restore import restore
from storage.audit import ledger
from storage.audit.findings import MATCH
from storage.audit.verify import verify
from storage.files import home
from storage.registry.signing import trusted_keys
from tests.conftest import state_folder
from tests.emptied import Databases
from tests.sealed import made_up_manifest, made_up_report, made_up_version, sides_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # MLflow's own, at import

NAME = "holter-kept"


def prefect_history() -> dict[str, set[str]]:
    """The names of what Prefect's server has."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return {
            "runs": {run.name for run in client.read_flow_runs()},
            "deployments": {each.name for each in client.read_deployments()},
        }


def test_work_goes_on_after_the_state_folder_was_deleted(
    databases: Databases, tmp_path: Path
) -> None:
    """Registry, ledger, chain, history, deployments and tables are as they were, and go on."""
    from prefect.client.orchestration import get_client

    from flows.ingest.flow import ingest

    records = tmp_path / "records"
    with state_folder(tmp_path / "home"):
        databases.lay(home(), PREFECT, MLFLOW)
        with servers():
            path, manifest = made_up_manifest(records)
            version = made_up_version(NAME, tmp_path / "work", path, manifest, sides_of(manifest))
            made_up_report(version, "belt", tmp_path / "report")
            result = ingest(str(records / "dataset.toml"), records)
            with get_client(sync_client=True) as client:
                flow_id = client.create_flow_from_name("ingest")
                client.create_deployment(flow_id, "nightly", paused=True)
            history, keys = prefect_history(), trusted_keys()
            before = [(one.link, one.name, one.state) for one in verify(f"{NAME}/1", keys)]
            entries = ledger.entries(NAME)
            copy = back_up(tmp_path / "b.tar", tmp_path / "k.tar")
        assert set(copy.databases) == {"mlflow/mlflow.db", "prefect/prefect.db"}
        shutil.rmtree(home())

        assert restore(tmp_path / "b.tar", tmp_path / "k.tar").trusted
        with servers():
            findings = list(verify(f"{NAME}/1", trusted_keys()))
            assert [(one.link, one.name, one.state) for one in findings] == before
            assert {one.state for one in findings} == {MATCH}
            assert ledger.entries(NAME) == entries
            assert ledger.check(NAME, keys) == []
            assert prefect_history() == history
            assert history["deployments"] == {"nightly"}
            again = ingest(str(records / "dataset.toml"), records)
            assert {outcome.state for outcome in again.outcomes} == {"kept"}
            assert again.manifest.digest() == result.manifest.digest()
            ledger.move_alias(NAME, 1, "champion", "work goes on")
            assert ledger.mlflow_aliases(NAME) == {"candidate": 1, "champion": 1}
            assert ledger.check(NAME, keys) == []
            EventsWorker.drain_all(timeout=30)  # while a server takes them
