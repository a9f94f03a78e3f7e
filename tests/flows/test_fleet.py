"""The fleet: devices seen, reports compared, a release in stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent import agent as edge
from edge_agent import slots
from edge_agent.agent import Agent
from edge_agent.board.kinds import device_kind
from flows.decide import release_stages
from flows.train.evaluate_device import enter
from storage.audit import fleet, ledger
from storage.audit.chain import resolve
from storage.errors import DeviceError, DigestMismatch
from storage.registry import evaluations, tracking
from storage.registry.evaluations import RequestState
from tasks.pages.figures import fleet_figure
from tasks.scores.gate import gate
from tests.conftest import Registered

GOOD = {"n_beats": 10.0, "f1": 0.9, "sensitivity": 0.9, "specificity": 0.8, "latency_p99_ms": 1.0}


def test_the_gate_passes_what_equals_the_server() -> None:
    """A report with the server's scores and a small latency has nothing against it."""
    assert gate(GOOD, GOOD) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"f1": 0.898}, "f1 0.8980; the server has 0.9000"),
        ({"sensitivity": float("nan")}, "sensitivity nan"),
        ({"n_beats": 9.0}, "9.0 beats; the server had 10.0"),
        ({"latency_p99_ms": 101.0}, "p99 101.0 ms; at most 100 ms"),
    ],
)
def test_the_gate_says_what_is_wrong(change: dict[str, float], words: str) -> None:
    """A score that differs, a beat that is missing, a latency too large: each is named."""
    assert gate({**GOOD, **change}, GOOD) == [words] or words in gate({**GOOD, **change}, GOOD)[0]


def test_a_missing_score_does_not_pass() -> None:
    """A report without a score or a latency does not pass."""
    assert len(gate({"n_beats": 10.0}, GOOD)) == 4


@pytest.fixture
def ward(
    registered: Registered, mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Agent]:
    """Two devices of a group of the test's own, whose agents work when a report is awaited."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOLTER_EDGE_KEYS", str(registered.keys))
    key = registered.keys.parent / "home" / "keys" / "release.key"
    monkeypatch.setenv("HOLTER_RELEASE_KEY", str(key))
    agents = {
        name: Agent(f"{name}-{tmp_path.name}", device_kind("x86-64"), tmp_path / name)
        for name in ("belt", "wall")
    }
    for agent in agents.values():
        fleet.set_group(agent.device, tmp_path.name)

    def ask(model: str, devices: list[str], wait_s: float, install: bool) -> list[RequestState]:
        assert model == registered.model.reference
        assert wait_s > 0
        found = []
        for name in devices:
            request_id = registered.request(name, **{"holter.install": str(install).lower()})
            edge.once(next(a for a in agents.values() if a.device == name), lambda _: None)
            found.append(evaluations.request_state(request_id))
            enter(found[-1])
        return found

    monkeypatch.setattr(release_stages, "evaluate_on_devices", ask)
    return agents


def released(registered: Registered, group: str) -> release_stages.StagedRelease:
    staged: release_stages.StagedRelease = release_stages.release_in_stages.fn(
        registered.model.reference, group
    )
    return staged


def test_a_release_reaches_the_group_after_its_canary(
    registered: Registered, ward: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary whose report passes makes the version stable, and all install it."""
    monkeypatch.setattr(fleet, "server_metrics", lambda _: registered.metrics)
    staged = released(registered, tmp_path.name)
    assert staged.canary.device == ward["belt"].device
    assert [report.device for report in staged.installed] == [a.device for a in ward.values()]
    stable = resolve(f"{registered.model.name}@stable-{tmp_path.name}")
    assert stable.version == registered.model.version
    last = [e for e in ledger.entries(stable.name) if e.action == ledger.ALIAS][-1]
    assert last.details["request"] == staged.canary.request_id
    assert last.reason == f"canary {staged.canary.device}: its report passed the gate"
    for agent in ward.values():
        assert slots.contents(agent.home) == {"a": f"{stable.reference} (active)"}
    assert [one.health for one in fleet.devices(tmp_path.name)] == ["stopped", "stopped"]
    rows, wrong = fleet.reports(fleet.members(tmp_path.name))
    assert wrong == []
    assert [row.metrics["f1"] for row in rows] == [registered.metrics["f1"]] * 2
    assert fleet_figure([(row.device, row.metrics) for row in rows]).startswith(b"\x89PNG")


def test_a_failed_canary_stops_the_release(
    registered: Registered, ward: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary whose report differs from the server's: no alias moves, nothing is installed."""
    wrong = {**registered.metrics, "f1": registered.metrics["f1"] - 0.01}
    monkeypatch.setattr(fleet, "server_metrics", lambda _: wrong)
    with pytest.raises(DeviceError, match=r"canary belt.*f1"):
        released(registered, tmp_path.name)
    with pytest.raises(Exception, match=f"stable-{tmp_path.name}"):
        resolve(f"{registered.model.name}@stable-{tmp_path.name}")
    assert evaluations.device_requests(ward["wall"].device) == []
    assert slots.contents(ward["belt"].home) == {}


def test_a_canarys_edited_report_stops_the_release(
    registered: Registered, ward: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate reads what the ledger signed: another figure in MLflow is refused, and named.

    `holter edge compare` leaves the report out, with the same words.
    """
    monkeypatch.setattr(fleet, "server_metrics", lambda _: registered.metrics)
    ask = release_stages.evaluate_on_devices

    def edited(*about: Any, **how: Any) -> list[RequestState]:
        found: list[RequestState] = ask(*about, **how)
        tracking.log_metrics(found[0].request_id, {"latency_p99_ms": 1e-3})
        return found

    monkeypatch.setattr(release_stages, "evaluate_on_devices", edited)
    with pytest.raises(DigestMismatch, match=r"metric latency_p99_ms: found 0\.001; sealed was"):
        released(registered, tmp_path.name)
    rows, (told,) = fleet.reports([ward["belt"].device])
    assert rows == []
    assert "metric latency_p99_ms" in told


def test_a_group_without_devices_is_said(registered: Registered, ward: dict[str, Agent]) -> None:
    """Releasing to nobody is an error that says so."""
    assert ward
    with pytest.raises(DeviceError, match="found no device"):
        released(registered, "nowhere")
