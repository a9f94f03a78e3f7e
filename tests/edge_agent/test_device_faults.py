"""A report is never lost and never doubled: killed processes, cut networks, full disks."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from edge_agent import agent as edge
from edge_agent import measure, outbox, presence
from edge_agent.agent import Agent
from edge_agent.board.kinds import device_kind
from storage.errors import OutOfReach, RegistryError
from storage.registry import client, evaluations
from tests.conftest import Registered

#: Kills in all: before each point once, by night 200, or as many as HOLTER_AGENT_KILLS says.
KILLS = int(os.environ.get("HOLTER_AGENT_KILLS", 200 * ("HOLTER_FAULT_RUNS" in os.environ)))
CUTS = 15


@pytest.fixture(autouse=True)
def quick(mlflow_server: str, registered: Registered, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's server, few timed beats and no waiting."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("HOLTER_EDGE_KEYS", str(registered.keys))
    monkeypatch.setattr(measure, "TIMED", 20)
    monkeypatch.setattr(measure, "WARM_UP", 2)
    monkeypatch.setattr(presence, "SETTLE_S", 0.0)
    monkeypatch.setattr(client, "PAUSES_S", (0.0,))


@pytest.fixture
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Agent:
    name = request.node.name.removeprefix("test_")[:60]
    return Agent(f"faulty-{name}", device_kind("x86-64"), tmp_path / "edge")


def quiet(_: str) -> None:
    """Say nothing."""


def assert_one_whole_report(
    registered: Registered, agent: Agent, request_id: str, tmp_path: Path
) -> None:
    state = evaluations.request_state(request_id)
    assert state.status == "FINISHED", state.reason
    assert {k: state.metrics[k] for k in registered.metrics} == registered.metrics
    number, _, sums = state.params["holter.report"].partition(":")
    assert number == "1"
    files = client.call("GET", "artifacts/list", run_id=request_id)["files"]
    assert [file["path"] for file in files] == ["report"]
    files = client.call("GET", "artifacts/list", run_id=request_id, path="report")["files"]
    assert sorted(Path(file["path"]).name for file in files) == [
        "outcome.json",
        "probability.npy",
        "report.json",
    ]
    client.fetch_run_file(request_id, "report/outcome.json", sums, tmp_path / "fetched")
    assert outbox.waiting(agent.home) == []


@contextmanager
def counted(reached: Callable[[int], None]) -> Iterator[None]:
    """Call `reached` before and after every exchange, rename, sync and removal of a process."""
    count = 0
    main = threading.get_ident()

    def around(function: Any) -> Any:
        def inner(*args: Any, **named: Any) -> Any:
            nonlocal count
            if threading.get_ident() != main:
                return function(*args, **named)
            count += 1
            reached(count)
            result = function(*args, **named)
            count += 1
            reached(count)
            return result

        return inner

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (client, "_exchange"),
            (Path, "rename"),
            (Path, "replace"),
            (os, "fsync"),
            (shutil, "rmtree"),
        ):
            patch.setattr(owner, name, around(getattr(owner, name)))
        yield


def run_killed(agent: Agent, at: int) -> int:
    """The agent in a process of its own that SIGKILL ends at its `at`-th point; its wait status."""
    child = os.fork()
    if child == 0:
        try:
            with counted(lambda n: os.kill(os.getpid(), signal.SIGKILL) if n == at else None):
                edge.once(agent, quiet)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_killed_anywhere_there_is_one_report(
    registered: Registered, agent: Agent, tmp_path: Path
) -> None:
    """SIGKILL before every point, by night after them too: once restarted, one whole report."""
    points: list[int] = []
    for counter in (list[int](), points):  # the second time, as the first one made the state folder
        request_id = registered.request(agent.device)
        with counted(counter.append):
            edge.once(agent, quiet)
        assert_one_whole_report(registered, agent, request_id, tmp_path)
    last = points[-1]
    assert 40 < last < 200
    rng = np.random.default_rng(11)
    # Odd ones are before, even ones after; from one's end to the next one nothing is kept.
    before = range(1, last + 1, 2)
    more = rng.integers(1, last + 1, max(KILLS - len(before), 0))
    for at in [*before, *more.tolist()]:
        request_id = registered.request(agent.device)
        assert os.WTERMSIG(run_killed(agent, at)) == signal.SIGKILL
        edge.once(agent, quiet)
        assert_one_whole_report(registered, agent, request_id, tmp_path)


class Cutter:
    """A relay to the server that breaks every connection once it has passed on so many bytes."""

    def __init__(self, server: str) -> None:
        where = urlsplit(server)
        self._server = (str(where.hostname), int(where.port or 0))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.left = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                inner, _ = self._socket.accept()
            except OSError:
                return
            outer = socket.create_connection(self._server)
            for pair in ((inner, outer), (outer, inner)):
                threading.Thread(target=self._relay, args=pair, daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with source, sink:
            try:
                while data := source.recv(4096):
                    sink.sendall(data[: max(self.left, 0)])
                    self.left -= len(data)
                    if self.left < 0:
                        break
                for one in (source, sink):
                    one.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def close(self) -> None:
        """Take no more connections."""
        self._socket.close()


@pytest.mark.slow
def test_a_cut_network_leaves_one_report(
    registered: Registered,
    agent: Agent,
    tmp_path: Path,
    mlflow_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cut after any number of bytes, in an upload or elsewhere: once back, one whole report."""
    cutter = Cutter(mlflow_server)
    rng = np.random.default_rng(5)
    cut = 0
    for _ in range(CUTS):
        request_id = registered.request(agent.device)
        cutter.left = int(rng.integers(100, 830_000))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", cutter.address)
        try:
            edge.once(agent, quiet)
        except OutOfReach:
            cut += 1
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
        edge.once(agent, quiet)
        assert_one_whole_report(registered, agent, request_id, tmp_path)
    cutter.close()
    assert cut > CUTS // 4


@pytest.mark.parametrize("at", ["workplace", "report", "outcome"])
def test_a_full_disk_is_said_and_waited_for(
    registered: Registered,
    agent: Agent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    """A full disk ends the pass with its own words; with room again there is one whole report."""
    request_id = registered.request(agent.device)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    owner, name = {
        "workplace": (outbox, "make_workplace"),
        "report": (np, "save"),
        "outcome": (outbox, "write_json"),
    }[at]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(OSError, match="No space left"):
            edge.once(agent, quiet)
    assert evaluations.request_state(request_id).status == "RUNNING"
    edge.once(agent, quiet)
    assert_one_whole_report(registered, agent, request_id, tmp_path)


def test_a_report_waits_for_a_dead_server(
    registered: Registered,
    agent: Agent,
    tmp_path: Path,
    mlflow_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that goes away before the report is sent gets it when it is back."""
    request_id = registered.request(agent.device)
    real = edge.evaluate

    def dies(*args: Any) -> Any:
        metrics = real(*args)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        return metrics

    with monkeypatch.context() as patch:
        patch.setattr(edge, "evaluate", dies)
        with pytest.raises(OutOfReach):
            edge.once(agent, quiet)
    assert outbox.waiting(agent.home) == [request_id]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    edge.once(agent, quiet)
    assert_one_whole_report(registered, agent, request_id, tmp_path)


def test_what_there_is_no_room_for_is_not_fetched(
    registered: Registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file over the limit is refused; one that would fill the disk waits as on a full one."""
    what = (registered.testset_run_id, "testset/testset.npz", registered.testset_sha256)
    size = client.fetch_run_file(*what, tmp_path / "before").stat().st_size
    disk = SimpleNamespace(f_bavail=2 * size - 1, f_frsize=1)
    monkeypatch.setattr(os, "fstatvfs", lambda _: disk)
    with pytest.raises(OSError, match=f"found {size} bytes to fetch; room for {size - 1}") as full:
        client.fetch_run_file(*what, tmp_path / "after")
    assert full.value.errno in client.DISK_ERRORS
    monkeypatch.setattr(client, "MOST_BYTES", size - 1)
    with pytest.raises(RegistryError, match=f"found {size} bytes; at most {size - 1}$"):
        client.fetch_run_file(*what, tmp_path / "after")
    assert list((tmp_path / "after").iterdir()) == []
    disk.f_bavail += 1
    monkeypatch.setattr(client, "MOST_BYTES", size)
    assert client.fetch_run_file(*what, tmp_path / "after").stat().st_size == size
