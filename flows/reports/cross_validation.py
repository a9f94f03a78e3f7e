"""A cross-validation's figures by seed, their means, and its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.reports.evaluation import RULES, by_dataset, curves_of, details_of, first_keys
from storage.tables.beats import BeatTable
from tasks.pages.document import Block, Heading, Summary, Table, Tile, Words
from tasks.pages.numbers import bounds_of, label_of, text_of, with_bounds
from tasks.scores.bootstrap import RATES, Counts, Statistic, bootstrap_patients
from tasks.scores.evaluation import (
    EPISODE_COLUMNS,
    ScoredRecord,
    confusion_counts,
    share_of,
)
from tasks.scores.levels.record_level import record_answers

#: Figures by seed, of each data set.
FiguresBySeed = Mapping[str, Mapping[int, Mapping[str, float]]]
ENDS = ("_low", "_high")
#: Patients that a row names.
MOST_NAMES = 8


def _ratio(counts: Counts, *, columns: Sequence[int]) -> NDArray[np.floating]:
    return share_of(counts[:, columns])


#: Rates of what a patient adds at each level, by the figures' keys.
LEVEL_RATES: dict[str, dict[str, Statistic]] = {
    **{
        level: {f"{level}_{name}": rate for name, rate in RATES.items()}
        for level in ("beat", "segment", "record")
    },
    "episode": {
        name: partial(_ratio, columns=columns) for name, columns in EPISODE_COLUMNS.items()
    },
}


@dataclass(frozen=True)
class FoldRow:
    """A fold: who was tested, of how many it learnt, and how its answers are decided."""

    seed: int
    fold: int
    patients: list[str]
    learnt_patients: int
    threshold: float
    smoothing_change: float
    margin: float


def means_of(figures: FiguresBySeed) -> dict[str, dict[str, float]]:
    """The mean over the seeds of every figure of each data set; an interval has none."""
    return {
        dataset: {
            key: float(np.mean([values[key] for values in by_seed.values()]))
            for key in next(iter(by_seed.values()))
            if not key.endswith(ENDS)
        }
        for dataset, by_seed in figures.items()
    }


def patient_counts(scored: Sequence[ScoredRecord]) -> dict[str, Counts]:
    """What each patient adds at each level of `LEVEL_RATES`, (patients, k), in their order.

    There is no level of records where no record has a label of its own.
    """
    patients = list(dict.fromkeys(record.patient for record in scored))
    groups = [[s for s in scored if s.patient == patient] for patient in patients]

    def table(count: Callable[[ScoredRecord], Counts]) -> Counts:
        return np.stack([np.sum([count(s) for s in group], axis=0) for group in groups])

    counts = {
        "beat": table(lambda s: s.confusion()),
        "segment": table(lambda s: confusion_counts(*s.segments())),
        "episode": table(lambda s: np.array(astuple(s.episode_counts()), np.float64)),
    }
    answers = record_answers(scored)
    if len(answers.label):
        own = [answers.patient == patient for patient in patients]
        cells = [confusion_counts(answers.label[o], answers.decided[o]) for o in own]
        counts["record"] = np.stack(cells)
    return counts


def mean_bounds(by_seed: Sequence[Mapping[str, Counts]]) -> dict[str, float]:
    """The 95 % intervals of the seeds' mean rates: a draw takes the same patients for every seed.

    Parameters
    ----------
    by_seed : sequence of mapping of str to float64, shape (patients, k)
        `patient_counts` of each seed, of the same patients.

    Returns
    -------
    dict of str to float
        `_low` and `_high` of each rate.
    """
    bounds: dict[str, float] = {}
    for level, rates in LEVEL_RATES.items():
        tables = [counts[level] for counts in by_seed if level in counts]
        if not tables:
            continue
        for key, rate in rates.items():
            mean = partial(_mean_rate, rate=rate, seeds=len(tables))
            interval = bootstrap_patients(np.hstack(tables), mean)
            bounds |= {f"{key}_low": interval.low, f"{key}_high": interval.high}
    return bounds


def _mean_rate(sums: Counts, *, rate: Statistic, seeds: int) -> NDArray[np.floating]:
    return np.asarray(np.mean([rate(part) for part in np.hsplit(sums, seeds)], axis=0))


def figures_frame(figures: FiguresBySeed, means: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """A row a figure of a data set and seed, or their mean, with its bounds; NaN for none."""
    return pd.DataFrame(
        [
            {
                "dataset": dataset,
                "seed": seed,
                "figure": key,
                "value": value,
                **{end.strip("_"): values.get(f"{key}{end}", np.nan) for end in ENDS},
            }
            for dataset, by_seed in figures.items()
            for seed, values in [*by_seed.items(), ("mean", means[dataset])]
            for key, value in values.items()
            if not key.endswith(ENDS)
        ]
    )


def folds_frame(folds: Sequence[FoldRow]) -> pd.DataFrame:
    """A row a fold."""
    return pd.DataFrame([{**vars(row), "patients": " ".join(row.patients)} for row in folds])


def figures_table(by_seed: Mapping[int, Mapping[str, float]], mean: Mapping[str, float]) -> Table:
    """A row a figure, a column a seed, and the mean of several; bounds stand with their value."""
    more = ("mean",) if len(by_seed) > 1 else ()
    return Table(
        ("figure", *(f"seed {seed}" for seed in by_seed), *more),
        [
            (
                label_of(key),
                *(with_bounds(values, key) for values in by_seed.values()),
                *(with_bounds(mean, key) for _ in more),
            )
            for key in mean
            if not key.endswith(ENDS)
        ],
    )


def folds_table(folds: Sequence[FoldRow]) -> Table:
    """A row a fold: whom it tests, and how its answers are decided."""
    return Table(
        ("seed", "fold", "tested", "patients learnt from", "threshold", "smoothing", "margin"),
        [
            (
                str(row.seed),
                str(row.fold),
                names_of(row.patients),
                str(row.learnt_patients),
                text_of(row.threshold, "threshold"),
                text_of(row.smoothing_change, "smoothing_change"),
                f"{row.margin:.2f}",
            )
            for row in folds
        ],
    )


def names_of(patients: Sequence[str]) -> str:
    """The first patients of a fold, and how many there are beside."""
    more = len(patients) - MOST_NAMES
    return ", ".join(patients[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def headline(
    dataset: str, by_seed: Mapping[int, Mapping[str, float]], mean: Mapping[str, float]
) -> Summary:
    """A data set's first figures: the mean of the seeds, with its interval, else their range."""
    sizes = [f"{text_of(int(mean[key]), key)} {key}" for key in ("patients", "records", "beats")]
    seeds = f"mean of {len(by_seed)} seeds" if len(by_seed) > 1 else f"seed {next(iter(by_seed))}"
    tiles = [
        Tile(
            label_of(key),
            text_of(mean[key], key),
            bounds_of(mean, key) or range_of([figures[key] for figures in by_seed.values()], key),
        )
        for key in first_keys(mean)
    ]
    text = f"{dataset}: {', '.join(sizes)}; no patient was known to the network that answers"
    return Summary(f"{text}; {seeds}", tiles)


def range_of(values: Sequence[float], key: str) -> str:
    """From the least to the largest of a figure by seed; empty where they are one."""
    if not np.isfinite(values).all() or min(values) == max(values):
        return ""
    return f"{text_of(min(values), key)} to {text_of(max(values), key)} by seed"


def page(
    figures: FiguresBySeed,
    means: Mapping[str, Mapping[str, float]],
    folds: Sequence[FoldRow],
    notes: Sequence[str],
    sample: tuple[Sequence[ScoredRecord], Mapping[str, Mapping[str, pd.DataFrame]]],
    beats_of: Callable[[ScoredRecord], BeatTable],
) -> list[Block]:
    """The report's blocks: the answer, caveats, curves, figures, folds, mistakes and tables.

    Parameters
    ----------
    figures, means : mapping
        By data set and seed, as `flows.reports.evaluation.figures_of`; and their means.
    folds : sequence of FoldRow
        Of all seeds.
    notes : sequence of str
        What the figures cannot say.
    sample : tuple
        The records of the first seed, and the tables made of them by data set.
    beats_of : callable
        The beat table of a record, for its signal.
    """
    scored, tables = sample
    datasets = by_dataset(scored)
    blocks: list[Block] = [headline(name, figures[name], means[name]) for name in datasets]
    blocks += [Words(note, caveat=True) for note in notes]
    blocks += curves_of(datasets)
    for name, by_seed in figures.items():
        blocks += [Heading(f"{name}: figures"), figures_table(by_seed, means[name])]
    blocks += [Heading("Folds"), folds_table(folds)]
    if len({row.seed for row in folds}) > 1:
        blocks.append(Words(f"Curves above, mistakes and tables below: seed {folds[0].seed}."))
    blocks += details_of(datasets, tables, beats_of)
    return [*blocks, Heading("How it is counted"), Words(RULES)]
