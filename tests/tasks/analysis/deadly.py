"""A worker that dies: in a module of its own, which a process loads quickly."""

from __future__ import annotations

import os
import signal
from typing import Any

from tasks.analysis.many import COLUMNS, Order, Recording
from tasks.analysis.words import ANALYSED


def deadly(recording: Recording, _order: Order) -> dict[str, Any]:
    """Stand for `row_of`: at one recording the process dies, as by the kernel's killer."""
    if recording.name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return dict.fromkeys(COLUMNS) | {"record": recording.name, "state": ANALYSED}
