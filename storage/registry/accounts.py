"""A device's account on an MLflow server with accounts: its own experiment, and models to read."""

from __future__ import annotations

from storage.errors import RegistryError
from storage.registry.answers import part, rows, text, whole_number
from storage.registry.client import call
from storage.registry.evaluations import device_experiment, make_device_experiment
from storage.registry.experiments import EDGE, get_experiment

GRANT, PERMISSIONS = "users/permissions/grant", "users/permissions/list"
#: The role of people who make experiments and models, and where it holds.
MAKERS, WORKSPACE = "holter-makers", "default"
#: Permissions that let an account change what is in an experiment.
WRITING = ("EDIT", "MANAGE")


def make_account(device: str, password: str, training: str, models: list[str]) -> None:
    """Make a device's account; the caller is the server's administrator.

    It may not make experiments or registered models: one who could would own the runs of a device
    that is named so later.

    Parameters
    ----------
    device : str
        The device; the account has its name.
    password : str
        The account's password, at least twelve characters.
    training : str
        The experiment whose models and test sets it may read.
    models : list of str
        The registered models it may read.

    Raises
    ------
    RegistryError
        The server has no accounts, or lets every account make experiments; the account exists, or
        the caller may not make one; or the device's experiment belongs to another account.
    """
    if call("GET", "server-info", api=3).get("workspaces_enabled") is not True:
        raise RegistryError(
            "found a server where every account may make experiments and models; expected one with "
            "MLFLOW_ENABLE_WORKSPACES=true, as mlflow/team.sh starts it"
        )
    experiment = make_device_experiment(device).id
    if writers := sorted(_writers(experiment)):
        raise RegistryError(
            f"experiment {EDGE}{device}: found that {', '.join(writers)} may write it; expected "
            "nobody: revoke that, and delete the experiment if the device did not make its runs"
        )
    training_id = get_experiment(training).id
    call("POST", "users/create", username=device, password=password)
    grants = [("experiment", experiment, "EDIT"), ("experiment", training_id, "READ")]
    grants += [("registered_model", model, "READ") for model in models]
    for kind, name, permission in grants:
        call(
            "POST",
            GRANT,
            api=3,
            username=device,
            resource_type=kind,
            resource_id=name,
            permission=permission,
        )


def let_make(person: str) -> None:
    """Let a person's account make experiments and registered models, and own what it makes.

    The caller is the server's administrator.

    Raises
    ------
    RegistryError
        The server has no such account, or it is a device's, or the caller may not grant that.
    """
    if device_experiment(person) is not None:
        raise RegistryError(
            f"account {person}: found a device's ({EDGE}{person}); expected another"
        )
    roles = {
        text(part(role, "name"), "role"): whole_number(part(role, "id"), "role's id")
        for role in rows(call("GET", "roles/list", api=3, workspace=WORKSPACE), "roles")
    }
    if MAKERS not in roles:
        answer = call("POST", "roles/create", api=3, name=MAKERS, workspace=WORKSPACE)
        roles[MAKERS] = whole_number(part(answer, "role", "id"), "role's id")
        call(
            "POST",
            "roles/permissions/add",
            api=3,
            role_id=roles[MAKERS],
            resource_type="workspace",
            resource_pattern="*",
            permission="USE",
        )
    call("POST", "roles/assign", api=3, username=person, role_id=roles[MAKERS])


def _writers(experiment: str) -> set[str]:
    """The accounts, administrators aside, that were granted to write this very experiment."""
    accounts = set()
    for user in rows(call("GET", "users/list"), "users"):
        name = text(part(user, "username"), "username")
        granted = call("GET", PERMISSIONS, api=3, username=name)
        if granted.get("is_admin") is True:
            continue
        accounts |= {
            name
            for permission in rows(granted, "permissions")
            if part(permission, "resource_type") == "experiment"
            and part(permission, "resource_pattern") == experiment
            and part(permission, "permission") in WRITING
        }
    return accounts
