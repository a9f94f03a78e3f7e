"""What a training keeps while it runs, so that one that was killed goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.services.progress import Progress
from flows.train.training_run import TrainingRun
from storage.files import home
from storage.registry import tracking
from storage.tables.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from storage.tables.results import ArrayFolder


@contextmanager
def kept_training(
    run: TrainingRun, run_id: str
) -> Iterator[tuple[Checkpoint | None, Callable[[Checkpoint], None]]]:
    """Where a training goes on from, and what keeps it; its values go to MLflow as they come."""
    path = home() / "checkpoints" / f"{run.fingerprint()}.npz"
    with Progress(f"Training {run.settings.model}", run.settings.epochs) as progress:

        def keep(state: Checkpoint) -> None:
            write_checkpoint(path, state)
            values = {key: column[-1] for key, column in state.history.items()}
            tracking.log_metrics(run_id, values, step=state.epoch - 1)
            progress.step(f"validation loss {values['val_loss']:.4f}")

        yield read_checkpoint(path), keep
    path.unlink(missing_ok=True)


@contextmanager
def kept_calibration(run: TrainingRun) -> Iterator[ArrayFolder]:
    """Where a training keeps the answers that its rule is fixed on, until it is."""
    folder = home() / "checkpoints" / f"{run.fingerprint()}-folds"
    yield ArrayFolder(folder)
    if folder.is_dir():
        shutil.rmtree(folder)
