"""Which runtime a device runs: measured once, within the policy, whatever a runtime does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomllib

from edge_agent import agent as edge
from edge_agent import choice, runtimes
from edge_agent.agent import Agent
from edge_agent.board.kinds import device_kind
from edge_agent.choice import MEASURED, choose, pick
from edge_agent.runtimes import POLICY, measure_runtimes
from storage.registry import client, evaluations
from storage.registry.boxed import boxed_release
from storage.registry.policy import DEFAULT
from tests.bad_runtimes import crash, hang, lie
from tests.conftest import Registered

FLOAT, INT8, ONNX = "litert-float32", "litert-int8", "onnx-cpu"


def quiet(_: str) -> None:
    """Say nothing."""


def row(runtime: str, ms: float, mj: float | None = None, threads: int = 1) -> dict[str, Any]:
    """A row of the table."""
    costs: dict[str, Any] = {"runtime": runtime, "threads": threads, "latency_p50_ms": ms}
    return costs if mj is None else {**costs, "energy_mj_per_row": mj}


MANIFEST: dict[str, Any] = {
    "runtime": FLOAT,
    "runtimes": {
        FLOAT: {"file": "model.tflite", "f1_change": 0.0},
        INT8: {"file": "a", "f1_change": -0.0002, "p99_abs_error": 0.05, "mean_abs_error": 0.004},
        "onnx": {"file": "b", "f1_change": 0.0},
    },
}
#: Tables, and what is chosen from them.
PICKED: dict[str, tuple[runtimes.Table, str]] = {
    "least time": ({FLOAT: row(FLOAT, 2), ONNX: row(ONNX, 1)}, "onnx-cpu, by latency"),
    "least energy, though slower": (
        {FLOAT: row(FLOAT, 1, 9), INT8: row(INT8, 2, 3)},
        "litert-int8, by energy",
    ),
    "energy that one of them lacks": (
        {FLOAT: row(FLOAT, 1, 9), INT8: row(INT8, 2)},
        "litert-float32, by latency",
    ),
    "threads": (
        {FLOAT: row(FLOAT, 2), f"{FLOAT} x2": row(FLOAT, 1, threads=2)},
        "litert-float32 x2, by latency",
    ),
    "a gain that is not worth it": (
        {FLOAT: row(FLOAT, 1), ONNX: row(ONNX, 0.97)},
        "litert-float32, by latency",
    ),
    "reasons alone": ({FLOAT: "crashed"}, "litert-float32, the release's own: none could be"),
}


@pytest.mark.parametrize("case", PICKED)
def test_the_cheapest_is_chosen(case: str) -> None:
    """By energy where all have it, else by latency; the release's own where little is gained."""
    table, words = PICKED[case]
    assert pick(table, MANIFEST).words.startswith(words)


@pytest.mark.parametrize(
    "change", [{"p99_abs_error": 0.11}, {"mean_abs_error": 0.011}, {"f1_change": -0.0011}]
)
def test_what_the_policy_refuses_is_not_chosen(change: dict[str, float]) -> None:
    """An export beyond the champion's policy, or the gate's, is left out however quick it is."""
    entries = MANIFEST["runtimes"]
    manifest = {**MANIFEST, "runtimes": {**entries, INT8: {**entries[INT8], **change}}}
    table: runtimes.Table = {FLOAT: row(FLOAT, 9), INT8: row(INT8, 1)}
    assert pick(table, MANIFEST).runtime == INT8
    assert pick(table, manifest).runtime == FLOAT


def test_the_policy_is_the_champions() -> None:
    """The agent's bounds are those of the policy that `holter promote` begins with."""
    checks = tomllib.loads(DEFAULT.read_text())["check"]
    bounds = {check["figure"]: check.get("most") for check in checks}
    assert {name: bounds[f"deployed_{name}"] for name in POLICY} == POLICY


#: What a runtime's process does, seconds that it is left, and what is told.
BAD: dict[str, tuple[Callable[..., None], float, str]] = {
    "crashes": (crash, 60, "its process ended with -11"),
    "hangs": (hang, 1, "took longer than 1 s"),
    "lies": (lie, 60, "answered what cannot be read: found figures that are no numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_provider_is_told_and_ends_nothing(case: str) -> None:
    """A runtime that crashes, hangs or lies has that said in the table; what was good stays."""
    work, limit_s, reason = BAD[case]
    folder = boxed_release("rhythm_tiny")[0]
    table = measure_runtimes(folder, [FLOAT], 1, device_kind("x86-64"), None, limit_s, work)
    assert [*table.values()][-1] == reason
    assert (len(table) == 2) == (case == "lies")


def test_answers_that_are_not_the_releases_are_told(tmp_path: Path) -> None:
    """A network that answers golden windows otherwise has no costs: the reason stands there."""
    shutil.copytree(boxed_release("rhythm_tiny")[0], tmp_path / "r")
    golden = tmp_path / "r" / "golden.json"
    document = json.loads(golden.read_text())
    document["runtimes"]["onnx"] = document["probability"]
    document["probability"] = [[1 - p for p in line] for line in document["probability"]]
    golden.write_text(json.dumps(document))
    table = measure_runtimes(tmp_path / "r", [ONNX], 1, device_kind("x86-64"))
    assert "beside the release's own runtime" in str(table[ONNX])


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The releases that were measured; the table is made up."""
    seen: list[Path] = []

    def measure(release: Path, *_: Any) -> runtimes.Table:
        seen.append(release)
        return {FLOAT: row(FLOAT, 2), ONNX: row(ONNX, 1)}

    monkeypatch.setattr(choice, "measure_runtimes", measure)
    return seen


def test_a_choice_is_kept_until_what_it_rests_on_changes(
    counted: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power mode, versions, cores and release: each makes a choice anew, and so does damage."""
    folder, home = boxed_release("rhythm_tiny")[0], tmp_path / "home"
    kind = device_kind("x86-64")
    (tmp_path / "status").write_text("pmode:0000 fmode:fanNull\n")
    kind = {**kind, "roots": {**kind["roots"], "nvpmodel": str(tmp_path / "status")}}

    def measured(release: Path = folder) -> bool:
        before = len(counted)
        assert choose(home, release, kind, MEASURED, quiet).runtime == ONNX
        return len(counted) > before

    assert measured()
    assert not measured()
    (tmp_path / "status").write_text("pmode:0002 fmode:fanNull\n")
    assert measured()
    assert not measured()
    assert measured(boxed_release("rhythm")[0])
    with monkeypatch.context() as patch:
        patch.setattr(choice, "package_versions", lambda: {"onnxruntime": "9.9"})
        assert measured()
    assert not measured()
    for path in (home / "choices").glob("*.json"):
        path.write_text('{"runtime": "other"}')
    assert measured()
    assert choose(home, folder, kind, INT8, quiet).words == "litert-int8, named"
    assert choose(home, folder, kind, None, quiet).words == "litert-float32, the release's own"


def test_the_first_request_measures_and_the_report_has_the_table(
    registered: Registered, mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report names what ran and the table; it is what the server scores; then it is kept."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("HOLTER_EDGE_KEYS", str(registered.keys))
    agent = Agent("device-that-chooses", device_kind("x86-64"), tmp_path / "edge", MEASURED)
    lines: list[str] = []
    states = []
    for _ in range(2):
        request_id = registered.request(agent.device)
        edge.once(agent, lines.append)
        states.append(evaluations.request_state(request_id))
    assert [state.status for state in states] == ["FINISHED", "FINISHED"]
    assert sum("are measured on this device" in line for line in lines) == 1
    first = states[0]
    for name, value in registered.metrics.items():
        assert first.metrics[name] == pytest.approx(value, abs=1e-3), name
    assert first.tags["holter.runtime"] in (FLOAT, "onnx")
    assert first.tags["holter.choice"] == states[1].tags["holter.choice"]
    client.fetch_run_file(first.request_id, "report/report.json", None, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["choice"]["table"][INT8] == "not in this release"
    assert report["choice"]["table"][FLOAT]["latency_p50_ms"] > 0
    assert report["throttling"] in ("missing", {})
