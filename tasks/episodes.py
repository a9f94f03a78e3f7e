"""Episodes of AF: from decisions at beats to stretches of time, and how two lists of them agree.

An episode runs from its first AF beat to the first beat after it that is not AF, or to the record's
end. Comparison follows ANSI/AAMI EC57:2012 as WFDB's `epicmp` does it: by episode (one that
overlaps any of the other side's, however short, is found) and by duration (seconds that both sides
call AF); PPV leaves out what lies in reference flutter. Unlike `epicmp`, the first five minutes
count too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.wfdb_annotation import encode_annotations

Intervals = NDArray[np.float64]
NOTHING: Intervals = np.empty((0, 2))


def episodes(af: NDArray[np.bool_], time_s: NDArray[np.float64], end_s: float) -> Intervals:
    """Stretches of successive AF beats.

    Parameters
    ----------
    af : bool, shape (n,)
        Whether each beat is AF.
    time_s : float64, shape (n,)
        Its time, ascending.
    end_s : float
        Where the record ends; an episode that is on at the last beat runs to there.

    Returns
    -------
    float64, shape (k, 2)
        Start and end of each episode in seconds, ascending and apart.
    """
    if len(af) != len(time_s):
        raise ValueError(f"{len(af)} decisions at {len(time_s)} beats")
    edge = np.diff(af.astype(np.int8), prepend=0, append=0)
    bound = np.append(time_s, max(end_s, float(time_s[-1]) if len(time_s) else 0.0))
    return np.stack([bound[edge == 1], bound[edge == -1]], axis=1)


def durations_s(intervals: Intervals) -> NDArray[np.float64]:
    """Length of each episode in seconds."""
    return intervals[:, 1] - intervals[:, 0]


def lasting(intervals: Intervals, least_s: float) -> Intervals:
    """The episodes of at least `least_s` seconds."""
    return intervals[durations_s(intervals) >= least_s]


def overlapping(these: Intervals, those: Intervals) -> NDArray[np.bool_]:
    """Whether each of `these` shares time with any of `those` (each list ascending and apart)."""
    before = np.searchsorted(those[:, 0], these[:, 1], side="left")
    ended = np.searchsorted(those[:, 1], these[:, 0], side="right")
    return np.asarray(before > ended)


def shared_s(these: Intervals, those: Intervals) -> float:
    """Seconds that both lists cover."""
    edges = np.unique(np.concatenate([these.ravel(), those.ravel()]))
    if len(edges) < 2:
        return 0.0
    middle = (edges[1:] + edges[:-1]) / 2
    both = _inside(middle, these) & _inside(middle, those)
    return float(np.diff(edges)[both].sum())


def _inside(times: NDArray[np.float64], intervals: Intervals) -> NDArray[np.bool_]:
    started = np.searchsorted(intervals[:, 0], times, side="right")
    ended = np.searchsorted(intervals[:, 1], times, side="right")
    return np.asarray(started > ended)


@dataclass(frozen=True)
class EpisodeCounts:
    """How the episodes of one record, or of many added up, agree.

    Attributes
    ----------
    reference, found : int
        Reference episodes of the least length or more, and those of them that a detected episode
        of any length overlaps.
    detected, right : int
        Detected episodes of that length outside flutter, and those of them that overlap a
        reference episode of any length.
    reference_s, detected_s, shared_s, record_s : float
        Seconds of AF in truth, in decision outside flutter, in both (of episodes of any length),
        and of the record.
    flutter_s : float
        Seconds of reference flutter that were decided to be AF.
    """

    reference: int
    found: int
    detected: int
    right: int
    reference_s: float
    detected_s: float
    shared_s: float
    record_s: float
    flutter_s: float

    def __add__(self, other: EpisodeCounts) -> EpisodeCounts:
        mine, theirs = (vars(c).values() for c in (self, other))
        return EpisodeCounts(*(a + b for a, b in zip(mine, theirs, strict=True)))

    def metrics(self) -> dict[str, float]:
        """Sensitivity and PPV by episode and by duration; NaN where there is nothing to count."""
        pairs = {
            "episode_sensitivity": (self.found, self.reference),
            "episode_ppv": (self.right, self.detected),
            "duration_sensitivity": (self.shared_s, self.reference_s),
            "duration_ppv": (self.shared_s, self.detected_s),
        }
        return {name: a / b if b else float("nan") for name, (a, b) in pairs.items()}

    @property
    def burden_error_pp(self) -> float:
        """Detected (in flutter too) less true share of the record's time in AF, in points."""
        return 100 * (self.detected_s + self.flutter_s - self.reference_s) / self.record_s


def outside(intervals: Intervals, excluded: Intervals, least_s: float) -> Intervals:
    """What `epicmp` keeps of episodes: those of at least `least_s` seconds outside `excluded`.

    One that begins or ends in an excluded stretch is cut there; one that holds such a stretch keeps
    its ends, and only its length is the less.
    """
    kept = []
    for start, end in intervals.tolist():
        inside = (excluded[:, 0] < end) & (excluded[:, 1] > start)
        out_s = np.minimum(excluded[inside, 1], end) - np.maximum(excluded[inside, 0], start)
        if end - start - out_s.sum() < max(least_s, 1e-9):
            continue
        for first, last in excluded[inside].tolist():
            start = last if first <= start else start
            end = first if last >= end else end
        kept.append((start, end))
    return np.array(kept, np.float64).reshape(-1, 2)


def compare_episodes(
    reference: Intervals,
    detected: Intervals,
    record_s: float,
    least_s: float = 30.0,
    flutter: Intervals = NOTHING,
) -> EpisodeCounts:
    """Compare one record's episodes.

    Parameters
    ----------
    reference, detected : float64, shape (k, 2)
        From `episodes`.
    record_s : float
        Length of the record.
    least_s : float
        Episodes shorter than this are not counted; 30 s is what defines clinical AF (Hindricks et
        al. 2021, doi:10.1093/eurheartj/ehaa612). Durations and burden count all.
    flutter : float64, shape (k, 2)
        Reference episodes of atrial flutter: what is detected there is neither right nor wrong, but
        for the burden.

    Raises
    ------
    ValueError
        An episode ends before it starts, or beyond the record.
    """
    for intervals in (reference, detected, flutter):
        if len(intervals) and (durations_s(intervals).min() < 0 or intervals[-1, 1] > record_s):
            raise ValueError(f"episodes must lie in order within the record's {record_s:g} s")
    long_reference, long_detected = lasting(reference, least_s), outside(detected, flutter, least_s)
    flutter_s = shared_s(detected, flutter)
    return EpisodeCounts(
        reference=len(long_reference),
        found=int(overlapping(long_reference, detected).sum()),
        detected=len(long_detected),
        right=int(overlapping(long_detected, reference).sum()),
        reference_s=float(durations_s(reference).sum()),
        detected_s=float(durations_s(detected).sum()) - flutter_s,
        shared_s=shared_s(reference, detected),
        record_s=record_s,
        flutter_s=flutter_s,
    )


def segment_shares(intervals: Intervals, record_s: float, length_s: float = 30.0) -> Intervals:
    """Share of AF in every whole segment of a record, shape (segments,)."""
    edges = np.arange(int(record_s // length_s) + 1) * length_s
    starts, ends = intervals[:, 0], intervals[:, 1]
    before = np.concatenate([[0.0], np.cumsum(ends - starts)])
    which = np.searchsorted(starts, edges, side="right")
    last_end = np.concatenate([[0.0], ends])[which]
    covered = before[which] - np.maximum(last_end - edges, 0)
    return np.asarray(np.diff(covered) / length_s)


def rhythm_annotations(runs: Intervals, duration_s: float) -> bytes:
    """Episodes as an MIT annotation file: a rhythm mark wherever AF starts or ends.

    `epicmp` and its like compare it with the reference annotations. Times are in milliseconds,
    which the file says.
    """
    marks = [(0.0, "(N")] if not len(runs) or runs[0, 0] > 0 else []
    for start, end in runs.tolist():
        marks += [(start, "(AFIB"), (end, "(N")]
    if runs.size and runs[-1, 1] >= duration_s:
        marks.pop()
    sample = np.array([0, *(round(1000 * time) for time, _ in marks)], np.int64)
    texts = {0: "## time resolution: 1000", **{k + 1: text for k, (_, text) in enumerate(marks)}}
    return encode_annotations(sample, ['"', *"+" * len(marks)], texts)
