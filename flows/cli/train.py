"""`holter train`: any network, on any number of data sets."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.options import (
    Balance,
    Datasets,
    Folders,
    Model,
    MostFailed,
    Paradigm,
    Policy,
    Seed,
    Signals,
    TeacherVersion,
    TeacherWeight,
    Temperature,
    UsualEpochs,
    UsualRate,
    Weights,
    exit_for,
    number,
    serving,
)
from flows.services.progress import console
from flows.train.kinds import fitting
from storage.bounds import MOST_FAILED


def train(
    dataset: Datasets,
    data: Folders = None,
    model: Model = "resnet21",
    paradigm: Paradigm = "interpatient",
    epochs: UsualEpochs = None,
    learning_rate: UsualRate = None,
    seed: Seed = 0,
    policy: Policy = "consensus",
    weight: Weights = None,
    balance: Balance = "beats",
    most_beats: Annotated[
        int, number("most_beats", "Single beats: at most this many training beats; 0: all.")
    ] = 0,
    patience: Annotated[
        int, number("patience", "Stop after so many epochs without gain; 0: never.")
    ] = 0,
    averaged: Annotated[
        float | None,
        number(
            "averaged",
            "Whole records: average the weights of this share of the epochs, the last ones. "
            "Default: 0.5 for fused, 0 for the rhythm, early stopping and pruning.",
        ),
    ] = None,
    sparsity: Annotated[
        float, number("sparsity", "Share of the weights pruned while training; 0: none.")
    ] = 0.0,
    quantised: Annotated[
        bool, typer.Option("--quantised", help="Train under the rounding that int8 brings.")
    ] = False,
    teacher: TeacherVersion = None,
    teacher_weight: TeacherWeight = 0.5,
    temperature: Temperature = 1.0,
    signal: Signals = None,
    most_failed: MostFailed = MOST_FAILED,
) -> None:
    """Train and register a network; beat tables that are unchanged are used as they are."""
    how = fitting(
        model,
        paradigm=paradigm,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        policy=policy,
        weights=weight,
        balance=balance,
        most_beats=most_beats,
        patience=patience,
        averaged=averaged,
        sparsity=sparsity,
        quantised=quantised,
        teacher=teacher,
        teacher_weight=teacher_weight,
        temperature=temperature,
        signal=signal,
        most_failed=most_failed,
    )
    from flows.ingest.folders import folders_of

    folders = folders_of(dataset, data, weight, signal)
    with serving(teacher):
        from flows.train.flow import train_network

        done = train_network(dataset, folders, model, **how)
    console.print(f"Registered {done.version.name} version {done.version.version} (candidate).")
    exit_for(done.ingested)
