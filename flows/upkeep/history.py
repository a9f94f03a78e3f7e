"""Prefect's history: flow runs that ended long ago and that no chain or ledger names."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from flows.services.access import named_servers
from flows.services.up_state import running
from flows.upkeep.needs import Needs, reasons
from storage.files import home

T = TypeVar("T")
#: Runs in one request.
PAGE = 200
#: Where a run's rows lie in Prefect's database, and the column that names the run.
ROWS = {
    "flow_run": "id",
    "flow_run_state": "flow_run_id",
    "task_run": "flow_run_id",
    "log": "flow_run_id",
    "artifact": "flow_run_id",
}
LOCKED_S = 30.0


@dataclass(frozen=True)
class Run:
    """A flow run that ended before a day: why it stays, "" where it goes."""

    run_id: UUID
    name: str
    reason: str


def _pages(ids: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(ids), most):
        yield ids[start : start + most]


def look(needs: Needs, since_s: float) -> list[Run]:
    """The flow runs that ended before a time, in seconds since 1970, each with its reason."""
    until = datetime.fromtimestamp(since_s, tz=timezone.utc)
    doubt = f"nobody can tell who needs it ({needs.unreadable[0]})" if needs.unreadable else ""
    with get_client(sync_client=True) as client:
        runs = list(_ended(client, until))
        needed = _needed(client, needs)
    return [
        Run(run.id, run.name, doubt or (reasons([needed[run.id]]) if run.id in needed else ""))
        for run in runs
    ]


def _ended(client: SyncPrefectClient, until: datetime) -> Iterator[FlowRun]:
    """Flow runs in a final state that ended before a time, the oldest first."""
    ended = FlowRunFilter(end_time=FlowRunFilterEndTime.model_validate({"before_": until}))
    offset = 0
    while page := client.read_flow_runs(
        flow_run_filter=ended, sort=FlowRunSort.START_TIME_ASC, limit=PAGE, offset=offset
    ):
        yield from (run for run in page if run.state and run.state.is_final())
        offset += len(page)


def _needed(client: SyncPrefectClient, needs: Needs) -> dict[UUID, str]:
    """The flow runs that chains and ledgers name: by themselves, by a task, or by a flow within."""
    needed = {UUID(run_id): reference for run_id, reference in needs.run_ids.items()}
    for ids in _pages(list(needed), PAGE):
        within = TaskRunFilter(id=TaskRunFilterId(any_=list(ids)))
        for task in client.read_task_runs(task_run_filter=within, limit=PAGE):
            if task.flow_run_id:
                needed.setdefault(task.flow_run_id, needed[task.id])
    fresh = list(needed)
    while fresh:
        parents: list[UUID] = []
        for ids in _pages(fresh, PAGE):
            some_runs = FlowRunFilter(id=FlowRunFilterId(any_=list(ids)))
            for run in client.read_flow_runs(flow_run_filter=some_runs, limit=PAGE):
                if run.parent_task_run_id is None:
                    continue
                with suppress(ObjectNotFound):
                    parent = client.read_task_run(run.parent_task_run_id).flow_run_id
                    if parent and parent not in needed:
                        needed[parent] = needed[run.id]
                        parents.append(parent)
        fresh = parents
    return needed


def remove(runs: Sequence[Run], tell: Callable[[int], None] = lambda _: None) -> None:
    """Delete flow runs, with their task runs, states and logs."""
    with get_client(sync_client=True) as client:
        for count, run in enumerate(runs, 1):
            with suppress(ObjectNotFound):
                client.delete_flow_run(run.run_id)
            tell(count)


def database() -> Path | None:
    """The database of the Prefect server that is asked; None where it is not of this machine."""
    path, addresses = home() / "prefect" / "prefect.db", named_servers()
    up = running()
    own = "PREFECT_API_URL" not in addresses or (
        up is not None and addresses["PREFECT_API_URL"] == up.prefect_api
    )
    return path if own else None


def held_bytes(path: Path, run_ids: Iterable[UUID]) -> int:
    """The bytes of all rows of flow runs in a database, without what indexes take."""
    total = 0
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", LOCKED_S, uri=True)) as live:
        for ids in _pages([str(run_id) for run_id in run_ids], 500):
            marks = ",".join("?" * len(ids))
            for table, column in ROWS.items():
                columns = [row[1] for row in live.execute(f"PRAGMA table_info({table})")]
                lengths = " + ".join(f'coalesce(length("{name}"), 0)' for name in columns)
                query = f"SELECT sum({lengths}) FROM {table} WHERE {column} IN ({marks})"  # noqa: S608 - names of our own
                total += live.execute(query, ids).fetchone()[0] or 0
    return total


def shrink(path: Path) -> int:
    """Give a database's free pages back to the disk; the bytes, 0 where a writer holds it."""
    before = path.stat().st_size
    try:
        with closing(sqlite3.connect(path, LOCKED_S, isolation_level=None)) as live:
            live.execute("VACUUM")
            live.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError:
        return 0
    return max(before - path.stat().st_size, 0)
