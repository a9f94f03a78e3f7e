"""Jobs and their outbox: an outcome is on disk, whole, before it is sent, and until all of it is.

A job is one evaluation on this device, from its claim to its report; each step gives the job as it
stands then. The state folder holds its `work/ID` and `tries/ID` while it is at work.

`work/ID` becomes `outbox/ID` in one rename, and `outbox/ID` goes away in another: a process killed
between any two instructions leaves an outcome to send again or none, never half of one.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from storage.errors import DeviceError, NotInRegistry, OutOfReach, RegistryError
from storage.files import read_state, sync_folder, write_json
from storage.logs import bound
from storage.registry import client, evaluations
from storage.registry.answers import RUN_ID, run_id
from storage.registry.evaluations import Outcome, RequestState
from storage.registry.tags import REASON_TAG

#: A request that ended the agent's process this often is reported as failed.
MOST_TRIES = 5


def place(home: Path, kind: str, request_id: str) -> Path:
    """Where the agent keeps something of a request; RegistryError where the id is none."""
    return home / kind / run_id(request_id)


@dataclass(frozen=True)
class Job:
    """An evaluation that this agent has claimed.

    Attributes
    ----------
    home : Path
        The agent's state folder.
    request : RequestState
        What is asked, as it stood when it was claimed.
    outcome : Outcome
        How it ended; until then FINISHED without figures. The number of its claim is in it.
    tries : int
        How often its work was begun, this time included; 0 before.
    """

    home: Path
    request: RequestState
    outcome: Outcome
    tries: int = 0

    @property
    def request_id(self) -> str:
        """The request's run."""
        return self.request.request_id

    @property
    def reference(self) -> str:
        """The version that is evaluated, NAME/version."""
        return f"{self.request.model}/{self.request.version}"

    @property
    def folder(self) -> Path:
        """The folder that it is worked on in; RegistryError where the request's id is none."""
        return place(self.home, "work", self.request_id)

    @property
    def report(self) -> Path:
        """The folder of its report's files, which the outbox takes whole."""
        return self.folder / "report"

    @property
    def is_good(self) -> bool:
        """Whether it did not fail."""
        return self.outcome.status == "FINISHED"


def new_job(home: Path, request: RequestState, claim: int, tags: Mapping[str, str]) -> Job:
    """The job of a claimed request; `tags` are those that its outcome has in any case."""
    time_ms = int(1000 * client.server_time_s())
    return Job(home, request, Outcome(claim, "FINISHED", {}, tags, time_ms))


def try_again(job: Job) -> Job:
    """The job, begun once more; the number of tries is kept on disk.

    Raises
    ------
    DeviceError
        It ended the agent's process `MOST_TRIES` times, or that number cannot be read.
    """
    path = place(job.home, "tries", job.request_id)
    tries = 1 + (read_state(path, int) if path.exists() else 0)
    write_json(path, tries)
    if tries > MOST_TRIES:
        raise DeviceError(f"the agent's process ended {MOST_TRIES} times while it evaluated")
    return replace(job, tries=tries)


def forget_tries(job: Job) -> None:
    """A job whose tries do not count: it is done, or what ended it was not its own fault."""
    place(job.home, "tries", job.request_id).unlink(missing_ok=True)


def finish(job: Job, metrics: Mapping[str, float], tags: Mapping[str, str] | None = None) -> Job:
    """The job with its figures and further tags; what is not finite is left undefined."""
    more = {**job.outcome.tags, **(tags or {})}
    return replace(job, outcome=replace(job.outcome, metrics=finite(metrics), tags=more))


def fail(job: Job, reason: str) -> Job:
    """The job as one that failed, and why."""
    tags = {**job.outcome.tags, REASON_TAG: reason[:4000]}
    return replace(job, outcome=replace(job.outcome, status="FAILED", tags=tags))


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Figures as JSON takes them: None for what is not finite."""
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}


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
