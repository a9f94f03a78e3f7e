"""A device's account on an MLflow server with accounts: its own experiment, and models to read."""

from __future__ import annotations

from storage.evaluations import device_experiment
from storage.mlflow_rest import call

GRANT = "users/permissions/grant"


def make_account(device: str, password: str, training: str, models: list[str]) -> None:
    """Make a device's account; the caller is the server's administrator.

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
        The server has no accounts, or the account exists, or the caller may not make one.
    """
    experiment = device_experiment(device, make=True)
    learnt = call("GET", "experiments/get-by-name", experiment_name=training)["experiment"]
    call("POST", "users/create", username=device, password=password)
    grants = [("experiment", experiment, "EDIT"), ("experiment", learnt["experiment_id"], "READ")]
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
