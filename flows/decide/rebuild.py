"""Rebuild: a version's training is done again from what its sealed chain says, apart from all else.

It runs against a state folder and an MLflow server of its own that are gone afterwards: no alias
moves, no version is added, and no beat table here is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

from flows.reports.compare import CODE
from flows.services.servers import mlflow_server
from flows.train.beats import Trained, train
from flows.train.records import train_rhythm
from flows.train.teacher import brought
from storage.audit.versions import Recorded, recorded
from storage.datasets.dataset import DatasetSpec
from storage.datasets.dataset_write import write_spec
from storage.errors import TableError
from storage.registry.model_files import LITERT, WEIGHTS
from tasks.learning.splits import FIRST_RULES, by_rule
from tasks.signal.preprocessing import Policy

BIT_EQUAL, EQUAL_FIGURES, DIFFERS = "bit-equal", "equal in figures", "differs"
#: Figures are equal within this: they are ratios of counts.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Rebuilt:
    """What came of it.

    Attributes
    ----------
    reference, outcome : str
        The version, and "bit-equal", "equal in figures" or "differs".
    changes : tuple of tuple of three str
        What is not as it was: code, environment, data; as recorded and as found.
    files : dict of str to bool
        Whether each of the model's files is equal to the byte.
    figures : dict of str to (float, float)
        Figures of the test side, as recorded and as rebuilt, that differ.
    """

    reference: str
    outcome: str
    changes: tuple[tuple[str, ...], ...]
    files: Mapping[str, bool]
    figures: Mapping[str, tuple[float, float]]


def rebuild(version: Recorded, data: Sequence[Path] = ()) -> Rebuilt:
    """Do a version's training again and compare the outcome.

    Parameters
    ----------
    version : Recorded
        The version.
    data : sequence of Path
        The folder of each data set's records; else where they were read.

    Raises
    ------
    ValueError
        Some folders are given, but not one for each data set.
    TableError
        The records are not where they were read, or the training is of a kind unknown here.
    RegistryError
        Its teacher is not in the registry any more, or is not what was sealed.
    """
    if data and len(data) != len(version.manifests):
        names = ", ".join(one.dataset for one in version.manifests)
        raise ValueError(f"give one folder for each data set ({names}); found {len(data)}")
    folders = [*data] or [Path(one.origin) for one in version.manifests]
    gone = [str(folder) for folder in folders if not folder.is_dir()]
    source = version.tags.get("mlflow.source.name", "")
    if gone or source not in TRAININGS:
        what = f"no folder {', '.join(gone)}" if gone else f"a training by {source or 'nothing'}"
        expected = "the records; give --data" if gone else f"one by {' or '.join(TRAININGS)}"
        raise TableError(f"{version.model.reference}: found {what}; expected {expected}")
    with (
        TemporaryDirectory(prefix="holter-rebuild-") as folder,
        brought(version),
        _apart(Path(folder)),
    ):
        specs = [
            str(
                write_spec(
                    Path(folder) / f"{one.dataset}.toml", DatasetSpec.model_validate(one.spec)
                )
            )
            for one in version.manifests
        ]
        made = TRAININGS[source](version, specs, folders)
        again = recorded(made.version.reference)
    return compared(version, again)


@contextmanager
def _apart(folder: Path) -> Iterator[None]:
    """A state folder and an MLflow server of its own."""
    with mlflow_server(folder) as address:
        own = {"HOLTER_HOME": str(folder / "home"), "MLFLOW_TRACKING_URI": address}
        names = (*own, "HOLTER_BEATS")
        before = {name: os.environ.get(name) for name in names}
        os.environ.update(own)
        os.environ.pop("HOLTER_BEATS", None)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


class Shared(TypedDict):
    """Options that both trainings share."""

    datasets: list[str]
    data: list[Path]
    model: str
    weights: list[float] | None
    balance: str
    epochs: int
    learning_rate: float
    seed: int
    policy: Policy
    patience: int
    sparsity: float
    quantised: bool
    teacher: str | None
    teacher_weight: float
    temperature: float
    most_failed: str


def _shared(version: Recorded, specs: Sequence[str], folders: Sequence[Path]) -> Shared:
    """As recorded; a version from before some of them has none."""
    said = version.params
    weights = said.get("weights", "")
    return {
        "datasets": [*specs],
        "data": [*folders],
        "model": said["model"],
        "weights": [float(one) for one in weights.split(",")] if weights else None,
        "balance": said.get("balance", "beats"),
        "epochs": int(said["epochs"]),
        "learning_rate": float(said["learning_rate"]),
        "seed": int(said["seed"]),
        "policy": version.manifests[0].preprocessing["policy"],
        "patience": int(said.get("patience", 0)),
        "sparsity": float(said.get("sparsity", 0)),
        "quantised": said.get("quantised") == "True",
        "teacher": said.get("teacher"),
        "teacher_weight": float(said.get("teacher_weight", 0.5)),
        "temperature": float(said.get("temperature", 1)),
        "most_failed": "100%",  # beat tables that are missing are told where the two are compared
    }


def _of_beats(version: Recorded, specs: Sequence[str], folders: Sequence[Path]) -> Trained:
    said = version.params
    return train(
        paradigm=by_rule(said["paradigm"], said.get("split_rule", "")),
        most_beats=int(said.get("most_beats", 0)),
        **_shared(version, specs, folders),
    )


def _of_rhythm(version: Recorded, specs: Sequence[str], folders: Sequence[Path]) -> Trained:
    return train_rhythm(
        averaged=float(version.params.get("averaged", 0)),
        signal=[manifest.has_signal for manifest in version.manifests],
        **_shared(version, specs, folders),
    )


#: How each training is done again, by the module that did it: of today, and before 0.2.0.
TRAININGS: dict[str, Callable[[Recorded, Sequence[str], Sequence[Path]], Trained]] = {
    "flows/train/beats.py": _of_beats,
    "flows/train/records.py": _of_rhythm,
    "flows/train.py": _of_beats,
    "flows/train_rhythm.py": _of_rhythm,
}


def compared(version: Recorded, again: Recorded) -> Rebuilt:
    """What is the same of two versions that were to be the same, and what explains the rest."""
    sides = (version, again)
    changes: list[tuple[str, ...]] = [
        (said, *(_short(one.tags.get(tag)) for one in sides))
        for tag, said in CODE.items()
        if version.tags.get(tag) != again.tags.get(tag)
    ]
    before, after = (_with_rule(one.params) for one in sides)
    changes += [
        (f"parameter {name}", _short(before.get(name)), _short(after.get(name)))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]
    tables = [
        {f"{m.dataset}/{e.record}": e.sha256 for m in one.manifests for e in m.entries}
        for one in sides
    ]
    changes += [
        (f"beat table {name}", *(_short(one.get(name)) for one in tables))
        for name in dict.fromkeys([*tables[0], *tables[1]])
        if tables[0].get(name) != tables[1].get(name)
    ]
    files = {name: version.files[name] == again.files[name] for name in (LITERT, WEIGHTS)}
    figures = {
        name: (value, again.metrics.get(name, float("nan")))
        for name, value in version.metrics.items()
        if name.startswith("test_")
        and not abs(value - again.metrics.get(name, float("nan"))) <= TOLERANCE
    }
    outcome = BIT_EQUAL if files[LITERT] else DIFFERS if figures else EQUAL_FIGURES
    return Rebuilt(version.model.reference, outcome, tuple(changes), files, figures)


def _with_rule(params: Mapping[str, str]) -> dict[str, str]:
    """Parameters of a training; its split's rule is the paradigm's first where it names none."""
    return {"split_rule": FIRST_RULES.get(params.get("paradigm", ""), ""), **params}


def _short(value: Any) -> str:
    return "-" if value in (None, "") else str(value)[:16]
