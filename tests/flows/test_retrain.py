"""Retraining takes any network: which training does it, with what, and what is refused."""

from __future__ import annotations

from math import nan
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
import typer

from flows.cli.options import SOME_RECORDS_FAILED, exit_for
from flows.ingest.flow import Ingested, Outcome
from flows.train import beats as train
from flows.train import flow as training
from flows.train import records as train_rhythm
from flows.train.flow import train_network
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
    beats: dict[str, Any] = {"paradigm": "intrapatient", "weights": [1, 2], "balance": "class"}
    beats |= taught
    train_network(["a", "b"], None, "squeeze", epochs=None, **beats)
    train_network(["a", "b"], None, "rhythm_tiny", epochs=3, signal=False, **taught)
    rhythm = {"epochs": 3, "signal": False, **taught}
    assert asked == [
        ("train", (["a", "b"], None, "squeeze"), beats),
        ("train_rhythm", (["a", "b"], None, "rhythm_tiny"), rhythm),
    ]


@pytest.mark.parametrize(
    ("model", "datasets", "options", "said"),
    [
        ("rhythm", ["a"], {"paradigm": "intrapatient"}, "split can only be interpatient"),
        ("fused", ["a"], {"most_beats": 5}, "limit of beats is for single beats"),
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
    monkeypatch.setattr(train_rhythm, "ingest_each", lambda datasets, *_: made.extend(datasets))
    with pytest.raises(ValueError, match="averaged without early stopping and pruning"):
        train_rhythm.train_rhythm.fn(["a"], [Path("x")], "rhythm", patience=2, averaged=0.5)
    assert made == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"datasets": ["mitdb", "mitdb"]}, "each data set once; found mitdb, mitdb"),
        ({"data": [Path("x")]}, "one folder or none for each data set .mitdb, afdb.; found 1"),
        ({"weights": [1.0]}, "one weight or none for each data set .mitdb, afdb.; found 1"),
        ({"weights": [1.0, 0.0]}, "weights: found 0; expected above 0"),
        ({"weights": [1.0, nan]}, "weights: found nan; expected above 0"),
        ({"balance": "beat"}, "balance by beats, patient, class; found 'beat'"),
    ],
)
@pytest.mark.parametrize("module", [train, train_rhythm])
def test_what_is_asked_of_data_sets_is_refused_before_beat_tables_are_made(
    module: ModuleType, asked: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One folder and one weight for each of them, each of them once."""
    made: list[str] = []
    monkeypatch.setattr(module, "ingest_each", lambda datasets, *_: made.extend(datasets))
    training = module.train if module is train else module.train_rhythm
    network = "squeeze" if module is train else "rhythm"
    with pytest.raises(ValueError, match=said):
        training.fn(**{"datasets": ["mitdb", "afdb"], "model": network, **asked})
    assert made == []


def test_a_record_of_any_data_set_that_failed_is_named_and_in_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second data set's too."""
    broken = Outcome("sim004", "failed", 0.0, error="record sim004: found nothing")
    whole, lacking = (cast(Ingested, SimpleNamespace(failed=failed)) for failed in ((), (broken,)))
    exit_for([whole, whole])
    with pytest.raises(typer.Exit) as left:
        exit_for([whole, lacking])
    assert left.value.exit_code == SOME_RECORDS_FAILED
    assert "record sim004: found nothing" in capsys.readouterr().err
