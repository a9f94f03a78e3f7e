"""Where servers are by the environment, and what lets clients in: credentials, and our key."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flows.services.ports import LOOPBACK
from storage.addresses import credentials, without_credentials
from storage.files import alone, home, write_secret

#: The variables that name servers, and those of the user and password that each is asked with.
NAMING: Mapping[str, Callable[[str, str], dict[str, str]]] = {
    "PREFECT_API_URL": lambda user, password: {"PREFECT_API_AUTH_STRING": f"{user}:{password}"},
    "MLFLOW_TRACKING_URI": lambda user, password: {
        "MLFLOW_TRACKING_USERNAME": user,
        "MLFLOW_TRACKING_PASSWORD": password,
    },
}


def named_servers() -> dict[str, str]:
    """The servers that the environment names: those of a team, which nobody starts here.

    Credentials in an address are no part of it: they are among those of `access_variables`.
    """
    return {name: without_credentials(os.environ[name]) for name in NAMING if os.environ.get(name)}


def access_variables() -> dict[str, str]:
    """The variables that let clients in, here and in processes below.

    The key of the Prefect server of this state folder; for servers of the user's own what is
    written into their addresses, unless a variable says otherwise. So no client knows an address
    with a password in it, which its errors and logs would repeat.
    """
    result = {} if os.environ.get("PREFECT_API_URL") else _key_variable()
    for name, variables in NAMING.items():
        user, password = credentials(os.environ.get(name, ""))
        if user:
            result |= {k: v for k, v in variables(user, password).items() if k not in os.environ}
    return result


def prefect_key_path() -> Path:
    """Where the key of the local Prefect server lies: what its page and clients are asked for."""
    return home() / "keys" / "prefect.key"


def prefect_key(*, make: bool = False) -> str:
    """The key, of the form `holter:...`; made if asked for, else "" where there is none.

    A server with a worker asks for it: whoever may use its API may have the worker run commands.
    """
    path = prefect_key_path()
    if make:
        with alone("prefect-key"):
            if not path.exists():
                write_secret(path, f"holter:{secrets.token_urlsafe(24)}\n")
    return path.read_text().strip() if path.exists() else ""


def _key_variable() -> dict[str, str]:
    """What Prefect's clients, in this process and below, need to be let in."""
    return {"PREFECT_API_AUTH_STRING": key} if (key := prefect_key()) else {}


def prefect_environment(folder: Path, port: int) -> dict[str, str]:
    """What the Prefect server is told: its key, where its SQLite lies, its own page's address."""
    api, key = f"http://{LOOPBACK}:{port}/api", prefect_key()
    return {
        **({"PREFECT_SERVER_API_AUTH_STRING": key} if key else {}),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect/prefect.db",
        "PREFECT_UI_API_URL": api,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": api.removesuffix("/api"),
        "PREFECT_API_URL": api,
    }


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables of the environment meanwhile; Prefect heeds them if it was imported before."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    _refresh_prefect()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _refresh_prefect()


def _refresh_prefect() -> None:
    """Have Prefect read its environment again, if it was imported before."""
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()
