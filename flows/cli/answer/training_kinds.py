"""What trainings and evaluations answer."""

from __future__ import annotations

from dataclasses import dataclass

from flows.cli.answer.data_kinds import Ingest, Remark

#: Figures by their names in `tasks.pages.numbers`; an undefined one is None.
Figures = dict[str, float | None]


@dataclass(frozen=True)
class Training:
    """`holter train`: the version, its figures on the test side, and where to look at it."""

    model: str
    version: int
    run_id: str
    title: str
    caveat: str
    figures: Figures
    links: dict[str, str]
    commands: list[str]
    ingests: list[Ingest]


@dataclass(frozen=True)
class Retraining:
    """`holter retrain` and `holter run`: the training, and a device's figures."""

    training: Training
    device: str
    device_figures: Figures


@dataclass(frozen=True)
class Look:
    """`holter data watch`: one look, a line of JSON each."""

    ingests: list[Ingest]
    tables: list[str]
    waiting: list[Remark]
    training: Training | None


@dataclass(frozen=True)
class Evaluation:
    """`holter evaluate`: figures by data set, the report, and where to look at it."""

    model: str
    run_id: str
    figures: dict[str, Figures]
    report: str
    links: dict[str, str]
    ingests: list[Ingest]


@dataclass(frozen=True)
class RecordLeftOut:
    """A record that is no part of a test: of which, QRS or AF or both, and why."""

    record: str
    test: str
    reason: str


@dataclass(frozen=True)
class Ec57:
    """`holter ec57`: gross figures and averages, what is left out, and the files of the tables."""

    model: str
    data_set: str
    run_id: str
    figures: Figures
    left_out: list[RecordLeftOut]
    notes: list[str]
    files: list[str]
    links: dict[str, str]
    ingest: Ingest


@dataclass(frozen=True)
class FoldState:
    """A fold: who was tested, of how many it learnt, and how its answers are decided."""

    seed: int
    fold: int
    patients: list[str]
    learnt_patients: int
    threshold: float
    smoothing_change: float
    margin: float


@dataclass(frozen=True)
class CrossValidation:
    """`holter cross-validate`: figures by data set and seed, their means, the folds, the report."""

    network: str
    run_id: str
    figures: dict[str, dict[int, Figures]]
    means: dict[str, Figures]
    folds: list[FoldState]
    report: str
    links: dict[str, str]
    ingests: list[Ingest]


@dataclass(frozen=True)
class Reproduction:
    """The published method's experiment on one data set."""

    data_set: str
    report: str
    run_id: str
    run: str
    ingest: Ingest


@dataclass(frozen=True)
class Reproductions:
    """`holter reproduce`: one result for each data set."""

    reproductions: list[Reproduction]
