"""A device's account on an MLflow server with accounts: its own experiment, and models to read."""

from __future__ import annotations

from storage.answers import part, rows, text
from storage.errors import RegistryError
from storage.evaluations import device_experiment
from storage.mlflow_rest import call

GRANT, PERMISSIONS = "users/permissions/grant", "users/permissions/list"
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
    experiment = device_experiment(device, make=True)
    if others := sorted(_writers(str(experiment))):
        raise RegistryError(
            f"experiment edge/{device}: found that {', '.join(others)} may write it; expected "
            "nobody: revoke that, and delete the experiment if the device did not make its runs"
        )
    found = call("GET", "experiments/get-by-name", experiment_name=training)
    learnt = text(part(found, "experiment", "experiment_id"), "experiment id")
    call("POST", "users/create", username=device, password=password)
    grants = [("experiment", experiment, "EDIT"), ("experiment", learnt, "READ")]
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


def _writers(experiment: str) -> set[str]:
    """The accounts, administrators aside, that were granted to write this very experiment."""
    found = set()
    for user in rows(call("GET", "users/list"), "users"):
        name = text(part(user, "username"), "username")
        granted = call("GET", PERMISSIONS, api=3, username=name)
        if granted.get("is_admin") is True:
            continue
        found |= {
            name
            for one in rows(granted, "permissions")
            if part(one, "resource_type") == "experiment"
            and part(one, "resource_pattern") == experiment
            and part(one, "permission") in WRITING
        }
    return found
