"""The reference method's experiment: what is trained, and what came out beside what was published.

The published figures are those of the 2024 thesis that the project starts from (University of
Ulsan), on AFDB, averaged over the two classes by their beats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from storage.files import sha256_json
from tasks.learning.folds import patient_folds
from tasks.learning.splits import Column, Split, split_beats
from tasks.pages import figures
from tasks.pages.document import Block, Heading, Picture, Summary, Table, Tile, Words
from tasks.pages.numbers import label_of, text_of
from tasks.scores.bootstrap import Counts, Interval, bootstrap_patients
from tasks.scores.metrics import beat_metrics

NETWORKS = ("resnet15", "resnet21", "resnet25")
#: Weighted precision, recall and F1 on AFDB, as published.
PUBLISHED = {
    ("interpatient", "resnet15"): (0.8121, 0.8110, 0.8077),
    ("interpatient", "resnet21"): (0.8434, 0.8444, 0.8429),
    ("interpatient", "resnet25"): (0.8599, 0.8608, 0.8589),
    ("intrapatient", "resnet15"): (0.9524, 0.9526, 0.9525),
    ("intrapatient", "resnet21"): (0.9652, 0.9651, 0.9652),
    ("intrapatient", "resnet25"): (0.9741, 0.9763, 0.9763),
}
THRESHOLD = 0.5


@dataclass(frozen=True)
class Training:
    """One training of the experiment: everything that its result depends on.

    Attributes
    ----------
    dataset_sha256, code_sha256 : str
        Digests of the beat tables' manifest and of the code that trains.
    model, paradigm : str
        Network and way to split.
    fold, folds, repeats : int
        Which patient fold tests, of how many in how many repeats; 0 of 0 is the single 80:20 split.
    epochs, batch, most_beats : int
        Passes, beats of a step, and at most how many training beats (0: all).
    learning_rate : float
        Adam's.
    seed : int
        Of split and training.
    """

    dataset_sha256: str
    code_sha256: str
    model: str
    paradigm: str
    epochs: int = 100
    batch: int = 128
    learning_rate: float = 1e-4
    most_beats: int = 0
    seed: int = 0
    fold: int = 0
    folds: int = 0
    repeats: int = 0

    def key(self) -> str:
        """Digest of it all: the same key means the same result."""
        return sha256_json(asdict(self))

    def title(self) -> str:
        """Network, paradigm and fold in words."""
        fold = f", fold {self.fold + 1} of {self.folds * self.repeats}" if self.folds else ""
        return f"{self.model} {self.paradigm}{fold}"


@dataclass(frozen=True, eq=False)
class Result:
    """What a training answered on its test beats.

    Attributes
    ----------
    label : int8, shape (n,)
    probability : float32, shape (n,)
    subject : str, shape (n,)
    best_epoch : int
        From 0.
    cpu_s : float
        Processor seconds of the training.
    """

    label: NDArray[np.int8]
    probability: NDArray[np.float32]
    subject: NDArray[np.str_]
    best_epoch: int
    cpu_s: float


def split_of(training: Training, subject: Column, label: NDArray[np.int8]) -> Split:
    """The split that a training works on, checked for leaks where it is made."""
    if not training.folds:
        return split_beats(training.paradigm, subject, label, training.seed)
    folds = patient_folds(subject, label, training.seed, training.folds, training.repeats)
    return next(split for number, split in enumerate(folds) if number == training.fold)


def weighted_averages(counts: Counts) -> NDArray[np.floating]:
    """Weighted precision, recall and F1, shape (3, draws), of (draws, 4) tp, fp, fn, tn.

    A class that is never decided has precision 0, as in `tasks.scores.metrics.beat_metrics`.
    """
    tp, fp, fn, tn = counts.T
    parts = []
    for hit, wrong, lost in ((tp, fp, fn), (tn, fn, fp)):
        precision = hit / np.maximum(hit + wrong, 1)
        recall = hit / np.maximum(hit + lost, 1)
        f1 = 2 * hit / np.maximum(2 * hit + wrong + lost, 1)
        parts.append((hit + lost) * np.stack([precision, recall, f1]))
    return np.asarray((parts[0] + parts[1]) / counts.sum(axis=1))


def patient_counts(results: Sequence[Result]) -> Counts:
    """tp, fp, fn and tn of every patient, shape (patients, 4), over all results."""
    label = np.concatenate([r.label for r in results]) == 1
    decided = np.concatenate([r.probability for r in results]) >= THRESHOLD
    subject = np.concatenate([r.subject for r in results])
    place = np.unique(subject, return_inverse=True)[1]
    cells = (label & decided, ~label & decided, label & ~decided, ~label & ~decided)
    return np.stack([np.bincount(place, cell.astype(np.float64)) for cell in cells], axis=1)


def intervals(results: Sequence[Result]) -> list[Interval]:
    """Weighted precision, recall, F1 with 95 % intervals over the patients tested."""
    counts = patient_counts(results)
    return [bootstrap_patients(counts, partial(_weighted_average, place=k)) for k in range(3)]


def _weighted_average(counts: Counts, place: int) -> NDArray[np.floating]:
    return np.asarray(weighted_averages(counts)[place])


def baseline_f1(result: Result) -> float:
    """The weighted F1 of deciding every beat of the test side as the commoner class."""
    tp, fp, fn, tn = patient_counts([result]).sum(axis=0)
    af, not_af = tp + fn, fp + tn
    counts = (af, not_af, 0, 0) if af > not_af else (0, 0, af, not_af)
    return float(weighted_averages(np.array([counts], np.float64))[2, 0])


#: Figures of AF at beat level that stand beside the weighted ones.
BEAT = ("f1", "sensitivity", "specificity", "auc")
COLUMNS = (
    "paradigm",
    "network",
    "published P / R / F1",
    "precision",
    "recall",
    "F1",
    *map(label_of, BEAT),
    "patients",
    "beats",
    "best epoch",
    "CPU min",
)


def row(paradigm: str, model: str, results: Sequence[Result]) -> list[str]:
    """One line of the table: published and found, over one result or the folds of several."""
    label = np.concatenate([r.label for r in results])
    probability = np.concatenate([r.probability for r in results])
    of = beat_metrics(label, probability, THRESHOLD)
    patients = len(np.unique(np.concatenate([r.subject for r in results])))
    averages = [
        f"{average.value:.4f} ({average.low:.4f} to {average.high:.4f})"
        if patients > 1
        else f"{average.value:.4f} (one patient, no interval)"
        for average in intervals(results)
    ]
    published = " / ".join(f"{value:.4f}" for value in PUBLISHED[paradigm, model])
    return [
        paradigm,
        model,
        published,
        *averages,
        *(text_of(of[name], name) for name in BEAT),
        str(patients),
        f"{len(label):,}",
        ", ".join(str(r.best_epoch + 1) for r in results),
        f"{sum(r.cpu_s for r in results) / 60:.1f}",
    ]


def summary(results: dict[Training, Result]) -> list[Block]:
    """The answer: weighted F1 of each network beside the published one, in numbers and drawn."""
    single = {t: intervals([r])[2] for t, r in results.items() if not t.folds}
    published = [PUBLISHED[t.paradigm, t.model][2] for t in single]
    rows = [(f"{t.model}, {t.paradigm}", f1) for t, f1 in single.items()]
    tiles = [
        Tile(name, text_of(f1.value, "f1"), f"published {text_of(f1_published, 'f1')}")
        for (name, f1), f1_published in zip(rows, published, strict=True)
    ]
    shows = "Weighted F1 with its 95 % interval over patients; crosses: published on AFDB"
    return [
        Summary("Weighted F1 of the three networks, beside what was published on AFDB", tiles),
        Picture("f1.png", figures.intervals(rows, shows, published), shows),
    ]


def describe(title: str, results: dict[Training, Result], caveats: Sequence[str]) -> list[Block]:
    """The report's blocks: the table beside the published one, the folds, and the figures."""
    single = {t: r for t, r in results.items() if not t.folds}
    baselines = {t.paradigm: baseline_f1(r) for t, r in single.items()}
    blocks: list[Block] = [
        Words(
            "Weighted averages over the two classes at beat level, threshold 0.5, with the 95 % "
            "interval over the test side's patients drawn with replacement (2,000 draws). "
            "The published figures are the reference's, on AFDB."
        ),
        Table(COLUMNS, [row(t.paradigm, t.model, [r]) for t, r in single.items()]),
        Words(
            "Weighted averages flatter where AF is rare. A network that decides every beat as the "
            "commoner class, and has learnt nothing, has a weighted F1 of "
            + " and ".join(f"{f1:.4f} ({paradigm})" for paradigm, f1 in baselines.items())
            + "."
        ),
    ]
    if folded := [t for t in results if t.folds]:
        blocks += [
            Heading("Patient folds"),
            Words("Every patient tests once a repeat; the folds' beats are pooled."),
            Table(
                ("repeat", *COLUMNS),
                [
                    [str(repeat + 1), *row("interpatient", model, fold_results)]
                    for repeat in range(folded[0].repeats)
                    for model in NETWORKS
                    if (fold_results := [results[t] for t in _folds_of(folded, model, repeat)])
                ],
            ),
        ]
    blocks += [Heading("What these figures cannot say"), *map(Words, caveats), Heading("Figures")]
    for training, result in single.items():
        caption = f"{title}: {training.title()}"
        pictures = {
            "confusion": figures.confusion_matrix(
                result.label, result.probability, THRESHOLD, caption
            ),
            "roc": figures.roc(result.label, result.probability, caption),
        }
        blocks += [
            Picture(f"{training.paradigm}_{training.model}_{kind}.png", png, f"{caption}, {kind}")
            for kind, png in pictures.items()
        ]
    return blocks


def _folds_of(trainings: Sequence[Training], model: str, repeat: int) -> list[Training]:
    return [t for t in trainings if t.model == model and t.fold // t.folds == repeat]
