"""Episodes of AF: from decisions at beats to stretches of time, and how two lists of them agree.

An episode runs from its first AF beat to the first beat after it that is not AF, or to the end of
the stretch that can be analysed (`storage.recordings.stretches`). Comparison follows ANSI/AAMI
EC57:2012 as WFDB's `epicmp` does it: by episode (one that overlaps any of the other side's, however
short, is found) and by duration (seconds that both sides call AF); PPV leaves out what lies in
reference flutter. Unlike `epicmp`, the first five minutes count too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.formats.wfdb_annotation import encode_annotations

Intervals = NDArray[np.float64]
NO_INTERVALS: Intervals = np.empty((0, 2))


def episodes(
    af: NDArray[np.bool_], time_s: NDArray[np.float64], stretches_s: Intervals
) -> Intervals:
    """Successive AF beats of one stretch.

    Parameters
    ----------
    af : bool, shape (n,)
        Whether each beat is AF.
    time_s : float64, shape (n,)
        Its time, ascending.
    stretches_s : float64, shape (m, 2)
        What of the record can be analysed; an episode that is on at the last beat of a stretch runs
        to its end, and none reaches into the next.

    Returns
    -------
    float64, shape (k, 2)
        Start and end of each episode in seconds, ascending and apart.
    """
    if len(af) != len(time_s):
        raise ValueError(f"{len(af)} decisions at {len(time_s)} beats")
    # The beats of stretch k are those from opening[k] to opening[k + 1].
    opening = np.append(np.searchsorted(time_s, stretches_s[:, 0]), len(time_s))
    filled = np.flatnonzero(np.diff(opening))
    closing, end_s = opening[filled + 1] - 1, stretches_s[filled, 1]
    if opening[0] or (time_s[closing] > end_s).any():
        raise ValueError("expected every beat in a stretch that can be analysed")
    alone = np.zeros(len(af) + 1, bool)  # whether a beat and the one before are of two stretches
    alone[opening] = True
    before, after = np.append(False, af), np.append(af, False)
    first, last = (
        np.flatnonzero(edge) for edge in (after & (~before | alone), before & (~after | alone))
    )
    last -= 1
    until = np.append(time_s[1:], np.nan)[last]
    ends = alone[last + 1]
    until[ends] = end_s[np.searchsorted(closing, last[ends])]
    return np.stack([time_s[first], until], axis=1)


def durations_s(intervals: Intervals) -> NDArray[np.float64]:
    """Length of each episode in seconds."""
    return intervals[:, 1] - intervals[:, 0]


def lasting(intervals: Intervals, least_s: float) -> Intervals:
    """The episodes of at least `least_s` seconds."""
    return intervals[durations_s(intervals) >= least_s]


def overlapping(first: Intervals, second: Intervals) -> NDArray[np.bool_]:
    """Whether each of `first` shares time with any of `second` (each list ascending and apart)."""
    starts = np.searchsorted(second[:, 0], first[:, 1], side="left")
    ends = np.searchsorted(second[:, 1], first[:, 0], side="right")
    return np.asarray(starts > ends)


def shared_s(first: Intervals, second: Intervals) -> float:
    """Seconds that both lists cover."""
    edges = np.unique(np.concatenate([first.ravel(), second.ravel()]))
    if len(edges) < 2:
        return 0.0
    middle = (edges[1:] + edges[:-1]) / 2
    common = _inside(middle, first) & _inside(middle, second)
    return float(np.diff(edges)[common].sum())


def _inside(times: NDArray[np.float64], intervals: Intervals) -> NDArray[np.bool_]:
    starts = np.searchsorted(intervals[:, 0], times, side="right")
    ends = np.searchsorted(intervals[:, 1], times, side="right")
    return np.asarray(starts > ends)


@dataclass(frozen=True)
class EpisodeCounts:
    """How the episodes of one record, or of many added up, agree.

    Attributes
    ----------
    reference, hits : int
        Reference episodes of the least length or more, and those of them that a detected episode
        of any length overlaps.
    detected, right : int
        Detected episodes of that length outside flutter, and those of them that overlap a
        reference episode of any length.
    reference_s, detected_s, shared_s, analysable_s : float
        Seconds of AF in truth, in decision outside flutter, in both (of episodes of any length),
        and seconds that can be analysed.
    flutter_s : float
        Seconds of reference flutter that were decided to be AF.
    """

    reference: int
    hits: int
    detected: int
    right: int
    reference_s: float
    detected_s: float
    shared_s: float
    analysable_s: float
    flutter_s: float

    def __add__(self, other: EpisodeCounts) -> EpisodeCounts:
        left, right = (vars(c).values() for c in (self, other))
        return EpisodeCounts(*(a + b for a, b in zip(left, right, strict=True)))

    def metrics(self) -> dict[str, float]:
        """Sensitivity and PPV by episode and by duration; NaN where there is nothing to count."""
        pairs = {
            "episode_sensitivity": (self.hits, self.reference),
            "episode_ppv": (self.right, self.detected),
            "duration_sensitivity": (self.shared_s, self.reference_s),
            "duration_ppv": (self.shared_s, self.detected_s),
        }
        return {name: a / b if b else float("nan") for name, (a, b) in pairs.items()}

    @property
    def burden_error_pp(self) -> float:
        """Detected (in flutter too) less true share of analysable time in AF, in points."""
        if not self.analysable_s:
            return float("nan")
        return 100 * (self.detected_s + self.flutter_s - self.reference_s) / self.analysable_s


def outside(intervals: Intervals, excluded: Intervals, least_s: float) -> Intervals:
    """What `epicmp` keeps of episodes: those of at least `least_s` seconds outside `excluded`.

    One that begins or ends in an excluded stretch is cut there; one that holds such a stretch keeps
    its ends, and only its length is the less.
    """
    rest = []
    for start, end in intervals.tolist():
        inside = (excluded[:, 0] < end) & (excluded[:, 1] > start)
        out_s = np.minimum(excluded[inside, 1], end) - np.maximum(excluded[inside, 0], start)
        if end - start - out_s.sum() < max(least_s, 1e-9):
            continue
        for first, last in excluded[inside].tolist():
            start = last if first <= start else start
            end = first if last >= end else end
        rest.append((start, end))
    return np.array(rest, np.float64).reshape(-1, 2)


def compare_episodes(
    reference: Intervals,
    detected: Intervals,
    stretches_s: Intervals,
    least_s: float = 30.0,
    flutter: Intervals = NO_INTERVALS,
) -> EpisodeCounts:
    """Compare one record's episodes.

    Parameters
    ----------
    reference, detected : float64, shape (k, 2)
        From `episodes`.
    stretches_s : float64, shape (m, 2)
        What of the record can be analysed.
    least_s : float
        Episodes shorter than this are not counted; 30 s is what defines clinical AF (Hindricks et
        al. 2021, doi:10.1093/eurheartj/ehaa612). Durations and burden count all.
    flutter : float64, shape (k, 2)
        Reference episodes of atrial flutter: what is detected there is neither right nor wrong, but
        for the burden.

    Raises
    ------
    ValueError
        An episode ends before it starts, or lies where nothing can be analysed.
    """
    for intervals in (reference, detected, flutter):
        length_s = durations_s(intervals)
        if (length_s < 0).any() or abs(shared_s(intervals, stretches_s) - length_s.sum()) > 1e-6:
            raise ValueError("expected episodes in order, where the record can be analysed")
    long_reference, long_detected = lasting(reference, least_s), outside(detected, flutter, least_s)
    flutter_s = shared_s(detected, flutter)
    return EpisodeCounts(
        reference=len(long_reference),
        hits=int(overlapping(long_reference, detected).sum()),
        detected=len(long_detected),
        right=int(overlapping(long_detected, reference).sum()),
        reference_s=float(durations_s(reference).sum()),
        detected_s=float(durations_s(detected).sum()) - flutter_s,
        shared_s=shared_s(reference, detected),
        analysable_s=float(durations_s(stretches_s).sum()),
        flutter_s=flutter_s,
    )


def segment_shares(
    intervals: Intervals, stretches_s: Intervals, length_s: float = 30.0
) -> NDArray[np.float64]:
    """Share of AF in what can be analysed of every whole segment of a record, shape (segments,).

    NaN where less than half of a segment can be analysed.
    """
    end_s = float(stretches_s[-1, 1]) if len(stretches_s) else 0.0
    edges = np.arange(int(end_s // length_s) + 1, dtype=np.float64) * np.float64(length_s)
    analysable_s = np.diff(_covered_s(stretches_s, edges))
    share = np.full(len(edges) - 1, np.nan)
    analysable = analysable_s >= length_s / 2
    share[analysable] = np.diff(_covered_s(intervals, edges))[analysable] / analysable_s[analysable]
    return share


def _covered_s(intervals: Intervals, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds of the intervals up to each edge."""
    starts, ends = intervals[:, 0], intervals[:, 1]
    before = np.concatenate([[0.0], np.cumsum(ends - starts)])
    number = np.searchsorted(starts, edges, side="right")
    last_end = np.concatenate([[0.0], ends])[number]
    return np.asarray(before[number] - np.maximum(last_end - edges, 0))


def told_share(
    intervals: Intervals, time_s: NDArray[np.float64], sure: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Share of the beats of each interval that are told, shape (k,); 1 of one without a beat."""
    low, high = (np.searchsorted(time_s, edge, side="left") for edge in intervals.T)
    total = np.concatenate([[0], np.cumsum(sure)])
    beats = high - low
    return np.where(beats > 0, (total[high] - total[low]) / np.maximum(beats, 1), 1.0)


def rhythm_annotations(runs: Intervals, stretches_s: Intervals) -> bytes:
    """Episodes as an MIT annotation file: a rhythm mark wherever AF starts or ends.

    A stretch that can be analysed begins with a mark of its rhythm, and ends with `)`: none goes
    on. `epicmp` and its like compare it with the reference annotations. Times are in milliseconds,
    which the file says.
    """
    marks = {round(1000 * end): ")" for end in stretches_s[:, 1].tolist()}
    for end in runs[:, 1].tolist():
        marks.setdefault(round(1000 * end), "(N")
    marks |= {round(1000 * start): "(N" for start in stretches_s[:, 0].tolist()}
    marks |= {round(1000 * start): "(AFIB" for start in runs[:, 0].tolist()}
    order = sorted(marks)
    sample = np.array([0, *order], np.int64)
    texts = {0: "## time resolution: 1000"}
    texts |= {number: marks[at] for number, at in enumerate(order, start=1)}
    return encode_annotations(sample, ['"', *"+" * len(order)], texts)
