"""Train a network over whole records: the beat tables of one or more data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.ingest.failures import naming_failed, telling
from flows.ingest.flow import Ingested, ingest_each
from flows.ingest.folders import one_each
from flows.parameters import (
    Balance,
    Datasets,
    Epochs,
    Folders,
    MostFailed,
    Patience,
    Policy,
    Quantised,
    RhythmModel,
    Seed,
    Signals,
    Sparsity,
    TeacherVersion,
    TeacherWeight,
    Temperature,
    UsualAveraged,
    UsualRate,
    Weights,
)
from flows.services.alive import WATCHED
from flows.train.beats import Trained, caveat, described, refuse_copies
from flows.train.release import export_network
from flows.train.teacher import Taught, taught_by, teacher_of
from flows.train.training_run import (
    drawing,
    kept_training,
    reading,
    recorded,
    register,
    step,
    work_folder,
)
from storage.bounds import MOST_FAILED
from storage.files import sha256_file
from storage.recordings.stretches import slices
from storage.registry import tracking
from storage.tables.beats import BeatTable
from storage.tables.checkpoint import Checkpoint
from storage.tables.content import of_subjects
from storage.tables.labelled import read_rhythms
from storage.tables.testset import TestSet, read_testset, write_testset
from tasks.features.rhythm import RhythmRecord
from tasks.learning.balance import balanced, refuse_unless_balance
from tasks.learning.rhythm_training import (
    RhythmConfig,
    fit_rhythm,
    predict_beats,
    usual_averaged,
    usual_rate,
)
from tasks.learning.splits import SIDES, Split, assert_no_leak, interpatient
from tasks.networks.sequence import (
    cut,
    reads_shapes,
    reads_waveforms,
    sequence_record,
    windowed,
    windows,
)
from tasks.runtimes.litert import LiteRT, af_probability
from tasks.scores.calibration import best_threshold
from tasks.scores.metrics import beat_metrics
from tasks.scores.smoothing import fit_smoothing

PARITY_WINDOWS = 10


@dataclass(frozen=True, eq=False)
class Sides:
    """Each record's beat table without waveforms, what networks read of it, and the split.

    The split is of the beats with a known label, by subject.
    """

    tables: list[BeatTable]
    records: list[RhythmRecord]
    split: Split

    def of(self, side: str) -> list[RhythmRecord]:
        """The records of one side."""
        people = set(getattr(self.split, f"{side}_subjects"))
        return [record for record in self.records if record.subject in people]

    def numbers(self) -> dict[str, Any]:
        """Subjects, beats and AF beats of each side."""
        return {
            side: {
                "subjects": list(getattr(self.split, f"{side}_subjects")),
                "beats": sum(int((r.label >= 0).sum()) for r in self.of(side)),
                "af_beats": sum(int((r.label == 1).sum()) for r in self.of(side)),
            }
            for side in SIDES
        }


@flow(name="train-rhythm", flow_run_name="train-{model}-seed{seed}", **WATCHED)
def train_rhythm(
    datasets: Datasets,
    data: Folders = None,
    model: RhythmModel = "rhythm",
    weights: Weights = None,
    balance: Balance = "beats",
    epochs: Epochs = 20,
    patience: Patience = 0,
    learning_rate: UsualRate = None,
    averaged: UsualAveraged = None,
    seed: Seed = 0,
    policy: Policy = "consensus",
    signal: Signals = None,
    sparsity: Sparsity = 0.0,
    quantised: Quantised = False,
    teacher: TeacherVersion = None,
    teacher_weight: TeacherWeight = 0.5,
    temperature: Temperature = 1.0,
    most_failed: MostFailed = MOST_FAILED,
) -> Trained:
    """Train, score and register a rhythm network on the records of one or more data sets.

    A training that was killed goes on from its last epoch when the same is asked for again, and
    ends as it would have without the interruption.

    Parameters
    ----------
    datasets : list of str
        Data sets.
    data : list of Path, optional
        The folder of each; those that the TOMLs name where not given.
    model : str
        A network of the rhythm or the fused family.
    weights : list of float, optional
        How often records of each data set are drawn, against 1.
    balance : {"beats", "patient", "class"}
        As `tasks.learning.balance.balanced`.
    epochs, patience, learning_rate, averaged, seed, sparsity, quantised
        As `tasks.learning.rhythm_training.RhythmConfig`; rate and average are the network's usual
        ones where none is given.
    teacher, teacher_weight, temperature
        As `flows.train.teacher`, `tasks.learning.distillation.Teaching`.
    policy : {"consensus", "reference", "detected"}
        Which beats the tables hold where beats are annotated.
    signal : bool or list of bool, optional
        False reads annotations alone: signals need not be there. As
        `flows.ingest.folders.signals_of`.
    most_failed : str
        How many records of a data set may fail, as `storage.bounds.most_allowed`.
    """
    refuse_unless_balance(balance)
    if averaged is None:
        averaged = usual_averaged(model, patience, sparsity)
    config = RhythmConfig(
        epochs=epochs,
        learning_rate=usual_rate(model) if learning_rate is None else learning_rate,
        patience=patience,
        averaged=averaged,
        sparsity=sparsity,
        quantised=quantised,
        seed=seed,
    )
    folders, who = one_each(datasets, data, weights), teacher_of(teacher, model)
    ingested = ingest_each(datasets, folders, policy, signal, most_failed)
    readers = (model, who.network) if who else (model,)
    with naming_failed(ingested):
        sides = split_records(ingested, readers, weights, balance, seed)
    inputs = {made.path: made.manifest for made in ingested}
    people = sides.split.test_subjects
    tested = of_subjects(inputs.values(), people)
    taught = taught_by(who, model, people, tested, teacher_weight, temperature)
    drawn = {**drawing(balance, weights), **reading(list(inputs.values()))}
    params = {"model": model, **drawn, **asdict(config), **taught.params}
    numbers, few = sides.numbers(), caveat(ingested, sides.split)
    said = f"{described(ingested, sides.split)}. {few}"
    about = (inputs, sides.split, numbers, params, "flows/train/records.py", said, taught.tags)
    with recorded(*about) as run_id:
        network, state = fit_network(ingested, sides, model, config, balance, run_id, taught)
        threshold, change = fit_decision(network, sides, run_id)
        rows, label = parity_rows(model, sides)
        folder = export_network(
            network,
            rows,
            label,
            {
                "classes": ["not AF", "AF"],
                "threshold": threshold,
                "smoothing_change": change,
                "split_sha256": sides.split.digest(),
                "epochs": state.epoch,
            },
            run_id,
        )
        testset = hand_over_testset(sides, model, run_id)
        metrics = score(folder, testset, threshold, run_id)
        title = (
            f"{described(ingested, sides.split)}, threshold {threshold:g} fixed on training and "
            "validation patients"
        )
        version = register(
            folder,
            list(inputs.values()),
            sides.split,
            numbers,
            metrics,
            sha256_file(testset),
            run_id,
            title,
            model,
            threshold,
            change,
            taught.tags,
        )
    digest = version.tags["holter.testset_sha256"]
    done = Trained(ingested, run_id, version, metrics, digest, title, few)
    return telling(done, ingested)


@task(cache_policy=NO_CACHE, persist_result=False)
def split_records(
    ingested: Sequence[Ingested],
    readers: Sequence[str],
    weights: list[float] | None,
    balance: str,
    seed: int,
) -> Sides:
    """Read what networks need of the beat tables, deal the subjects to sides; no leak passes."""
    model = max(readers, key=reads_shapes)
    tables, records = [], []
    for made, weight in zip(ingested, weights or [1.0] * len(ingested), strict=True):
        for table in read_rhythms([made.path], waveform=reads_waveforms(model)):
            records.append(sequence_record(model, table, weight))
            tables.append(replace(table, waveform=None))
    label = np.concatenate([r.label for r in records])
    subject = np.repeat([r.subject for r in records], [len(r) for r in records])
    split = interpatient(subject[label >= 0], label[label >= 0], seed)
    assert_no_leak(split, subject[label >= 0])
    refuse_copies(split, [made.manifest for made in ingested])
    return Sides(tables, balanced(records, balance), split)


@step
def fit_network(
    ingested: Sequence[Ingested],
    sides: Sides,
    model: str,
    config: RhythmConfig,
    balance: str,
    run_id: str,
    taught: Taught,
) -> tuple[Any, Checkpoint]:
    """Train, from the checkpoint of the same training if there is one."""
    digests = [made.manifest.digest() for made in ingested]
    weights = [record.weight for record in sides.records]
    about = [model, asdict(config), balance, weights, digests, sides.split.digest(), *taught.about]
    known = sides.of("train"), config, sides.of("validation")
    with kept_training(about, model, config.epochs, run_id) as (start, keep):
        return fit_rhythm(model, *known, start, keep, teaching=taught.teaching)


@step
def fit_decision(network: Any, sides: Sides, run_id: str) -> tuple[float, float]:
    """The threshold and the smoothing that serve training and validation patients best."""
    known = sides.of("train") + sides.of("validation")
    predicted = [predict_beats(network, record) for record in known]
    parts = [slices(record.begins) for record in known]
    probability = [p[part] for p, every in zip(predicted, parts, strict=True) for part in every]
    label = [r.label[part] for r, every in zip(known, parts, strict=True) for part in every]
    sure = np.concatenate(label) >= 0
    threshold = best_threshold(np.concatenate(label)[sure], np.concatenate(probability)[sure])
    change = fit_smoothing(label, probability, threshold)
    tracking.log_metrics(run_id, {"threshold": threshold, "smoothing_change": change})
    return threshold, change


def parity_rows(
    model: str, sides: Sides
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int8]]:
    """Windows of training patients, at most ten of each record, and their labels, shuffled."""
    random = np.random.default_rng(sides.split.seed)
    rows: list[dict[str, NDArray[np.float32]]] = []
    labels: list[NDArray[np.int8]] = []
    for record in sides.of("train"):
        label = windows(model).only_core(cut(model, record.begins, record.label, -1))
        chosen = random.permutation(len(label))[:PARITY_WINDOWS]
        rows.append({name: part[chosen] for name, part in windowed(model, record).items()})
        labels.append(label[chosen])
    order = random.permutation(sum(map(len, labels)))
    inputs = {name: np.concatenate([part[name] for part in rows])[order] for name in rows[0]}
    return inputs, np.concatenate(labels)[order]


@step
def hand_over_testset(sides: Sides, model: str, run_id: str) -> Path:
    """Log the test side as one file that a device can run."""
    only_core = windows(model).only_core
    people = set(sides.split.test_subjects)
    tested = [
        (t, r) for t, r in zip(sides.tables, sides.records, strict=True) if r.subject in people
    ]
    tables = [t for t, _ in tested]
    x = [windowed(model, record) for _, record in tested]
    lengths = [len(next(iter(part.values()))) for part in x]
    names = [(f"{t.dataset}/{t.record}", f"{t.dataset}/{t.subject}") for t in tables]
    path = work_folder(run_id) / "testset.npz"
    write_testset(
        path,
        TestSet(
            inputs={name: np.concatenate([part[name] for part in x]) for name in x[0]},
            label=np.concatenate([only_core(cut(model, t.begins, t.label, -1)) for t in tables]),
            record=np.repeat([name for name, _ in names], lengths),
            subject=np.repeat([name for _, name in names], lengths),
            sample=np.concatenate([cut(model, t.begins, t.sample, -1) for t in tables]),
        ),
    )
    tracking.log_file(run_id, path, "testset")
    return path


@step
def score(folder: Path, testset: Path, threshold: float, run_id: str) -> dict[str, float]:
    """Score the exported file on the test side, as the device will."""
    handed = read_testset(testset)
    network = LiteRT((folder / "model.tflite").read_bytes())
    probability = af_probability(network.predict({name: x[:] for name, x in handed.inputs.items()}))
    metrics = beat_metrics(*handed.counted(probability), threshold)
    tracking.log_metrics(run_id, {f"test_{name}": value for name, value in metrics.items()})
    return metrics
