"""The outbox: an outcome is on disk, whole, before anything of it is sent, and until all of it is.

`work/ID` becomes `outbox/ID` in one rename, and `outbox/ID` goes away in another: a process killed
between any two instructions leaves an outcome to send again or none, never half of one.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage import evaluations
from storage.errors import NotInRegistry, OutOfReach, RegistryError
from storage.files import sync_folder, write_json
from storage.logs import bound


def workplace(home: Path, request_id: str) -> Path:
    """An empty folder to work on a request in; what a killed agent left there is removed."""
    folder = home / "work" / request_id
    remove(home, folder)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def put(home: Path, request_id: str, report: Path, outcome: dict[str, Any]) -> None:
    """Seal a report's folder with its outcome and move it into the outbox.

    Raises
    ------
    OSError
        The disk is full or fails; nothing is in the outbox then.
    """
    report.mkdir(parents=True, exist_ok=True)
    for file in report.iterdir():
        with file.open("rb") as content:
            os.fsync(content.fileno())
    write_json(report / evaluations.OUTCOME, outcome)
    sync_folder(report)
    place = home / "outbox" / request_id
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        report.rename(place)
    sync_folder(place.parent)


def waiting(home: Path) -> list[str]:
    """The requests whose outcomes wait to be sent, in order of their names."""
    folder = home / "outbox"
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def send(home: Path, say: Callable[[str], None]) -> None:
    """Send every outcome that waits; each leaves the outbox only when its request has ended.

    Raises
    ------
    OutOfReach
        The server went away: what is left waits for the next time.
    """
    for request_id in waiting(home):
        place = home / "outbox" / request_id
        with bound(request=request_id):
            try:
                became = evaluations.deliver(request_id, place)
            except OutOfReach:
                raise
            except NotInRegistry as error:
                became = f"dropped: {error}"
            except RegistryError as error:
                say(f"request {request_id}: kept in the outbox: {error}")
                continue
            say(f"request {request_id}: {became}")
        remove(home, place)


def remove(home: Path, folder: Path) -> None:
    """Remove a folder so that half of it is never taken for a whole one."""
    if not folder.exists():
        return
    trash = home / "trash" / uuid.uuid4().hex
    trash.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(trash)
    sync_folder(folder.parent)
    shutil.rmtree(trash.parent)
