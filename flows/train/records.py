"""The training of a network that reads whole records."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.ingest.flow import IngestResult
from flows.train.flow import Answers, Decision, Keep
from flows.train.kept_sides import kept_split
from flows.train.settings import RecordSettings
from storage.tables.checkpoint import Checkpoint
from storage.tables.labelled import Names, names_of, read_rhythms
from storage.tables.results import ArrayFolder
from storage.tables.testset import TestSet, read_testset
from tasks.features.rhythm import RhythmRecord
from tasks.learning.balance import balance_records
from tasks.learning.distillation import Teaching
from tasks.learning.folds import patient_folds
from tasks.learning.out_of_fold import out_of_fold
from tasks.learning.rhythm_training import fit_rhythm, predict_records
from tasks.learning.splits import SIDES, Split, assert_no_leak, interpatient
from tasks.learning.training import Course
from tasks.networks.models import spec_of
from tasks.networks.sequence import (
    cut,
    input_windows,
    reads_shapes,
    reads_waveforms,
    sequence_record,
    windows,
)
from tasks.networks.strips import STRIP_BEATS, strips_of
from tasks.runtimes.litert import LiteRT, af_probability
from tasks.scores.rule import Rule
from tasks.scores.rule_fit import PatientAnswers, fit_rule

PARITY_WINDOWS = 10


@dataclass(frozen=True, eq=False)
class Records:
    """What networks read of each record, where its beats are, and the split.

    The split is of the beats with a known label, by subject. It is a `flows.train.flow.Recipe`.
    """

    settings: RecordSettings
    samples: list[NDArray[np.int64]]
    records: list[RhythmRecord]
    split: Split

    def of(self, side: str) -> list[RhythmRecord]:
        """The records of one side."""
        people = set(getattr(self.split, f"{side}_subjects"))
        return [record for record in self.records if record.subject in people]

    def sides(self) -> dict[str, Any]:
        """Subjects, beats and AF beats of each side."""
        return {
            side: {
                "subjects": list(getattr(self.split, f"{side}_subjects")),
                "beats": sum(int((r.label >= 0).sum()) for r in self.of(side)),
                "af_beats": sum(int((r.label == 1).sum()) for r in self.of(side)),
            }
            for side in SIDES
        }

    def fit(
        self, start: Checkpoint | None, keep: Keep, teaching: Teaching | None
    ) -> tuple[Any, Checkpoint]:
        """Train from a checkpoint, or from the start."""
        inputs = self.of("train"), self.settings.config, self.of("validation")
        return fit_rhythm(self.settings.model, *inputs, Course(start, keep, teaching))

    def decide(self, network: Any, store: ArrayFolder) -> Decision:
        """The rule that serves training and validation patients best.

        With calibration folds it is fixed on answers for patients whom the network that answered
        did not learn from; else on those of training too, and validation patients tell its risk.
        """
        records = self.of("train") + self.of("validation")
        strips = strips_of(records, self.split.seed)
        folds = self.folds(records) if self.settings.calibration_folds else []
        if folds:
            by_name = out_of_fold(
                self.settings.model, records, self.settings.config, folds, also=strips, keep=store
            )
            answers = [by_name[record.name] for record in (*records, *strips)]
            people = {record.subject for record in records}
        else:
            answers = list(predict_records(network, network.name, [*records, *strips]))
            people = set(self.split.validation_subjects)
        rule = rule_for(
            records,
            strips,
            answers,
            causal=spec_of(self.settings.model).causal,
            people=people,
            aim=self.settings.risk if folds else 0.0,
        )
        source = (
            f"patients left out in {len(folds)} folds"
            if folds
            else ("training and validation patients")
        )
        return Decision(rule, f" fixed on {source}")

    def folds(self, records: Sequence[RhythmRecord]) -> list[list[str]]:
        """The subjects of each calibration fold."""
        label = np.concatenate([r.label for r in records])
        subject = np.repeat([r.subject for r in records], [len(r) for r in records])
        dealt = patient_folds(
            subject[label >= 0],
            label[label >= 0],
            self.split.seed,
            self.settings.calibration_folds,
            validation_fraction=0,
        )
        return [list(split.test_subjects) for split in dealt]

    def parity(self) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int8]]:
        """Windows of training patients, at most ten of each record, and their labels, shuffled."""
        model = self.settings.model
        random = np.random.default_rng(self.split.seed)
        rows: list[dict[str, NDArray[np.float32]]] = []
        labels: list[NDArray[np.int8]] = []
        for record in self.of("train"):
            label = windows(model).only_core(cut(model, record.begins, record.label, -1))
            sample = random.permutation(len(label))[:PARITY_WINDOWS]
            rows.append({name: part[sample] for name, part in input_windows(model, record).items()})
            labels.append(label[sample])
        order = random.permutation(sum(map(len, labels)))
        inputs = {name: np.concatenate([part[name] for part in rows])[order] for name in rows[0]}
        return inputs, np.concatenate(labels)[order]

    def testset(self) -> TestSet:
        """The test side, as a device runs it."""
        model, people = self.settings.model, set(self.split.test_subjects)
        pairs = zip(self.records, self.samples, strict=True)
        tested = [(record, sample) for record, sample in pairs if record.subject in people]
        x = [input_windows(model, record) for record, _ in tested]
        label = [windows(model).only_core(cut(model, r.begins, r.label, -1)) for r, _ in tested]
        lengths = [len(next(iter(part.values()))) for part in x]
        return TestSet(
            inputs={name: np.concatenate([part[name] for part in x]) for name in x[0]},
            label=np.concatenate(label),
            record=np.repeat([record.name for record, _ in tested], lengths),
            subject=np.repeat([record.subject for record, _ in tested], lengths),
            sample=np.concatenate([cut(model, r.begins, sample, -1) for r, sample in tested]),
        )

    def answers(self, network: LiteRT, testset: Path) -> Answers:
        """Label and answer of every test beat with a known rhythm."""
        content = read_testset(testset)
        rows = {name: x[:] for name, x in content.inputs.items()}
        label, probability = content.select_counted(af_probability(network.predict(rows)))
        return label, probability

    def figures(self, answers: Answers, state: Checkpoint, title: str) -> dict[str, bytes]:  # noqa: ARG002 - there are none to draw
        """None: `holter evaluate` draws them."""
        return {}


def rule_for(
    records: Sequence[RhythmRecord],
    strips: Sequence[RhythmRecord],
    answers: Sequence[NDArray[np.float32]],
    *,
    causal: bool,
    people: Container[str],
    aim: float,
) -> Rule:
    """The rule of a network by its answers for records, and after them for strips of them.

    Records of one label are strips as well, unless there are no others: then the margin is the
    usual one. `people` are those whom the network that answered did not learn from, `aim` is as of
    `fit_rule`.
    """
    items = [
        PatientAnswers(record.subject, record.label, answer, record.begins)
        for record, answer in zip((*records, *strips), answers, strict=True)
    ]
    is_short = [record.labelled_whole for record in records] + [True] * len(strips)
    any_long = not all(is_short)
    if any_long:
        whole, short = (
            [item for item, holds in zip(items, is_short, strict=True) if holds is side]
            for side in (False, True)
        )
    else:  # strips are cut of long records alone: there are none
        whole, short = items, []
    unseen = [item for item in whole if item.patient in people]
    return fit_rule(
        whole, short, STRIP_BEATS, causal=causal, unseen=unseen, aim=aim if any_long else 0.0
    )


def read(
    settings: RecordSettings, ingested: Sequence[IngestResult], readers: Sequence[str]
) -> Records:
    """Read what networks need of the beat tables, and deal the subjects to sides."""
    model = max(readers, key=reads_shapes)
    samples, records = [], []
    weights = settings.weights or [1.0] * len(ingested)
    for result, weight in zip(ingested, weights, strict=True):
        entries = result.manifest.entries
        read_tables = read_rhythms([result.path], waveform=reads_waveforms(model))
        for table, entry in zip(read_tables, entries, strict=True):
            record = sequence_record(model, table, weight)
            records.append(replace(record, labelled_whole=entry.labelled_whole))
            samples.append(table.sample)
    label = np.concatenate([r.label for r in records])
    counts = np.array([np.count_nonzero(r.label >= 0) for r in records])
    people = names_of(np.array([r.subject for r in records])[counts > 0])
    subject = Names(people.values, np.repeat(people.code, counts[counts > 0]))
    kept = kept_split("interpatient", subject, settings.seed)
    split = kept or interpatient(subject, label[label >= 0], settings.seed)
    assert_no_leak(split, subject)
    return Records(settings, samples, balance_records(records, settings.balance), split)
