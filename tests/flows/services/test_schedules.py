"""prefect.yaml for real: deployed, scheduled, run by a worker, its new version registered."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
import yaml
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.workers.base import BaseWorker
from pydantic import SecretStr

from flows.ingest.simulate import write_simulated
from flows.services.access import access_variables, prefect_key, prefect_key_path
from flows.services.servers import MLFLOW, PREFECT, servers
from flows.services.up_state import Servers, running
from tests.conftest import ROOT
from tests.emptied import Databases

WORD = "what the block holds"
FLOWS = {
    "ingest/hourly",
    "train/nightly",
    "train/nightly-rhythm",
    "retrain/weekly",
    "evaluate-on-device/weekly",
    "watch/every-10-minutes",
    "drift/weekly",
    "retention/weekly",
}


def shipped() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    return found


def holter(*words: str) -> str:
    """Run a command of ours; gives what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "flows", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def up(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """What `holter up --worker` starts, until `holter down`, which leaves nothing of it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        home = tmp_path_factory.mktemp("home")
        databases.lay(home, PREFECT, MLFLOW)
        patch.setenv("HOLTER_HOME", str(home))
        said = holter("up", "--worker")
        found = running()
        assert found is not None
        assert found.mlflow in said
        everything = psutil.Process(found.up_pid).children(recursive=True)
        yield found
        assert "Stopped" in holter("down")
        assert running() is None
        assert not psutil.wait_procs(everything, timeout=15)[1]
        assert "Nothing is up" in holter("down")


@pytest.fixture(scope="module")
def deployed(up: Servers, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The shipped file as a team edits it, deployed by `prefect deploy --all`; by name."""
    folder = tmp_path_factory.mktemp("simulated")
    toml = write_simulated(folder, 6, 0.1, 3)
    plan = shipped()
    for one in plan["deployments"]:
        assert not any(schedule["active"] for schedule in one["schedules"])
        if (one["entrypoint"], one["name"]) == ("flows.train:train", "nightly"):
            sets = [{"dataset": str(toml), "data": str(folder)}]
            few = {"datasets": sets, "model": "resnet15", "epochs": 1}
            one["parameters"] = {"settings": few}
            one["schedules"] = [{"interval": 20, "active": True}]
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump(plan))
    words = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    env = {**os.environ, "PREFECT_API_URL": up.prefect_api, **access_variables()}
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, env=env, check=True, timeout=120)
    found = asked(up, "deployments/filter", {})
    flows = {flow["id"]: flow["name"] for flow in asked(up, "flows/filter", {})}
    return {f"{flows[one['flow_id']]}/{one['name']}": one for one in found}


def asked(up: Servers, path: str, what: dict[str, Any]) -> Any:
    """The answer of Prefect's API."""
    reply = httpx.post(f"{up.prefect_api}/{path}", json=what, auth=key(), timeout=30)
    reply.raise_for_status()
    return reply.json()


def key() -> tuple[str, str]:
    """What Prefect's server asks for, as user and password."""
    user, _, password = prefect_key().partition(":")
    return user, password


@pytest.mark.slow
def test_who_has_no_key_has_no_command_run(up: Servers) -> None:
    """A server with a worker asks for the key of the state folder, which is its owner's alone;
    its page opens without."""
    assert prefect_key_path().stat().st_mode & 0o777 == 0o600
    url = f"{up.prefect_api}/flows/filter"
    assert httpx.post(url, json={}, timeout=30).status_code == 401
    assert httpx.post(url, json={}, auth=("holter", "another"), timeout=30).status_code == 401
    assert httpx.post(url, json={}, auth=key(), timeout=30).status_code == 200
    assert httpx.get(f"{up.prefect_page}/", follow_redirects=True, timeout=30).status_code == 200
    exported = dict(re.findall(r"^export (\w+)='?([^'\n]*)", holter("env"), re.MULTILINE))
    assert exported["PREFECT_API_AUTH_STRING"] == prefect_key()


@pytest.mark.slow
def test_every_deployment_has_a_form(deployed: dict[str, Any]) -> None:
    """Each parameter of each deployment is told; the choices are those that there are."""
    assert set(deployed) == FLOWS
    for name, one in deployed.items():
        schema = one["parameter_openapi_schema"]
        for part in (schema, *schema.get("definitions", {}).values()):
            for parameter, about in part["properties"].items():
                assert about.get("description"), f"{name}: {parameter}"
    schema = deployed["train/nightly"]["parameter_openapi_schema"]
    form = schema["definitions"]["BeatSettings"]["properties"]
    assert form["paradigm"]["enum"] == ["interpatient", "intrapatient"]
    assert "resnet21" in form["model"]["enum"]
    assert "rhythm" not in form["model"]["enum"]
    assert form["epochs"]["minimum"] == 1


@pytest.mark.slow
def test_a_wrong_parameter_is_refused_by_the_server(up: Servers, deployed: dict[str, Any]) -> None:
    """A run with a network that is not among the choices is not even scheduled."""
    url = f"{up.prefect_api}/deployments/{deployed['train/nightly']['id']}/create_flow_run"
    wrong = {"parameters": {"settings": {"datasets": [{"dataset": "a"}], "model": "resnet22"}}}
    reply = httpx.post(url, json=wrong, auth=key(), timeout=30)
    assert reply.status_code in (409, 422), reply.text
    assert "resnet22" in reply.text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_schedule_fires_and_the_version_is_there(up: Servers, deployed: dict[str, Any]) -> None:
    """The interval passes, the worker runs the training, and MLflow has the new version; of a
    deployment that is paused meanwhile no other run begins."""
    nightly = deployed["train/nightly"]["id"]

    def runs(*states: str) -> Any:
        which: dict[str, Any] = {"deployments": {"id": {"any_": [nightly]}}}
        which["flow_runs"] = {"state": {"type": {"any_": states}}}
        deadline = time.monotonic() + 280
        while not (found := asked(up, "flow_runs/filter", which)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    assert runs("PENDING", "RUNNING", "COMPLETED")
    url = f"{up.prefect_api}/deployments/{nightly}/pause_deployment"
    httpx.post(url, auth=key(), timeout=30).raise_for_status()
    done = runs("COMPLETED", "FAILED", "CRASHED")
    assert done, (Path(os.environ["HOLTER_HOME"]) / "logs" / "worker.log").read_text()[-3000:]
    assert done[0]["state"]["type"] == "COMPLETED", done[0]["state"]
    assert done[0]["auto_scheduled"]
    url = f"{up.mlflow}/api/2.0/mlflow/registered-models/alias"
    version = httpx.get(url, params={"name": "holter-resnet15", "alias": "candidate"}, timeout=30)
    assert version.status_code == 200, version.text
    assert int(version.json()["model_version"]["version"]) >= 1


async def job_of(up: Servers, pool: str, worker: type[BaseWorker[Any, Any, Any]]) -> Any:
    """What the pool's worker would start for a run of its deployment train/nightly."""
    settings = {PREFECT_API_URL: up.prefect_api, PREFECT_API_AUTH_STRING: prefect_key()}
    with temporary_settings(settings):
        async with get_client() as client:
            deployment = await client.read_deployment_by_name("train/nightly")
            run = await client.create_flow_run_from_deployment(deployment.id)
            found = await client.read_work_pool(pool)
            job = await worker.job_configuration.from_template_and_values(
                found.base_job_template, deployment.job_variables, client=client
            )
            flow = await client.read_flow(deployment.flow_id)
            job.prepare_for_flow_run(run, deployment, flow)
            await client.delete_flow_run(run.id)
    return job


@pytest.fixture
def pool(up: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A pool of the template in pools/ that a test asks for, with train/nightly deployed to it."""
    kind, env = (
        request.param,
        {**os.environ, "PREFECT_API_URL": up.prefect_api, **access_variables()},
    )
    pytest.importorskip(f"prefect_{kind}", reason=f"no prefect-{kind}: the extra {kind}")
    name = f"holter-{kind}"
    plan = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    plan["pull"][0][next(iter(plan["pull"][0]))]["directory"] = "/app"
    for one in plan["deployments"]:
        one["work_pool"]["name"] = name
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump(plan))
    template = ROOT / "pools" / f"{kind}.json"
    for words in (
        ["work-pool", "create", name, "--type", kind, "--base-job-template", str(template)],
        ["deploy", "-n", "train/nightly", "--prefect-file", str(tmp_path / "prefect.yaml")],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *words],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return name


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["docker"], indirect=True)
def test_a_docker_pool_is_taken(up: Servers, pool: str) -> None:
    """The server takes pool and deployment; the worker reads what Docker's API knows."""
    from docker.models import containers
    from prefect_docker import DockerWorker

    here = {PREFECT_API_URL: up.prefect_api, PREFECT_API_AUTH_STRING: prefect_key()}
    with temporary_settings(here):
        Secret(value=SecretStr(WORD)).save("holter-mlflow-password")
    job = asyncio.run(job_of(up, pool, DockerWorker))
    assert job.command == "prefect flow-run execute"
    assert job.image == "holter-flows"
    assert job.env["PREFECT_API_URL"]
    assert job.env["MLFLOW_TRACKING_URI"].startswith("https://")
    assert job.env["MLFLOW_TRACKING_PASSWORD"] == WORD
    assert [one.rsplit(":")[1] for one in job.volumes][-1] == "/state"
    known = {*containers.RUN_HOST_CONFIG_KWARGS, *containers.RUN_CREATE_KWARGS}
    assert set(job.container_create_kwargs) <= known


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["kubernetes"], indirect=True)
def test_a_kubernetes_pool_is_taken(up: Servers, pool: str) -> None:
    """The server takes both; the manifest is, word for word, one of Kubernetes's own Job."""
    from kubernetes_asyncio import client as kubernetes
    from prefect_kubernetes import KubernetesWorker

    job = asyncio.run(job_of(up, pool, KubernetesWorker))
    manifest = job.job_manifest
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert {"name": "MLFLOW_TRACKING_URI", "value": "https://mlflow.your.domain"} in container[
        "env"
    ]
    assert manifest["metadata"]["namespace"] == "holter"
    for name in ("completions", "parallelism"):  # Prefect's worker wants them where a Job's are not
        del pod[name]

    async def read_and_written() -> Any:
        async with kubernetes.ApiClient() as api:
            read = api.deserialize(SimpleNamespace(data=json.dumps(manifest)), "V1Job")
            return api.sanitize_for_serialization(read)

    assert asyncio.run(read_and_written()) == manifest


def test_a_team_s_servers_are_used_and_none_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where both are named by the environment nothing embedded starts, `holter up` says so."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    before = psutil.Process().children(recursive=True)
    with servers() as here:
        assert here == Servers("http://127.0.0.1:9/api", "http://127.0.0.1:9")
        assert psutil.Process().children(recursive=True) == before
    assert "nothing is started" in holter("up")
    assert "export MLFLOW_TRACKING_URI=http://127.0.0.1:9" in holter("env")
    assert not (tmp_path / "home" / "logs").exists()
