"""Log lines as JSON: one object a line, with the ids of records, runs and requests.

Those of a flow are in `tests/flows/test_watch.py`, which has the servers up.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from storage.logs import JsonLines, as_json, bound, to_stderr
from tests.conftest import ROOT, Registered


def line_of(message: str, **more: Any) -> dict[str, Any]:
    """What the formatter makes of a line."""
    record = logging.LogRecord("holter.x", logging.INFO, "f", 1, message, (), None)
    record.__dict__.update(more)
    text = JsonLines().format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_is_one_object() -> None:
    """Line breaks stay within it, ids hold for what they were bound around, the inner one wins."""
    with bound(record="100", dataset="mitdb"):
        with bound(record="101"):
            said = line_of("two\nlines", flow_run_id="f")
        assert (said["record"], said["dataset"], said["flow_run_id"]) == ("101", "mitdb", "f")
        assert said["message"] == "two\nlines"
        assert said["level"] == "INFO"
        assert said["time"].endswith("+00:00")
        assert line_of("x")["record"] == "100"
    assert "record" not in line_of("x")


def test_a_failure_has_its_traceback() -> None:
    """A logged exception is in the line, with what it said."""
    try:
        raise KeyError("lead")
    except KeyError:
        assert "KeyError: 'lead'" in line_of("failed", exc_info=sys.exc_info())["traceback"]


def test_another_form_is_misuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOLTER_LOG that is neither text nor json is told by both commands, and what is expected."""
    monkeypatch.setenv("HOLTER_LOG", "xml")
    assert not as_json()
    with pytest.raises(ValueError, match="found 'xml'; expected text or json"):
        to_stderr(logging.getLogger("holter.test"))
    for words in (["flows", "data", "list"], ["edge_agent", "status"]):
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2, words
        assert "found 'xml'" in done.stderr


@pytest.mark.slow
def test_an_agent_s_lines_name_device_and_request(
    mlflow_server: str, registered: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line of the agent is JSON with its device; those of a request have the request's id."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    request = registered.request("device-logs")
    env = {
        **os.environ,
        "HOLTER_LOG": "json",
        "HOLTER_EDGE_HOME": str(tmp_path),
        "HOLTER_EDGE_KEYS": str(registered.keys),
    }
    words = [sys.executable, "-m", "edge_agent", "once", "--device", "device-logs"]
    words += ["--runtime", "release"]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours = [line for line in done.stderr.splitlines() if "TensorFlow Lite" not in line]  # its C++
    lines = [json.loads(line) for line in ours]
    assert {line["device"] for line in lines} == {"device-logs"}
    assert any(line.get("request") == request and "reported" in line["message"] for line in lines)
