"""Experiments of MLflow: found by their name, or made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.errors import NotInRegistry, RegistryError
from storage.registry.answers import EXPERIMENT_ID, part, text, texts
from storage.registry.client import call

#: Experiments of devices, before the device's name.
EDGE = "edge/"
#: Experiments that hold a ledger, before the model's name.
LEDGER = "ledger/"
#: Experiments of looks for drift, before the model's name.
DRIFT = "drift/"


@dataclass(frozen=True)
class Experiment:
    """An experiment: its id, its tags, and whether this very call made it."""

    id: str
    tags: Mapping[str, str]
    is_new: bool = False


def get_experiment(name: str) -> Experiment:
    """The experiment of a name.

    Raises
    ------
    NotInRegistry
        There is none.
    """
    return _experiment(call("GET", "experiments/get-by-name", experiment_name=name))


def find_experiment(name: str) -> Experiment | None:
    """The experiment of a name, or None where there is none."""
    try:
        return get_experiment(name)
    except NotInRegistry:
        return None


def get_or_make_experiment(name: str, tags: Mapping[str, str] | None = None) -> Experiment:
    """The experiment of a name, made with these tags where there is none.

    Raises
    ------
    RegistryError
        There is none, and it may not be made.
    """
    if experiment := find_experiment(name):
        return experiment
    marks = [{"key": key, "value": value} for key, value in (tags or {}).items()]
    fields: dict[str, Any] = {"name": name, **({"tags": marks} if marks else {})}
    try:
        answer = call("POST", "experiments/create", **fields)
    except RegistryError:  # another process made it meanwhile, or it may not be made
        if experiment := find_experiment(name):
            return experiment
        raise
    return Experiment(_id(answer), dict(tags or {}), is_new=True)


def tag_experiment(experiment_id: str, key: str, value: str) -> None:
    """Set a tag of an experiment."""
    endpoint = "experiments/set-experiment-tag"
    call("POST", endpoint, experiment_id=experiment_id, key=key, value=value)


def _experiment(answer: Any) -> Experiment:
    fields = part(answer, "experiment")
    return Experiment(_id(fields), texts(fields, "tags"))


def _id(value: Any) -> str:
    return text(part(value, "experiment_id"), "experiment id", EXPERIMENT_ID)
