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
        Data sets.
    data : sequence of Path, optional
        The folder of each.
    model : str
        Network to train.
    options
        As `flows.kinds.fitting`, of the two flows.
    """
    training = train_rhythm if reads_records(model) else train
    done: Trained = training(
        [*datasets], [*data] if data else None, model, **fitting(model, **options)
    )
    return done
