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
from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from storage.bounds import BOUNDS, all_within, most_allowed
from storage.datasets.dataset import load_spec
from storage.errors import HolterError
from storage.registry.reference import parse
from tasks.learning.balance import BALANCES
from tasks.learning.splits import PARADIGMS
from tasks.networks.models import available_models, known_models
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


def named_after(what: str) -> Callable[[], str]:
    """The name of a flow's runs: what they do, and the name of the data set that a TOML tells."""

    def name() -> str:
        dataset = str(flow_run.get_parameters()["dataset"])
        try:
            return f"{what}-{load_spec(dataset).name}"
        except HolterError:  # the flow itself says what is wrong
            return f"{what}-{Path(dataset).stem}"

    return name


def _networks(*, of_one_beat: bool) -> list[str]:
    found = known_models().items()
    return sorted(name for name, one in found if (one.inputs == ("waveform",)) == of_one_beat)


Dataset = Annotated[str, told("Name of a data set, or path of its TOML on the worker's machine.")]
Datasets = Annotated[list[str], told("Data sets: names, or paths of their TOMLs.", minItems=1)]
Data = Annotated[
    Path | None, told("Folder of its records; left empty, the one that its TOML names.")
]
Folders = Annotated[
    list[Path] | None, told("Folder of each data set; left empty, those that the TOMLs name.")
]
Model = Annotated[str, told("Network of single beats to train.", enum=_networks(of_one_beat=True))]
RhythmModel = Annotated[
    str, told("Network of whole records to train.", enum=_networks(of_one_beat=False))
]
AnyModel = Annotated[str, told("Network to train.", enum=list(available_models()))]
Version = Annotated[
    str,
    AfterValidator(_well_formed),
    told("Registered model: NAME@alias, NAME/version, or NAME (its newest)."),
]
Paradigm = Annotated[
    str, told("Whether a patient is on one side only, or on both.", enum=sorted(PARADIGMS))
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
Only = Annotated[list[str] | None, told("Just these records; left empty, all of them.")]
Epochs = Annotated[int, Number("epochs", "Passes over the training beats.")]
UsualEpochs = Annotated[
    int | None,
    Number(
        "epochs",
        "Passes over the training beats; left empty, what the kind of network usually takes.",
    ),
]
MostBeats = Annotated[
    int, Number("most_beats", "Learn from at most so many training beats; 0 from all.")
]
Patience = Annotated[int, Number("patience", "Stop after so many epochs without gain; 0 never.")]
Sparsity = Annotated[
    float, Number("sparsity", "Share of the weights pruned while training; 0 none.")
]
Quantised = Annotated[bool, told("Train under the rounding that int8 brings.")]
TeacherVersion = Annotated[
    str | None,
    AfterValidator(_well_formed),
    told("Registered version to learn from: NAME@alias, NAME/version, NAME; or none."),
]
TeacherWeight = Annotated[float, Number("teacher_weight", "Share of the teacher in the loss.")]
Temperature = Annotated[
    float, Number("temperature", "Softens the teacher's and the student's answers.")
]
Rate = Annotated[float, Number("learning_rate", "Adam's learning rate.")]
UsualRate = Annotated[
    float | None,
    Number(
        "learning_rate", "Adam's learning rate; left empty, what the kind of network usually takes."
    ),
]
UsualAveraged = Annotated[
    float | None,
    Number(
        "averaged",
        "Share of the epochs, the last ones, whose weights are averaged; 0 takes the last epoch's; "
        "left empty, what the network usually takes.",
    ),
]
Seed = Annotated[int, Number("seed", "Seed of the split and of the training.")]
Balance = Annotated[str, told("What is drawn evenly in training.", enum=list(BALANCES))]
Weights = Annotated[
    list[Annotated[float, Number("weights", "How often its data set is drawn.")]] | None,
    told("How often each data set is drawn; left empty, alike."),
]
Device = Annotated[str, told("The device that evaluates; its agent must be running.")]
Wait = Annotated[float, Number("wait_s", "How long to wait for the device's report, in seconds.")]
Quiet = Annotated[
    float, Number("quiet_s", "Take a record when its files have not changed for so many seconds.")
]
Due = Annotated[
    int,
    Number(
        "retrain_after", "Train once so many records have come since the last training; 0 never."
    ),
]
LeastBeats = Annotated[
    int, Number("least_beats", "Shorter runs of decisions become what surrounds them.")
]
MostFailed = Annotated[
    str,
    AfterValidator(_few_enough),
    told("Records of a data set that may fail before a training: a count (3) or a share (10%)."),
]
Analyses = Annotated[list[Path], told("JSON files that `holter-edge analyse` wrote.")]
Bounds = Annotated[Path, told("The bounds, a TOML; those that come with the project are a start.")]
Seen = Annotated[list[str], told("Data sets to hold against the training: names, or TOMLs.")]
