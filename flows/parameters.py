"""What the flows share: parameters with a description, bounds and choices for Prefect's form.

Prefect reads a description only from a Google docstring, and puts it over the one of a `Field`;
what `json_schema_extra` holds it leaves alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from prefect.runtime import flow_run
from pydantic import Field

from storage.dataset import load_spec
from storage.errors import HolterError
from tasks import preprocessing
from tasks.balance import BALANCES
from tasks.models import available_models, known_models
from tasks.splits import PARADIGMS


def told(description: str, **more: Any) -> Any:
    """The field of a parameter: what it says in the form, what may be chosen, its bounds.

    The flows check values themselves, with an error of ours that names what there is.
    """
    return Field(json_schema_extra={"description": description, **more})


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
Version = Annotated[str, told("Registered model: NAME@alias, NAME/version, or NAME (its newest).")]
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
Epochs = Annotated[int, told("Passes over the training beats.", minimum=1)]
UsualEpochs = Annotated[
    int | None,
    told("Passes over the training beats; left empty, what the kind of network usually takes."),
]
MostBeats = Annotated[
    int, told("Learn from at most so many training beats; 0 from all.", minimum=0)
]
Patience = Annotated[int, told("Stop after so many epochs without gain; 0 never.", minimum=0)]
Sparsity = Annotated[
    float,
    told("Share of the weights pruned while training; 0 none.", minimum=0, exclusiveMaximum=1),
]
Quantised = Annotated[bool, told("Train under the rounding that int8 brings.")]
TeacherVersion = Annotated[
    str | None, told("Registered version to learn from: NAME@alias, NAME/version, NAME; or none.")
]
TeacherWeight = Annotated[
    float, told("Share of the teacher in the loss.", exclusiveMinimum=0, maximum=1)
]
Temperature = Annotated[float, told("Softens the teacher's and the student's answers.", minimum=1)]
Rate = Annotated[float, told("Adam's learning rate.", exclusiveMinimum=0)]
UsualRate = Annotated[
    float | None, told("Adam's learning rate; left empty, what the kind of network usually takes.")
]
UsualAveraged = Annotated[
    float | None,
    told(
        "Share of the epochs, the last ones, whose weights are averaged; 0 takes the last epoch's; "
        "left empty, what the network usually takes.",
        minimum=0,
        maximum=1,
    ),
]
Seed = Annotated[int, told("Seed of the split and of the training.", minimum=0)]
Balance = Annotated[str, told("What is drawn evenly in training.", enum=list(BALANCES))]
Weights = Annotated[
    list[float] | None, told("How often each data set is drawn; left empty, alike.")
]
Device = Annotated[str, told("The device that evaluates; its agent must be running.")]
Wait = Annotated[
    float, told("How long to wait for the device's report, in seconds.", exclusiveMinimum=0)
]
Quiet = Annotated[
    float, told("Take a record when its files have not changed for so many seconds.", minimum=0)
]
Due = Annotated[
    int, told("Train once so many records have come since the last training; 0 never.", minimum=0)
]
Analyses = Annotated[list[Path], told("JSON files that `holter-edge analyse` wrote.")]
Bounds = Annotated[Path, told("The bounds, a TOML; those that come with the project are a start.")]
Seen = Annotated[list[str], told("Data sets to hold against the training: names, or TOMLs.")]
