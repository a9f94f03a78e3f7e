"""Which stretches of a record can be analysed: the one definition behind every figure of its time.

What was not recorded is neither rhythm nor an RR interval. A record falls into stretches, and each
of them is treated as a record of its own: no interval, feature, decision or episode reaches from
one into another. Stretches are int64 (k, 2), the first sample and the one after the last, ascending
and apart. Four things part them:

- a hole: invalid samples for 0.2 s or more. A QRS complex with its slopes is as long, so that a
  shorter hole hides no beat whole;
- a still lead: one value for 1 s or more. The longest of 67 real records is 0.83 s;
- a quiet lead, as an electrode that hangs loose before a converter that toggles: for 3 s or more
  its samples stay within 20 uV in every 0.1 s. The longest of those records is 1.2 s;
- no beat for more than 10 s, or a mark that no signal can be read. Intervals between annotated
  beats reach 7.1 s (ltafdb; 5.9 s in mitdb 232); what is longer is flutter, noise or a loose lead.

A stretch of fewer than three beats, where no beat has an interval on both sides, tells no rhythm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from storage.compiled import kernels
from storage.recordings.marks import LEAST_BEATS

#: An RR interval outside these, in seconds, is no plausible pair of beats.
RR_RANGE_S = (0.2, 3.0)
Stretches = NDArray[np.int64]
Floats = NDArray[np.float32]
HOLE_S = 0.2
STILL_S = 1.0
QUIET_S, QUIET_WIDTH_S, QUIET_MV = 3.0, 0.1, 0.02
#: No beat for longer is no pause of a heart.
LONGEST_PAUSE_S = 10.0
#: Looks a second, one fewer to be sure, at what may be one of these.
LOOKS = 9.0
#: Beats whose steps are looked at at once: those of weeks would take as much memory as they.
AT_ONCE = 1 << 16
NOWHERE: Stretches = np.empty((0, 2), np.int64)


def whole_record(n_samples: int) -> Stretches:
    """A whole record as one stretch."""
    return np.array([[0, n_samples]], np.int64)


def find_unrecorded(signal_mv: Floats, fs_hz: float) -> Stretches:
    """Holes, still and quiet stretches of a signal.

    What is 3 s inside it is found whatever lies beyond its ends.

    Parameters
    ----------
    signal_mv : float32, shape (n,)
        Millivolts, NaN where invalid.
    fs_hz : float
        Its sampling rate.
    """
    # Ten looks a second tell a living signal from all of these, a hundred times faster.
    invalid, still, quiet = _longest_runs(signal_mv, max(1, int(QUIET_WIDTH_S * fs_hz)))
    parts = []
    if invalid >= LOOKS * HOLE_S:
        parts.append(_runs(np.isnan(signal_mv), 1, HOLE_S * fs_hz))
    if still + 1 >= LOOKS * STILL_S:
        parts.append(_runs(np.diff(signal_mv) == 0, 2, STILL_S * fs_hz))
    if quiet + 1 >= LOOKS * QUIET_S:
        width = max(2, round(QUIET_WIDTH_S * fs_hz))
        windows = sliding_window_view(signal_mv, width)
        still_parts = windows.max(axis=1) - windows.min(axis=1) <= QUIET_MV
        parts.append(_runs(still_parts, width, QUIET_S * fs_hz))
    return unite(*parts)


def _longest_runs(signal_mv: Floats, step: int) -> tuple[int, int, int]:
    """The longest runs of looks: invalid ones, pairs of one value, pairs that hardly differ."""
    library = kernels.LIBRARY
    if library is not None:
        signal_mv, longest = np.ascontiguousarray(signal_mv, np.float32), np.empty(3, np.int64)
        at = kernels.memory(signal_mv), kernels.memory(longest)
        library.runs(at[0], len(signal_mv), step, QUIET_MV, at[1])
        invalid, still, quiet = longest.tolist()
        return invalid, still, quiet
    looks = signal_mv[::step]
    away = np.abs(np.diff(looks))
    runs = (np.isnan(looks), away == 0, away <= np.float32(QUIET_MV))
    edges = (np.flatnonzero(np.diff(run, prepend=False, append=False)) for run in runs)
    invalid, still, quiet = (int(np.max(e[1::2] - e[::2], initial=0)) for e in edges)
    return invalid, still, quiet


def _runs(true: NDArray[np.bool_], width: int, least: float) -> Stretches:
    """Runs of windows of `width` samples, by their first one, of at least `least` samples."""
    if not true.any():
        return NOWHERE
    padded = np.zeros(len(true) + 2, bool)
    padded[1:-1] = true
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    first, stop = edges[::2], edges[1::2] + (width - 1)
    long = stop - first >= least
    return np.stack([first[long], stop[long]], axis=1) if long.any() else NOWHERE


def unite(*parts: Stretches) -> Stretches:
    """What lies in any of them."""
    if not any(map(len, parts)):
        return NOWHERE
    stretches = np.concatenate([NOWHERE, *parts])
    stretches = stretches[np.argsort(stretches[:, 0], kind="stable")]
    end = np.maximum.accumulate(stretches[:, 1])
    first = np.ones(len(stretches), bool)
    first[1:] = stretches[1:, 0] > end[:-1]
    last = np.append(first[1:], True)[: len(stretches)]
    return np.stack([stretches[first, 0], end[last]], axis=1)


def without(stretches: Stretches, holes: Stretches) -> Stretches:
    """What of the stretches lies in none of the holes."""
    if not len(stretches):
        return NOWHERE
    if not len(holes):
        return stretches[stretches[:, 1] > stretches[:, 0]]
    first, last = stretches[0, 0], stretches[-1, 1]
    rest = np.concatenate([[first], unite(holes).clip(first, last).ravel(), [last]])
    return common(stretches, rest.reshape(-1, 2))


def common(first: Stretches, second: Stretches) -> Stretches:
    """What lies in both."""
    if not len(first) or not len(second):
        return NOWHERE
    if len(first) == len(second) == 1:  # of thousands of short records, many times
        start, stop = max(first.item(0), second.item(0)), min(first.item(1), second.item(1))
        return np.array([[start, stop]], np.int64) if start < stop else NOWHERE
    low = np.searchsorted(second[:, 1], first[:, 0], side="right")
    high = np.searchsorted(second[:, 0], first[:, 1], side="left")
    count = np.maximum(high - low, 0)
    first_rows = np.repeat(np.arange(len(first)), count)
    second_rows = np.arange(len(first_rows)) + np.repeat(low - np.cumsum(count) + count, count)
    a, b = first[first_rows], second[second_rows]
    overlap = np.stack([np.maximum(a[:, 0], b[:, 0]), np.minimum(a[:, 1], b[:, 1])], axis=1)
    return np.asarray(overlap[overlap[:, 1] > overlap[:, 0]])


def number(sample: NDArray[np.int64], stretches: Stretches) -> NDArray[np.int64]:
    """Number of the stretch that begins last up to each sample; -1 before all of them."""
    return np.searchsorted(stretches[:, 0], sample, side="right") - 1


def within(
    sample: NDArray[np.int64], stretches: Stretches, margin: float = -1
) -> NDArray[np.bool_]:
    """Whether each sample lies in a stretch, more than `margin` samples from its ends.

    Samples ascend: the stretches' ends are looked up among them, which takes no memory for each.
    """
    inside, least = np.zeros(len(sample), bool), math.floor(margin) + 1
    low = np.searchsorted(sample, stretches[:, 0] + least, side="left")
    high = np.searchsorted(sample, stretches[:, 1] - 1 - least, side="right")
    for start, stop in zip(low.tolist(), high.tolist(), strict=True):
        inside[start:stop] = True
    return inside


def analysable(recorded: Stretches, beats: NDArray[np.int64], fs_hz: float) -> Stretches:
    """What can be analysed of recorded stretches, by the beats in them.

    Where no beat is for more than 10 s, a stretch ends with the beat before and begins anew with
    the beat after; one of fewer than three beats is left out.

    Parameters
    ----------
    recorded : int64, shape (k, 2)
        Stretches that were recorded, in samples.
    beats : int64, shape (n,)
        Beats, ascending; those outside of the stretches do not count.
    fs_hz : float
        Sampling rate.
    """
    inside = within(beats, recorded)
    beats = beats if inside.all() else beats[inside]
    ends = np.concatenate([recorded[:, 0], recorded[:, 1] - 1, beats])
    ends.sort()
    long = _long_steps(ends, LONGEST_PAUSE_S * fs_hz)
    # From just after a beat, or a beginning, to the next beat, or end.
    pauses = np.stack([ends[long] + 1, ends[long + 1]], axis=1)
    parts = without(recorded, pauses)
    bounds = np.searchsorted(beats, parts)
    return parts[bounds[:, 1] - bounds[:, 0] >= LEAST_BEATS]


def _long_steps(ascending: NDArray[np.int64], least: float) -> NDArray[np.int64]:
    """Numbers of the values that more than `least` parts from the next one."""
    parts = (
        at + np.flatnonzero(np.diff(ascending[at : at + AT_ONCE + 1]) > least)
        for at in range(0, len(ascending), AT_ONCE)
    )
    return np.concatenate([np.empty(0, np.int64), *parts])


def begins(sample: NDArray[np.int64], stretches: Stretches) -> NDArray[np.bool_]:
    """Whether each of the beats, which all lie in stretches, is the first of its stretch."""
    first = np.searchsorted(sample, stretches[:, 0])
    out = np.zeros(len(sample), bool)
    out[first[first < len(sample)]] = True
    return out


def slices(first: NDArray[np.bool_]) -> list[slice]:
    """The beats of each stretch, from which of them is the first of one; the first of all is."""
    edges = np.unique([0, *np.flatnonzero(first).tolist(), len(first)])
    return [slice(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]


def seconds(stretches: Stretches | Sequence[Sequence[int]], fs_hz: float) -> NDArray[np.float64]:
    """Stretches in seconds, shape (k, 2)."""
    return np.asarray(stretches, np.float64).reshape(-1, 2) / fs_hz
