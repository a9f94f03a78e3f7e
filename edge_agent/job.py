"""A job: one evaluation on this device, from its claim to its report.

The agent claims a request and has a job; each step gives the job as it stands then. The state
folder holds a job's `work/ID` and `tries/ID` while it is at work, and `outbox/ID` once it ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from storage.errors import DeviceError
from storage.files import read_state, write_json
from storage.registry import client
from storage.registry.answers import run_id
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


def finished(job: Job, metrics: Mapping[str, float]) -> Job:
    """The job with its figures; what is not finite is left undefined."""
    return replace(job, outcome=replace(job.outcome, metrics=finite(metrics)))


def failed(job: Job, reason: str) -> Job:
    """The job as one that failed, and why."""
    tags = {**job.outcome.tags, REASON_TAG: reason[:4000]}
    return replace(job, outcome=replace(job.outcome, status="FAILED", tags=tags))


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Figures as JSON takes them: None for what is not finite."""
    return {name: value if np.isfinite(value) else None for name, value in metrics.items()}
