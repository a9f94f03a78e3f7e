"""Model versions and runs as MLflow has them, and what NAME@alias, NAME/version or NAME means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.errors import NotInRegistry, OutOfReach, RegistryError
from storage.registry.answers import part, rows, text, texts, whole_number
from storage.registry.client import call, pages
from storage.registry.reference import Reference, parse
from storage.registry.tags import NETWORK_TAG

#: A version's largest number.
MOST_VERSION = (1 << 31) - 1
#: Models of one page of an answer.
MOST_MODELS = 100


@dataclass(frozen=True)
class ModelVersion:
    """A registered version.

    Attributes
    ----------
    name, version : str, int
        The registered model, and the version's number.
    run_id : str
        The run that made it; "" where MLflow names none.
    tags : mapping of str to str
        Its tags.
    description, source : str
        The text of its page, and where its files lie.
    """

    name: str
    version: int
    run_id: str
    tags: Mapping[str, str]
    description: str = ""
    source: str = ""

    @property
    def reference(self) -> str:
        """NAME/version."""
        return f"{self.name}/{self.version}"

    @property
    def network(self) -> str:
        """Its network's name in the table of networks; without a tag the model is called by it."""
        return self.tags.get(NETWORK_TAG) or self.name.removeprefix("holter-")


@dataclass(frozen=True)
class RunState:
    """A run.

    Attributes
    ----------
    run_id, name, experiment_id : str
        The run, its name on its page, and its experiment.
    start_time : int
        When it began, ms since 1970.
    params, tags : mapping of str to str
        Its parameters and tags.
    metrics : mapping
        The newest value of each metric, as the answer's JSON has it: a NaN is a text there.
    """

    run_id: str
    name: str
    experiment_id: str
    start_time: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, Any]


def resolve(reference: str) -> ModelVersion:
    """The version that NAME@alias, NAME/version or NAME (its newest) means.

    Raises
    ------
    NotInRegistry
        There is no such version.
    ValueError
        The name is of none of the three forms.
    """
    fields = _look_up(parse(reference))
    return ModelVersion(
        name=text(part(fields, "name"), "model's name"),
        version=whole_number(part(fields, "version"), "version", MOST_VERSION),
        run_id=text(fields.get("run_id", ""), "run id"),
        tags=texts(fields, "tags"),
        description=text(fields.get("description", ""), "description"),
        source=text(fields.get("source", ""), "source"),
    )


def resolve_number(reference: str) -> tuple[str, int]:
    """Name and number of the version; as `resolve`, and no server is asked for NAME/version."""
    parts = parse(reference)
    if parts.version:
        return parts.name, int(parts.version)
    return parts.name, whole_number(part(_look_up(parts), "version"), "version", MOST_VERSION)


def _look_up(parts: Reference) -> Any:
    """What MLflow tells of a version."""
    name, alias, number = parts
    if number:
        answer = call("GET", "model-versions/get", name=name, version=number)
        return part(answer, "model_version")
    if alias:
        try:
            answer = call("GET", "registered-models/alias", name=name, alias=alias)
        except OutOfReach:
            raise
        except RegistryError as error:  # MLflow answers 400, not 404
            raise NotInRegistry(f"model {name}: found no alias {alias}") from error
        return part(answer, "model_version")
    if newest := _newest(name):
        return newest
    raise NotInRegistry(f"model {name}: found no version; expected at least one")


def newest_versions() -> list[tuple[str, int, dict[str, int]]]:
    """Every registered model: its name, the number of its newest version, its aliases."""
    result = []
    for answer in pages("GET", "registered-models/search", max_results=MOST_MODELS):
        for model in rows(answer, "registered_models"):
            name = text(part(model, "name"), "model's name")
            aliases = {
                text(part(row, "alias"), "alias"): whole_number(
                    part(row, "version"), "version", MOST_VERSION
                )
                for row in rows(model, "aliases")
            }
            newest = _newest(name)
            number = whole_number(part(newest, "version"), "version", MOST_VERSION) if newest else 0
            result.append((name, number, dict(sorted(aliases.items()))))
    return result


def _newest(name: str) -> Any:
    """What MLflow tells of a model's newest version; None where it has none."""
    order: dict[str, Any] = {"order_by": "version_number DESC", "max_results": 1}
    answer = call("GET", "model-versions/search", filter=f"name = '{name}'", **order)
    return next(iter(rows(answer, "model_versions")), None)


def run_state(run_id: str) -> RunState:
    """A run's name, experiment, parameters, tags, and newest metrics, by name."""
    run = part(call("GET", "runs/get", run_id=run_id), "run")
    info, data = part(run, "info"), part(run, "data")
    experiment_id = text(part(info, "experiment_id"), "experiment id")
    return RunState(
        run_id=run_id,
        name=text(info.get("run_name", ""), "run's name"),
        experiment_id=experiment_id,
        start_time=whole_number(part(info, "start_time"), "start_time"),
        params=texts(data, "params"),
        tags=texts(data, "tags"),
        metrics={
            text(part(row, "key"), "metrics.key"): part(row, "value")
            for row in rows(data, "metrics")
        },
    )
