"""The settings of trainings, of single beats and of whole records, and of what goes with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias, TypeVar

from pydantic import (
    Discriminator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    model_validator,
)
from pydantic_core import core_schema

from flows.ingest.folders import POLICY, DatasetSettings, resolve_folders
from flows.settings import Choice, Settings, same, setting, valid, validator_of
from storage.bounds import MOST_FAILED, most_allowed
from storage.registry.reference import FORMS, check_device, check_new_name, parse
from storage.text import did_you_mean
from tasks.learning.balance import BALANCES, refuse_unless_balance
from tasks.learning.splits import PARADIGMS, refuse_unless_paradigm
from tasks.networks.models import known_models, refuse_unless_of_one_beat
from tasks.networks.sequence import reads_records
from tasks.signal.preprocessing import Policy

if TYPE_CHECKING:
    from tasks.learning.rhythm_training import RhythmConfig
    from tasks.learning.training import TrainingConfig

C = TypeVar("C")
USUAL_MODEL = "resnet21"
LOCAL_DEVICE = "this-machine"


def _networks(*, of_records: bool) -> Callable[[], list[str]]:
    return lambda: [name for name in known_models() if reads_records(name) == of_records]


def _refuse_unless_of_records(name: str) -> None:
    if not reads_records(name):
        raise ValueError(f"{name} reads one beat at a time; this trains networks of whole records")


@dataclass(frozen=True)
class Alone:
    """Why networks of the other kind do not take a setting."""

    reason: str


class Training(Settings):
    """What the trainings of every network take."""

    #: What the kind of network reads, what its settings are called, and the module of its recipe.
    reads: ClassVar[str]
    kind: ClassVar[str]
    recipe: ClassVar[str]

    datasets: tuple[DatasetSettings, ...] = setting(
        ..., "The data sets to learn from.", min_length=1
    )
    model: str = setting(..., "Network to train.")
    name: Annotated[str | None, validator_of(check_new_name)] = setting(
        None, "Name of the registered model that gains a version; left out, holter-NETWORK."
    )
    epochs: int = setting(..., "Passes over the training beats.")
    learning_rate: float | None = setting(..., "Adam's learning rate.")
    seed: int = setting(0, "Seed of the split and of the training.")
    policy: Policy = setting("consensus", POLICY)
    balance: Annotated[str, Choice(lambda: BALANCES, refuse_unless_balance)] = setting(
        "beats", "What is drawn evenly in training: beats, patient, class or dataset."
    )
    patience: int = setting(0, "Stop after so many epochs without gain; 0 never.")
    sparsity: float = setting(0.0, "Share of the weights pruned while training; 0 none.")
    quantised: bool = setting(False, "Train under the rounding that int8 brings.")
    runtime: Literal["litert-float32", "litert-int8"] | None = setting(
        None, "The arithmetic that is scored and that devices run; left out, the quickest."
    )
    teacher: Annotated[str | None, validator_of(parse)] = setting(
        None, f"Registered version whose answers it learns from too: {FORMS}; left out, none."
    )
    teacher_weight: float | None = setting(None, "Share of the teacher in the loss; left out, 0.5.")
    temperature: float | None = setting(
        None, "Softens the teacher's and the student's answers; left out, 1."
    )
    most_failed: Annotated[str, validator_of(lambda text: most_allowed(text, 0))] = setting(
        MOST_FAILED,
        "Records of a data set that may fail: a count (3) or a share (10%); else no training.",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        """Refuse what is for the other kind of network; its usual value changes nothing."""
        if not isinstance(values, dict):
            return values
        foreign = {
            name: field
            for kind in KINDS
            for name, field in kind.model_fields.items()
            if kind != cls
        }
        own = {}
        for name, value in values.items():
            if name in cls.model_fields:
                own[name] = value
            elif name not in foreign:
                names = {*cls.model_fields, *foreign}
                raise ValueError(f"no setting named {name!r}{did_you_mean(name, names)}")
            elif value not in (foreign[name].default, None):
                (alone,) = (mark for mark in foreign[name].metadata if isinstance(mark, Alone))
                model = values.get("model", USUAL_MODEL)
                raise ValueError(f"{model} reads {cls.reads}: {alone.reason}; found {name} {value}")
        return own

    @model_validator(mode="after")
    def _check_teacher(self) -> Self:
        for name in ("teacher_weight", "temperature"):
            if self.teacher is None and getattr(self, name) is not None:
                raise ValueError(f"{name} {getattr(self, name):g}: expected a teacher beside it")
        return self

    @property
    def registered_name(self) -> str:
        """The registered model that gains a version: each has a ledger and aliases of its own."""
        return self.name or f"holter-{self.model}"

    def run_name(self, action: str) -> str:
        """The name of a run that does something with it: network, how it is split, seed."""
        paradigm = getattr(self, "paradigm", "interpatient")
        return f"{action}-{self.model}-{paradigm}-seed{self.seed}"

    @property
    def weights(self) -> list[float] | None:
        """How often each data set is drawn; none where nothing is said of any."""
        weights = [dataset.weight for dataset in self.datasets]
        return None if set(weights) == {None} else [1.0 if w is None else w for w in weights]

    @property
    def config(self) -> TrainingConfig | RhythmConfig:
        """As the training of its kind takes them."""
        raise NotImplementedError

    def check_signals(self) -> None:
        """Raise ValueError where the network needs a signal that is not to be read."""

    def read(self) -> list[DatasetSettings]:
        """The data sets with their folders, and whether signals are read.

        Raises
        ------
        SpecError
            The records of one are not where they are to be.
        ValueError
            One is named twice, or the network needs a signal that is not to be read.
        """
        return resolve_folders(self.datasets)

    def _derive(self, config: Callable[..., C], **more: Any) -> C:
        """A training's configuration, with each of its values that the settings have."""
        own = self.model_dump(include=set(signature(config).parameters))
        return config(**{**own, **more})


class BeatSettings(Training):
    """A training of a network that reads one beat at a time."""

    reads: ClassVar[str] = "one beat at a time"
    kind: ClassVar[str] = "single beats"
    recipe: ClassVar[str] = "flows.train.beats"

    model: Annotated[str, Choice(_networks(of_records=False), refuse_unless_of_one_beat)] = setting(
        USUAL_MODEL, "Network to train; a wrong name lists them all."
    )
    paradigm: Annotated[
        str,
        Choice(lambda: PARADIGMS, refuse_unless_paradigm),
        Alone("its split can only be interpatient"),
    ] = setting(
        "interpatient",
        "Whether a patient is on one side only, or on both: interpatient or intrapatient.",
    )
    epochs: int = setting(100, "Passes over the training beats.")
    learning_rate: float = setting(1e-4, "Adam's learning rate.")
    most_beats: Annotated[int, Alone("a limit of beats is for single beats")] = setting(
        0, "Learn from at most so many training beats; 0 from all."
    )

    @property
    def config(self) -> TrainingConfig:
        """As the training takes them."""
        from tasks.learning.training import TrainingConfig

        return self._derive(TrainingConfig)

    def check_signals(self) -> None:
        """Refuse a data set whose signals are not to be read."""
        if any(dataset.signal is False for dataset in self.datasets):
            raise ValueError(f"{self.model} reads {self.reads}: it needs the signal")

    def read(self) -> list[DatasetSettings]:
        """As every training's; the signals of all are read."""
        self.check_signals()
        return resolve_folders(
            [dataset.model_copy(update={"signal": True}) for dataset in self.datasets]
        )


class RecordSettings(Training):
    """A training of a network that reads whole records."""

    reads: ClassVar[str] = "whole records"
    kind: ClassVar[str] = "whole records"
    recipe: ClassVar[str] = "flows.train.records"

    model: Annotated[str, Choice(_networks(of_records=True), _refuse_unless_of_records)] = setting(
        ..., "Network to train; a wrong name lists them all."
    )
    epochs: int = setting(20, "Passes over the training beats.")
    learning_rate: float | None = setting(
        None, "Adam's learning rate; left out, 1.2e-2 for the rhythm, 6e-3 for fused."
    )
    averaged: Annotated[float | None, Alone("an average of epochs is for whole records")] = setting(
        None,
        "Average the weights of this share of the epochs, the last ones; left out, 0.5 for fused "
        "and 0 for the rhythm, early stopping and pruning.",
    )

    calibration_folds: Annotated[int, Alone("a rule is fixed for whole records")] = setting(
        0,
        "Trainings more, each without a part of the patients: threshold, calibration and what "
        "cannot be told are fixed on answers for patients left out; 0 takes the training's own.",
    )
    risk: Annotated[float, Alone("what cannot be told is for whole records")] = setting(
        0.005,
        "With calibration folds, the share of wrong answers in a patient's beats, in the mean, "
        "beyond which beats are not told.",
    )

    @property
    def config(self) -> RhythmConfig:
        """As the training takes them; rate and average are the network's usual ones where empty."""
        from tasks.learning.rhythm_training import RhythmConfig, usual_averaged, usual_rate

        rate, averaged = self.learning_rate, self.averaged
        if rate is None:
            rate = usual_rate(self.model)
        if averaged is None:
            averaged = usual_averaged(self.model, self.patience, self.sparsity)
        return self._derive(RhythmConfig, learning_rate=rate, averaged=averaged)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        self.config  # noqa: B018 - refuses an average beside early stopping or pruning
        if self.calibration_folds == 1:
            raise ValueError("calibration_folds: found 1; expected 0, or at least 2")
        if self.calibration_folds and (self.teacher or self.patience):
            reason = "a teacher knows" if self.teacher else "early stopping needs"
            raise ValueError(f"calibration folds leave patients out, whom {reason}: choose either")
        return self


class ReproduceSettings(Settings):
    """How the reference method is done again; the usual values are the method's."""

    epochs: int = same(BeatSettings, "epochs")
    most_beats: int = same(BeatSettings, "most_beats")
    learning_rate: float = same(BeatSettings, "learning_rate")
    seed: int = same(Training, "seed")
    folds: int = setting(5, "Patient folds of a repeat, beside the single split.")
    repeats: int = setting(0, "Repeats of the patient folds; 0 leaves them out.")
    workers: int = setting(2, "Trainings at a time, one thread each.")


KINDS: tuple[type[Training], ...] = (BeatSettings, RecordSettings)


def _kind(value: Any) -> str:
    """Which settings a value is of, by its network; without one it is of single beats."""
    model = value.get("model") if isinstance(value, dict) else getattr(value, "model", None)
    return "records" if str(model) in _networks(of_records=True)() else "beats"


class _Either:
    """Prefect's form knows `anyOf`, not `oneOf`."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return handler(source)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        form = handler(schema)
        return {"anyOf": form.pop("oneOf"), **form}


TrainSettings: TypeAlias = Annotated[
    Annotated[BeatSettings, Tag("beats")] | Annotated[RecordSettings, Tag("records")],
    Discriminator(_kind),
    _Either(),
]


class RetrainSettings(Settings):
    """A training, and a device's evaluation of what it registers."""

    training: TrainSettings = setting(..., "The training.")
    device: Annotated[str, validator_of(check_device)] = setting(
        LOCAL_DEVICE, "The device that evaluates; its agent must be running."
    )
    wait_s: float = setting(600.0, "How long to wait for the device's report, in seconds.")


class WatchSettings(Settings):
    """A look at the folder of a data set, and the training that is due when enough has come."""

    training: TrainSettings = setting(..., "The data set, and the training that is due.")
    quiet_s: float = setting(
        60.0, "Take a record when its files have not changed for so many seconds."
    )
    retrain_after: int = setting(
        0, "Train once so many records have come since the last training; 0 never."
    )

    @model_validator(mode="after")
    def _single(self) -> Self:
        if len(self.training.datasets) > 1:
            names = ", ".join(dataset.dataset for dataset in self.training.datasets)
            raise ValueError(f"one data set is watched at a time; found {names}")
        return self


def fields_of(model: str) -> set[str]:
    """The names of the settings that a network's training takes."""
    return set(KINDS[_kind({"model": model}) == "records"].model_fields)


def train_settings(**values: Any) -> BeatSettings | RecordSettings:
    """The settings of a training, of the kind of its network; None leaves one as it usually is.

    Raises
    ------
    ValueError
        One is unknown, out of bounds, or for the other kind of network.
    """
    present = {name: value for name, value in values.items() if value is not None}
    settings: BeatSettings | RecordSettings = valid(TrainSettings, present)
    return settings
