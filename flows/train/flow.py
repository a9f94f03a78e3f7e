"""Either training: of single beats (`flows.train.beats`) or of whole records
(`flows.train.records`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.train.beats import Trained, train
from flows.train.kinds import fitting
from flows.train.records import train_rhythm
from tasks.networks.sequence import reads_records


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
        As `flows.train.kinds.fitting`, of the two flows.
    """
    training = train_rhythm if reads_records(model) else train
    done: Trained = training(
        [*datasets], [*data] if data else None, model, **fitting(model, **options)
    )
    return done
