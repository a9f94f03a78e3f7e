"""The settings of a cross-validation: who is tested by whom, and how the networks learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import model_validator

from flows.ingest.folders import DatasetSettings, data_sets, resolve_folders
from flows.settings import Settings, same, setting, validator_of
from flows.train.settings import RecordSettings, Training
from tasks.learning.folds import DATASET, refuse_unless_fold_rule
from tasks.signal.preprocessing import Policy

if TYPE_CHECKING:
    from tasks.learning.rhythm_training import RhythmConfig

#: What says of each data set how it is used: those tested first, then those beside.
ORDER = "One for each data set, those tested first."


class CrossValidationSettings(Settings):
    """Folds of patients, each answered by a network that learnt from all the others."""

    network: str = same(RecordSettings, "model")
    on: list[str] = setting([], "Data set whose patients are tested, by name or TOML; repeatable.")
    beside: list[str] = setting(
        [], "Data set that every network learns from too, never tested; repeatable."
    )
    fold_rule: Annotated[str, validator_of(refuse_unless_fold_rule)] = setting(
        "5", "How many folds of patients; patient leaves one out at a time, dataset one data set."
    )
    seed: list[int] = setting([0], "Seed of folds and trainings; repeatable.", min_length=1)
    patients: list[str] = setting(
        [], "Test this patient alone, DATASET/NAME or NAME; repeatable. The others are learnt from."
    )
    data: list[Path] = setting([], f"Folder of its records; else that of its TOML. {ORDER}")
    weight: list[float] = setting([], f"How often it is drawn against the others. {ORDER}")
    signal: list[bool] = setting(
        [], f"Off reads annotations alone; else as its TOML says. Once for all of them, or: {ORDER}"
    )
    policy: Policy = same(Training, "policy")
    balance: str = same(Training, "balance")
    epochs: int = same(RecordSettings, "epochs")
    steps: int = setting(150, "Optimiser steps of an epoch.")
    simulated: int = setting(16, "Simulated sinus records drawn beside the real ones.")
    learning_rate: float | None = same(RecordSettings, "learning_rate")
    averaged: float | None = same(RecordSettings, "averaged")
    sparsity: float = same(Training, "sparsity")
    quantised: bool = same(Training, "quantised")
    risk: float = same(RecordSettings, "risk")
    most_failed: str = same(Training, "most_failed")
    workers: int = setting(1, "Folds at a time, each in a process of one thread.")

    @property
    def datasets(self) -> tuple[DatasetSettings, ...]:
        """The data sets, those tested first."""
        columns = {name: getattr(self, name) for name in ("data", "weight", "signal")}
        return data_sets([*self.on, *self.beside], **columns)

    @property
    def training(self) -> RecordSettings:
        """What a training of the same network would be told."""
        own = self.model_dump(include={*RecordSettings.model_fields} - {"datasets", "seed"})
        return RecordSettings(datasets=self.datasets, model=self.network, **own)

    def config(self, seed: int) -> RhythmConfig:
        """How the networks of a seed learn."""
        config = self.training.config
        return replace(config, seed=seed, steps=self.steps, simulated=self.simulated)

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if not self.on:
            raise ValueError("on: found no data set; expected those whose patients are tested")
        self.training.config  # noqa: B018 - refuses columns that are not one for each data set
        for name in ("seed", "patients"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: found {', '.join(map(str, values))}; expected each once")
        if self.patients and self.fold_rule == DATASET:
            raise ValueError("folds of whole data sets test every patient: leave patients out")
        return self

    def read(self) -> list[DatasetSettings]:
        """The data sets with their folders, and whether signals are read.

        Raises
        ------
        SpecError
            The records of one are not where they are to be.
        ValueError
            One is named twice.
        """
        return resolve_folders(self.datasets)
