"""Rebuild: a version's training is done again from what its sealed chain says, apart from all else.

It runs against a state folder and an MLflow server of its own that are gone afterwards: no alias
moves, no version is added, and no beat table here is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.ingest.folders import data_sets
from flows.reports.compare import CODE
from flows.services.servers import mlflow_server
from flows.train.flow import train
from flows.train.kept_sides import keep_sides
from flows.train.settings import TrainSettings, fields_of, train_settings
from flows.train.teacher import keep_teacher
from storage.audit.versions import VersionRecord, read_version
from storage.datasets.dataset import DatasetSpec
from storage.datasets.dataset_write import write_spec
from storage.errors import TableError
from storage.registry.model_files import LITERT, WEIGHTS
from tasks.learning.splits import FIRST_RULES, SEALED_SIDES, by_rule
from tasks.networks.sequence import reads_records

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


def rebuild(version: VersionRecord, data: Sequence[Path] = ()) -> Rebuilt:
    """Do a version's training again and compare the outcome.

    Parameters
    ----------
    version : VersionRecord
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
        names = ", ".join(manifest.dataset for manifest in version.manifests)
        raise ValueError(f"give one folder for each data set ({names}); found {len(data)}")
    folders = [*data] or [Path(manifest.origin) for manifest in version.manifests]
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    source = version.tags.get("mlflow.source.name", "")
    if missing or source not in SOURCES:
        problem = (
            f"no folder {', '.join(missing)}" if missing else f"a training by {source or 'nothing'}"
        )
        expected = "the records; give --data" if missing else f"one by {' or '.join(SOURCES)}"
        raise TableError(f"{version.model.reference}: found {problem}; expected {expected}")
    with (
        TemporaryDirectory(prefix="holter-rebuild-") as folder,
        keep_teacher(version),
        _apart(Path(folder)),
    ):
        specs = [
            str(
                write_spec(
                    Path(folder) / f"{manifest.dataset}.toml",
                    DatasetSpec.model_validate(manifest.spec),
                )
            )
            for manifest in version.manifests
        ]
        with keep_sides(version.split) if keeps_sides(version) else nullcontext():
            result = train(settings_of(version, specs, folders))
        again = read_version(result.version.reference)
    return compare_versions(version, again)


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


#: Modules that trained what can be built again: today's, and those of before 0.2.0.
SOURCES = (
    "flows/train/beats.py",
    "flows/train/records.py",
    "flows/train.py",
    "flows/train_rhythm.py",
)
#: Parameters by the names that they had before 0.2.0.
RENAMED = {"weights": "weight"}
#: Settings that say when a training is refused, not what comes of it.
ASIDE = ("most_failed",)


def params_of(version: VersionRecord) -> dict[str, str]:
    """A version's parameters, by the names that they have today."""
    params = {RENAMED.get(name, name): value for name, value in version.params.items()}
    policy = version.manifests[0].preprocessing.get("policy", "")
    kept_params = {name: value for name, value in params.items() if name not in ASIDE}
    return {"policy": policy, **kept_params}


def keeps_sides(version: VersionRecord) -> bool:
    """Whether a version's sides are those of another, which no seed deals again."""
    return version.params.get("split_rule") == SEALED_SIDES


def settings_of(
    version: VersionRecord, specs: Sequence[str], folders: Sequence[Path]
) -> TrainSettings:
    """The settings of a version's training; what a version does not say is as it is usually.

    Parameters
    ----------
    version : VersionRecord
        The version.
    specs : sequence of str
        The TOMLs of its data sets.
    folders : sequence of Path
        The folders of their records.
    """
    params = params_of(version)
    whole = reads_records(params["model"])
    columns = {
        "data": folders,
        "weight": [float(text) for text in params.pop("weight", "").split(",") if text],
        "signal": [manifest.has_signal for manifest in version.manifests] if whole else None,
    }
    fields = fields_of(params["model"])
    values = {name: value for name, value in params.items() if name in fields}
    if whole:
        values.setdefault("averaged", "0")  # the usual one is of later versions
    else:
        values["paradigm"] = by_rule(values["paradigm"], params.get("split_rule", ""))
    return train_settings(
        **values,
        datasets=data_sets(specs, **columns),
        most_failed="100%",  # beat tables that are missing are told where the two are compared
    )


def compare_versions(version: VersionRecord, again: VersionRecord) -> Rebuilt:
    """What is the same of two versions that were to be the same, and what explains the rest."""
    sides = (version, again)
    changes: list[tuple[str, ...]] = [
        (description, *(_short(side.tags.get(tag)) for side in sides))
        for tag, description in CODE.items()
        if version.tags.get(tag) != again.tags.get(tag)
    ]
    before, after = (_with_rule(params_of(side)) for side in sides)
    changes += [
        (f"parameter {name}", _short(before.get(name)), _short(after.get(name)))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]
    tables = [
        {f"{m.dataset}/{e.record}": e.sha256 for m in side.manifests for e in m.entries}
        for side in sides
    ]
    changes += [
        (f"beat table {name}", *(_short(table.get(name)) for table in tables))
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
