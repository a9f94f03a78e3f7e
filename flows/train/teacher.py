"""A teacher: a registered version whose answers a student learns from, verified before it is used.

Its weights are HDF5, whose digest the sealed chain has: nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.train.settings import Training
from storage.audit.sights import LEARNING_SIDES
from storage.audit.versions import VersionRecord, read_version
from storage.errors import DigestMismatch, ModelError, NotInRegistry, SplitError
from storage.files import read_json
from storage.registry.client import fetch_model_file
from storage.registry.model_files import MANIFEST, WEIGHTS, inputs_of
from storage.registry.tags import TEACHER_RUN_TAG, TEACHER_SHA256_TAG, TEACHER_TAG
from storage.tables.content import Recording, copies, of_subjects
from tasks.learning.distillation import Teaching
from tasks.learning.training import predict
from tasks.networks.models import known_models, with_weights
from tasks.networks.sequence import reads_records

#: Rows that a teacher answers at once: beats, or windows.
BATCH = 1_024, 32
MOST_NAMES = 12
#: Teachers that a rebuild brings along: the registry that it works with has none.
_TEACHERS: dict[str, Teacher] = {}


@dataclass(frozen=True, eq=False)
class Teacher:
    """A registered version that teaches.

    Attributes
    ----------
    reference, run_id : str
        NAME/version, and the run that trained it.
    network : str
        Its name in the table of networks.
    sha256 : str
        Digest of its weights.
    weights : bytes
        Keras's HDF5.
    subjects : mapping of str to str
        The subjects that it, or a teacher of its own, was trained or validated on; by which.
    recordings : tuple of Recording
        Their recordings, which may have other names elsewhere.
    inputs : mapping, optional
        Name and shape of what it learnt from, as its manifest has them.
    """

    reference: str
    run_id: str
    network: str
    sha256: str
    weights: bytes
    subjects: Mapping[str, str]
    recordings: tuple[Recording, ...] = ()
    inputs: Mapping[str, Any] | None = None

    def tags(self) -> dict[str, str]:
        """What is recorded of it with a student."""
        return {
            TEACHER_TAG: self.reference,
            TEACHER_RUN_TAG: self.run_id,
            TEACHER_SHA256_TAG: self.sha256,
        }


def read_teacher(reference: str) -> Teacher:
    """The teacher that NAME@alias, NAME/version or NAME means.

    Raises
    ------
    NotInRegistry
        There is no such version, or it is not sealed.
    SignatureError, DigestMismatch
        Its chain is not what a trusted key sealed, or its weights are not those of the chain.
    ModelError
        Its network is not one of the table.
    """
    if reference in _TEACHERS:
        return _TEACHERS[reference]
    version = read_version(reference)
    model, name = version.model, version.params.get("model", "")
    if name not in known_models():
        raise ModelError(
            f"{model.reference}: found network {name!r}; expected one that is built here"
        )
    digest = version.files[WEIGHTS]
    with TemporaryDirectory(prefix="holter-") as folder:
        file = fetch_model_file(model.name, model.version, WEIGHTS, digest, Path(folder))
        weights = file.read_bytes()
        digest_of_manifest = version.files[MANIFEST]
        manifest = fetch_model_file(
            model.name, model.version, MANIFEST, digest_of_manifest, Path(folder)
        )
        inputs = read_json(manifest).get("inputs")
    recordings, subjects = tuple(learnt_recordings(version)), _subjects_of(version)
    return Teacher(
        model.reference, model.run_id, name, digest, weights, subjects, recordings, inputs
    )


def teacher_of(reference: str | None, student: str) -> Teacher | None:
    """The teacher that a training was asked to have, of the student's kind; None for none."""
    if reference is None:
        return None
    teacher = read_teacher(reference)
    refuse_unless_fit(teacher, student, ())
    return teacher


def teachers_of(version: VersionRecord) -> list[VersionRecord]:
    """The version that a version learnt from, and that one's, up to the first.

    Raises
    ------
    NotInRegistry
        One is gone, though MLflow may have another version of its name and number.
    """
    reference = version.tags.get(TEACHER_TAG)
    if not reference:
        return []
    teacher, run_id = read_version(reference), version.tags.get(TEACHER_RUN_TAG)
    if run_id not in (None, teacher.model.run_id):
        raise NotInRegistry(
            f"teacher {reference} of {version.model.reference}: found one of training run "
            f"{teacher.model.run_id}; expected that of {run_id}, which is gone from MLflow"
        )
    return [teacher, *teachers_of(teacher)]


def learnt_recordings(version: VersionRecord) -> list[Recording]:
    """The recordings that a version learnt from, through its teachers too."""
    return [
        recording
        for source in (version, *teachers_of(version))
        for side in LEARNING_SIDES
        for recording in of_subjects(source.manifests, source.split[side]["subjects"])
    ]


def learnt_subjects(version: VersionRecord) -> set[str]:
    """The subjects (DATASET/SUBJECT) that a version learnt from, through its teachers too."""
    return set(_subjects_of(version))


def _subjects_of(version: VersionRecord) -> dict[str, str]:
    """The subjects that a version learnt from, through its teachers too; by which version."""
    return {
        person: source.model.reference
        for source in reversed([version, *teachers_of(version)])
        for side in LEARNING_SIDES
        for person in source.split[side]["subjects"]
    }


@contextmanager
def keep_teacher(student: VersionRecord) -> Iterator[None]:
    """Read a student's teacher, if it has one, and keep it while another registry is worked with.

    Raises
    ------
    DigestMismatch
        The version of that number is not the one that the student learnt from.
    """
    reference = student.tags.get(TEACHER_TAG)
    if not reference:
        yield
        return
    teacher, sealed = read_teacher(reference), student.tags[TEACHER_SHA256_TAG]
    if teacher.sha256 != sealed:
        raise DigestMismatch(
            f"teacher {reference} of {student.model.reference}: found weights {teacher.sha256[:16]}"
            f"; expected {sealed[:16]}, which it learnt from"
        )
    _TEACHERS[reference] = teacher
    try:
        yield
    finally:
        del _TEACHERS[reference]


def refuse_unless_fit(
    teacher: Teacher, student: str, tested: Collection[str], recordings: Sequence[Recording] = ()
) -> None:
    """Raise where a teacher cannot teach a network, or knows whom it is to be tested on.

    Parameters
    ----------
    teacher : Teacher
        Who teaches.
    student : str
        Name of the network that learns.
    tested : collection of str
        The student's test subjects, DATASET/NAME.
    recordings : sequence of Recording
        Their recordings.

    Raises
    ------
    ValueError
        One reads single beats and the other whole records, or one is causal and the other not.
    SplitError
        The teacher, or a teacher of its own, was trained or validated on a test subject: its
        answers would carry that subject to the student.
    """
    sides = [(name, known_models()[name]) for name in (teacher.network, student)]
    for trait, (teacher_has, student_has) in {
        "reads whole records": tuple(reads_records(name) for name, _ in sides),
        "is causal": tuple(spec.causal for _, spec in sides),
    }.items():
        if teacher_has != student_has:
            pair = (teacher.network, student) if teacher_has else (student, teacher.network)
            raise ValueError(f"{teacher.reference} cannot teach: {pair[0]} {trait}, {pair[1]} not")
    shared = sorted(set(tested) & set(teacher.subjects))
    if shared:
        by = " and ".join(sorted({teacher.subjects[person] for person in shared}))
        more = f" and {len(shared) - MOST_NAMES} more" if len(shared) > MOST_NAMES else ""
        raise SplitError(
            f"{teacher.reference} cannot teach {student}: {by} was trained or validated on "
            f"{', '.join(shared[:MOST_NAMES])}{more}, whom the student is to be tested on; "
            "expected a teacher that knows none of them "
            "(the same data sets and seed give the same split)"
        )
    if pairs := copies(recordings, teacher.recordings):
        names = ", ".join(
            f"{copy.name} as {original.name}" for copy, original in pairs[:MOST_NAMES]
        )
        raise SplitError(
            f"{teacher.reference} cannot teach {student}: it learnt from recordings that the "
            f"student is to be tested on, under another name: {names}; expected a teacher that "
            "knows none of them"
        )


def teaching_of(
    teacher: Teacher, teacher_weight: float = 0.5, temperature: float = 1.0
) -> Teaching:
    """The teacher as a training takes it: its network built, its weights loaded.

    Raises
    ------
    ModelError
        It learnt from other inputs than the network of its name reads, though its weights fit.
    """
    network = with_weights(teacher.network, teacher.weights)
    expected = json.loads(json.dumps(inputs_of(network)))
    if teacher.inputs is not None and teacher.inputs != expected:
        raise ModelError(
            f"{teacher.reference} cannot teach: found inputs {teacher.inputs}; expected {expected}"
            f", which {teacher.network} reads: train it anew"
        )
    batch = BATCH[reads_records(teacher.network)]
    answer = partial(predict, network, batch=batch)
    return Teaching(teacher.network, answer, teacher_weight, temperature)


@dataclass(frozen=True, eq=False)
class Distillation:
    """What a teacher, if any, changes of a training; `fingerprint` tells its checkpoint apart."""

    teaching: Teaching | None
    params: Mapping[str, object]
    tags: Mapping[str, str]
    fingerprint: Sequence[object]


def distillation_of(
    teacher: Teacher | None,
    settings: Training,
    tested: Collection[str],
    recordings: Sequence[Recording],
) -> Distillation:
    """Refuse a teacher that is not fit, and make it ready; none changes nothing."""
    if teacher is None:
        return Distillation(None, {}, {}, ())
    refuse_unless_fit(teacher, settings.model, tested, recordings)
    options = {"teacher_weight": settings.teacher_weight, "temperature": settings.temperature}
    teaching = teaching_of(teacher, **{k: v for k, v in options.items() if v is not None})
    options = {"teacher_weight": teaching.weight, "temperature": teaching.temperature}
    fingerprint = (teacher.sha256, *options.values())
    return Distillation(
        teaching, {"teacher": teacher.reference, **options}, teacher.tags(), fingerprint
    )
