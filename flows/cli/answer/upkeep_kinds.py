"""What `holter gc` and `data remove` answer; `backup` and `restore` give values of their own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UpkeepItem:
    """A thing that may go: the reason why it stays is "" for one that goes."""

    kind: str
    name: str
    bytes: int
    reason: str


@dataclass(frozen=True)
class KeptRun:
    """A flow run that stays, and why."""

    run_id: str
    name: str
    reason: str


@dataclass(frozen=True)
class UpkeepRun:
    """A run of MLflow, the bytes of its artifacts if known, and why it stays: "" where it goes."""

    run_id: str
    name: str
    bytes: int | None
    reason: str


@dataclass(frozen=True)
class CleanUp:
    """`holter gc`: what goes, or has gone where `removed`; `prefect_bytes` is None if unknown.

    `mlflow_for_good` is the command that removes MLflow's deleted runs for good.
    """

    removed: bool
    keep_days: float
    items: list[UpkeepItem]
    bytes: int
    prefect_runs: int
    prefect_bytes: int | None
    kept_runs: list[KeptRun]
    prefect_database_shrunk: int
    mlflow_runs: list[UpkeepRun]
    mlflow_for_good: str
    not_looked_at: str
    unreadable: list[str]


@dataclass(frozen=True)
class DataRemoval:
    """`holter data remove`: what goes, or has gone where `removed`, and recordings as asked."""

    removed: bool
    data_set: str
    items: list[UpkeepItem]
    recordings: int
    recordings_bytes: int
    kept_recordings: list[str]
    notes: list[str]
