"""The reproduction's trainings: each in a process of its own, its result kept.

Nothing here loads Prefect, so that a process starts fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flows.processes import in_processes
from flows.services.progress import Progress
from storage.errors import TrainingStopped
from storage.files import home
from storage.places import Place
from storage.tables.beats_manifest import read_manifest
from storage.tables.checkpoint import read_checkpoint, write_checkpoint
from storage.tables.content import copies_among
from storage.tables.labelled import read_labelled
from storage.tables.results import read_arrays, write_arrays
from tasks.learning.epochs import in_order
from tasks.learning.reproduction import Result, Training, split_of
from tasks.learning.splits import assert_no_copy, assert_no_leak
from tasks.learning.training import Course, TrainingConfig, fit, predict

Work = Callable[[Training, Place, Path], Path]


def run_training(training: Training, manifest: Place, out: Path) -> Path:
    """Train and answer the test side; the result is kept at `out` once it is whole.

    A training that was killed goes on from its last epoch.
    """
    beats = read_labelled([manifest])
    split = split_of(training, beats.subject, beats.label)
    assert_no_leak(split, beats.subject)
    assert_no_copy(split, copies_among([read_manifest(manifest)]))
    start = time.process_time()
    checkpoint = out.with_suffix(".checkpoint.npz")
    network, state = fit(
        training.model,
        beats,
        (split.train, split.validation),
        TrainingConfig(
            training.epochs,
            training.batch,
            training.learning_rate,
            training.most_beats,
            seed=training.seed,
        ),
        Course(read_checkpoint(checkpoint), partial(write_checkpoint, checkpoint)),
    )
    answers = [predict(network, x) for x, _ in in_order(beats, split.test)]
    write_arrays(
        out,
        {
            "label": beats.label[split.test],
            "probability": np.concatenate(answers),
            "subject": beats.subject[split.test],
            "best_epoch": np.array(state.best_epoch),
            "cpu_s": np.array(time.process_time() - start),
        },
    )
    checkpoint.unlink(missing_ok=True)
    return out


def read_result(path: Path) -> Result | None:
    """The result at `path`, or None where there is none that is whole."""
    arrays: dict[str, Any] | None = read_arrays(path)
    if arrays is None:
        return None
    return Result(
        label=arrays["label"],
        probability=arrays["probability"],
        subject=arrays["subject"],
        best_epoch=int(arrays["best_epoch"]),
        cpu_s=float(arrays["cpu_s"]),
    )


def run_missing(
    trainings: Sequence[Training], manifest: Place, workers: int, work: Work = run_training
) -> dict[Training, Result]:
    """Run the trainings that have no result yet, each in a process of one thread.

    Raises
    ------
    TrainingStopped
        A process was killed; what is finished is kept, and the same call does the rest.
    """
    place = {t: home() / "reproduce" / f"{t.key()}.npz" for t in trainings}
    results = {t: result for t in trainings if (result := read_result(place[t])) is not None}
    missing = {t: (t, manifest, place[t]) for t in trainings if t not in results}
    with Progress(f"Trainings ({len(results)} kept from before)", len(missing)) as progress:
        for training, path in in_processes(work, missing, workers):
            result = read_result(path)
            if result is None:
                raise TrainingStopped(f"{training.title()}: {path} cannot be read back")
            results[training] = result
            progress.step(training.title())
    return {t: results[t] for t in trainings}
