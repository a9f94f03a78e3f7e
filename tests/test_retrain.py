"""Retraining takes any network: which training does it, with what, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows import train_rhythm, training
from flows.training import train_network
from storage.errors import HolterError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """What the two flows were asked for, in place of doing it."""
    found: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for name in ("train", "train_rhythm"):

        def note(*args: Any, _name: str = name, **options: Any) -> None:
            found.append((_name, args, options))

        monkeypatch.setattr(training, name, note)
    return found


def test_each_network_goes_to_its_training(asked: list[Any]) -> None:
    """Options that are not given are the flow's own; a teacher is passed on to either."""
    taught: dict[str, Any] = {"teacher": "holter-fused/1", "teacher_weight": 0.7}
    train_network(["a"], [Path("x")], "squeeze", paradigm="intrapatient", epochs=None, **taught)
    train_network(["a", "b"], None, "rhythm_tiny", epochs=3, signal=False, **taught)
    rhythm = {"epochs": 3, "signal": False, **taught}
    assert asked == [
        ("train", ("a", Path("x"), "squeeze"), {"paradigm": "intrapatient", **taught}),
        ("train_rhythm", (["a", "b"], None, "rhythm_tiny"), rhythm),
    ]


@pytest.mark.parametrize(
    ("model", "datasets", "options", "said"),
    [
        ("rhythm", ["a"], {"paradigm": "intrapatient"}, "split can only be interpatient"),
        ("fused", ["a"], {"most_beats": 5}, "limit of beats is for single beats"),
        ("resnet21", ["a", "b"], {}, "learns from one data set at a time; found a, b"),
        ("resnet21", ["a"], {"weights": [1.0]}, "it learns from one data set"),
        ("resnet21", ["a"], {"balance": "class"}, "balance is for whole records"),
        ("resnet21", ["a"], {"averaged": 0.5}, "an average of epochs is for whole records"),
        ("resnet21", ["a"], {"signal": False}, "needs the signal"),
        ("resnet22", ["a"], {}, "resnet2"),
    ],
)
def test_what_does_not_fit_is_refused(
    asked: list[Any], model: str, datasets: list[str], options: dict[str, Any], said: str
) -> None:
    """The error names the network and the option, and nothing is trained."""
    with pytest.raises((ValueError, HolterError), match=said):
        train_network(datasets, None, model, **options)
    assert asked == []


def test_an_average_that_cannot_be_is_refused_before_beat_tables_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hours of ingesting do not come before the error."""
    made: list[str] = []
    monkeypatch.setattr(train_rhythm, "ingest", lambda dataset, *_: made.append(dataset))
    with pytest.raises(ValueError, match="averaged without early stopping and pruning"):
        train_rhythm.train_rhythm.fn(["a"], [Path("x")], "rhythm", patience=2, averaged=0.5)
    assert made == []
