"""R peaks by the method of Pan and Tompkins (1985), DOI 10.1109/TBME.1985.325532.

Band-pass, differentiate, square, integrate over 150 ms, then adaptive thresholds with search-back,
refractory period and T-wave discrimination. Where this differs from the paper:

- the filters have zero phase, so the integrated signal peaks on the QRS complex itself;
- thresholds act on the square root of the integrated signal, an amplitude, so that one large
  premature beat does not hide the normal ones after it;
- a candidate is the largest value within 200 ms on both sides, which is the refractory period, and
  lies in no gap;
- thresholds start from the candidates of the first ten seconds, so a record cut in two starts
  again where a whole one would be; they start anew from the last ten where no beat was found for so
  long, or an artefact ten times as high as the QRS complexes would hide them for the record's rest;
- every beat draws the noise's estimate a fiftieth of the way to 17 % of the signal's, so that what
  was noise long ago is forgotten where no candidate is noise;
- the R peak is then moved to the extremum, of either sign, of the band-passed signal.

Every step is taken at every sample, and times are counted in samples: a record that begins n
samples later has its beats n samples earlier, once the thresholds have forgotten its beginning.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.signal.filters import Block, Floats, Grid, moving

INTEGRATION_S = 0.150
REFRACTORY_S = 0.200
T_WAVE_S = 0.360
#: A T wave's steepest slope is under half of the QRS complex's before it.
T_WAVE_SLOPE = 0.5
SEARCH_BACK = 1.66
#: Noise to be expected where there is no candidate of it, as a share of the signal, and how much
#: of the estimate is drawn there by each beat.
QUIET, DECAY = 0.17, 0.02
#: Candidates below it, in millivolts per second, are rounding: an R wave of 50 uV has 1.
LEAST_HEIGHT = 0.01
LEARNING_S = 10.0
#: Intervals whose mean says when a beat is overdue.
MEMORY = 8
#: Fewer candidates in ten seconds are no rhythm to learn from.
LEAST_CANDIDATES = 3
#: An R peak nearer to the record's end may be the flank of one that is cut off.
END_S = 0.050
#: Half-width of the search for the R peak about the centre of the QRS complex.
RELOCATION_S = 0.100


@dataclass(frozen=True, eq=False)
class Candidates:
    """Places that may be QRS complexes, in time order.

    Attributes
    ----------
    sample : int64, shape (k,)
        Extremum of the band-passed signal.
    centre : int64, shape (k,)
        Peak of the integrated signal.
    height : float64, shape (k,)
        Root of the integrated signal there, millivolts per second.
    slope : float64, shape (k,)
        Steepest slope about it, millivolts per second.
    """

    sample: NDArray[np.int64]
    centre: NDArray[np.int64]
    height: NDArray[np.float64]
    slope: NDArray[np.float64]


def candidates(block: Block, grid: Grid) -> Candidates:
    """The candidates whose centre lies in a block, margins aside."""
    fs_hz = grid.fs_hz
    integrated = _moving_mean(block.slope, fs_hz)
    reach = round(REFRACTORY_S * fs_hz)
    first, last = grid.margin, grid.margin + grid.hop
    # Beyond its ends the record goes on as its mirror image, whose complexes are none.
    begin = grid.margin - block.start  # where the record's first sample is in this block
    integrated[: max(begin, 0)] = integrated[begin + grid.n_samples :] = 0
    peak = _highest(integrated, first, last, reach)
    height = integrated[peak]
    half = round(INTEGRATION_S / 2 * fs_hz)
    steep = np.abs(_windows(block.slope, peak, half))
    reach = round(RELOCATION_S * fs_hz)
    inside = np.clip(peak, begin + reach, max(begin + grid.n_samples - 1 - reach, begin + reach))
    sample = _extremum(block.band, inside, reach) - begin
    real = np.minimum(sample, grid.n_samples - 1 - sample) > END_S * fs_hz
    if block.gaps:  # nothing is in a gap but what bridges it
        real &= _windows(np.isfinite(block.raw), peak, half).any(axis=1)
    return Candidates(
        sample=sample[real],
        centre=peak[real] - begin,
        height=np.sqrt(height[real].astype(np.float64)),
        slope=steep.max(axis=1, initial=0)[real].astype(np.float64),
    )


@dataclass
class Rules:
    """Pan and Tompkins's rules at work, and what they remember from one candidate to the next.

    Candidates may come all at once or a few at a time: the same are chosen. What is remembered is
    bounded: candidates that search-back may still want, and the last eight intervals.

    Attributes
    ----------
    fs_hz : float
        Sampling rate.
    waiting : list of tuple
        Centre, height, slope and sample of the candidates after the last beat; `at` is the number
        of the next one to judge.
    signal, noise : float
        Running estimates; `signal` is None until the first ten seconds are there.
    recent : deque of int
        The last eight intervals, in samples.
    before, slope_before : int, float
        Centre and slope of the last beat; `before` is None where there was none.
    since : int
        From where on candidates are learnt from if no beat comes: the last beat's centre, or where
        thresholds were learnt last.
    searched : bool
        Whether search-back was tried since.
    last : int
        The last R peak given.
    """

    fs_hz: float
    waiting: list[tuple[int, float, float, int]] = field(default_factory=list)
    at: int = 0
    signal: float | None = None
    noise: float = 0.0
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=MEMORY))
    before: int | None = None
    slope_before: float = 0.0
    since: int = 0
    searched: bool = False
    last: int = -1

    def take(self, batch: Candidates, *, last: bool = False) -> NDArray[np.int64]:
        """Judge more candidates; gives the R peaks among all so far that were not given before."""
        columns = (batch.centre, batch.height, batch.slope, batch.sample)
        self.waiting += zip(*(column.tolist() for column in columns), strict=True)
        if self.signal is None and not self._learn(last):
            return np.empty(0, np.int64)
        return np.array(self._judge(), np.int64)

    def _learn(self, last: bool) -> bool:
        """Thresholds from the candidates of the first ten seconds, once they are there."""
        if not self.waiting:
            return False
        self.since = self.waiting[0][0]
        end = self.since + LEARNING_S * self.fs_hz
        if not last and self.waiting[-1][0] < end:
            return False
        heights = [height for centre, height, _, _ in self.waiting if centre < end]
        self.signal, self.noise = _estimates(heights)
        return True

    def _judge(self) -> list[int]:  # noqa: C901 - a call a beat would double its time
        """The R peaks among the candidates that wait; those up to the last beat are forgotten."""
        waiting, recent, signal, noise = self.waiting, self.recent, self.signal, self.noise
        assert signal is not None  # noqa: S101 - `take` has learnt it
        t_wave, silent = T_WAVE_S * self.fs_hz, LEARNING_S * self.fs_hz
        before = self.before
        # Up to here only a steep candidate is a beat, others being T waves.
        early = -inf if before is None else before + t_wave
        least_slope, since = T_WAVE_SLOPE * self.slope_before, self.since
        searched, intervals = self.searched, sum(recent)
        # The first candidate after the last beat, and the next one to judge.
        begin, number, end = 0, self.at, len(waiting)
        beats = []
        while number < end:
            too_long = since + silent
            # Where nothing was found for so long, search-back looks once.
            overdue = inf
            if before is not None and recent and not searched:
                overdue = before + SEARCH_BACK * intervals / len(recent)
            beat = None
            while number < end:
                centre, height, slope, sample = waiting[number]
                if centre > too_long:
                    break
                threshold = noise + 0.25 * (signal - noise)
                if centre > overdue:
                    overdue, searched = inf, True
                    beat = _search_back(waiting, begin, number, early, 0.5 * threshold)
                    if beat is not None:
                        centre, height, slope, sample = waiting[beat]
                        signal = 0.25 * height + 0.75 * signal
                        break
                if height > threshold and (centre >= early or slope >= least_slope):
                    signal = 0.125 * height + 0.875 * signal
                    beat = number
                    break
                noise = 0.125 * height + 0.875 * noise
                number += 1
            if beat is not None:
                noise += DECAY * (QUIET * signal - noise)
                if before is not None:
                    intervals += centre - before - (recent[0] if len(recent) == MEMORY else 0)
                    recent.append(centre - before)
                before = since = centre
                early = centre + t_wave
                self.slope_before, least_slope, searched = slope, T_WAVE_SLOPE * slope, False
                begin = number = beat + 1
                if sample > self.last:  # two candidates may have one R peak
                    beats.append(sample)
                    self.last = sample
            elif number < end:
                # No beat for so long: learn anew, and judge those that were passed over once more.
                since = centre
                while begin < number and waiting[begin][0] < centre - silent:
                    begin += 1
                if number - begin >= LEAST_CANDIDATES:
                    signal, noise = _estimates([entry[1] for entry in waiting[begin:number]])
                    number = begin
        self.waiting, self.at = waiting[begin:], number - begin
        self.signal, self.noise, self.since, self.searched = signal, noise, since, searched
        self.before = before
        return beats


def _estimates(heights: list[float]) -> tuple[float, float]:
    """Of the signal and of the noise, from the candidates of ten seconds."""
    signal = float(np.percentile(heights, 75))
    return signal, 0.25 * signal


def _search_back(
    waiting: list[tuple[int, float, float, int]], begin: int, end: int, after: float, limit: float
) -> int | None:
    """The largest candidate of [begin, end) above a limit, later than `after`; None for none."""
    best, highest = None, limit
    for number in range(begin, end):
        if waiting[number][0] > after and waiting[number][1] > highest:
            best, highest = number, waiting[number][1]
    return best


def _highest(x: Floats, first: int, last: int, reach: int) -> NDArray[np.int64]:
    """Where x is largest within `reach` on both sides, and the first of equals; [first, last).

    Most samples are passed over by what lies beside them, a third and the whole of it away.
    """
    own = x[first:last]
    real = own > LEAST_HEIGHT**2
    for away in (1, reach // 3, reach):
        real &= own > x[first - away : last - away]
        real &= own >= x[first + away : last + away]
    peak = first + np.flatnonzero(real)
    around = _windows(x, peak, reach)
    before = around[:, :reach].max(axis=1, initial=0)
    after = around[:, reach + 1 :].max(axis=1, initial=0)
    height = x[peak]
    return np.asarray(peak[(height > before) & (height >= after)])


def _moving_mean(slope: Floats, fs_hz: float) -> Floats:
    """Moving mean of the squared slope over 150 ms, centred."""
    width = 2 * round(INTEGRATION_S * fs_hz / 2) + 1
    out = np.zeros(len(slope), dtype=np.float32)
    sums = moving(slope * slope, width, np.add)
    np.divide(sums, np.float32(width), out=out[width // 2 : len(slope) - width // 2])
    return out


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
