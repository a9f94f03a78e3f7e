"""Retraining takes any network: which training does it, with what, and what is refused."""

from __future__ import annotations

from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer

from flows.cli.options import SOME_RECORDS_FAILED, exit_for
from flows.ingest.flow import IngestResult, Outcome
from flows.ingest.folders import data_sets
from flows.train import flow
from flows.train.settings import BeatSettings, RecordSettings, train_settings

DATASETS = data_sets(["a", "b"])


def test_each_network_has_its_settings() -> None:
    """Options that are not given are as they usually are; a teacher is taken by either."""
    taught: dict[str, Any] = {"teacher": "holter-fused/1", "teacher_weight": 0.7}
    weighed = data_sets(["a", "b"], weight=[1, 2])
    beats = train_settings(
        datasets=weighed,
        model="squeeze",
        epochs=None,
        paradigm="intrapatient",
        balance="class",
        **taught,
    )
    alone = data_sets(["a", "b"], signal=False)
    records = train_settings(datasets=alone, model="rhythm_tiny", epochs=3, **taught)
    assert isinstance(beats, BeatSettings)
    assert (beats.epochs, beats.paradigm, beats.weights) == (100, "intrapatient", [1, 2])
    assert isinstance(records, RecordSettings)
    assert (records.epochs, records.teacher, records.teacher_weight) == (3, "holter-fused/1", 0.7)
    assert [one.signal for one in records.datasets] == [False, False]
    assert train_settings(datasets=DATASETS) == BeatSettings(datasets=DATASETS)


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("rhythm", {"paradigm": "intrapatient"}, "split can only be interpatient"),
        ("fused", {"most_beats": 5}, "limit of beats is for single beats"),
        ("resnet21", {"averaged": 0.5}, "an average of epochs is for whole records"),
        ("resnet21", {"datasets": data_sets(["a"], signal=False)}, "needs the signal"),
        ("resnet22", {}, "resnet2"),
        ("resnet21", {"epoch": 3}, r"no setting named 'epoch' \(did you mean 'epochs'\?\)"),
        ("rhythm", {"teacher_weight": 0.5}, "teacher_weight 0.5: expected a teacher beside it"),
        ("resnet21", {"temperature": 2}, "temperature 2: expected a teacher beside it"),
    ],
)
def test_what_does_not_fit_is_refused(model: str, options: dict[str, Any], said: str) -> None:
    """The error names the network and the option."""
    with pytest.raises(ValueError, match=said):
        train_settings(**{"datasets": DATASETS, "model": model, **options}).check_signals()


def test_what_is_usual_is_taken_of_the_other_kind() -> None:
    """A form or a command may send what changes nothing."""
    beats = {"paradigm": "interpatient", "most_beats": 0}
    assert train_settings(datasets=DATASETS, model="rhythm", **beats).model == "rhythm"


def test_an_average_that_cannot_be_is_refused_before_beat_tables_are_made() -> None:
    """Hours of ingesting do not come before the error."""
    with pytest.raises(ValueError, match="averaged without early stopping and pruning"):
        train_settings(datasets=DATASETS, model="rhythm", patience=2, averaged=0.5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"names": ["mitdb", "mitdb"]}, "each data set once; found mitdb, mitdb"),
        ({"data": [Path("x")]}, "one folder or none for each data set .mitdb, afdb.; found 1"),
        ({"weight": [1.0]}, "one weight or none for each data set .mitdb, afdb.; found 1"),
        ({"weight": [1.0, 0.0]}, "weight: found 0; expected above 0"),
        ({"weight": [1.0, nan]}, "weight: found nan; expected above 0"),
        ({"balance": "beat"}, "balance by beats, patient, class, dataset; found 'beat'"),
    ],
)
@pytest.mark.parametrize("model", ["squeeze", "rhythm"])
def test_what_is_asked_of_data_sets_is_refused_before_beat_tables_are_made(
    model: str, asked: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One folder and one weight for each of them, each of them once."""
    made: list[str] = []
    monkeypatch.setattr(flow, "ingest_data_sets", lambda datasets, *_: made.extend(datasets))

    def training(names: list[str], balance: str = "beats", **columns: Any) -> None:
        sets = data_sets(names, **columns)
        flow.train.fn(train_settings(datasets=sets, model=model, balance=balance))

    with pytest.raises(ValueError, match=said):
        training(**{"names": ["mitdb", "afdb"], **asked})
    assert made == []


def test_a_record_of_any_data_set_that_failed_is_named_and_in_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second data set's too."""
    broken = Outcome("sim004", "failed", 0.0, error="record sim004: found nothing")
    whole, lacking = (
        cast(IngestResult, SimpleNamespace(failed=failed)) for failed in ((), (broken,))
    )
    exit_for([whole, whole])
    with pytest.raises(typer.Exit) as left:
        exit_for([whole, lacking])
    assert left.value.exit_code == SOME_RECORDS_FAILED
    assert "record sim004: found nothing" in capsys.readouterr().err
