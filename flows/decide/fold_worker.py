"""The trainings of folds: each in a process of one thread, its answers kept by their digest.

Nothing here loads Prefect, so that a process starts fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.processes import in_processes
from flows.services.progress import Progress
from storage.audit.provenance import code_of
from storage.errors import TableError, TrainingStopped
from storage.files import home, sha256_file, sha256_json
from storage.places import Place
from storage.tables.beats_manifest import read_manifest
from storage.tables.labelled import read_rhythms
from storage.tables.results import ArrayFolder
from tasks.features.rhythm import RhythmRecord
from tasks.learning.balance import balance_records
from tasks.learning.folds import Fold
from tasks.learning.out_of_fold import out_of_fold
from tasks.learning.rhythm_training import RhythmConfig, prepare_learner
from tasks.networks.sequence import reads_waveforms, sequence_record
from tasks.networks.strips import strips_of

Answers = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Source:
    """The beat tables of a data set, by their manifest's place and digest, and their weight."""

    dataset: str
    place: Place
    sha256: str
    weight: float


@dataclass(frozen=True)
class FoldTraining:
    """The training of one fold: everything that its answers depend on, but for the code."""

    network: str
    config: RhythmConfig
    balance: str
    sources: tuple[Source, ...]
    fold: Fold

    def key(self) -> str:
        """Digest of it all and of the code: the same key means the same answers."""
        sources = [
            [source.sha256, source.weight]
            for source in self.sources
            if any(n.startswith(f"{source.dataset}/") for n in (*self.fold.learn, *self.fold.test))
        ]
        parts = [self.network, asdict(self.config), self.balance, sources, asdict(self.fold)]
        return sha256_json([*parts, code_sha256()])

    def title(self) -> str:
        """Network, seed, and who is tested."""
        first, *rest = self.fold.test
        more = f" and {len(rest)} more" if rest else ""
        return f"{self.network}, seed {self.config.seed}, testing {first}{more}"


#: What trains and answers a fold, and keeps its answers.
Work = Callable[[FoldTraining], object]


@cache
def code_sha256() -> str:
    """Digest of the code that trains and answers."""
    paths = code_of("tasks.learning.out_of_fold", "tasks.learning.balance", "tasks.networks.strips")
    return sha256_json({name: sha256_file(path) for name, path in paths.items()})


def fold_folder() -> ArrayFolder:
    """Where the answers of folds are kept."""
    return ArrayFolder(home() / "folds")


def read_answers(training: FoldTraining) -> Answers | None:
    """The answers of a fold, or None where there are none that are whole."""
    arrays: dict[str, Any] | None = fold_folder().read(training.key())
    return arrays


@cache
def records_of(source: Source, network: str) -> tuple[RhythmRecord, ...]:
    """What a network reads of a data set's records; read once in a process.

    Raises
    ------
    TableError
        The beat tables are not those that the folds were dealt of.
    """
    manifest = read_manifest(source.place)
    if manifest.digest() != source.sha256:
        raise TableError(
            f"{source.place}: found beat tables of digest {manifest.digest()}; expected "
            f"{source.sha256}: another ingest has changed them, run the same command again"
        )
    tables = read_rhythms([source.place], waveform=reads_waveforms(network))
    return tuple(
        replace(
            sequence_record(network, table, source.weight),
            labelled_whole=entry.labelled_whole,
        )
        for table, entry in zip(tables, manifest.entries, strict=True)
    )


@cache
def learner_of(network: str, config: RhythmConfig) -> Any:
    """The compiled learner of all folds and seeds of a process: tracing it again is dear."""
    return prepare_learner(network, config)


def run_fold(training: FoldTraining) -> None:
    """Train and answer one fold; the answers are kept once they are whole."""
    names = {name.partition("/")[0] for name in (*training.fold.learn, *training.fold.test)}
    records = [
        record
        for source in training.sources
        if source.dataset in names
        for record in records_of(source, training.network)
    ]
    learn, test = set(training.fold.learn), set(training.fold.test)
    learning = [record for record in records if record.subject in learn]
    tested = [record for record in records if record.subject in test]
    answers = out_of_fold(
        training.network,
        tested,
        training.config,
        [test],
        balance_records(learning, training.balance),
        learner=learner_of(training.network, replace(training.config, seed=0)),
        also=strips_of(tested, training.config.seed),
    )
    fold_folder().write(training.key(), answers)


def run_folds(trainings: Sequence[FoldTraining], workers: int, work: Work = run_fold) -> None:
    """Run the folds that have no answers yet, so many at a time.

    Raises
    ------
    TrainingStopped
        A process was killed; what is finished is kept, and the same call does the rest.
    """
    unique = {training.key(): training for training in trainings}
    missing = {t: (t,) for key, t in unique.items() if fold_folder().read(key) is None}
    title = f"Folds ({len(unique) - len(missing)} kept from before)"
    with Progress(title, len(missing)) as progress:
        for training, _ in in_processes(work, missing, workers):
            if read_answers(training) is None:
                raise TrainingStopped(f"{training.title()}: its answers cannot be read back")
            progress.step(training.title())


def all_answers(trainings: Sequence[FoldTraining]) -> Mapping[str, NDArray[np.float32]]:
    """The answers of folds that are done, by the records' names.

    Raises
    ------
    TrainingStopped
        Those of one are not there, or damaged.
    """
    answers: Answers = {}
    for training in trainings:
        part = read_answers(training)
        if part is None:
            raise TrainingStopped(f"{training.title()}: found no answers; run the command again")
        answers |= part
    return answers
