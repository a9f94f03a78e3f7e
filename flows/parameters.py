"""What the flows share: parameters with a description, bounds and choices for Prefect's form.

Prefect reads a description only from a Google docstring, and puts it over the one of a `Field`;
what `json_schema_extra` holds it leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from prefect.runtime import flow_run
from pydantic import Field, TypeAdapter

from flows.ingest.folders import POLICY, DatasetSettings
from flows.settings import checked, held
from storage.bounds import BOUNDS
from storage.datasets.dataset import load_spec
from storage.errors import HolterError
from storage.registry.reference import parse
from tasks.signal import preprocessing


def told(description: str, **more: Any) -> Any:
    """The field of a parameter: what it says in the form, what may be chosen, its bounds.

    The flows check values themselves, with an error of ours that names what there is.
    """
    return Field(json_schema_extra={"description": description, **more})


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


def _same(name: str) -> Any:
    """A parameter that says what a data set's setting says."""
    return told(str(DatasetSettings.model_fields[name].description))


Dataset = Annotated[str, _same("dataset")]
Data = Annotated[Path | None, _same("data")]
Signal = Annotated[bool | None, _same("signal")]
Policy = Annotated[preprocessing.Policy, told(POLICY)]
Folders = Annotated[
    list[Path] | None, told("Folder of each data set; left empty, those that the TOMLs name.")
]
Version = Annotated[
    str,
    checked(parse),
    told("Registered model: NAME@alias, NAME/version, or NAME (its newest)."),
]
Signals = Annotated[
    list[bool] | bool | None,
    told("Off reads annotations alone: one for each data set, or one for all; else as TOMLs say."),
]
Records = Annotated[list[str] | None, told("Just these records; left empty, all of them.")]
LeastBeats = Annotated[
    int,
    held("least_beats"),
    told("Shorter runs of decisions become what surrounds them.", **BOUNDS["least_beats"].schema),
]
Analyses = Annotated[list[Path], told("JSON files that `holter-edge analyse` wrote.")]
Bounds = Annotated[Path, told("The bounds, a TOML; those that come with the project are a start.")]
Seen = Annotated[list[str], told("Data sets to hold against the training: names, or TOMLs.")]
