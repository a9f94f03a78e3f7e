"""What the flows share: parameters with a description, bounds and choices for Prefect's form.

Prefect reads a description only from a Google docstring, and puts it over the one of a `Field`;
what `json_schema_extra` holds it leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from prefect.runtime import flow_run
from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import core_schema

from storage.bounds import BOUNDS, all_within, most_allowed
from storage.datasets.dataset import load_spec
from storage.errors import HolterError
from storage.registry.reference import parse
from tasks.signal import preprocessing


def told(description: str, **more: Any) -> Any:
    """The field of a parameter: what it says in the form, what may be chosen, its bounds.

    The flows check values themselves, with an error of ours that names what there is.
    """
    return Field(json_schema_extra={"description": description, **more})


@dataclass(frozen=True)
class Number:
    """The field of a number: held to its bound before its flow begins."""

    name: str
    description: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._held, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "description": self.description, **BOUNDS[self.name].schema}

    def _held(self, value: Any) -> Any:
        all_within(**{self.name: value})
        return value


def _few_enough(text: str) -> str:
    most_allowed(text, 0)
    return text


def _well_formed(reference: str | None) -> str | None:
    if reference is not None:
        parse(reference)
    return reference


def settings_of_run(kind: Any) -> Any:
    """The settings that the flow run was given."""
    return TypeAdapter(kind).validate_python(flow_run.get_parameters()["settings"])


def _dataset() -> str:
    return str(flow_run.get_parameters()["dataset"])


def named_after(what: str, dataset: Callable[[], str] = _dataset) -> Callable[[], str]:
    """The name of a flow's runs: what they do, and the name of the data set that a TOML tells."""

    def name() -> str:
        try:
            return f"{what}-{load_spec(dataset()).name}"
        except HolterError:  # the flow itself says what is wrong
            return f"{what}-{Path(dataset()).stem}"

    return name


Dataset = Annotated[str, told("Name of a data set, or path of its TOML on the worker's machine.")]
Datasets = Annotated[list[str], told("Data sets: names, or paths of their TOMLs.", minItems=1)]
Data = Annotated[
    Path | None, told("Folder of its records; left empty, the one that its TOML names.")
]
Folders = Annotated[
    list[Path] | None, told("Folder of each data set; left empty, those that the TOMLs name.")
]
Version = Annotated[
    str,
    AfterValidator(_well_formed),
    told("Registered model: NAME@alias, NAME/version, or NAME (its newest)."),
]
Policy = Annotated[
    preprocessing.Policy,
    told("Beats to keep where beats are annotated: agreed on, annotated, or detected."),
]
Signal = Annotated[
    bool | None,
    told("Off reads annotations alone, no waveforms; left empty, as the data set's TOML says."),
]
Signals = Annotated[
    list[bool] | bool | None,
    told("Off reads annotations alone: one for each data set, or one for all; else as TOMLs say."),
]
Records = Annotated[list[str] | None, told("Just these records; left empty, all of them.")]
Device = Annotated[str, told("The device that evaluates; its agent must be running.")]
Wait = Annotated[float, Number("wait_s", "How long to wait for the device's report, in seconds.")]
LeastBeats = Annotated[
    int, Number("least_beats", "Shorter runs of decisions become what surrounds them.")
]
Analyses = Annotated[list[Path], told("JSON files that `holter-edge analyse` wrote.")]
Bounds = Annotated[Path, told("The bounds, a TOML; those that come with the project are a start.")]
Seen = Annotated[list[str], told("Data sets to hold against the training: names, or TOMLs.")]
