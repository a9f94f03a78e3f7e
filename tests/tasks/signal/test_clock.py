"""Clocks that are set a day forward or back: nothing waits for them, nothing living is closed."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from flows.ingest.simulate import write_simulated
from flows.services.alive import Alive, _begin, close_dead
from storage.audit.fleet import DeviceState
from storage.datasets.dataset import load_spec
from storage.files import read_json
from storage.recordings import arrivals
from storage.registry import client

DAY_S = 86_400.0
JUMPS = pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S], ids=["forward", "back"])


@JUMPS
def test_a_record_does_not_wait_for_a_clock(
    jump_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that lay quiet is taken, once, whichever way the clock was set meanwhile."""
    now = time.time
    write_simulated(tmp_path, 1, 0.02, 1)
    spec = load_spec(tmp_path)
    for file in tmp_path.iterdir():
        os.utime(file, (now() - 60, now() - 60))
    waits = arrivals.look(spec, tmp_path, {}, 600.0, signal=True)
    assert waits.ready == ()
    monkeypatch.setattr(time, "time", lambda: now() + jump_s)
    taken = arrivals.look(spec, tmp_path, waits.states, 600.0, signal=True)
    assert taken.ready == ("sim000",)
    monkeypatch.undo()
    assert arrivals.look(spec, tmp_path, taken.states, 600.0, signal=True).ready == ()


@JUMPS
def test_a_living_flow_is_not_closed(
    jump_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flow that runs while the clock is set is still alive; another process of its number is not.

    The system tells when a process began by the clock: every such time moves when it is set.
    """
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path))

    _begin(SimpleNamespace(name="ingest"), SimpleNamespace(id="f3a1"), None)
    boot = psutil._pslinux.boot_time
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot() + jump_s)
    assert abs(psutil.Process().create_time() - time.time()) > DAY_S / 2
    assert close_dead() == []
    (note,) = (tmp_path / "running").iterdir()
    kept = Alive(**read_json(note))
    assert kept.pid == os.getpid()
    assert not kept.is_dead()
    assert replace(kept, since=kept.since - 1).is_dead()


@JUMPS
def test_the_server_s_clock_is_kept_by_ours_that_only_counts(
    jump_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two answers of the server its time goes on, though this machine's clock is set."""
    monkeypatch.setattr(client, "_clock", [1_000.0, time.monotonic()])
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + jump_s)
    assert 1_000.0 <= client.server_time_s() < 1_060.0


@pytest.mark.parametrize(("ago_s", "health"), [(5.0, "working"), (DAY_S, "silent")])
def test_a_silent_device_does_not_seem_to_work(ago_s: float, health: str) -> None:
    """A last sign of life in the server's future, from before it was set back, is an old one."""
    for ago in (ago_s, -ago_s):
        assert DeviceState("belt", "", {"agent": "a"}, ago).health == health
