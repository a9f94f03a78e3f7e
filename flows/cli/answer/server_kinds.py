"""What the commands of servers answer."""

from __future__ import annotations

from dataclasses import dataclass

from flows.cli.answer.data_kinds import Remark


@dataclass(frozen=True)
class Up:
    """`holter up`: servers by variable, the worker's process (0: none), the file of the key.

    `started` is False where they were up before, or are others' that the environment names.
    `review` is the review page's address; "" where it is not served from here.
    """

    started: bool
    servers: dict[str, str]
    worker_pid: int
    key_file: str
    notes: list[str]
    review: str = ""


@dataclass(frozen=True)
class ReviewPage:
    """`holter review`: the page's address, or who was let in (--add), and the file of the keys.

    `started` is False where the page was up before. `person` is who the key is of.
    """

    address: str
    started: bool
    person: str
    role: str
    people_file: str


@dataclass(frozen=True)
class Down:
    """`holter down`: whether anything was up."""

    stopped: bool


@dataclass(frozen=True)
class RunState:
    """A flow run: when it began, how long it took, or has taken so far."""

    name: str
    state: str
    start: str
    seconds: float
    message: str


@dataclass(frozen=True)
class ModelState:
    """A registered model: its newest version, and the versions that its aliases are on."""

    name: str
    newest: int
    aliases: dict[str, int]


@dataclass(frozen=True)
class Status:
    """`holter status`: servers by variable, the worker, runs closed, last runs, models."""

    up: bool
    servers: dict[str, str]
    worker: str
    closed: list[Remark]
    runs: list[RunState]
    models: list[ModelState]


@dataclass(frozen=True)
class HealthCheck:
    """A check of `holter doctor`: what was found; what to do, where there is a problem."""

    name: str
    ok: bool
    state: str
    advice: str


@dataclass(frozen=True)
class Health:
    """`holter doctor`: each check, and how many have a problem."""

    checks: list[HealthCheck]
    problems: int


@dataclass(frozen=True)
class Variables:
    """`holter env`: variables that reach the servers; keys and passwords are among them."""

    variables: dict[str, str]


@dataclass(frozen=True)
class Notices:
    """`holter notify`: the notices that are on, by name; whether a test was sent."""

    notices: dict[str, str]
    test: bool
