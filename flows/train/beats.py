"""The training of a network that reads one beat at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.ingest.flow import IngestResult
from flows.train.flow import Answers, Decision, Keep
from flows.train.kept_sides import kept_split
from flows.train.settings import BeatSettings
from storage.tables.checkpoint import Checkpoint
from storage.tables.labelled import LabelledBeats, read_labelled
from storage.tables.results import ArrayFolder
from storage.tables.testset import TestSet
from tasks.learning.balance import Weigh, often
from tasks.learning.distillation import Teaching
from tasks.learning.splits import SIDES, Split, assert_no_leak, split_beats
from tasks.learning.training import Course, fit
from tasks.pages import figures
from tasks.runtimes.inference import answers
from tasks.runtimes.litert import LiteRT
from tasks.scores.rule import Rule

THRESHOLD = 0.5
PARITY_BEATS = 2_000


@dataclass(frozen=True, eq=False)
class Beats:
    """The labelled beats of all data sets, and how they are dealt: a `flows.train.flow.Recipe`."""

    settings: BeatSettings
    names: tuple[str, ...]
    beats: LabelledBeats
    split: Split

    def sides(self) -> dict[str, Any]:
        """Subjects, beats and AF beats of each side, and the beats that are on none."""
        sides = {
            name: {
                "subjects": list(getattr(self.split, f"{name}_subjects")),
                "beats": len(getattr(self.split, name)),
                "af_beats": int(self.beats.label[getattr(self.split, name)].sum()),
            }
            for name in SIDES
        }
        return {"left_out": self.beats.left_out, **sides}

    def fit(
        self, start: Checkpoint | None, keep: Keep, teaching: Teaching | None
    ) -> tuple[Any, Checkpoint]:
        """Train from a checkpoint, or from the start."""
        sides = (self.split.train, self.split.validation)
        settings, course = self.settings, Course(start, keep, teaching)
        return fit(settings.model, self.beats, sides, settings.config, course, self.weigher())

    def weigher(self) -> Weigh | None:
        """How often beats are drawn; None where each comes once an epoch."""
        balance, weights = self.settings.balance, self.settings.weights
        if balance == "beats" and weights is None:
            return None
        weight_by_name = dict(zip(self.names, weights or [1.0] * len(self.names), strict=True))
        return partial(often, self.beats, weight_by_name, balance)

    def decide(self, network: Any, store: ArrayFolder) -> Decision:  # noqa: ARG002 - of any network
        """The threshold of even odds; a network of single beats tells all of them."""
        return Decision(Rule(THRESHOLD))

    def parity(self) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int8]]:
        """Some training beats, and their labels."""
        random = np.random.default_rng(self.settings.seed)
        rows = random.permutation(self.split.train)[:PARITY_BEATS]
        return {"waveform": self.beats.select(rows)[:]}, self.beats.label[rows]

    def testset(self) -> TestSet:
        """The test side, as a device runs it."""
        test, beats = self.split.test, self.beats
        return TestSet(
            inputs={"waveform": beats.select(test)},
            label=beats.label[test],
            record=beats.record[test],
            subject=beats.subject[test],
            sample=beats.sample[test],
        )

    def answers(self, network: LiteRT, testset: Path) -> Answers:  # noqa: ARG002 - they are here
        """Label and answer of every test beat."""
        probability = answers(network, {"waveform": self.beats.select(self.split.test)})
        return self.beats.label[self.split.test], probability

    def figures(self, answers: Answers, state: Checkpoint, title: str) -> dict[str, bytes]:
        """Confusion matrix, ROC, the training's curves, and F1 of each patient."""
        subject = self.beats.subject[self.split.test]
        return {
            "confusion_matrix": figures.confusion_matrix(*answers, THRESHOLD, title),
            "roc": figures.roc(*answers, title),
            "training": figures.training_curves(state.history, title),
            "per_patient": figures.per_patient(*answers, subject, THRESHOLD, title),
        }


def read(
    settings: BeatSettings,
    ingested: Sequence[IngestResult],
    readers: Sequence[str],  # noqa: ARG001 - all of them read the waveform
) -> Beats:
    """Read the labelled beats and deal them to sides."""
    beats = read_labelled([result.path for result in ingested])
    split = kept_split(settings.paradigm, beats.subject, settings.seed) or split_beats(
        settings.paradigm, beats.subject, beats.label, settings.seed
    )
    assert_no_leak(split, beats.subject)
    return Beats(settings, tuple(result.manifest.dataset for result in ingested), beats, split)
