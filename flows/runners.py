"""Where the tasks of a flow run: threads here, processes here, or the workers of a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

WORKERS = 2
#: Records are put together into one task until they hold so many bytes, or are so many: a task
#: costs the Prefect server 30 ms and Dask 135 ms, whatever it does.
BATCH_BYTES = 16 << 20
BATCH_RECORDS = 64


def _workers() -> int:
    return int(os.environ.get("HOLTER_WORKERS") or WORKERS)


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
        No such runner, or Dask's scheduler or package is missing.
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
CHOSEN: Any = ChosenRunner()


def batches(folder: Path, names: Sequence[str]) -> list[list[str]]:
    """Records put together, in order, until a batch is worth a task; a large one is alone."""
    sizes: dict[str, int] = {}
    for parent in {(folder / name).parent for name in names}:
        for path in parent.iterdir() if parent.is_dir() else ():
            stem = path.relative_to(folder).parent / path.name.partition(".")[0]
            sizes[stem.as_posix()] = sizes.get(stem.as_posix(), 0) + path.stat().st_size
    out: list[list[str]] = []
    held = BATCH_BYTES
    for name in names:
        size = sizes.get(name, 0)
        if held + size > BATCH_BYTES or len(out[-1]) == BATCH_RECORDS:
            out.append([])
            held = 0
        out[-1].append(name)
        held += size
    return out
