"""Versions of registered models, as MLflow tells them over its REST interface."""

from __future__ import annotations

from typing import Any

from storage.answers import part, rows, text, texts, whole_number
from storage.errors import NotInRegistry, OutOfReach, RegistryError
from storage.mlflow_rest import call


def resolve(reference: str) -> dict[str, Any]:
    """The version that NAME@alias, NAME/version or NAME (its newest) means, as MLflow tells it.

    Tags are a mapping; `version` is a number.

    Raises
    ------
    NotInRegistry
        There is no such version.
    RegistryError
        What the server answers is none, or is one of another model.
    """
    name, at, alias = reference.partition("@")
    if at:
        try:
            answer = call("GET", "registered-models/alias", name=name, alias=alias)
        except OutOfReach:
            raise
        except RegistryError as error:  # MLflow answers 400, not 404
            raise NotInRegistry(f"model {name}: found no alias {alias}") from error
        return _flat(part(answer, "model_version"), name)
    name, _, number = reference.partition("/")
    if number:
        answer = call("GET", "model-versions/get", name=name, version=number)
        return _flat(part(answer, "model_version"), name)
    order: dict[str, Any] = {"order_by": "version_number DESC", "max_results": 1}
    answer = call("GET", "model-versions/search", filter=f"name = '{name}'", **order)
    for found in rows(answer, "model_versions"):
        return _flat(found, name)
    raise NotInRegistry(f"model {name}: found no version; expected at least one")


def _flat(version: Any, name: str) -> dict[str, Any]:
    number = whole_number(part(version, "version"), "version")
    if text(part(version, "name"), "name") != name:
        raise RegistryError(f"MLflow's answer: found another model's version; expected {name}'s")
    more = {"tags": texts(version, "tags"), "version": number}
    return {"description": "", "run_id": "", **version, **more}
