"""`holter train`: one data set for a network of single beats, any number for a rhythm network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.options import SOME_RECORDS_FAILED, Model, Paradigm, Policy, Seed, folders_of, serving
from flows.progress import console


def train(
    dataset: Annotated[list[str], typer.Argument(help="Data sets: names, or paths of TOMLs.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of each data set, in the same order; else those of the TOMLs."),
    ] = None,
    model: Model = "resnet21",
    paradigm: Paradigm = "interpatient",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Default: 100 for single beats, 20 for whole records.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Default: 1e-4 for single beats, 6e-3 for whole records.")
    ] = None,
    seed: Seed = 0,
    policy: Policy = "consensus",
    weight: Annotated[
        list[float] | None, typer.Option(help="Whole records: how often each data set is drawn.")
    ] = None,
    balance: Annotated[
        str, typer.Option(help="Whole records: draw windows evenly by beats, patient or class.")
    ] = "beats",
    most_beats: Annotated[
        int, typer.Option(min=0, help="Single beats: at most this many training beats; 0: all.")
    ] = 0,
    patience: Annotated[
        int,
        typer.Option(min=0, help="Stop after so many epochs without gain; 0: never."),
    ] = 0,
    sparsity: Annotated[
        float,
        typer.Option(min=0, max=0.99, help="Share of the weights pruned while training; 0: none."),
    ] = 0.0,
    quantised: Annotated[
        bool, typer.Option("--quantised", help="Train under the rounding that int8 brings.")
    ] = False,
    teacher: Annotated[
        str | None,
        typer.Option(help="Learn from its answers too: NAME@alias, NAME/version or NAME."),
    ] = None,
    teacher_weight: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of the teacher in the loss.")
    ] = 0.5,
    temperature: Annotated[
        float, typer.Option(min=1, help="Softens the teacher's and the student's answers.")
    ] = 1.0,
    signal: Annotated[
        bool, typer.Option(help="Whole records: --no-signal learns from annotations alone.")
    ] = True,
) -> None:
    """Train and register a network; beat tables that are unchanged are used as they are."""
    from tasks.sequence import reads_records

    whole_records = reads_records(model)
    given = {"learning_rate": learning_rate, "epochs": epochs}
    shared: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    shared |= {"patience": patience, "sparsity": sparsity, "quantised": quantised}
    shared |= {"seed": seed, "policy": policy, "teacher": teacher}
    shared |= {"teacher_weight": teacher_weight, "temperature": temperature}
    if not whole_records and len(dataset) > 1:
        raise ValueError(f"{model} learns from one data set at a time; found {', '.join(dataset)}")
    if whole_records and paradigm != "interpatient":
        raise ValueError(f"{model} reads whole records: its split can only be interpatient")
    if whole_records and most_beats:
        raise ValueError(f"{model} reads whole records: --most-beats is for single beats")
    folders = folders_of(dataset, data)
    with serving():
        if whole_records:
            from flows.train_rhythm import train_rhythm

            done = train_rhythm(
                datasets=dataset,
                data=folders,
                model=model,
                weights=weight,
                balance=balance,
                signal=signal,
                **shared,
            )
        else:
            from flows.train import train as flow

            done = flow(
                dataset=dataset[0],
                data=folders[0],
                model=model,
                paradigm=paradigm,
                most_beats=most_beats,
                **shared,
            )
    console.print(f"Registered {done.version.name} version {done.version.version} (candidate).")
    if done.ingested.failed:
        raise typer.Exit(SOME_RECORDS_FAILED)
