"""Which process runs a flow: a note of each in the state folder, and who has died.

A flow that begins writes down its process, and takes the note away when it ends. A note whose
process is no more is of a run that was killed. `flows.services.alive` closes such runs.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

from storage.files import home, read_json

#: The system tells when a process began in hundredths of a second.
SAME_S = 0.05


@dataclass(frozen=True)
class Alive:
    """Which process runs a flow, and when it began, in seconds since its machine did."""

    flow_run_id: str
    flow: str
    host: str
    pid: int
    since: float

    def is_dead(self) -> bool:
        """Whether its process, on this machine, is no more; another may have its number now."""
        if self.host != platform.node():
            return False
        try:
            return abs(since_start(self.pid) - self.since) > SAME_S
        except psutil.NoSuchProcess:
            return True


def since_start(pid: int) -> float:
    """When a process began, in seconds since the machine did: no clock that is set changes it."""
    return float(psutil.Process(pid).create_time() - psutil.boot_time())


def notes_folder() -> Path:
    """Where the notes of flows that run lie."""
    return home() / "running"


def closed_folder() -> Path:
    """Where the notes of killed runs lie for some minutes after they were closed."""
    return home() / "closed"


def read_note(path: Path) -> Alive:
    """A note; one that is gone, or cannot be read, is nobody's."""
    try:
        return Alive(**read_json(path))
    except (OSError, ValueError, TypeError):
        return Alive(path.stem, "", "", 0, 0.0)


def dead_runs() -> list[Alive]:
    """The runs of this state folder whose process is gone."""
    notes = [read_note(path) for path in sorted(notes_folder().glob("*.json"))]
    return [note for note in notes if note.is_dead()]


def live_runs() -> list[Alive]:
    """The runs of this state folder whose process is there, or on another machine."""
    notes = [read_note(path) for path in sorted(notes_folder().glob("*.json"))]
    return [note for note in notes if note.flow and not note.is_dead()]


def has_unsettled_runs() -> bool:
    """Whether a run is to be closed, or was closed in the last minutes and is to be looked at."""
    return bool(dead_runs()) or any(closed_folder().glob("*.json"))
