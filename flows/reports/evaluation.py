"""An evaluation's figures, tables and page, from the scored records of each data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.services.ports import review_page
from storage.tables.beats import BeatTable
from tasks.pages.document import (
    Block,
    Heading,
    Link,
    Picture,
    Summary,
    Table,
    Tile,
    Words,
    table_of,
)
from tasks.pages.figures import curves
from tasks.pages.mistakes import ecg_strip, tachogram, worst_mistakes
from tasks.pages.numbers import bounds_of, clock, label_of, text_of, with_bounds
from tasks.scores.calibration import threshold_table
from tasks.scores.curves import precision_recall
from tasks.scores.evaluation import (
    FLUTTER,
    ScoredRecord,
    per_patient,
    per_rhythm,
    per_stratum,
    summary,
)
from tasks.scores.levels.certainty import coverage_curve, told_figures
from tasks.scores.levels.cpsc2021_score import score_decisions
from tasks.scores.levels.record_level import record_answers, record_figures

#: Challenges' own scores, by data set: the mean over its records.
CHALLENGE_SCORES = {"cpsc2021": score_decisions}
#: The figures of the first screen.
FIRST = (
    "beat_f1",
    "beat_sensitivity",
    "beat_specificity",
    "coverage",
    "sure_accuracy",
    "episode_sensitivity",
    "episode_ppv",
    "burden_error_median_pp",
    "worst_patient_accuracy",
)
#: Where the PPV of a curve is looked up.
CURVE_SENSITIVITY = 0.97
#: Those of a data set that labels whole records: nobody labelled its beats.
FIRST_BY_RECORD = (
    "record_f1",
    "record_sensitivity",
    "record_specificity",
    "record_ppv",
    "record_auc",
    "record_coverage",
    "record_sure_f1",
    "labelled_records",
    "af_records",
)
#: What the tables' files are called, and their headings.
TABLES: dict[str, tuple[str, Callable[[Sequence[ScoredRecord]], pd.DataFrame]]] = {
    "per_patient": ("by patient", per_patient),
    "per_rhythm": ("by rhythm", per_rhythm),
    "per_stratum": ("by kind of beats", per_stratum),
    "thresholds": ("by threshold", lambda scored: threshold_table(*pooled_beats(scored))),
}
#: What the report says of its rules.
RULES = (
    "What cannot be analysed is no time, and parts episodes and intervals. "
    "Beats whose rhythm is unknown count nowhere. Atrial flutter counts as not AF; the columns "
    "'without AFL' leave its beats out. Episodes are compared by the rules of ANSI/AAMI EC57 "
    "(WFDB epicmp): an episode of 30 s or more is found, or right, if one of any length overlaps "
    "it on the other side; durations count every episode; PPV leaves true flutter out, the burden"
    " does not. The first five minutes count. A segment of 30 s is AF where half of it "
    "is; one counts where half of it can be analysed. "
    "Where a data set labels whole records, a record is one case: AF where half of its beats are "
    "decided so, its P(AF) their mean; every beat has its record's label at the other levels. "
    "A beat that cannot be told counts by what was decided of it, but in figures 'where told' and "
    "in columns 'told': those leave it out. A segment, an episode or a record is told where at "
    "least half of its beats are. An annotated episode is found by beats that are told to be AF; "
    "else it cannot be told, or is missed. "
    "What a curve reaches at its best threshold is chosen with the labels tested, without "
    "smoothing: it is no operating point. "
    "Intervals are 95 %, by drawing patients 2,000 times. Calibration uses 15 bins of equal "
    "width."
)


def by_dataset(scored: Sequence[ScoredRecord]) -> dict[str, list[ScoredRecord]]:
    """Records by the data set that they are of."""
    names = dict.fromkeys(record.dataset for record in scored)
    return {name: [record for record in scored if record.dataset == name] for name in names}


def figures_of(scored: Sequence[ScoredRecord]) -> dict[str, dict[str, float]]:
    """Every figure of each data set; of one with flutter once more without its beats."""
    figures: dict[str, dict[str, float]] = {}
    for dataset, records in by_dataset(scored).items():
        figures[dataset] = summary(records) | told_figures(records)
        figures[dataset] |= record_figures(records)
        figures[dataset] |= curve_figures("beat", *pooled_beats(records))
        if "record_f1" in figures[dataset]:
            answers = record_answers(records)
            figures[dataset] |= curve_figures("record", answers.label, answers.probability)
        if score := CHALLENGE_SCORES.get(dataset):
            points = [
                score(s.time_s, s.rhythm, s.decided, s.stretches_s)
                for s in records
                if len(s.time_s)
            ]
            figures[dataset]["challenge_score"] = float(np.mean(points))
        if any((s.rhythm == FLUTTER).any() for s in records):
            remainder = [s.without([FLUTTER]) for s in records]
            figures[f"{dataset} without AFL"] = {
                **summary(remainder),
                **told_figures(remainder),
                **curve_figures("beat", *pooled_beats(remainder)),
            }
    return figures


def curve_figures(
    level: str, label: NDArray[np.int8], probability: NDArray[np.floating]
) -> dict[str, float]:
    """What the curve over all thresholds reaches: chosen with its own labels, no operating point.

    Parameters
    ----------
    level : str
        What a label is of: "beat" or "record".
    label : int8, shape (n,)
        1 AF, 0 not AF.
    probability : float, shape (n,)
        P(AF).

    Returns
    -------
    dict of str to float
        PPV at the largest threshold whose sensitivity is 0.97 or more, and the largest F1; NaN
        without AF.
    """
    sensitivity, ppv = precision_recall(label, probability)
    at = int((sensitivity >= CURVE_SENSITIVITY).sum()) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.nan_to_num(2 * sensitivity * ppv / (sensitivity + ppv))
    return {
        f"{level}_ppv_at_sensitivity_97": float(ppv[at]) if at >= 0 else float("nan"),
        f"{level}_f1_best_threshold": float(f1.max()) if len(f1) else float("nan"),
    }


def tables_of(scored: Sequence[ScoredRecord]) -> dict[str, pd.DataFrame]:
    """The tables of one data set, by the names of `TABLES`."""
    return {name: frame_of(scored) for name, (_, frame_of) in TABLES.items()}


def page(
    scored: Sequence[ScoredRecord],
    figures: Mapping[str, Mapping[str, float]],
    tables: Mapping[str, Mapping[str, pd.DataFrame]],
    notes: Sequence[str],
    beats_of: Callable[[ScoredRecord], BeatTable],
) -> list[Block]:
    """The report's blocks: the answer, caveats, curves, mistakes drawn, tables, and the rules.

    Parameters
    ----------
    scored : sequence of ScoredRecord
        The records of every data set.
    figures, tables : mapping
        As `figures_of`, and by data set as `tables_of`.
    notes : sequence of str
        What the figures cannot say.
    beats_of : callable
        The beat table of a record, for its signal.
    """
    datasets = by_dataset(scored)
    blocks: list[Block] = [headline(name, figures[name]) for name in datasets]
    blocks += [Words(note, caveat=True) for note in notes]
    blocks += [*curves_of(datasets), Heading("Figures"), wide(figures)]
    blocks += details_of(datasets, tables, beats_of)
    return [*blocks, Heading("How it is counted"), Words(RULES)]


def curves_of(datasets: Mapping[str, Sequence[ScoredRecord]]) -> list[Block]:
    """The curves of each data set."""
    blocks: list[Block] = []
    for name, records in datasets.items():
        shows = f"{name}: ROC, precision over recall, calibration, accuracy over coverage"
        drawn = curves(*pooled_beats(records), shows, coverage_curve(records))
        blocks.append(Picture(f"{name}_curves.png", drawn, shows))
    return blocks


def details_of(
    datasets: Mapping[str, Sequence[ScoredRecord]],
    tables: Mapping[str, Mapping[str, pd.DataFrame]],
    beats_of: Callable[[ScoredRecord], BeatTable],
) -> list[Block]:
    """The longest mistakes of each data set, drawn, and its tables."""
    blocks: list[Block] = []
    for name, records in datasets.items():
        blocks.append(Heading(f"{name}: the longest mistakes"))
        mistakes = worst_mistakes(records)
        for mistake in mistakes:
            blocks += [tachogram(mistake), ecg_strip(mistake, beats_of(mistake.scored))]
            record, start_s = mistake.scored.record, mistake.start_s
            words = f"{record} at {clock(start_s)}, in the review page"
            blocks.append(Link(words, review_page(name, record, at=start_s)))
        blocks += [] if mistakes else [Words("None.")]
    for name, frames in tables.items():
        for key, frame in frames.items():
            blocks += [Heading(f"{name}: {TABLES[key][0]}"), table_of(frame.to_dict("records"))]
    return blocks


def headline(dataset: str, figures: Mapping[str, float]) -> Summary:
    """A data set's first figures, with their intervals."""
    sizes = [f"{text_of(figures[key], key)} {key}" for key in ("patients", "records", "beats")]
    tiles = [
        Tile(label_of(key), text_of(figures[key], key), bounds_of(figures, key))
        for key in first_keys(figures)
    ]
    return Summary(f"{dataset}: {', '.join(sizes)}", tiles)


def first_keys(figures: Mapping[str, float]) -> tuple[str, ...]:
    """The figures of the first screen: by record where records are labelled, else by beat."""
    return FIRST_BY_RECORD if "record_f1" in figures else FIRST


def pooled_beats(scored: Sequence[ScoredRecord]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Label and probability of all beats with a known rhythm."""
    label = np.concatenate([s.label for s in scored])
    probability = np.concatenate([s.probability for s in scored])
    return label[label >= 0], probability[label >= 0]


def wide(figures: Mapping[str, Mapping[str, float]]) -> Table:
    """A row a figure, a column a data set; bounds stand with their value."""
    keys = dict.fromkeys(key for values in figures.values() for key in values)
    return Table(
        ("figure", *figures),
        [
            (label_of(key), *(with_bounds(values, key) for values in figures.values()))
            for key in keys
            if not key.endswith(("_low", "_high"))
        ],
    )
