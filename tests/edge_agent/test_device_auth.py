"""What a device may do on a server with accounts: its own experiment, and read models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_agent import agent as edge
from edge_agent.agent import Agent
from edge_agent.board.kinds import device_kind
from flows.services.servers import mlflow_server
from storage.errors import RegistryError
from storage.registry import client, evaluations
from storage.registry.accounts import let_make, make_account
from tests.conftest import register_made_up

pytestmark = pytest.mark.slow
WORDS = "twelve letters"

ADMIN = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "correct horse battery"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server with accounts, where nobody may do anything that was not granted."""
    with accounts(tmp_path_factory.mktemp("guarded"), MLFLOW_ENABLE_WORKSPACES="true") as address:
        yield address


@contextmanager
def accounts(folder: Path, **more: str) -> Iterator[str]:
    """A server with accounts, as `mlflow/team.sh` sets it up but for what is not in `more`."""
    config = folder / "auth.ini"
    config.write_text(
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{folder}/auth.db\nadmin_username = admin\n"
        f"admin_password = {ADMIN['MLFLOW_TRACKING_PASSWORD']}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    env = {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": "test", **more}
    with mlflow_server(folder, "--app-name", "basic-auth", env=env) as address:
        yield address


def test_a_device_account_reaches_its_own_experiment_alone(
    guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its account a device does its work, and cannot read or write anything else."""
    for name, value in ADMIN.items():
        monkeypatch.setenv(name, value)
    registered = register_made_up(guarded, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", guarded)
    for device in ("belt", "wall"):
        make_account(device, "twelve letters", "train/made-up", [registered.model.name])
    mine, other = registered.request("belt"), registered.request("wall")
    for name in ADMIN:
        monkeypatch.delenv(name)

    with pytest.raises(RegistryError, match="401"):
        evaluations.request_state(mine)
    secrets = tmp_path / "secrets"
    secrets.write_text("MLFLOW_TRACKING_USERNAME=belt\nMLFLOW_TRACKING_PASSWORD=twelve letters\n")
    secrets.chmod(0o600)
    monkeypatch.setenv("HOLTER_SECRETS_FILE", str(secrets))
    monkeypatch.setenv("HOLTER_EDGE_KEYS", str(registered.keys))
    assert edge.once(Agent("belt", device_kind("x86-64"), tmp_path / "edge"), lambda _: None) == 0
    assert evaluations.request_state(mine).status == "FINISHED"

    version = {"name": registered.model.name, "version": str(registered.model.version)}
    forbidden: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "experiments/create", {"name": "edge/ward"}),
        ("POST", "registered-models/create", {"name": "holter-new"}),
        ("GET", "runs/get", {"run_id": other}),
        ("POST", "runs/set-tag", {"run_id": other, "key": "a", "value": "b"}),
        ("POST", "runs/set-tag", {"run_id": registered.model.run_id, "key": "a", "value": "b"}),
        ("POST", "registered-models/alias", {**version, "alias": "stable"}),
        ("POST", "model-versions/set-tag", {**version, "key": "a", "value": "b"}),
        ("POST", "users/create", {"username": "thief", "password": "twelve letters"}),
    ]
    for method, endpoint, fields in forbidden:
        with pytest.raises(RegistryError, match=r"40[13]"):
            client.call(method, endpoint, **fields)


def test_people_make_what_they_were_granted_to(
    guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person makes experiments once the administrator granted it; a device that is then named
    so gets no account, as its runs would be that person's."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", guarded)
    for name, value in ADMIN.items():
        monkeypatch.setenv(name, value)
    client.call("POST", "users/create", username="ann", password=WORDS)
    client.call("POST", "experiments/create", name="train/anything")

    def as_ann() -> str:
        with monkeypatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
            patch.setenv("MLFLOW_TRACKING_PASSWORD", WORDS)
            answer = client.call("POST", "experiments/create", name="edge/bed-4")
            return str(answer["experiment_id"])

    with pytest.raises(RegistryError, match="403"):
        as_ann()
    let_make("ann")
    evaluations.make_device_experiment("bed-5")
    with pytest.raises(RegistryError, match="account bed-5: found a device's"):
        let_make("bed-5")
    assert as_ann()
    with pytest.raises(RegistryError, match="experiment edge/bed-4: found that ann may write it"):
        make_account("bed-4", "twelve letters", "train/anything", [])
    users = client.call("GET", "users/list")["users"]
    assert "bed-4" not in {user["username"] for user in users}


def test_no_account_where_every_account_makes_experiments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that leaves making experiments to every account gets no device's account."""
    monkeypatch.setattr(client, "_persistent", lambda *_: b'{"workspaces_enabled": false}')
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(RegistryError, match="MLFLOW_ENABLE_WORKSPACES=true"):
        make_account("belt", "twelve letters", "train/x", [])
