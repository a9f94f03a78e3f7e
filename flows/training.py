"""Either training: of single beats (`flows.train`) or of whole records (`flows.train_rhythm`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.kinds import fitting
from flows.train import Trained, train
from flows.train_rhythm import train_rhythm
from tasks.sequence import reads_records


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
        As `flows.kinds.fitting`, of the two flows.
    """
    chosen = fitting(model, datasets, **options)
    done: Trained
    if reads_records(model):
        done = train_rhythm([*datasets], [*data] if data else None, model, **chosen)
    else:
        done = train(datasets[0], data[0] if data else None, model, **chosen)
    return done
