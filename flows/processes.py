"""Long pieces of work side by side: each in a process of its own with one thread.

Nothing here loads Prefect, so that a process starts fast.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, Protocol, TypeVar

from storage.errors import TrainingStopped


class WithTitle(Protocol):
    """A piece of work that can be named to people."""

    def title(self) -> str:
        """In words."""
        ...


Job = TypeVar("Job", bound=WithTitle)
Result = TypeVar("Result")


def begin() -> None:
    """Keep TensorFlow's log out of the parent's progress, and end when the parent has ended.

    A parent that is killed cannot end its trainings: they would go on for hours beside those that
    the same command starts again.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    parent = parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=follow, daemon=True).start()


def in_processes(
    work: Callable[..., Result], jobs: Mapping[Job, tuple[Any, ...]], workers: int
) -> Iterator[tuple[Job, Result]]:
    """Each job with what `work` made of its arguments, in the order in which they end.

    Raises
    ------
    TrainingStopped
        A process was killed; jobs that have not begun are left out.
    """
    if not jobs:
        return
    context = get_context("spawn")  # a forked TensorFlow hangs
    count = min(workers, len(jobs))
    with ProcessPoolExecutor(count, mp_context=context, initializer=begin) as pool:
        waiting = {pool.submit(work, *words): job for job, words in jobs.items()}
        try:
            for future in as_completed(waiting):
                job = waiting[future]
                yield job, future.result()
        except BrokenProcessPool as error:
            raise TrainingStopped(
                f"{job.title()}: found its process killed; expected it to finish. What is done is "
                "kept: run the same command again"
            ) from error
        except BaseException:  # whoever ends it does not wait for the jobs that have not begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise
