"""Events on their way to a receiver: in order, by a thread of their own, never in a flow's way.

Off unless `HOLTER_OPENLINEAGE` is 1. Where events go is openlineage-python's own configuration
(`OPENLINEAGE_URL`, `OPENLINEAGE_CONFIG`, `openlineage.yml`); without any, a file of the state
folder takes them.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from storage.addresses import without_credentials
from storage.files import home, make_folder

#: The one variable that has events written.
VARIABLE = "HOLTER_OPENLINEAGE"
OFF = ("", "0", "false", "no", "off")
#: How long the end of a flow waits for its events to be taken, in seconds. Once a receiver was
#: slower than that no flow of the process waits, until it has taken all that was kept for it.
MOST_WAIT_S = 5.0
#: Events that may wait; later ones are dropped, and told.
MOST_EVENTS = 1000
EXTRA = "openlineage-python is not installed: pip install -e '.[exchange]'"

Build = Callable[[], Any]


def is_on() -> bool:
    """Whether events are asked for."""
    return os.environ.get(VARIABLE, "").strip().lower() not in OFF


def transport_config() -> dict[str, Any] | None:
    """The configuration that stands in where OpenLineage's own names no receiver."""
    from openlineage.client import OpenLineageClient

    names = [name for name in os.environ if name.startswith("OPENLINEAGE__TRANSPORT")]
    file = OpenLineageClient._find_yaml_config_path()
    if names or file or "OPENLINEAGE_URL" in os.environ:
        return None
    path = make_folder(home()) / "openlineage.jsonl"
    return {"transport": {"type": "file", "log_file_path": str(path), "append": True}}


@dataclass
class Emitter:
    """The thread that hands events on, what waits for it, and what is to be told of it."""

    waiting: queue.Queue[Build] = field(default_factory=lambda: queue.Queue(MOST_EVENTS))
    complaints: queue.Queue[str] = field(default_factory=lambda: queue.Queue(1))
    left_s: float = MOST_WAIT_S
    failing: bool = False
    _spoken: bool = False

    def __post_init__(self) -> None:
        threading.Thread(target=self._work, daemon=True, name="openlineage").start()

    def put(self, build: Build) -> None:
        """Have an event made and sent, after those before it."""
        if not (self.waiting.unfinished_tasks or self.failing):
            self.left_s = MOST_WAIT_S
        try:
            self.waiting.put_nowait(build)
        except queue.Full:
            self._complain(f"more than {MOST_EVENTS} events wait")

    def settle(self) -> None:
        """Wait until all are handed on, for what is left of patience with the receiver."""
        start = time.monotonic()
        with self.waiting.all_tasks_done:
            while self.waiting.unfinished_tasks and time.monotonic() - start < self.left_s:
                self.waiting.all_tasks_done.wait(max(start + self.left_s - time.monotonic(), 0))
            pending = self.waiting.unfinished_tasks
        if pending:
            self.left_s = 0
            self._complain(f"not taken within {MOST_WAIT_S:g} s; {pending} on their way")

    def complaint(self) -> str:
        """What went wrong, once a process; "" afterwards, and where nothing did."""
        try:
            return self.complaints.get_nowait()
        except queue.Empty:
            return ""

    def _complain(self, reason: str) -> None:
        if not self._spoken:
            self._spoken = True
            words = without_credentials(reason).split("\n")[0][:300]
            self.complaints.put_nowait(f"lineage events are lost ({VARIABLE}): {words}")

    def _work(self) -> None:
        client = None
        while True:
            build = self.waiting.get()
            try:
                client = client or _client()
                client.emit(build())
                self.failing = False
            except ImportError:
                self.failing = True
                self._complain(EXTRA)
            except Exception as error:  # whatever a receiver does, the flow goes on
                self.failing = True
                self._complain(f"{type(error).__name__}: {error}")
            finally:
                self.waiting.task_done()


def _client() -> Any:
    from openlineage.client import OpenLineageClient

    return OpenLineageClient(config=transport_config())


@cache
def _of_process(pid: int) -> Emitter:  # noqa: ARG001 - a forked process has no thread of its parent's
    return Emitter()


def emitter() -> Emitter:
    """The one of this process."""
    return _of_process(os.getpid())
