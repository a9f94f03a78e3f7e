"""A test by ANSI/AAMI EC57 and IEC 60601-2-47: beats and AF episodes, record by record.

The rules are those of WFDB's `bxb`, `epicmp` and `sumstats`, the reference programs of EC57:1998
(Moody, "Evaluating ECG Analyzers", WFDB Applications Guide). The first five minutes of a record are
a learning period. A beat is detected within 150 ms. Beats and AF in time that was not analysed are
missed. An AF episode of any length counts; any overlap finds it; positive predictivity leaves out
annotated atrial flutter. Gross figures are of all records together, averages of the records'.

Two things differ from the programs. A beat that is near two others is paired as
`tasks.signal.match` does it, which makes as many pairs or more. An episode that ends with the
learning period's last sample is of the learning period.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.scores.episodes import EpisodeCounts, Intervals, compare_episodes, durations_s, shared_s

LEARNING_S = 300.0
WINDOW_S = 0.15
#: The standard's classes of beats, by their symbols; a premature supraventricular beat is an N
#: where an analyser tells none (`bxb -l`).
CLASSES = {
    "N": tuple("NLRBJASajen"),
    "V": tuple("VrE"),
    "F": ("F",),
    "Q": tuple("Q/f?"),
}
#: Marks of a paced beat: records with any are no part of the standard's test.
PACED = ("/", "f")
Samples = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RecordTest:
    """A record: what is annotated, and what an analyser said that did not see it.

    Attributes
    ----------
    record, subject : str
        Its name, and of whom it is.
    fs_hz, n_samples : float, int
        Sampling rate and length.
    beats : int64, shape (k,)
        Annotated beats in samples, without those in ventricular fibrillation.
    symbols : str, shape (k,)
        Their WFDB mnemonics.
    detected : int64, shape (m,)
        Detected beats.
    partner : int64, shape (k,)
        The detected beat of each annotated one, -1 for none.
    af, flutter, fibrillation : float64, shape (j, 2)
        Annotated AF, atrial flutter, and ventricular flutter or fibrillation, in seconds.
    decided, untold, analysed : float64, shape (j, 2)
        Decided AF, what of the record cannot be told, and what of it was analysed, in seconds.
    """

    record: str
    subject: str
    fs_hz: float
    n_samples: int
    beats: Samples
    symbols: NDArray[np.str_]
    detected: Samples
    partner: Samples
    af: Intervals
    flutter: Intervals
    fibrillation: Intervals
    decided: Intervals
    untold: Intervals
    analysed: Intervals

    @property
    def period_s(self) -> tuple[float, float]:
        """Start and end of what is tested, in seconds."""
        return LEARNING_S, self.n_samples / self.fs_hz


@dataclass(frozen=True)
class BeatCounts:
    """Beats of the test period, of one record or of many added up.

    Attributes
    ----------
    hits, missed, shut : tuple of int
        Annotated beats of each of `CLASSES` that were detected, that were missed, and of these
        those in time that was not analysed.
    extra : int
        Detected beats that are not annotated.
    shut_s : float
        Seconds that were not analysed.
    """

    hits: tuple[int, ...]
    missed: tuple[int, ...]
    shut: tuple[int, ...]
    extra: int
    shut_s: float

    def __add__(self, other: BeatCounts) -> BeatCounts:
        hits, missed, shut = (
            tuple(map(add, left, right))
            for left, right in zip(self._by_class, other._by_class, strict=True)
        )
        extra, shut_s = self.extra + other.extra, self.shut_s + other.shut_s
        return BeatCounts(hits, missed, shut, extra, shut_s)

    @property
    def _by_class(self) -> tuple[tuple[int, ...], ...]:
        return self.hits, self.missed, self.shut

    @property
    def annotated(self) -> int:
        """Annotated beats."""
        return sum(self.hits) + sum(self.missed)

    @property
    def detected(self) -> int:
        """Detected beats."""
        return sum(self.hits) + self.extra

    def metrics(self) -> dict[str, float]:
        """Sensitivity and positive predictivity; NaN where there is nothing to count."""
        true = sum(self.hits)
        return {"sensitivity": _share(true, self.annotated), "ppv": _share(true, self.detected)}


def match_window(fs_hz: float) -> int:
    """The standard's 150 ms in whole samples, rounded as WFDB does it."""
    return int(WINDOW_S * fs_hz + 0.5)


def beat_counts(test: RecordTest) -> BeatCounts:
    """Count a record's beats after the learning period."""
    start = int(LEARNING_S * test.fs_hz + 0.5)
    in_period = test.beats >= start
    hit = test.partner >= 0
    shut = ~_inside(test.beats / test.fs_hz, test.analysed)
    free = np.ones(len(test.detected), bool)
    free[test.partner[hit]] = False
    excused = _inside(test.detected / test.fs_hz, test.fibrillation)
    of_class = [np.isin(test.symbols, symbols) & in_period for symbols in CLASSES.values()]
    period = np.array([test.period_s])
    length_s = float(durations_s(period)[0])
    return BeatCounts(
        hits=tuple(int((rows & hit).sum()) for rows in of_class),
        missed=tuple(int((rows & ~hit).sum()) for rows in of_class),
        shut=tuple(int((rows & ~hit & shut).sum()) for rows in of_class),
        extra=int((free & ~excused & (test.detected >= start)).sum()),
        shut_s=length_s - shared_s(test.analysed, period),
    )


def af_counts(test: RecordTest) -> EpisodeCounts:
    """Count a record's AF episodes after the learning period, of any length."""
    start_s, end_s = test.period_s
    parts = (clip(runs, start_s, end_s) for runs in (test.af, test.decided, test.flutter))
    af, decided, flutter = parts
    return compare_episodes(af, decided, np.array([test.period_s]), 0.0, flutter)


def untold_s(test: RecordTest) -> float:
    """Seconds of the test period that cannot be told, though they were analysed."""
    return float(durations_s(clip(test.untold, *test.period_s)).sum())


def clip(intervals: Intervals, start_s: float, end_s: float) -> Intervals:
    """What of the intervals lies between two times."""
    out = np.clip(intervals, start_s, end_s)
    return np.asarray(out[out[:, 1] > out[:, 0]])


@dataclass(frozen=True)
class CountsByRecord:
    """What a data set's test counts: by record, all together, and figures.

    Attributes
    ----------
    beats, af : mapping of str to BeatCounts, of str to EpisodeCounts
        By record; a record that is left out of one of the two is not in it.
    untold_s : mapping of str to float
        Seconds of each record that cannot be told.
    """

    beats: Mapping[str, BeatCounts]
    af: Mapping[str, EpisodeCounts]
    untold_s: Mapping[str, float]

    def __or__(self, other: CountsByRecord) -> CountsByRecord:
        """The records of both."""
        return CountsByRecord(
            {**self.beats, **other.beats},
            {**self.af, **other.af},
            {**self.untold_s, **other.untold_s},
        )

    def figures(self) -> dict[str, float]:
        """Gross and average of every figure, by name; NaN where nothing is to be in_period."""
        return {
            "qrs_records": len(self.beats),
            **_figures("qrs", list(self.beats.values())),
            "af_records": len(self.af),
            **_figures("af", list(self.af.values())),
        }


def _figures(name: str, rows: list[Counts]) -> dict[str, float]:
    """Gross and average of the figures of some records; none of no record."""
    if not rows:
        return {}
    metrics = [row.metrics() for row in rows]
    return {
        f"{name}_{key}_{kind}": value
        for key, gross in total(rows).metrics().items()
        for kind, value in (("gross", gross), ("average", average([row[key] for row in metrics])))
    }


Counts = TypeVar("Counts", BeatCounts, EpisodeCounts)


def total(rows: Iterable[Counts]) -> Counts:
    """The counts of some records, at least one, added up."""
    return reduce(add, rows)


def average(values: Sequence[float]) -> float:
    """The mean over the records that have the figure; NaN where none has."""
    finite = [value for value in values if np.isfinite(value)]
    return sum(finite) / len(finite) if finite else float("nan")


def _inside(time_s: NDArray[np.float64], intervals: Intervals) -> NDArray[np.bool_]:
    """Whether each time lies in any of the intervals, their ends included."""
    first = np.searchsorted(intervals[:, 0], time_s, side="right")
    last = np.searchsorted(intervals[:, 1], time_s, side="left")
    return np.asarray(first > last)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
