"""Networks on data sets that they never learnt from: `python -m bench.across`, resumable, one core.

A network learns from some data sets, annotations alone. Threshold and smoothing are fixed on them,
as `holter train` fixes them, and every figure is of the other sets. Where a set labels whole
records, its beats are detected in its signals, as `holter ingest` does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.rhythm import names_in
from storage.datasets.dataset import load_spec
from storage.recordings.marks import LABEL
from storage.recordings.records import open_record, read_lead
from storage.recordings.stretches import slices
from storage.tables.beats import BeatTable, join_tables
from tasks.features.rhythm import rhythm_record
from tasks.learning.rhythm_training import RhythmConfig, fit_rhythm
from tasks.learning.training import predict
from tasks.networks.models import build
from tasks.networks.sequence import input_windows, windows
from tasks.scores.calibration import best_threshold
from tasks.scores.evaluation import ScoredRecord, score_table, summary
from tasks.scores.levels.certainty import told_figures
from tasks.scores.levels.record_level import record_figures
from tasks.scores.rule import Rule, judge
from tasks.scores.smoothing import fit_smoothing
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing

#: Records whose windows are answered at once.
TOGETHER = 200


def tables_of(data: Path, name: str) -> dict[str, tuple[BeatTable, bool]]:
    """Beat table of every record, and whether one label is of the whole record."""
    spec, out = load_spec(name), {}
    signal = bool(spec.labels.files or spec.labels.paths)
    for record_name in names_in(spec, data / name):
        record = open_record(spec, data / name, record_name, signal=signal)
        read = partial(read_lead, record) if signal else None
        tables = beat_tables(record, read, Preprocessing())[0]
        table = join_tables([replace(part, waveform=None) for part in tables])
        out[record_name] = table, record.label_source == LABEL
    return out


def answers(model: Any, tables: Sequence[BeatTable]) -> Iterator[NDArray[np.float32]]:
    """P(AF) of every beat of each record, the windows of many answered at once."""
    cut = windows(model.name)
    for at in range(0, len(tables), TOGETHER):
        group = tables[at : at + TOGETHER]
        rows = [input_windows(model.name, rhythm_record(table))["rhythm"] for table in group]
        answered = predict(model, np.concatenate(rows), batch=64)
        parts = np.split(answered, np.cumsum([len(part) for part in rows])[:-1])
        for table, part in zip(group, parts, strict=True):
            places = cut.places(table.begins)
            yield cut.join(part, int(places[-1]) + 1)[places]


def scored_records(
    model: Any, tables: dict[str, tuple[BeatTable, bool]], threshold: float, change: float
) -> Iterator[ScoredRecord]:
    """Every record with the decisions that a release would make."""
    of_records = zip(tables.values(), answers(model, [t for t, _ in tables.values()]), strict=True)
    for (table, labelled_whole), probability in of_records:
        judgement = judge(Rule(threshold, change), table, probability)
        yield score_table(table, judgement, labelled_whole=labelled_whole)


def learnt(name: str, tables: Sequence[BeatTable], seed: int, path: Path) -> Any:
    """The network of the weights at `path`, else one that is trained and kept there."""
    if path.is_file():
        model = build(name, seed=seed)
        model.load_weights(path)
        return model
    records = [rhythm_record(table) for table in tables]
    model, _ = fit_rhythm(name, records, RhythmConfig(seed=seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save_weights(path)
    return model


def fixed_on(model: Any, tables: Sequence[BeatTable]) -> tuple[float, float]:
    """Threshold and probability of a change that serve the records learnt from."""
    label, probability = [], []
    for table, answer in zip(tables, answers(model, tables), strict=True):
        parts = slices(table.begins)
        label += [table.label[part] for part in parts]
        probability += [answer[part] for part in parts]
    known = np.concatenate(label) >= 0
    threshold = best_threshold(np.concatenate(label)[known], np.concatenate(probability)[known])
    return threshold, fit_smoothing(label, probability, threshold)


def main() -> None:
    """Run what is asked for and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' folders")
    parser.add_argument("--cache", type=Path, required=True, help="folder for trained weights")
    parser.add_argument("--model", default="rhythm")
    parser.add_argument("--learn", nargs="+", default=["afdb"], help="data sets to learn from")
    parser.add_argument("--test", nargs="+", default=["ltafdb", "nsrdb", "cinc2017"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    learn = [t for name in options.learn for t, _ in tables_of(options.data, name).values()]
    path = options.cache / f"{options.model}-{'+'.join(options.learn)}-{options.seed}.weights.h5"
    model = learnt(options.model, learn, options.seed, path)
    threshold, change = fixed_on(model, learn)
    made = {"model": options.model, "learnt": options.learn, "seed": options.seed}
    for name in options.test:
        tables = tables_of(options.data, name)
        scored = list(scored_records(model, tables, threshold, change))
        figures = summary(scored) | told_figures(scored) | record_figures(scored)
        decided_by = {"tested": name, "threshold": threshold, "change": change}
        print(json.dumps({**made, **decided_by, **figures}, indent=1), flush=True)


if __name__ == "__main__":
    main()
