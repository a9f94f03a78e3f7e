"""What `holter status` shows: servers, workers, the last runs, the newest model versions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStartTime
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from flows.cli.answer.kinds import ModelState, Remark, RunState, Status
from flows.reports.shown import say, show_table
from flows.services.alive import close_dead
from flows.services.events import ENDING
from storage.addresses import without_credentials
from storage.registry import tracking

RUNS = 8
#: Seconds of a unit, its name, and those of the next smaller one.
UNITS = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))
#: States whose message is shown, by how their names end, and their colour.
STYLES = {"Failed": "red", "Crashed": "red", ENDING: "yellow"}


def read_status(servers: Mapping[str, str], pool: str) -> Status:
    """How all is; runs that were killed are closed first."""
    closed = [Remark(run.flow, f"its process {run.pid} is gone") for run in close_dead()]
    models = [
        ModelState(name, int(newest), {alias: int(n) for alias, n in sorted(aliases.items())})
        for name, newest, aliases in tracking.newest_versions()
    ]
    return Status(True, {**servers}, pool_line(pool), closed, last_runs(), models)


def last_runs() -> list[RunState]:
    """The last flow runs that began, newest first."""
    start_filter = FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=start_filter, sort=FlowRunSort.START_TIME_DESC, limit=RUNS
        )
    return [_run(run, datetime.now(timezone.utc)) for run in runs]


def _run(run: FlowRun, now: datetime) -> RunState:
    """A run; one that still runs has taken the time since it began, by the clock here."""
    start = run.start_time or now
    seconds = ((run.end_time or now) - start).total_seconds()
    state = (run.state.name or "") if run.state else ""
    message = (run.state.message or "") if run.state and _style(state) else ""
    return RunState(
        name=run.name,
        state=state,
        start=start.isoformat(timespec="seconds"),
        seconds=max(seconds, 0.0),
        message=" ".join(without_credentials(message).split()),
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
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_work_pool(name)
        except ObjectNotFound:
            return f"no pool {name}: `holter up --worker` makes it"
    return f"pool {name} is {(pool.status.value if pool.status else 'unknown').lower()}"
