"""The rhythm family on AFDB's annotations: `python -m bench.rhythm`, resumable, one core.

Every fold's out-of-fold probabilities are kept in a folder as they come, so that a killed run goes
on, and the table is made of what is there. Threshold, Viterbi smoothing and Platt scaling of each
patient are fitted on the out-of-fold probabilities of the other patients.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.datasets.dataset import DatasetSpec, load_spec, record_names
from storage.files import whole
from storage.recordings.records import open_record
from storage.tables.beats import BeatTable, join_tables
from tasks.features.rhythm import rhythm_record
from tasks.learning.rhythm_training import RhythmConfig, fit_rhythm, predict_beats, prepare_learner
from tasks.scores.calibration import best_threshold, fit_scaling
from tasks.scores.evaluation import FLUTTER, ScoredRecord, score_table, summary
from tasks.scores.rule import Judgement, Rule, distances
from tasks.scores.smoothing import UNSMOOTHED, fit_smoothing, viterbi
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing

#: No signal at all: they train, and are not among the benchmark's 23 records.
WITHOUT_SIGNAL = ("00735", "03665")
#: Threshold and probability of a change that the smoothing may take.
SMOOTHINGS = [(at, change) for at in (0.3, 0.4, 0.5, 0.6) for change in (1e-2, 1e-4, 1e-6)]


def records(data: Path, name: str) -> dict[str, BeatTable]:
    """Beat table of every record, annotations alone."""
    spec, out = load_spec(name), {}
    folder = data / name
    for record_name in names_in(spec, folder):
        record = open_record(spec, folder, record_name, signal=False)
        out[record_name] = join_tables(list(beat_tables(record, None, Preprocessing())[0]))
    return out


def names_in(spec: DatasetSpec, folder: Path) -> list[str]:
    """The records of a folder: those that it lists, else those that have a header."""
    if (folder / "RECORDS").is_file():
        return record_names(spec, folder)
    return sorted(path.stem for path in folder.glob("*.hea"))


def folds(names: list[str], k: int) -> Iterator[tuple[str, list[str]]]:
    """A name and the tested records of each fold: every k-th of the benchmark's 23."""
    tested = [name for name in names if name not in WITHOUT_SIGNAL]
    for fold in range(min(k, len(tested))):
        yield f"{k}-{fold}", tested[fold::k]


def out_of_fold(
    model: str, seed: int, k: int, afdb: dict[str, BeatTable], cache: Path
) -> dict[str, NDArray[np.float32]]:
    """Probabilities of every tested record by a network that never saw its patient."""
    config = RhythmConfig(seed=seed)
    compiled: Any = None
    out: dict[str, NDArray[np.float32]] = {}
    for fold, tested in folds(list(afdb), k):
        path = cache / f"{model}-{seed}-{fold}.npz"
        if not path.is_file():
            compiled = compiled or prepare_learner(model, config)
            training = [rhythm_record(t) for name, t in afdb.items() if name not in tested]
            network, _ = fit_rhythm(model, training, config, model=compiled)
            answers = {name: predict_beats(network, rhythm_record(afdb[name])) for name in tested}
            with whole(path) as partial, partial.open("wb") as file:
                np.savez(file, allow_pickle=False, **answers)
            print(path.name, flush=True)
        with np.load(path) as arrays:
            out |= {name: arrays[name] for name in tested}
    return out


def score_records(
    afdb: dict[str, BeatTable], probabilities: dict[str, NDArray[np.float32]]
) -> list[ScoredRecord]:
    """Decisions by what serves the other patients best, probabilities scaled likewise."""
    smooth = {s: {n: viterbi(p, s[1], s[0]) for n, p in probabilities.items()} for s in SMOOTHINGS}
    out = []
    for name, probability in probabilities.items():
        table = afdb[name]
        peers = [peer for peer in probabilities if peer != name]
        label = np.concatenate([afdb[peer].label for peer in peers])
        smoothing = max(SMOOTHINGS, key=lambda s: agreement(label, [smooth[s][o] for o in peers]))
        scaling = fit_scaling(label[::20], np.concatenate([probabilities[o] for o in peers])[::20])
        told = np.ones(len(table), bool)
        scaled, rule = scaling(probability), Rule(smoothing[0])
        distance = distances(rule, scaled, table.begins).astype(np.float32)
        out.append(score_table(table, Judgement(scaled, smooth[smoothing][name], told, distance)))
    return out


def agreement(label: NDArray[np.int8], decided: list[NDArray[np.bool_]]) -> float:
    """F1 of AF."""
    decisions, truth = np.concatenate(decided), label == 1
    return float(2 * (decisions & truth).sum() / max(decisions.sum() + truth.sum(), 1))


def on_nsrdb(model: str, seed: int, afdb: dict[str, BeatTable], data: Path) -> dict[str, Any]:
    """Specificity on NSRDB of a network trained on all of AFDB, threshold and chain fixed there.

    Means over the records and each record's, beat by beat and as `holter evaluate` decides.
    """
    training = [rhythm_record(table) for table in afdb.values()]
    network, _ = fit_rhythm(model, training, RhythmConfig(seed=seed))
    answers, label = [predict_beats(network, r) for r in training], [r.label for r in training]
    threshold = best_threshold(np.concatenate(label), np.concatenate(answers))
    change = fit_smoothing(label, answers, threshold)
    probabilities = {
        name: predict_beats(network, rhythm_record(table))
        for name, table in records(data, "nsrdb").items()
    }
    out: dict[str, Any] = {"threshold": threshold, "change": change}
    for way, at in {"beat_wise": UNSMOOTHED, "smoothed": change}.items():
        right = {
            name: 1 - float(viterbi(p, at, threshold).mean()) for name, p in probabilities.items()
        }
        out[way] = {"mean_of_records": float(np.mean(list(right.values()))), **right}
    return out


def main() -> None:
    """Run what is asked for and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with afdb and nsrdb")
    parser.add_argument("--cache", type=Path, required=True, help="folder for what is done")
    parser.add_argument("--model", default="rhythm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=23, help="23 leaves one patient out")
    parser.add_argument("--nsrdb", action="store_true", help="train on all of AFDB, test there")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    afdb = records(options.data, "afdb")
    for seed in options.seeds:
        figures: dict[str, Any]
        if options.nsrdb:
            figures = on_nsrdb(options.model, seed, afdb, options.data)
        else:
            probabilities = out_of_fold(options.model, seed, options.folds, afdb, options.cache)
            scored = score_records(afdb, probabilities)
            figures = summary(scored)
            figures["beat_f1_without_afl"] = summary([s.without([FLUTTER]) for s in scored])[
                "beat_f1"
            ]
        print(json.dumps({"model": options.model, "seed": seed, **figures}, indent=1))


if __name__ == "__main__":
    main()
