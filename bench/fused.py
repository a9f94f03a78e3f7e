"""The fused family on mitdb by patient folds: `python -m bench.fused`, resumable, one core.

The network first learns from what is not mitdb (cpsc2021's signals, AFDB's and NSRDB's RR
intervals), once a seed, then from the other folds' patients too; mitdb is answered by both, wholly
unseen and out of fold. Every fold's probabilities are kept in a folder as they come, and the table
is made of what is there. The threshold of a fold is the one that gives a sensitivity of 0.97, or of
0.98 to keep 0.97 in other people, on the other folds' probabilities.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.rhythm import names_in
from storage.datasets.dataset import DatasetSpec, load_spec
from storage.files import whole
from storage.recordings.records import open_record, read_lead
from storage.tables.beats import BeatTable, join_tables
from tasks.features.fused import fused_record
from tasks.features.rhythm import RhythmRecord
from tasks.learning.fused_training import weigh_records
from tasks.learning.rhythm_training import RhythmConfig, fit_rhythm, predict_beats
from tasks.learning.training import Course
from tasks.networks.models import build
from tasks.scores.bootstrap import RATES, bootstrap_patients
from tasks.scores.evaluation import FLUTTER, confusion_counts
from tasks.scores.metrics import area_under_roc
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing

FOLDS = 5
SENSITIVITY, WITH_MARGIN = 0.97, 0.98
#: Steps of the first training, and of the second; chosen before either was tried.
FIRST = RhythmConfig(24, 40, 8, learning_rate=5e-3, weight_decay=1e-2, simulated=0, averaged=0.5)
SECOND = replace(FIRST, epochs=12, learning_rate=2e-3)
#: Share of windows that each data set gives in the first and in the second training.
SHARES: tuple[dict[str, float], dict[str, float]] = (
    {"cpsc2021": 0.5, "afdb": 0.35, "nsrdb": 0.15},
    {"mitdb": 0.7, "cpsc2021": 0.15, "afdb": 0.1, "nsrdb": 0.05},
)

#: Leads of mitdb and cpsc2021, from which a record's second one is taken.
LEADS = ("MLII", "II", "I", "V1", "V2", "V4", "V5")

Case = tuple[RhythmRecord, BeatTable]


def cases(data: Path, name: str, *, signal: bool) -> list[Case]:
    """Every record of a data set, once for every lead where signals are read."""
    spec = load_spec(name)
    folder = data / name
    names = names_in(spec, folder)
    leads: list[int] = [0, 1] if signal else [0]
    return [case(spec, folder, name, lead, signal=signal) for name in names for lead in leads]


def case(spec: DatasetSpec, folder: Path, name: str, lead: int, *, signal: bool) -> Case:
    """One record by its preferred lead (0), or by the other one."""
    record = open_record(spec, folder, name, signal=signal)
    if lead:
        preferred = [lead for lead in LEADS if lead != record.lead]
        leads = spec.leads.model_copy(update={"prefer": preferred})
        record = open_record(spec.model_copy(update={"leads": leads}), folder, name)
    read = partial(read_lead, record) if signal else None
    table = join_tables(list(beat_tables(record, read, Preprocessing())[0]))
    return fused_record(table), table


def draw_records(
    sets: dict[str, list[Case]], shares: dict[str, float], out: set[str]
) -> list[RhythmRecord]:
    """Records to learn from: those of each data set by its share, none of the subjects in `out`."""
    return [
        record
        for name, share in shares.items()
        for record in weigh_records([r for r, _ in sets[name] if r.subject not in out], share)
    ]


def subject_folds(test: list[Case], seed: int) -> list[set[str]]:
    """Five sets of subjects; those with AF and those without are dealt evenly."""
    af = {r.subject for r, _ in test if (r.label == 1).any()}
    random = np.random.default_rng(seed)
    people = sorted({r.subject for r, _ in test})
    order = [people[k] for k in random.permutation(len(people))]
    sequence = [p for p in order if p in af] + [p for p in order if p not in af]
    return [set(sequence[k::FOLDS]) for k in range(FOLDS)]


def first(model: str, seed: int, sets: dict[str, list[Case]], cache: Path) -> Any:
    """The network that has learnt from everything but mitdb."""
    path = cache / f"{model}-{seed}.weights.h5"
    if path.is_file():
        network = build(model)
        network.load_weights(path)
        return network
    config = replace(FIRST, seed=seed)
    network, _ = fit_rhythm(model, draw_records(sets, SHARES[0], set()), config)
    unfinished = cache / f"unfinished-{model}.weights.h5"
    network.save_weights(unfinished)
    unfinished.rename(path)
    print(path.name, flush=True)
    return network


def out_of_fold(
    model: str,
    seed: int,
    sets: dict[str, list[Case]],
    initial: list[NDArray[np.float32]],
    cache: Path,
) -> dict[str, NDArray[np.float32]]:
    """P(AF) of every mitdb record's first lead by a network that never saw its patient."""
    test = sets["mitdb"][::2]
    out: dict[str, NDArray[np.float32]] = {}
    for fold, people in enumerate(subject_folds(test, seed)):
        path = cache / f"{model}-{seed}-{fold}.npz"
        if not path.is_file():
            config = replace(SECOND, seed=seed)
            network, _ = fit_rhythm(
                model, draw_records(sets, SHARES[1], people), config, course=Course(initial=initial)
            )
            tested = [r for r, _ in test if r.subject in people]
            answers: dict[str, Any] = {r.name: predict_beats(network, r) for r in tested}
            with whole(path) as partial_file, partial_file.open("wb") as file:
                np.savez(file, allow_pickle=False, **answers)
            print(path.name, flush=True)
        with np.load(path) as arrays:
            out |= {name: arrays[name] for name in arrays.files}
    return out


def threshold_for(
    label: NDArray[np.int8], probability: NDArray[np.float32], sensitivity: float = SENSITIVITY
) -> float:
    """The highest threshold of this sensitivity or more."""
    return float(np.quantile(probability[label == 1], 1 - sensitivity, method="lower"))


def without_flutter(test: list[Case]) -> list[Case]:
    """The records, their beats in atrial flutter of unknown label: they count nowhere."""
    return [
        (replace(r, label=np.where(table.rhythm == FLUTTER, np.int8(-1), r.label)), table)
        for r, table in test
    ]


def figures(
    test: list[Case], probabilities: dict[str, NDArray[np.float32]], folds: list[set[str]]
) -> dict[str, Any]:
    """Rates at 0.5 and at the other folds' thresholds, with intervals over patients; the curve."""
    label = {r.name: r.label for r, _ in test}
    labels = np.concatenate([label[name] for name in probabilities])
    pooled = np.concatenate(list(probabilities.values()))
    mask = labels >= 0
    at = threshold_for(labels[mask], pooled[mask])
    out: dict[str, Any] = {
        "auc": area_under_roc(labels[mask], pooled[mask]),
        "ppv_at_sensitivity_0.97_of_the_pooled_curve": float(
            np.mean(labels[mask][pooled[mask] >= at] == 1)
        ),
    }
    aimed = {"other_folds": SENSITIVITY, "other_folds_with_margin": WITH_MARGIN}
    decided: dict[str, dict[str, NDArray[np.bool_]]] = {key: {} for key in ("0.5", *aimed)}
    for people in folds:
        names = [r.name for r, _ in test if r.subject in people]
        training_names = [r.name for r, _ in test if r.subject not in people]
        truth = np.concatenate([label[name] for name in training_names])
        scores = np.concatenate([probabilities[name] for name in training_names])
        limits = {key: threshold_for(truth, scores, aim) for key, aim in aimed.items()}
        for key, limit in {"0.5": 0.5, **limits}.items():
            decided[key] |= {name: probabilities[name] >= limit for name in names}
    subjects = sorted({r.subject for r, _ in test})
    for threshold, answers in decided.items():
        counts = np.stack(
            [
                np.sum(
                    [confusion_counts(r.label, answers[r.name]) for r, _ in test if r.subject == s],
                    0,
                )
                for s in subjects
            ]
        )
        for rate in ("f1", "sensitivity", "ppv", "specificity"):
            interval = bootstrap_patients(counts, RATES[rate], 2_000, 0)
            out[f"{rate}_at_{threshold}"] = [interval.value, interval.low, interval.high]
    return out


def main() -> None:
    """Run what is asked for and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the four data sets")
    parser.add_argument("--cache", type=Path, required=True, help="folder for what is done")
    parser.add_argument("--model", default="fused")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    signals = {"mitdb": True, "cpsc2021": True, "afdb": False, "nsrdb": False}
    sets = {name: cases(options.data, name, signal=signal) for name, signal in signals.items()}
    test = sets["mitdb"][::2]
    for seed in options.seeds:
        network = first(options.model, seed, sets, options.cache)
        ways = {
            "mitdb_unseen": {r.name: predict_beats(network, r) for r, _ in test},
            "out_of_fold": out_of_fold(
                options.model, seed, sets, network.get_weights(), options.cache
            ),
        }
        folds = subject_folds(test, seed)
        for way, probabilities in ways.items():
            result = {
                "model": options.model,
                "seed": seed,
                "network": way,
                "afl_as_not_af": figures(test, probabilities, folds),
                "afl_left_out": figures(without_flutter(test), probabilities, folds),
            }
            print(json.dumps(result, indent=1), flush=True)


if __name__ == "__main__":
    main()
