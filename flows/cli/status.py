"""What `holter status` shows: servers, workers, the last runs, the newest model versions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

from flows.cli.answer.data_kinds import Remark
from flows.cli.answer.server_kinds import ModelState, RunState, Status
from flows.cli.options import quiet
from flows.reports.shown import say, show_table
from flows.services.events import ENDING
from flows.services.up_state import answering, ask_prefect
from storage import run_notes
from storage.addresses import without_credentials
from storage.registry.models import newest_versions

RUNS = 8
#: Seconds of a unit, its name, and those of the next smaller one.
UNITS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))
#: States whose message is shown, by how their names end, and their colour.
STYLES = {"Failed": "red", "Crashed": "red", ENDING: "yellow"}


def read_status(servers: Mapping[str, str], pool: str) -> Status:
    """How all is; runs that were killed are closed first."""
    closed = [Remark(run.flow, f"its process {run.pid} is gone") for run in _close_dead()]
    models = [ModelState(*model) for model in newest_versions()]
    return Status(True, {**servers}, pool_line(pool), closed, last_runs(), models)


def _close_dead() -> list[run_notes.Alive]:
    """Close what was killed; Prefect's and MLflow's packages are loaded for that alone."""
    if not run_notes.has_unsettled_runs():
        return []
    quiet()
    with answering(os.environ["PREFECT_API_URL"]):
        from flows.services.alive import close_dead

        return close_dead()


def last_runs() -> list[RunState]:
    """The last flow runs that began, newest first."""
    began = {"start_time": {"is_null_": False}}
    body = {"flow_runs": began, "sort": "START_TIME_DESC", "limit": RUNS}
    runs = ask_prefect("flow_runs/filter", body) or []
    return [_run(run, datetime.now(timezone.utc)) for run in runs]


def _run(run: Mapping[str, Any], now: datetime) -> RunState:
    """A run; one that still runs has taken the time since it began, by the clock here."""
    start, end = (
        datetime.fromisoformat(text) if (text := run[name]) else now
        for name in ("start_time", "end_time")
    )
    state = run["state"] or {}
    name, message = state.get("name") or "", state.get("message") or ""
    return RunState(
        name=run["name"],
        state=name,
        start=start.isoformat(timespec="seconds"),
        seconds=max((end - start).total_seconds(), 0.0),
        message=" ".join(without_credentials(message).split()) if _style(name) else "",
    )


def _style(state: str) -> str:
    return next((style for end, style in STYLES.items() if state.endswith(end)), "")


def show_status(status: Status) -> None:
    """The same for people; what failed in red, some records in yellow, its message below it."""
    for name, value in status.servers.items():
        say(f"{name:<20} {value}")
    say(f"{'worker':<20} {status.worker}")
    for remark in status.closed:
        say(f"closed  {remark.name}: {remark.text}", "yellow")
    now = datetime.now(timezone.utc)
    rows = [
        (run.name, run.state, _age(now - datetime.fromisoformat(run.start)), duration(run.seconds))
        for run in status.runs
    ]
    styles = [_style(run.state) for run in status.runs]
    say()
    show_table(["run", "state", "began", "took"], rows, "Last runs", styles)
    for run in status.runs:
        if run.message:
            say(f"{run.name}: {run.message}", _style(run.state))
    say()
    aliases = [
        (model.name, str(model.newest), "  ".join(f"{a}: {n}" for a, n in model.aliases.items()))
        for model in status.models
    ]
    show_table(["model", "newest", "aliases"], aliases, "Models")


def _age(age: timedelta) -> str:
    return f"{duration(age.total_seconds())} ago"


def duration(seconds: float) -> str:
    """A duration in its two largest units; less than ten seconds with a tenth."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    for size, unit, part, smaller in UNITS:
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole} s"


def pool_line(name: str) -> str:
    """One line on the work pool."""
    pool = ask_prefect(f"work_pools/{quote(name)}")
    if pool is None:
        return f"no pool {name}: `holter up --worker` makes it"
    return f"pool {name} is {(pool['status'] or 'unknown').lower()}"
