"""A network of single beats on the folds of a cross-validation, and what a fused one gains over it.

`python -m bench.single`, after `holter cross-validate fused --on mitdb ...` with the same seeds,
data sets, weights and state folder; resumable, one core. Both answer the same beats of the same
patients, none of which they saw; the threshold of a fold is the one of the best F1 on the other
folds.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.decide.fold_plan import SeedPlan, plan_seed
from flows.decide.fold_settings import CrossValidationSettings
from flows.decide.fold_worker import all_answers
from flows.ingest.flow import IngestResult
from storage.files import whole
from storage.tables.beats_manifest import read_manifest
from storage.tables.content import copies_among
from storage.tables.labelled import LabelledBeats, read_labelled, read_rhythms
from tasks.learning.training import TrainingConfig, fit, predict
from tasks.scores.bootstrap import RATES, bootstrap_difference, bootstrap_patients
from tasks.scores.calibration import best_threshold
from tasks.scores.evaluation import confusion_counts

#: Beats that a fold's network learns from, of the other folds' patients; a tenth validate.
MOST = 20_000
#: Chosen before it was run: ten times the method's rate, for a tenth of its epochs.
CONFIG = TrainingConfig(epochs=10, learning_rate=1e-3)

Answers = NDArray[np.float32]


def out_of_fold(
    model: str, seed: int, beats: LabelledBeats, folds: list[set[str]], cache: Path
) -> Answers:
    """P(AF) of every beat by a network that never saw its patient."""
    out = np.full(len(beats), np.nan, np.float32)
    config, subject = replace(CONFIG, seed=seed), beats.subject[np.arange(len(beats))]
    for fold, people in enumerate(folds):
        path = cache / f"{model}-{seed}-{fold}.npz"
        tested = np.isin(subject, sorted(people))
        if not path.is_file():
            random = np.random.default_rng([seed, fold])
            training = random.permutation(np.flatnonzero(~tested))[:MOST]
            sides = np.sort(training[MOST // 10 :]), np.sort(training[: MOST // 10])
            network, _ = fit(model, beats, sides, config)
            answers = predict(network, beats.waveform[np.flatnonzero(tested)])
            with whole(path) as partial, partial.open("wb") as file:
                np.savez(file, allow_pickle=False, probability=answers)
            print(path.name, flush=True)
        with np.load(path) as arrays:
            out[tested] = arrays["probability"]
    return out


def of_fused(plan: SeedPlan, beats: LabelledBeats, manifest: Path) -> Answers:
    """What the folds' networks of whole records answered, out of fold, of the same beats."""
    out = np.full(len(beats), np.nan, np.float32)
    probabilities = all_answers(plan.folds)
    record = beats.record[np.arange(len(beats))]
    for table in read_rhythms([manifest]):
        name = f"{table.dataset}/{table.record}"
        rows = np.flatnonzero(record == name)
        row = np.searchsorted(table.sample[:-1], beats.sample[rows])
        if not np.array_equal(table.sample[row], beats.sample[rows]):
            raise SystemExit(f"{name}: its beats are not those that were answered")
        out[rows] = probabilities[name][row]
    return out


def plans_of(options: argparse.Namespace) -> list[SeedPlan]:
    """The folds of the cross-validation, a plan a seed."""
    results = [
        IngestResult(path, read_manifest(path), ()) for path in (options.manifest, *options.beside)
    ]
    names = [result.manifest.dataset for result in results]
    settings = CrossValidationSettings(
        network=options.fused,
        on=names[:1],
        beside=names[1:],
        weight=options.weight,
        seed=options.seeds,
    )
    pairs = copies_among([result.manifest for result in results])
    return [plan_seed(settings, results, pairs, seed) for seed in settings.seed]


def counts_of(
    beats: LabelledBeats, answers: Answers, folds: list[set[str]], at: float | None
) -> NDArray[np.float64]:
    """tp, fp, fn and tn of each subject, at a threshold, or at that of the other folds' best F1."""
    subject = beats.subject[np.arange(len(beats))]
    rows = []
    for people in folds:
        training = ~np.isin(subject, sorted(people))
        limit = best_threshold(beats.label[training], answers[training]) if at is None else at
        for person in sorted(people):
            beats_of_person = subject == person
            rows.append(
                confusion_counts(beats.label[beats_of_person], answers[beats_of_person] >= limit)
            )
    return np.stack(rows)


def main() -> None:
    """Run what is asked for and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="of mitdb's beat tables")
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="manifests, in order")
    parser.add_argument("--weight", type=float, nargs="*", default=[], help="as it was told")
    parser.add_argument("--cache", type=Path, required=True, help="folder for what is done")
    parser.add_argument("--model", default="resnet25")
    parser.add_argument("--fused", default="fused", help="the network of the cross-validation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    beats = read_labelled([options.manifest])
    for plan in plans_of(options):
        folds = [set(training.fold.test) for training in plan.folds]
        single = out_of_fold(options.model, plan.seed, beats, folds, options.cache)
        fused = of_fused(plan, beats, options.manifest)
        figures: dict[str, Any] = {}
        for name, at in (("0.5", 0.5), ("other_folds_best_f1", None)):
            before, after = (counts_of(beats, answers, folds, at) for answers in (single, fused))
            figures[name] = {
                options.model: str(bootstrap_patients(before, RATES["f1"])),
                options.fused: str(bootstrap_patients(after, RATES["f1"])),
                "gain": str(bootstrap_difference(before, after, RATES["f1"])),
            }
        print(json.dumps({"seed": plan.seed, "beats": len(beats), **figures}, indent=1), flush=True)


if __name__ == "__main__":
    main()
