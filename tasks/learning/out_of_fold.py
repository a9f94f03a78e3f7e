"""Out of fold: every record is answered by a network that never saw its patient.

What decides between AF and not AF is fixed on such answers too, of other patients.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from storage.errors import SplitError
from tasks.features.rhythm import RhythmRecord
from tasks.learning.distillation import Teaching
from tasks.learning.rhythm_training import (
    RhythmConfig,
    fit_rhythm,
    predict_records,
    prepare_learner,
)
from tasks.learning.training import Course

Floats = NDArray[np.float32]


class Keep(Protocol):
    """Where the answers of a fold are kept by its key, of one code and of one teacher."""

    def read(self, key: str) -> Mapping[str, NDArray[Any]] | None:
        """The answers of a key, or None where there are none that are whole."""

    def write(self, key: str, answers: dict[str, Floats]) -> None:
        """Keep the answers of a key, whole or not at all."""


def out_of_fold(
    network: str,
    records: Sequence[RhythmRecord],
    config: RhythmConfig,
    folds: Sequence[Collection[str]],
    beside: Sequence[RhythmRecord] = (),
    keep: Keep | None = None,
    teaching: Teaching | None = None,
    learner: Any = None,
    also: Sequence[RhythmRecord] = (),
) -> dict[str, Floats]:
    """Answer the records of each fold by a network that learnt from all but the fold's patients.

    The networks of all folds begin with the same seed, and the first one's graph serves them all.

    Parameters
    ----------
    network : str
        A network of the rhythm or the fused family.
    records : sequence of RhythmRecord
        Those to answer, of unique names. Those of a subject that is in no fold are learnt from in
        every fold, and get no answer.
    config : RhythmConfig
        How a network learns; without early stopping, which needs patients of its own.
    folds : sequence of collection of str
        The subjects of each fold.
    beside : sequence of RhythmRecord
        Learnt from too, but for those of a fold's own subjects: other data sets, other leads.
    keep : Keep, optional
        Where each fold's answers are kept as they come: a killed run goes on.
    teaching : Teaching, optional
        Whose answers are learnt from too; it must not know any subject of the folds.
    learner : keras.Model, optional
        From `prepare_learner` with the same network, config and teaching; its seed may differ.
    also : sequence of RhythmRecord, optional
        To answer as well, and never learnt from: strips of the records, of names of their own.

    Returns
    -------
    dict of str to float32, shape (n,)
        P(AF) of every beat, by the records' names in their order.

    Raises
    ------
    SplitError
        A subject is in two folds, a fold has no record, or leaves nothing to learn from.
    ValueError
        Two records have one name, or `config` asks for early stopping.
    """
    check_folds([*records, *also], folds)
    if config.patience:
        raise ValueError(
            f"patience: found {config.patience}; expected 0, as early stopping needs patients "
            "that neither learn nor test"
        )
    digests = {id(record): record_digest(record) for record in (*records, *beside, *also)}
    answers: dict[str, Floats] = {}
    for people in folds:
        learning, tested = sides_of(records, people, beside)
        tested += [record for record in also if record.subject in people]
        key = fold_key(network, config, *([digests[id(r)] for r in s] for s in (learning, tested)))
        fold_answers = whole_answers(keep.read(key), tested) if keep else None
        if fold_answers is None:
            learner = learner or prepare_learner(network, config, teaching)
            course = Course(teaching=teaching)
            model, _ = fit_rhythm(network, learning, config, course=course, model=learner)
            fold_answers = answers_of(model, network, tested)
            if keep:
                keep.write(key, fold_answers)
        answers |= fold_answers
    names = (record.name for record in (*records, *also))
    return {name: answers[name] for name in names if name in answers}


def answers_of(model: Any, network: str, records: Sequence[RhythmRecord]) -> dict[str, Floats]:
    """P(AF) of every beat of records by their names; short ones are answered together."""
    answers = {record.name: np.empty(0, np.float32) for record in records}
    some = [record for record in records if len(record)]
    names = (record.name for record in some)
    return answers | dict(zip(names, predict_records(model, network, some), strict=True))


def check_folds(records: Sequence[RhythmRecord], folds: Sequence[Collection[str]]) -> None:
    """Make sure that no subject is in two folds, and that each fold has records to answer.

    Raises
    ------
    SplitError
        A subject is in two folds, or a fold has no record.
    ValueError
        Two records have one name.
    """
    counts = Counter(record.name for record in records)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise ValueError(f"records of one name: found {', '.join(twice)}; expected each once")
    people: set[str] = set()
    subjects = {record.subject for record in records}
    for number, fold in enumerate(folds, 1):
        if common := people & set(fold):
            raise SplitError(f"in two folds: subject {', '.join(sorted(common))}")
        if not subjects & set(fold):
            raise SplitError(f"fold {number}: found no record of {', '.join(sorted(fold))}")
        people |= set(fold)


def sides_of(
    records: Sequence[RhythmRecord],
    people: Collection[str],
    beside: Sequence[RhythmRecord] = (),
) -> tuple[list[RhythmRecord], list[RhythmRecord]]:
    """What a fold learns from, and what it answers: the records of its people.

    Raises
    ------
    SplitError
        No beat with a known rhythm is left to learn from.
    """
    learning = [record for record in (*records, *beside) if record.subject not in people]
    if not any((record.label >= 0).any() for record in learning):
        raise SplitError(
            f"without {', '.join(sorted(people))}: found no beat with a known rhythm to learn from"
        )
    return learning, [record for record in records if record.subject in people]


def record_digest(record: RhythmRecord) -> str:
    """Digest of all that is learnt from a record."""
    digest = hashlib.sha256(json.dumps([record.name, record.subject, record.weight]).encode())
    for array in _arrays(record):
        digest.update(f"|{array.dtype} {array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _arrays(record: RhythmRecord) -> Iterator[NDArray[Any]]:
    yield record.rr_s
    yield record.label
    yield np.array(record.labelled_whole)
    for array in (record.shape, record.flutter):
        if array is not None:
            yield array


def fold_key(
    network: str, config: RhythmConfig, learning: Sequence[str], tested: Sequence[str]
) -> str:
    """Digest of what a fold's answers depend on, from its records' digests; code and teacher apart.

    The order of the records counts: windows are drawn by it.
    """
    content = [network, asdict(config), list(learning), list(tested)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def whole_answers(
    arrays: Mapping[str, NDArray[Any]] | None, tested: Sequence[RhythmRecord]
) -> dict[str, Floats] | None:
    """Answers that were kept, where they are of every beat of every record; else None."""
    if arrays is None or arrays.keys() != {record.name for record in tested}:
        return None
    parts = {record.name: arrays[record.name] for record in tested}
    if any(parts[r.name].shape != (len(r),) or parts[r.name].dtype != np.float32 for r in tested):
        return None
    return parts
