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

from storage.compiled import kernels
from tasks.signal.filters import Block, Floats, Grid, halving_sum, moving

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
#: Means that compiled code takes at once, and room at their end.
MEANS_AT_ONCE = 1024 + 16


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

    def and_then(self, later: Candidates) -> Candidates:
        """These and then later ones."""
        pairs = ((getattr(self, name), getattr(later, name)) for name in COLUMNS)
        sample, centre, height, slope = map(np.concatenate, pairs)
        return Candidates(sample, centre, height, slope)

    def after(self, begin: int) -> Candidates:
        """Those from the `begin`-th on, in memory of their own."""
        return Candidates(*(getattr(self, name)[begin:].copy() for name in COLUMNS))


COLUMNS = ("sample", "centre", "height", "slope")
NO_CANDIDATES = Candidates(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))


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
    reach = round(RELOCATION_S * fs_hz)
    inside = np.clip(peak, begin + reach, max(begin + grid.n_samples - 1 - reach, begin + reach))
    steep, extremum = _look(block, peak, inside, half, reach)
    sample = extremum - begin
    real = np.minimum(sample, grid.n_samples - 1 - sample) > END_S * fs_hz
    if block.gaps:  # nothing is in a gap but what bridges it
        real &= _windows(np.isfinite(block.raw), peak, half).any(axis=1)
    return Candidates(
        sample=sample[real],
        centre=peak[real] - begin,
        height=np.sqrt(height[real].astype(np.float64)),
        slope=steep[real].astype(np.float64),
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
    waiting : Candidates
        The candidates after the last beat; `at` is the number of the next one to judge.
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
    waiting: Candidates = NO_CANDIDATES
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
        self.waiting = self.waiting.and_then(batch)
        if self.signal is None and not self._learn(last):
            return np.empty(0, np.int64)
        return self._judge_plainly() if kernels.LIBRARY is None else self._judge()

    def _learn(self, last: bool) -> bool:
        """Thresholds from the candidates of the first ten seconds, once they are there."""
        centre = self.waiting.centre
        if not len(centre):
            return False
        self.since = int(centre[0])
        end = self.since + LEARNING_S * self.fs_hz
        if not last and centre[-1] < end:
            return False
        self.signal, self.noise = _estimates(self.waiting.height[centre < end])
        return True

    def _judge(self) -> NDArray[np.int64]:
        """The R peaks among the candidates that wait; those up to the last beat are forgotten."""
        waiting, out = self.waiting, []
        end, held = len(waiting.centre), len(self.recent)
        t_wave, silent = T_WAVE_S * self.fs_hz, LEARNING_S * self.fs_hz
        rules = np.array([t_wave, silent, SEARCH_BACK, T_WAVE_SLOPE, QUIET, DECAY])
        state = np.zeros(7 + MEMORY, np.int64)  # as `kernels.c` numbers them
        before = -1 if self.before is None else self.before
        state[:7] = before, self.since, self.searched, self.last, self.at, 0, held
        state[7 : 7 + held] = self.recent
        level = np.array([self.signal, self.noise, self.slope_before])
        columns = (waiting.centre, waiting.height, waiting.slope, waiting.sample)
        beats = np.empty(end, np.int64)
        words = (*map(kernels.memory, columns), end)
        memory = [kernels.memory(x) for x in (rules, state, level, beats)]
        while True:
            count = kernels.LIBRARY.judge(*words, *memory)
            out.append(beats[:count].copy())
            number, begin = state[4:6].tolist()
            if number == end:
                break
            # No beat for so long: learn anew, and judge those that were passed over once more.
            if number - begin >= LEAST_CANDIDATES:
                level[:2] = _estimates(waiting.height[begin:number])
                state[4] = begin
        before, self.since, searched, self.last, number, begin, held = state[:7].tolist()
        self.before, self.searched = None if before < 0 else before, bool(searched)
        self.recent = deque(state[7 : 7 + held].tolist(), maxlen=MEMORY)
        self.signal, self.noise, self.slope_before = level.tolist()
        self.waiting, self.at = waiting.after(begin), number - begin
        return np.concatenate(out)

    def _judge_plainly(self) -> NDArray[np.int64]:  # noqa: C901 - a call a beat doubles its time
        """The twin of `_judge` and `holter_judge` in Python."""
        columns = (getattr(self.waiting, name).tolist() for name in COLUMNS)
        waiting = list(zip(*columns, strict=True))
        recent, signal, noise = self.recent, self.signal, self.noise
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
                sample, centre, height, slope = waiting[number]
                if centre > too_long:
                    break
                threshold = noise + 0.25 * (signal - noise)
                if centre > overdue:
                    overdue, searched = inf, True
                    beat = _search_back(waiting, begin, number, early, 0.5 * threshold)
                    if beat is not None:
                        sample, centre, height, slope = waiting[beat]
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
                while begin < number and waiting[begin][1] < centre - silent:
                    begin += 1
                if number - begin >= LEAST_CANDIDATES:
                    signal, noise = _estimates(self.waiting.height[begin:number])
                    number = begin
        self.waiting, self.at = self.waiting.after(begin), number - begin
        self.signal, self.noise, self.since, self.searched = signal, noise, since, searched
        self.before = before
        return np.array(beats, np.int64)


def _estimates(heights: NDArray[np.float64]) -> tuple[float, float]:
    """Of the signal and of the noise, from the candidates of ten seconds."""
    signal = float(np.percentile(heights, 75))
    return signal, 0.25 * signal


def _search_back(
    waiting: list[tuple[int, int, float, float]], begin: int, end: int, after: float, limit: float
) -> int | None:
    """The largest candidate of [begin, end) above a limit, later than `after`; None for none."""
    best, highest = None, limit
    for number in range(begin, end):
        if waiting[number][1] > after and waiting[number][2] > highest:
            best, highest = number, waiting[number][2]
    return best


def _highest(x: Floats, first: int, last: int, reach: int) -> NDArray[np.int64]:
    """Where x is largest within `reach` on both sides, and the first of equals; [first, last)."""
    library = kernels.LIBRARY
    if library is None:
        return _highest_plainly(x, first, last, reach)
    peak = np.empty((last - first) // reach + 1, np.int64)
    limits = (first, last, reach, LEAST_HEIGHT**2)
    count = library.highest(kernels.memory(x), *limits, kernels.memory(peak))
    return peak[:count]


def _highest_plainly(x: Floats, first: int, last: int, reach: int) -> NDArray[np.int64]:
    """The twin of `holter_highest` in numpy.

    Most samples are passed over by what lies beside them, a third and the whole of it away.
    """
    own = x[first:last]
    real = own > np.float32(LEAST_HEIGHT**2)
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
    out, library = np.zeros(len(slope), dtype=np.float32), kernels.LIBRARY
    if library is not None:
        work = np.empty(2 * (MEANS_AT_ONCE + width), np.float32)
        memory = kernels.memory(work), kernels.memory(out)
        library.moving_mean(kernels.memory(slope), len(slope), width, *memory)
        return out
    sums, share = moving(slope * slope, width, np.add), np.float32(1) / np.float32(width)
    np.multiply(sums, share, out=out[width // 2 : len(slope) - width // 2])
    return out


def _windows(x: NDArray[Any], centre: NDArray[np.int64], reach: int) -> NDArray[Any]:
    """x at centre - reach .. centre + reach, a row each."""
    width = 2 * reach + 1
    # sliding_window_view without its checks, which cost more than the work on a block.
    windows = np.ndarray((len(x) - width + 1, width), x.dtype, x, strides=2 * x.strides)
    return windows[centre - reach]


def _look(
    block: Block, peak: NDArray[np.int64], centre: NDArray[np.int64], half: int, reach: int
) -> tuple[Floats, NDArray[np.int64]]:
    """The steepest slope within `half` of each peak, and where the band is farthest from its mean.

    Its mean is that of the samples within `reach` of each centre.
    """
    library = kernels.LIBRARY
    if library is None:
        steep = np.abs(_windows(block.slope, peak, half)).max(axis=1, initial=0)
        return steep, _extremum(block.band, centre, reach)
    steep, extremum = np.empty(len(peak), np.float32), np.empty(len(peak), np.int64)
    room = 1 << (2 * max(reach, half)).bit_length()
    arrays = (block.slope, block.band, peak, centre, np.empty(room, np.float32), steep, extremum)
    at = [kernels.memory(x) for x in arrays]
    library.look(*at[:4], len(peak), half, reach, room, *at[4:])
    return steep, extremum


def _extremum(x: Floats, centre: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
    """Where x is farthest from its mean over the window about each centre."""
    around = _windows(x, centre, reach)
    mean = halving_sum(around) / np.float32(2 * reach + 1)
    away = np.abs(around - mean[:, None])
    return np.asarray(centre - reach + away.argmax(axis=1))
