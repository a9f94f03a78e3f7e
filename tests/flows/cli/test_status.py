"""What `holter status` tells of runs: real durations, whole messages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest
from prefect.client.schemas import FlowRun
from prefect.client.schemas.objects import State, StateType

from flows.cli import status
from flows.cli.answer.server_kinds import ModelState, RunState, Status
from flows.services import up_state
from flows.services.events import ENDING
from storage.errors import ServerError
from tests.conftest import ROOT

START = datetime(2026, 11, 29, 12, 0, tzinfo=timezone.utc)


def run(state: State, end: datetime | None) -> RunState:
    values = {"flow_id": uuid4(), "name": "train-x", "state": state}
    flow_run = FlowRun.model_validate({**values, "start_time": START, "end_time": end})
    return status._run(flow_run.model_dump(mode="json"), START + timedelta(minutes=5))


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


#: What the servers answer to `holter status`, by path.
ANSWERS = {
    "/api/health": True,
    "/health": True,
    "/api/work_pools/holter": {"status": "READY"},
    "/api/flow_runs/filter": [
        {
            "name": "ingest-x",
            "start_time": "2026-11-29T12:00:00.5Z",
            "end_time": "2026-11-29T12:00:02Z",
            "state": {"name": "Failed", "message": "no room"},
        }
    ],
    "/api/2.0/mlflow/registered-models/search": {
        "registered_models": [
            {"name": "holter-x", "aliases": [{"alias": "champion", "version": "9"}]}
        ]
    },
    "/api/2.0/mlflow/model-versions/search": {"model_versions": [{"version": "10"}]},
}


@contextmanager
def servers() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server that answers as Prefect and MLflow do; its address, and what it was asked."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            asked.append((path, self.headers.get("Authorization", "")))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            data = json.dumps(ANSWERS.get(path, {"detail": "geheim"})).encode()
            self.send_response(200 if path in ANSWERS else int(path.rpartition("/")[2]))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 - as http.server asks

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_status_asks_four_things_and_loads_no_server_package(tmp_path: Path) -> None:
    """One question each for pool, runs and models, one a model, and neither package is imported."""
    code = (
        "import sys\n"
        "from flows.cli.app import app\n"
        "try:\n    app(['status', '--format', 'json'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = ('prefect', 'mlflow', 'numpy', 'pandas', 'tensorflow', 'httpx')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    with servers() as (address, asked):
        env = {
            "HOLTER_HOME": str(tmp_path),
            "PREFECT_API_URL": f"{address}/api",
            "MLFLOW_TRACKING_URI": address,
            "PREFECT_API_AUTH_STRING": "holter:x",
        }
        words = [sys.executable, "-c", code]
        run = subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    text, _, loaded = run.stdout.strip().rpartition("\n")
    value = json.loads(text)
    assert loaded == "[]"
    assert [path for path, _ in asked if "health" not in path] == [
        "/api/2.0/mlflow/registered-models/search",
        "/api/2.0/mlflow/model-versions/search",
        "/api/work_pools/holter",
        "/api/flow_runs/filter",
    ]
    assert {header for path, header in asked if "pools" in path} == {"Basic aG9sdGVyOng="}
    assert value["models"] == [{"name": "holter-x", "newest": 10, "aliases": {"champion": 9}}]
    assert value["worker"] == "pool holter is ready"
    assert (value["runs"][0]["seconds"], value["runs"][0]["message"]) == (1.5, "no room")


def test_a_refusal_of_prefect_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there is None; a refusal names the address and the code, and quotes nothing."""
    with servers() as (address, _):
        monkeypatch.setenv("PREFECT_API_URL", f"{address}/api")
        assert up_state.ask_prefect("work_pools/404") is None
        with pytest.raises(ServerError, match=f"{address}/api: 401 to POST /x/401") as refusal:
            up_state.ask_prefect("x/401", {})
        assert "geheim" not in str(refusal.value)
    with pytest.raises(ServerError, match=f"Prefect at {address}/api"):
        up_state.ask_prefect("work_pools/404")
