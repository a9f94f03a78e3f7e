"""What the process of a runtime may do wrong; light, for each is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def crash(*_: Any) -> None:
    """A provider that ends its process."""
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(*_: Any) -> None:
    """A provider that never answers."""
    time.sleep(600)


def lie(connection: Connection, _limit_s: float, _release: Path, name: str, *_: Any) -> None:
    """A provider whose figures are none, after a good row."""
    good = {"runtime": name, "threads": 1, "latency_p50_ms": 1.0}
    for figure in (1.0, float("nan")):
        connection.send_bytes(json.dumps({name: {**good, "latency_p50_ms": figure}}).encode())
