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

from edge_agent.job import Job, place
from storage.errors import DeviceError, NotInRegistry, OutOfReach, RegistryError
from storage.files import sync_folder, write_json
from storage.logs import bound
from storage.registry import evaluations
from storage.registry.answers import RUN_ID


def make_workplace(job: Job) -> None:
    """Empty the folder that a job is worked on in; what a killed agent left there is removed."""
    remove(job.home, job.folder)
    job.folder.mkdir(parents=True, mode=0o700)


def put(job: Job) -> None:
    """Seal a job's report with its outcome and move it into the outbox.

    Raises
    ------
    OSError
        The disk is full or fails; nothing is in the outbox then.
    """
    report = job.report
    report.mkdir(parents=True, exist_ok=True)
    for file in report.iterdir():
        with file.open("rb") as content:
            os.fsync(content.fileno())
    write_json(report / evaluations.OUTCOME, {"request": job.request_id, **vars(job.outcome)})
    sync_folder(report)
    sealed = place(job.home, "outbox", job.request_id)
    sealed.parent.mkdir(parents=True, exist_ok=True)
    if not sealed.exists():
        report.rename(sealed)
    sync_folder(sealed.parent)


def waiting(home: Path) -> list[str]:
    """The requests whose outcomes wait to be sent, in order of their ids; nothing else is one."""
    folder = home / "outbox"
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [entry.name for entry in entries if RUN_ID.fullmatch(entry.name)]


def send(
    home: Path, say: Callable[[str], None], complain: Callable[[str], None] | None = None
) -> None:
    """Send every outcome that waits; each leaves the outbox only when its request has ended.

    One that the disk damaged leaves it too: its request is still open, and is worked on again.

    Raises
    ------
    OutOfReach
        The server went away: what is left waits for the next time.
    """
    for request_id in waiting(home):
        sealed = place(home, "outbox", request_id)
        with bound(request=request_id):
            try:
                became = evaluations.deliver(request_id, sealed)
            except OutOfReach:
                raise
            except (NotInRegistry, DeviceError) as error:
                became = f"dropped: {error}"
            except RegistryError as error:
                (complain or say)(f"request {request_id}: kept in the outbox: {error}")
                continue
            say(f"request {request_id}: {became}")
        remove(home, sealed)


def remove(home: Path, folder: Path) -> None:
    """Remove a folder so that half of it is never taken for a whole one."""
    if not folder.exists():
        return
    trash = home / "trash" / uuid.uuid4().hex
    trash.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(trash)
    sync_folder(folder.parent)
    shutil.rmtree(trash.parent)
