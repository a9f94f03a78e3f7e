"""What `holter status` shows: servers, workers, the last runs, the newest model versions."""

from __future__ import annotations

from datetime import datetime, timezone

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStartTime
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from rich.markup import escape
from rich.table import Table

from flows.services.events import ENDING
from storage.addresses import without_credentials
from storage.registry import tracking

RUNS = 8


def runs_table() -> Table:
    """The last flow runs that began, newest first; what failed in red, some records in yellow."""
    table = Table("run", "state", "began", "took", "message", title="Last runs", title_style="bold")
    start_filter = FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=start_filter, sort=FlowRunSort.START_TIME_DESC, limit=RUNS
        )
    now = datetime.now(timezone.utc)
    for run in runs:
        state, start = run.state, run.start_time or now
        bad = state is not None and (state.is_failed() or state.is_crashed())
        lacking = state is not None and (state.name or "").endswith(ENDING)
        message = without_credentials(state.message or "")[:80] if state else ""
        table.add_row(
            escape(run.name),
            state.name if state else "",
            f"{(now - start).total_seconds() / 60:.0f} min ago",
            f"{run.total_run_time.total_seconds():.0f} s",
            escape(message) if bad or lacking else "",
            style="red" if bad else "yellow" if lacking else None,
        )
    return table


def models_table() -> Table:
    """The newest version of every registered model, and what its aliases point at."""
    table = Table("model", "newest", "aliases", title="Models", title_style="bold")
    for name, newest, aliases in tracking.newest_versions():
        text = "  ".join(f"{alias}: {number}" for alias, number in sorted(aliases.items()))
        table.add_row(escape(name), str(newest), escape(text))
    return table


def pool_line(name: str) -> str:
    """One line on the work pool."""
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_work_pool(name)
        except ObjectNotFound:
            return f"no pool {name}: `holter up --worker` makes it"
    return f"pool {name} is {(pool.status.value if pool.status else 'unknown').lower()}"
