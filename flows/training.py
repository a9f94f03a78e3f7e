"""Either training: of single beats (`flows.train`) or of whole records (`flows.train_rhythm`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.train import Trained, train
from flows.train_rhythm import train_rhythm
from tasks.sequence import reads_records

#: What only one kind of network takes: its usual value, and why the other kind has no other.
OF_BEATS: dict[str, tuple[object, str]] = {
    "paradigm": ("interpatient", "its split can only be interpatient"),
    "most_beats": (0, "a limit of beats is for single beats"),
}
OF_RECORDS: dict[str, tuple[object, str]] = {
    "weights": (None, "it learns from one data set"),
    "balance": ("beats", "a balance is for whole records"),
    "signal": (True, "it needs the signal"),
}


def train_network(
    datasets: Sequence[str], data: Sequence[Path] | None, model: str, **options: Any
) -> Trained:
    """Train, score and register any network.

    Parameters
    ----------
    datasets : sequence of str
        Data sets; one for a network of single beats.
    data : sequence of Path, optional
        The folder of each.
    model : str
        Network to train.
    options
        Of the two flows; what is None is left to the flow.

    Raises
    ------
    ValueError
        The network is not known, or an option is for the other kind of network.
    """
    whole = reads_records(model)
    kind = "whole records" if whole else "one beat at a time"
    for name, (usual, why) in (OF_BEATS if whole else OF_RECORDS).items():
        given = options.pop(name, usual)
        if given not in (usual, None):
            raise ValueError(f"{model} reads {kind}: {why}; found {name} {given}")
    chosen = {name: value for name, value in options.items() if value is not None}
    done: Trained
    if whole:
        done = train_rhythm([*datasets], [*data] if data else None, model, **chosen)
    elif len(datasets) > 1:
        raise ValueError(f"{model} learns from one data set at a time; found {', '.join(datasets)}")
    else:
        done = train(datasets[0], data[0] if data else None, model, **chosen)
    return done
