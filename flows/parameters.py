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
from flows.settings import bound_of, validator_of
from storage.bounds import BOUNDS
from storage.datasets.dataset import load_spec
from storage.errors import HolterError
from storage.registry.reference import parse
from tasks.signal import preprocessing


def form_field(description: str, **more: Any) -> Any:
    """The field of a parameter: what it says in the form, what may be chosen, its bounds.

    The flows check values themselves, with an error of ours that names what there is.
    """
    return Field(json_schema_extra={"description": description, **more})


def settings_of_run(kind: Any) -> Any:
    """The settings that the flow run was given."""
    return TypeAdapter(kind).validate_python(flow_run.get_parameters()["settings"])


def _dataset() -> str:
    return str(flow_run.get_parameters()["dataset"])


def named_after(action: str, dataset: Callable[[], str] = _dataset) -> Callable[[], str]:
    """The name of a flow's runs: what they do, and the name of the data set that a TOML tells."""

    def name() -> str:
        try:
            return f"{action}-{load_spec(dataset()).name}"
        except HolterError:  # the flow itself says what is wrong
            return f"{action}-{Path(dataset()).stem}"

    return name


def _same(name: str) -> Any:
    """A parameter that says what a data set's setting says."""
    return form_field(str(DatasetSettings.model_fields[name].description))


Dataset = Annotated[str, _same("dataset")]
Data = Annotated[Path | None, _same("data")]
Signal = Annotated[bool | None, _same("signal")]
Policy = Annotated[preprocessing.Policy, form_field(POLICY)]
Folders = Annotated[
    list[Path] | None, form_field("Folder of each data set; left empty, those that the TOMLs name.")
]
Version = Annotated[
    str,
    validator_of(parse),
    form_field("Registered model: NAME@alias, NAME/version, or NAME (its newest)."),
]
Signals = Annotated[
    list[bool] | bool | None,
    form_field(
        "Off reads annotations alone: one for each data set, or one for all; else as TOMLs say."
    ),
]
Records = Annotated[list[str] | None, form_field("Just these records; left empty, all of them.")]
LeastBeats = Annotated[
    int,
    bound_of("least_beats"),
    form_field(
        "Shorter runs of decisions become what surrounds them.", **BOUNDS["least_beats"].schema
    ),
]
Unseen = Annotated[
    bool, form_field("Leave out the patients that the version was trained or validated on.")
]
Analyses = Annotated[list[Path], form_field("JSON files that `holter-edge analyse` wrote.")]
Bounds = Annotated[
    Path, form_field("The bounds, a TOML; those that come with the project are a start.")
]
NewDataSets = Annotated[
    list[str], form_field("Data sets to hold against the training: names, or TOMLs.")
]
