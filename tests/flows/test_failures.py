"""Records that failed are told wherever a flow is seen, and a training stops beyond a bound."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import State

from flows.ingest import flow as ingest
from flows.ingest.failures import MOST_REASONS, naming_failed, refuse_beyond, tally, telling
from flows.ingest.flow import IngestResult, Outcome, RecordFailedError
from flows.ingest.folders import data_sets
from flows.train import settings
from flows.train.flow import train
from flows.train.settings import train_settings
from storage.errors import SplitError, TooManyFailed


def made(failed: int, records: int, dataset: str = "ward7") -> IngestResult:
    """An ingest, some records of which failed."""
    outcomes = [
        Outcome(f"r{n}", "failed", 0.0, error=f"record r{n}: found nothing")
        if n < failed
        else Outcome(f"r{n}", "built", 0.1)
        for n in range(records)
    ]
    manifest: Any = SimpleNamespace(dataset=dataset)
    return IngestResult(Path("manifest.json"), manifest, tuple(outcomes))


def state_of(value: object, *of: IngestResult) -> State[Any]:
    """What a flow hands to Prefect."""
    state: Any = telling(value, of)
    assert isinstance(state, State)
    return state


def test_a_flow_says_how_many_records_failed() -> None:
    """Its state is completed, named by the count over all data sets, and tells the reasons."""
    state = state_of("value", made(1, 4), made(2, 6, "mitdb"))
    assert state.is_completed()
    assert state.name == "3 of 10 records failed"
    assert str(state.message).startswith("3 of 10 records failed: record r0: found nothing; ")
    assert state.data == "value"


def test_a_flow_without_failures_says_nothing_of_them() -> None:
    """Its state is the usual one."""
    assert telling("value", [made(0, 4), made(0, 6)]) == "value"


def test_of_many_failures_some_are_told() -> None:
    """The message stays a sentence."""
    message = str(state_of("value", made(MOST_REASONS + 3, 100)).message)
    assert message.count("found nothing") == MOST_REASONS
    assert message.endswith("; and 3 more")


@pytest.mark.parametrize(
    ("most", "failed", "refused"),
    [("2", 2, False), ("2", 3, True), ("20%", 2, False), ("20%", 3, True), ("0", 1, True)],
)
def test_more_failures_than_are_taken_stop_a_training(
    most: str, failed: int, refused: bool
) -> None:
    """The bound is each data set's; the error tells how many, the bound, and why."""
    if not refused:
        refuse_beyond(most, made(failed, 10))
        return
    with pytest.raises(TooManyFailed, match=tally(failed, 10)) as raised:
        refuse_beyond(most, made(failed, 10))
    assert f"expected at most {most} (most_failed): record r0: found nothing" in str(raised.value)


@pytest.mark.parametrize("model", ["squeeze", "rhythm"])
def test_a_training_stops_before_it_starts(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound no beat is read, and the next data set's records are not either."""
    asked: list[str] = []

    def ingested(dataset: str, *_: object) -> IngestResult:
        asked.append(dataset)
        return made(6, 10, dataset)

    monkeypatch.setattr(ingest, "ingest", ingested)
    monkeypatch.setattr(settings, "resolve_folders", list)
    sets = data_sets(["mitdb", "afdb"])
    with pytest.raises(TooManyFailed, match="data set mitdb: found 6 of 10 records failed"):
        train.fn(train_settings(datasets=sets, model=model))
    assert asked == ["mitdb"]
    with pytest.raises(TooManyFailed, match="expected at most 5"):
        train.fn(train_settings(datasets=sets, model=model, most_failed="5"))


def test_a_split_that_is_too_small_names_the_failed_records() -> None:
    """Whoever reads it knows that patients are missing, and why."""

    def split(*of: IngestResult) -> None:
        with naming_failed(of):
            raise SplitError("2 subjects are too few")

    with pytest.raises(
        SplitError, match=r"^2 subjects are too few; 1 of 4 records failed: record r0"
    ):
        split(made(1, 4))
    with pytest.raises(SplitError, match=r"^2 subjects are too few$"):
        split(made(0, 4))


def test_a_failure_comes_back_from_a_worker() -> None:
    """The error of a record's task is pickled with its outcome."""
    error = RecordFailedError(made(1, 1).outcomes[0])
    back = cast(RecordFailedError, pickle.loads(pickle.dumps(error)))  # noqa: S301 - our own
    assert (str(back), back.outcome) == (str(error), error.outcome)
