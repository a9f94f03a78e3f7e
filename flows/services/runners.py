"""Where the tasks of a flow run: threads here, processes here, or the workers of a Dask cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from queue import Empty, Queue
from typing import Any

from prefect.context import FlowRunContext
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from flows.services.alive import close_tasks
from storage.bounds import from_environment
from storage.errors import WorkersGone
from storage.files import owner

WORKERS = 2
#: Records are put together into one task until they hold so many bytes, or are so many: a task
#: costs the Prefect server 30 ms and Dask 135 ms, whatever it does.
BATCH_BYTES = 16 << 20
BATCH_RECORDS = 64
#: How long a cluster may be without a worker, and how often one is looked for, in seconds.
PATIENCE_S = 300.0
LOOK_S = 1.0


def _workers() -> int:
    return int(from_environment("workers", "HOLTER_WORKERS", WORKERS))


def in_flight() -> int:
    """How many tasks are handed to the workers at a time, so that none of them waits."""
    return max(32, 4 * _workers())


def _dask() -> Any:
    try:
        from distributed import get_worker
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise ValueError("HOLTER_RUNNER=dask: install the dask extra") from error
    try:
        get_worker()
    except ValueError:  # not on a worker, where Prefect sets up the flow's context once more
        address = os.environ.get("HOLTER_DASK")
        if not address:
            raise ValueError(
                "HOLTER_RUNNER=dask: name the scheduler in HOLTER_DASK (tcp://host:8786)"
            ) from None
        return DaskTaskRunner(address=address)
    return ThreadPoolTaskRunner(max_workers=1)


#: Threads by default: the kernels release the GIL, and a task costs 4 ms, not 90.
RUNNERS: dict[str, Callable[[], Any]] = {
    "threads": lambda: ThreadPoolTaskRunner(max_workers=_workers()),
    "processes": lambda: ProcessPoolTaskRunner(max_workers=_workers()),
    "dask": _dask,
}


def chosen_runner() -> Any:
    """The task runner that `HOLTER_RUNNER` names: threads, processes or dask.

    `HOLTER_WORKERS` says how many threads or processes there are to be, or workers in the cluster.
    Dask's workers need this project and its dependencies, the records' folder at the same path, and
    a place for beat tables that they share.

    Raises
    ------
    ValueError
        No such runner, or Dask's scheduler or package is missing; or a number out of its bound.
    """
    name = os.environ.get("HOLTER_RUNNER") or "threads"
    if name not in RUNNERS:
        raise ValueError(f"HOLTER_RUNNER={name!r}: expected one of {', '.join(RUNNERS)}")
    return RUNNERS[name]()


class ChosenRunner(ThreadPoolTaskRunner[Any]):
    """Stands in a flow's decorator; every run of the flow gets the runner that is chosen then.

    Not when the module is loaded: a worker loads it as well, and has no need of a cluster.
    """

    def duplicate(self) -> Any:
        """The runner of one flow run, as Prefect asks for it."""
        return chosen_runner()


#: (Any: the flow decorator's type is invariant in the runner's future.)
RUNNER: Any = ChosenRunner()


def batches(folder: Path, names: Sequence[str]) -> list[list[str]]:
    """Records put together, in order, until a batch is worth a task; a large one is alone."""
    sizes = dict.fromkeys(names, 0)
    for parent in {PurePosixPath(name).parent for name in names}:
        place = folder / parent
        for path in place.iterdir() if place.is_dir() else ():
            if (name := owner((parent / path.name).as_posix(), sizes)) is not None:
                sizes[name] += path.stat().st_size
    out: list[list[str]] = []
    total = 0
    for name in names:
        size = sizes[name]
        if not out or total + size > BATCH_BYTES or len(out[-1]) == BATCH_RECORDS:
            out.append([])
            total = 0
        out[-1].append(name)
        total += size
    return out


def _forget_results() -> None:
    """Have Prefect drop what links tasks to their results: no task here takes another's.

    It keeps a state for each, and an entry for each part of it, until the flow ends.
    """
    context = FlowRunContext.get()
    if context is not None:
        context.run_results.clear()


def run_batches(
    submit: Callable[[list[str]], Any], work: Iterable[list[str]]
) -> Iterator[tuple[list[str], Any]]:
    """Hand batches to the workers, and give each with its result as they end.

    No more are handed over than keep the workers busy: a hundred thousand futures are gigabytes.

    Parameters
    ----------
    submit : function
        Hands a batch to the flow's task runner, and gives Prefect's future of it.
    work : iterable of list of str
        The batches.

    Yields
    ------
    batch, result
        What its task gave, or the exception that ended it. A task whose worker was killed too often
        is one, and so is all that is left once a Dask cluster has been without a worker for
        `HOLTER_DASK_PATIENCE_S` seconds. Prefect is told of tasks that cannot tell it themselves.
    """
    finished: Queue[Any] = Queue()
    waiting: dict[Any, list[str]] = {}
    lost: dict[Any, BaseException] = {}
    failure: WorkersGone | None = None
    for batch in [*work, None]:
        while waiting and (batch is None or len(waiting) >= in_flight()):
            try:
                future = _next(finished)
            except WorkersGone as error:
                failure = error
                lost |= dict.fromkeys(waiting, error)
                yield from ((names, error) for names in waiting.values())
                waiting.clear()
                continue
            try:
                result = future.result(raise_on_failure=False)
            except Exception as error:  # the runner's own: no task was there to end with it
                lost[future] = result = error
            yield waiting.pop(future), result
            _forget_results()
        if batch is not None and failure:
            yield batch, failure
        elif batch is not None:
            try:
                future = submit(batch)
            except Exception as error:  # a pool that broke takes no more
                yield batch, error
                continue
            waiting[future] = batch
            future.add_done_callback(finished.put)
    if lost:
        close_tasks({future.task_run_id: str(error) for future, error in lost.items()})


def _next(finished: Queue[Any]) -> Any:
    """The next future that ends; WorkersGone where the cluster has long had nobody to end one."""
    context = FlowRunContext.get()
    client = getattr(context and context.task_runner, "client", None)
    patience_s = from_environment("patience_s", "HOLTER_DASK_PATIENCE_S", PATIENCE_S)
    last_time = time.monotonic()
    while client and finished.empty():
        if _has_workers(client):
            last_time = time.monotonic()
        elif time.monotonic() - last_time > patience_s:
            raise WorkersGone(f"no worker at {os.environ.get('HOLTER_DASK')} for {patience_s:g} s")
        with suppress(Empty):
            return finished.get(timeout=LOOK_S)
    return finished.get()


def _has_workers(client: Any) -> bool:
    try:
        return bool(client.nthreads())
    except Exception:  # out of reach, in whatever way Dask says it
        return False
