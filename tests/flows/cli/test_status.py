"""What `holter status` tells of runs: real durations, whole messages."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from uuid import uuid4

import pytest
from prefect.client.schemas import FlowRun
from prefect.client.schemas.objects import State, StateType

from flows.cli import status
from flows.cli.answer.kinds import ModelState, RunState, Status
from flows.services.events import ENDING

START = datetime(2026, 11, 29, 12, 0, tzinfo=timezone.utc)


def run(state: State, end: datetime | None) -> RunState:
    values = {"flow_id": uuid4(), "name": "train-x", "state": state}
    flow_run = FlowRun.model_validate({**values, "start_time": START, "end_time": end})
    return status._run(flow_run, START + timedelta(minutes=5))


def test_a_run_takes_from_its_beginning_to_its_end() -> None:
    """A run's time is that between start and end; one that still runs has taken that until now."""
    done = State(type=StateType.COMPLETED, name="Completed")
    assert run(done, START + timedelta(seconds=90.5)).seconds == 90.5
    assert run(State(type=StateType.RUNNING, name="Running"), None).seconds == 300


def test_messages_are_whole() -> None:
    """What failed, or left records out, has its message, all of it, on one line, no credentials."""
    reason = "record sim004: found nothing\n" + "and so on " * 30
    failed = State(
        type=StateType.FAILED, name="Failed", message=f"http://me:{'secret'}@x/ {reason}"
    )
    message = run(failed, START).message
    assert message.endswith("and so on")
    assert message.count("and so on") == 30
    assert "\n" not in message
    assert "secret" not in message
    some = State(type=StateType.COMPLETED, name=f"1 of 10 {ENDING}", message=reason)
    assert run(some, START).message.startswith("record sim004")
    assert (
        run(State(type=StateType.COMPLETED, name="Completed", message=reason), START).message == ""
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (12.6, "13 s"),
        (59.9, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7260, "2 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_in_two_units(seconds: float, text: str) -> None:
    """A duration has its two largest units; a clock that went back makes none below zero."""
    assert status.duration(seconds) == text


def test_the_status_of_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """The message stands below the table, a line of its own, however long it is."""
    message = "record sim004: " + "found nothing " * 20
    runs = [RunState("ingest-x", "Failed", START.isoformat(), 61.0, message.strip())]
    models = [ModelState("holter-x", 2, {"candidate": 2})]
    status.show_status(Status(True, {"MLFLOW_TRACKING_URI": "http://x"}, "none", [], runs, models))
    lines = capsys.readouterr().out.splitlines()
    assert f"ingest-x: {message.strip()}" in lines
    (row,) = [line for line in lines if line.startswith("ingest-x ")]
    assert row.endswith("1 min 1 s")
