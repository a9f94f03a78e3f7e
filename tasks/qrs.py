"""R peaks by the method of Pan and Tompkins (1985), DOI 10.1109/TBME.1985.325532.

Band-pass, differentiate, square, integrate over 150 ms, then adaptive thresholds with search-back,
refractory period and T-wave discrimination. Where this differs from the paper:

- the filters have zero phase, so the integrated signal peaks on the QRS complex itself;
- thresholds act on the square root of the integrated signal, an amplitude, so that one large
  premature beat does not hide the normal ones after it;
- a candidate is the largest value within 200 ms on both sides, which is the refractory period, and
  lies in no gap;
- thresholds start from the candidates of the first ten seconds, so a record cut in two starts
  again where a whole one would be;
- the R peak is then moved to the extremum, of either sign, of the band-passed signal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.filters import Block, Floats, Grid

INTEGRATION_S = 0.150
REFRACTORY_S = 0.200
T_WAVE_S = 0.360
#: A T wave's steepest slope is under half of the QRS complex's before it.
T_WAVE_SLOPE = 0.5
SEARCH_BACK = 1.66
#: Candidates below it, in millivolts per second, are rounding: an R wave of 50 uV has 1.
LEAST_HEIGHT = 0.01
LEARNING_S = 10.0
#: An R peak nearer to the record's end may be the flank of one that is cut off.
END_S = 0.050
#: Candidates that are judged at once: Python's numbers take room.
AT_ONCE = 1 << 14
#: Half-width of the search for the R peak about the centre of the QRS complex.
RELOCATION_S = 0.100


@dataclass(frozen=True, eq=False)
class Candidates:
    """Places that may be QRS complexes, in time order.

    Attributes
    ----------
    sample : int64, shape (k,)
        Extremum of the band-passed signal.
    centre_s : float64, shape (k,)
        Peak of the integrated signal, in seconds.
    height : float64, shape (k,)
        Root of the integrated signal there, millivolts per second.
    slope : float64, shape (k,)
        Steepest slope about it, millivolts per second.
    """

    sample: NDArray[np.int64]
    centre_s: NDArray[np.float64]
    height: NDArray[np.float64]
    slope: NDArray[np.float64]


def candidates(block: Block, grid: Grid) -> Candidates:
    """The candidates whose centre lies in a block, margins aside."""
    rate_hz = grid.fs_hz / grid.decimation
    integrated = _integrated(block.slope, rate_hz)
    reach = round(REFRACTORY_S * rate_hz)
    first, last = grid.margin // grid.decimation, (grid.margin + grid.hop) // grid.decimation
    # Beyond its ends the record goes on as its mirror image, whose complexes are none.
    begin = grid.margin - block.start  # where the record's first sample is in this block
    ends = -(-np.array([begin, begin + grid.n_samples]) // grid.decimation)
    integrated[: max(ends[0], 0)] = integrated[ends[1] :] = 0
    # A local maximum first, then the largest within the refractory period on both sides.
    middle = integrated[first:last]
    peak = first + np.flatnonzero(
        (middle > integrated[first - 1 : last - 1])
        & (middle >= integrated[first + 1 : last + 1])
        & (middle > LEAST_HEIGHT**2)
    )
    highest = _moving(integrated, 2 * reach + 1, np.maximum)
    peak = peak[integrated[peak] >= highest[peak - reach]]
    steep = np.abs(_windows(block.slope, peak, round(INTEGRATION_S / 2 * rate_hz)))
    centre = peak * grid.decimation
    reach = round(RELOCATION_S * grid.fs_hz)
    inside = np.clip(centre, begin + reach, max(begin + grid.n_samples - 1 - reach, begin + reach))
    sample = _extremum(block.band, inside, reach) - begin
    half = round(INTEGRATION_S / 2 * grid.fs_hz)
    real = np.minimum(sample, grid.n_samples - 1 - sample) > END_S * grid.fs_hz
    known = np.isfinite(block.raw)
    if not known.all():  # nothing is in a gap but what bridges it
        real &= _windows(known, centre, half).any(axis=1)
    return Candidates(
        sample=sample[real],
        centre_s=(block.start - grid.margin + centre[real]) / grid.fs_hz,
        height=np.sqrt(integrated[peak[real]].astype(np.float64)),
        slope=steep.max(axis=1, initial=0)[real].astype(np.float64),
    )


def joined(parts: list[Candidates]) -> Candidates:
    """Candidates of successive blocks as one."""
    names = ("sample", "centre_s", "height", "slope")
    return Candidates(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def decide(found: Candidates) -> NDArray[np.int64]:
    """The candidates that are QRS complexes, by Pan and Tompkins's rules.

    Returns
    -------
    int64, shape (m,)
        R peaks as sample indices, ascending.
    """
    rules, n = Rules(), len(found.sample)
    names = ("sample", "centre_s", "height", "slope")
    chosen = [np.empty(0, np.int64)]
    for at in range(0, n, AT_ONCE):
        rows = slice(at, at + AT_ONCE)
        some = Candidates(*(getattr(found, name)[rows] for name in names))
        chosen.append(rules.take(some, last=at + AT_ONCE >= n))
    return np.unique(np.concatenate(chosen))


@dataclass
class Rules:
    """Pan and Tompkins's rules at work, and what they remember from one candidate to the next.

    Candidates may come all at once or a few at a time: the same are chosen. What is remembered is
    bounded: candidates that search-back may still want, and the last eight intervals.

    Attributes
    ----------
    times, heights, slopes, samples : list
        Candidates that are not done with; `at` is the number of the next one to judge, and `low`
        of the first one after the last beat.
    signal, noise, mean_rr, recent : float, list
        Running estimates; `signal` is None until the first ten seconds are there.
    slope_before, time_before : float
        Of the last beat.
    searched : bool
        Whether search-back was tried since.
    """

    times: list[float] = field(default_factory=list)
    heights: list[float] = field(default_factory=list)
    slopes: list[float] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    at: int = 0
    low: int = 0
    signal: float | None = None
    noise: float = 0.0
    mean_rr: float = 0.0
    recent: list[float] = field(default_factory=list)
    slope_before: float = 0.0
    time_before: float = -np.inf
    searched: bool = False

    def take(self, found: Candidates, *, last: bool = False) -> NDArray[np.int64]:
        """Judge more candidates; gives the R peaks among all so far that were not given before."""
        self.times += found.centre_s.tolist()
        self.heights += found.height.tolist()
        self.slopes += found.slope.tolist()
        self.samples += found.sample.tolist()
        if self.signal is None and not self._learn(last):
            return np.empty(0, np.int64)
        chosen = []
        while self.at < len(self.times):
            beat = self._judge()
            if beat is None:
                self.at += 1
                continue
            chosen.append(self.samples[beat])
            time = self.times[beat]
            if isfinite(self.time_before):
                self.recent = [*self.recent[-7:], time - self.time_before]
                self.mean_rr = sum(self.recent) / len(self.recent)
            self.time_before, self.slope_before = time, self.slopes[beat]
            self.low = self.at = beat + 1
            self.searched = False
        self._forget()
        return np.array(chosen, np.int64)

    def _learn(self, last: bool) -> bool:
        """Thresholds from the candidates of the first ten seconds, once they are there."""
        times = self.times
        if not times or not (last or times[-1] >= times[0] + LEARNING_S):
            return False
        start = [h for t, h in zip(times, self.heights, strict=True) if t < times[0] + LEARNING_S]
        self.signal = float(np.percentile(start, 75))
        self.noise = 0.25 * self.signal
        return True

    def _judge(self) -> int | None:
        """Number of the beat that the next candidate makes known, itself or one before it."""
        assert self.signal is not None  # noqa: S101 - `take` has learnt it
        i, time, height = self.at, self.times[self.at], self.heights[self.at]
        threshold = self.noise + 0.25 * (self.signal - self.noise)
        since = time - self.time_before
        if self.mean_rr and since > SEARCH_BACK * self.mean_rr and not self.searched:
            back = _search_back(
                self.low, i, self.times, self.heights, self.time_before, 0.5 * threshold
            )
            self.searched = True
            if back >= 0:
                self.signal = 0.25 * self.heights[back] + 0.75 * self.signal
                return back
        if height > threshold and not (
            since < T_WAVE_S and self.slopes[i] < T_WAVE_SLOPE * self.slope_before
        ):
            self.signal = 0.125 * height + 0.875 * self.signal
            return i
        self.noise = 0.125 * height + 0.875 * self.noise
        return None

    def _forget(self) -> None:
        """Drop the candidates that nothing can ask for again."""
        done = self.low if self.mean_rr and not self.searched else self.at
        for column in (self.times, self.heights, self.slopes, self.samples):
            del column[:done]
        self.at -= done
        self.low = max(self.low - done, 0)


def _search_back(
    low: int, high: int, times: list[float], heights: list[float], after_s: float, limit: float
) -> int:
    """The largest candidate passed over since the last beat, or -1 where none is large enough."""
    best = -1
    for j in range(low, high):
        late = times[j] - after_s > T_WAVE_S
        if late and heights[j] > limit and (best < 0 or heights[j] > heights[best]):
            best = j
    return best


def _integrated(slope: Floats, rate_hz: float) -> Floats:
    """Moving mean of the squared slope over 150 ms, centred."""
    width = 2 * round(INTEGRATION_S * rate_hz / 2) + 1
    out = np.zeros(len(slope), dtype=np.float32)
    sums = _moving(slope * slope, width, np.add)
    np.divide(sums, np.float32(width), out=out[width // 2 : len(slope) - width // 2])
    return out


def _moving(x: Floats, width: int, join: np.ufunc) -> Floats:
    """Sum or maximum of every x[i : i + width], by doubling: the same operations at every i."""
    count = len(x) - width + 1
    out, done, size = None, 0, 1
    while True:
        if width & size:
            part = x[done : done + count]
            out, done = part if out is None else join(out, part), done + size
        if done == width:
            return np.asarray(out)
        x, size = join(x[:-size], x[size:]), 2 * size


def _windows(x: NDArray[Any], centre: NDArray[np.int64], reach: int) -> NDArray[Any]:
    """x at centre - reach .. centre + reach, a row each."""
    width = 2 * reach + 1
    # sliding_window_view without its checks, which cost more than the work on a block.
    windows = np.ndarray((len(x) - width + 1, width), x.dtype, x, strides=2 * x.strides)
    return windows[centre - reach]


def _extremum(x: Floats, centre: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Where x is farthest from its mean over the window about each centre."""
    around = _windows(x, centre, reach)
    away = np.abs(around - around.mean(axis=1, keepdims=True))
    return np.asarray(centre - reach + away.argmax(axis=1))
