"""One agent a device: a lock on this machine, and across machines a sign of life in MLflow.

The sign is a counter that the agent raises. Another agent watches it on its own monotonic clock:
while it moves, that agent is alive; once it has stood still for the lease, its work is taken up.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.errors import DeviceError, RegistryError
from storage.files import read_state, write_json
from storage.registry import evaluations
from storage.registry.client import server_time_s

BEAT_S = 5.0
LEASE_S = 20.0
#: How long a first sign is left to settle before it is read back.
SETTLE_S = 0.2


class Presence:
    """An agent's sign of life; `facts` is what it says besides the counter."""

    def __init__(self, device: str, agent_id: str, facts: dict[str, Any]) -> None:
        self.device, self.agent_id, self.facts = device, agent_id, facts
        self.lost: str | None = None
        self._count = 0
        self._lock = threading.Lock()

    def beat(self, **facts: Any) -> None:
        """Raise the counter, unless another agent took over meanwhile.

        Raises
        ------
        DeviceError
            Another agent works under this device's name; it is named.
        """
        with self._lock:
            experiment, now = evaluations.presence(self.device)
            if self._count and now.get("agent") != self.agent_id:
                self.lost = rival_words(self.device, now)
                raise DeviceError(self.lost)
            self._count += 1
            self.facts |= facts
            sign = {**self.facts, "agent": self.agent_id, "host": socket.gethostname()}
            sign |= {"count": self._count, "seen_s": round(server_time_s(), 1)}
            evaluations.announce(experiment, sign)

    def check(self) -> None:
        """Raise DeviceError if another agent took over."""
        if self.lost:
            raise DeviceError(self.lost)


def rival_words(device: str, rival: dict[str, Any]) -> str:
    """Why an agent does not work: another does."""
    return (
        f"device {device}: agent {rival.get('agent')} on {rival.get('host')} works under this name;"
        " stop it, or give this one another name"
    )


def agent_id(home: Path) -> str:
    """The identity of the agent of a state folder, made at first use."""
    path = home / "agent.json"
    if not path.exists():
        write_json(path, {"agent": uuid.uuid4().hex[:12]})
    return read_state(path, str, "agent")


@contextmanager
def lock_home(home: Path) -> Iterator[None]:
    """The state folder to oneself; a second process is told which one has it."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "agent.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            process_id = file.read().strip() or "unknown"
            raise DeviceError(f"state folder {home}: process {process_id} works in it") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def present(
    presence: Presence,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Presence]:
    """Be the device's one agent, with a sign of life every five seconds.

    Raises
    ------
    DeviceError
        Another agent's sign of life moves within the lease.
    """
    rival = evaluations.presence(presence.device)[1]
    if rival.get("agent") not in (None, presence.agent_id) and not rival.get("released"):
        say(f"device {presence.device}: agent {rival['agent']} was here; is it alive?")
        for _ in range(round(LEASE_S / BEAT_S * 4)):
            sleep(BEAT_S / 4)
            now = evaluations.presence(presence.device)[1]
            if now.get("released"):
                break
            if now != rival:
                raise DeviceError(rival_words(presence.device, now))
        say(f"device {presence.device}: no sign of agent {rival['agent']}; its work is taken up")
    presence.beat(state="idle", released=False)
    sleep(SETTLE_S)
    presence.beat()
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(BEAT_S):
            try:
                presence.beat()
            except DeviceError:  # noqa: PERF203 - once in five seconds
                return
            except RegistryError:
                continue  # out of reach: the cycle itself says so

    thread = threading.Thread(target=keep, name="presence", daemon=True)
    thread.start()
    try:
        yield presence
    finally:
        stop.set()
        thread.join()
    try:
        presence.beat(state="stopped", released=True)
    except (DeviceError, RegistryError) as error:
        say(f"device {presence.device}: cannot say good-bye: {error}")
