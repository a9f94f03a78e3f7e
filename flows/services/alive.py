"""Runs whose process is gone: found and closed, so that none stays RUNNING for ever.

A flow that begins writes down which process runs it, and takes the note away when it ends
(`storage.run_notes`). A note whose process is no more is of a run that was killed: it is closed as
Crashed in Prefect and as FAILED in MLflow, by the next flow of this state folder, or by `holter
status`.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import TaskRun
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed
from rich.markup import escape

from flows.exchange import hooks
from flows.services import logs
from flows.services.progress import console
from storage.errors import RegistryError
from storage.files import write_json
from storage.registry import tracking
from storage.run_notes import Alive as Alive
from storage.run_notes import closed_folder, notes_folder, read_note, since_start
from storage.run_notes import dead_runs as dead_runs

#: How long a closed run's task runs may still come up, in seconds.
LATE_S = 600.0
#: How long it takes Prefect's server, at most, to write down what became of a task.
SETTLE_S = 10.0


def _begin(flow: Any, flow_run: Any, _state: Any) -> None:
    """Note who runs this, and close what died before."""
    pid = os.getpid()
    note = Alive(str(flow_run.id), flow.name, platform.node(), pid, since_start(pid))
    write_json(notes_folder() / f"{flow_run.id}.json", asdict(note))
    close_dead()


def _end(_flow: Any, flow_run: Any, _state: Any) -> None:
    (notes_folder() / f"{flow_run.id}.json").unlink(missing_ok=True)


def _fail(flow: Any, flow_run: Any, state: Any) -> None:
    """End what it left open in MLflow; where MLflow is away the note stays, for the next run."""
    try:
        tracking.close_runs_of(str(flow_run.id), str(state.message or state.name))
    except RegistryError:
        return
    _end(flow, flow_run, state)


def _tell(flow: Any, flow_run: Any, state: Any) -> None:
    """Lineage events of a flow, where they are asked for; that they are lost is told once."""
    hooks.follow(flow, flow_run, state)
    if words := hooks.complaint():
        console.print(f"[yellow]not told[/yellow]  {escape(words)}", soft_wrap=True)


logs.set_up()  # every flow comes by here, a worker's too
#: For a flow's decorator: `@flow(..., **WATCHED)`. What flows give back is not kept by Prefect.
WATCHED: Mapping[str, Any] = {
    "persist_result": False,
    "on_running": [_begin, _tell],
    "on_completion": [_end, _tell],
    "on_failure": [_fail, _tell],
    "on_crashed": [_fail, _tell],
    "on_cancellation": [_fail, _tell],
}


def close_dead() -> list[Alive]:
    """Close the runs whose process is gone, in Prefect and in MLflow; gives what was closed.

    Prefect's server writes the states of tasks down some time after they were told: a task run may
    come up as RUNNING after its flow run was closed. What was closed is looked at again, by every
    call of the next ten minutes.
    """
    for late in closed_folder().glob("*.json"):
        _crash(read_note(late), "it was killed: its flow run is closed")
        if time.time() - late.stat().st_mtime > LATE_S:
            late.unlink(missing_ok=True)
    dead = dead_runs()
    for run in dead:
        reason = f"process {run.pid} on {run.host} is gone: it was killed, or the machine restarted"
        tracking.close_runs_of(run.flow_run_id, reason)
        hooks.bury(run.flow_run_id, run.flow, _crash(run, reason))
        write_json(closed_folder() / f"{run.flow_run_id}.json", asdict(run))
        (notes_folder() / f"{run.flow_run_id}.json").unlink(missing_ok=True)
    return dead


def _crash(run: Alive, reason: str) -> dict[str, Any]:
    """Set a flow run, and the task runs in it, to Crashed, unless they have ended.

    Gives the parameters of the flow run; none where the server does not have it.
    """
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        try:
            flow_run = client.read_flow_run(UUID(run.flow_run_id))
        except ObjectNotFound:  # the server has another database now
            return {}
        within = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
        for task in client.read_task_runs(flow_run_filter=within):
            _crash_task(client, task, reason)
        if flow_run.state and not flow_run.state.is_final():
            client.set_flow_run_state(flow_run.id, Crashed(message=reason), force=True)
        return flow_run.parameters


def close_tasks(lost: Mapping[UUID, str]) -> None:
    """Set task runs whose worker is gone to Crashed with a reason, where they have not ended.

    One that began just before may not be written down yet: it is looked for for some seconds. One
    that never began is not there.
    """
    missing, deadline = dict(lost), time.monotonic() + SETTLE_S
    with get_client(sync_client=True) as client:
        while missing:
            for task_run_id, reason in list(missing.items()):
                with suppress(ObjectNotFound):
                    _crash_task(client, client.read_task_run(task_run_id), reason)
                    del missing[task_run_id]
            if time.monotonic() > deadline:
                return
            time.sleep(0.5 if missing else 0)


def _crash_task(client: SyncPrefectClient, task: TaskRun, reason: str) -> None:
    if task.state and not task.state.is_final():
        client.set_task_run_state(task.id, Crashed(message=reason), force=True)
