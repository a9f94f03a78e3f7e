"""A record's report: what its pages show, whether as HTML (`page_html`) or PDF (`page_pdf`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.scores.episodes import (
    NO_INTERVALS,
    Intervals,
    durations_s,
    episodes,
    lasting,
    told_share,
)

#: Episodes of AF that count clinically last so long (Hindricks et al. 2021,
#: doi:10.1093/eurheartj/ehaa612).
CLINICAL_S = 30.0


@dataclass(frozen=True, eq=False)
class Page:
    """What a record's report shows.

    Attributes
    ----------
    record, lead : str
        Names as the files give them; every character of them is shown, none is markup.
    duration_s, fs_hz : float
        Length of the record, and its sampling rate.
    stretches_s : float64, shape (m, 2)
        What of it can be analysed.
    time_s : float64, shape (n,)
        Time of each beat; `rr_s` and `rr_next_s` the intervals before and after it, NaN at the ends
        of a stretch; `flagged` whether its signal is doubtful, `decided` whether it is AF,
        `sure` whether that is told, `probability` P(AF): shape (n,) each.
    runs : float64, shape (k, 2)
        AF episodes in seconds.
    figures : mapping
        From `tasks.analysis.analyse.summary`; of a record on which nothing can be told, without
        the burden.
    read : callable
        Reads the lead from a sample to another, in millivolts, NaN where there is no sample.
    start : datetime, optional
        When the recording began, local time as in its header.
    registered, reason : str
        The version that the network was sealed as; why it was chosen, in a sentence.
    network_figures : sequence of mapping
        What was measured of the network, a data set each, with its PPV at this record's burden:
        from `tasks.analysis.reliability.reliability`.
    cannot_tell : str
        Why nothing can be told of this record; empty where something can.
    caveats : sequence of str
        What a reader of the burden must know, in sentences.
    look : str
        Where a person looks at the record, an address; `?at=SECONDS` follows it.
    """

    record: str
    lead: str
    duration_s: float
    fs_hz: float
    stretches_s: Intervals
    time_s: NDArray[np.float64]
    rr_s: NDArray[np.float32]
    rr_next_s: NDArray[np.float32]
    flagged: NDArray[np.bool_]
    decided: NDArray[np.bool_]
    sure: NDArray[np.bool_]
    probability: NDArray[np.float32]
    runs: Intervals
    figures: Mapping[str, Any]
    read: Callable[[int, int], NDArray[np.float32]]
    start: datetime | None = None
    registered: str = ""
    reason: str = ""
    network_figures: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    cannot_tell: str = ""
    caveats: Sequence[str] = ()
    look: str = ""

    @property
    def analysed_s(self) -> float:
        """Seconds that can be analysed."""
        return float(durations_s(self.stretches_s).sum())

    @property
    def af_s(self) -> float:
        """Seconds in AF."""
        return float(durations_s(self.runs).sum())

    @property
    def burden(self) -> float | None:
        """Share of the analysed time in AF; None where nothing can be told.

        Without an interval between two beats, no rhythm can.
        """
        if self.cannot_tell or not self.analysed_s or not np.isfinite(self.rr_s).any():
            return None
        return min(self.af_s / self.analysed_s, 1.0)

    @cached_property
    def untold(self) -> Intervals:
        """Where successive beats cannot be told, shape (k, 2); none where nothing can be."""
        if self.burden is None:
            return NO_INTERVALS
        return episodes(~self.sure, self.time_s, self.stretches_s)

    @property
    def long_untold(self) -> Intervals:
        """Those that are listed, of 30 s or more."""
        return lasting(self.untold, CLINICAL_S)

    @property
    def untold_share(self) -> float:
        """Share of the analysed time that cannot be told."""
        return float(durations_s(self.untold).sum()) / self.analysed_s if self.analysed_s else 0.0

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The burden where nothing that cannot be told is AF, and where all of it is."""
        told = episodes(self.decided & self.sure, self.time_s, self.stretches_s)
        told_s, untold_s = (float(durations_s(runs).sum()) for runs in (told, self.untold))
        return burden_limits(self.af_s, told_s, untold_s, self.analysed_s)

    @property
    def told_shares(self) -> NDArray[np.float64]:
        """Share of the beats of each episode that are told, shape (k,)."""
        return told_share(self.runs, self.time_s, self.sure)

    @property
    def holes_s(self) -> Intervals:
        """What cannot be analysed, shape (k, 2)."""
        edges = np.concatenate([[0.0], self.stretches_s.ravel(), [self.duration_s]]).reshape(-1, 2)
        return edges[edges[:, 1] > edges[:, 0]]


def burden_limits(
    af_s: float, told_af_s: float, untold_s: float, analysed_s: float
) -> tuple[float, float]:
    """The burden where all that cannot be told is not AF, and where all of it is."""
    # Sums of other pieces of the same time differ in their last digit.
    least_s, most_s = min(told_af_s, af_s), max(told_af_s + untold_s, af_s)
    return min(least_s / analysed_s, 1.0), min(most_s / analysed_s, 1.0)


@dataclass(frozen=True, eq=False)
class Episodes:
    """What is known of each AF episode, shape (k,) each.

    Attributes
    ----------
    start_s, end_s : float64
        Its ends.
    beats : int64
        Beats in it.
    rate_bpm, p_af, flagged : float64
        Mean heart rate (NaN without an interval), mean P(AF), share of doubtful beats.
    """

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    beats: NDArray[np.int64]
    rate_bpm: NDArray[np.float64]
    p_af: NDArray[np.float64]
    flagged: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.start_s)


def episodes_of(page: Page) -> Episodes:
    """Every AF episode of a record; the figures are those of the table of episodes (CSV)."""
    low, high = (np.searchsorted(page.time_s, edge) for edge in (page.runs[:, 0], page.runs[:, 1]))
    high = np.maximum(high, np.minimum(low + 1, len(page.time_s)))
    known = np.isfinite(page.rr_next_s)
    intervals, rr_s, p_af, flagged = (
        _sums(values, low, high)
        for values in (known, np.where(known, page.rr_next_s, 0), page.probability, page.flagged)
    )
    beats = np.maximum(high - low, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate_bpm = np.where(intervals > 0, 60 * intervals / rr_s, np.nan)
    return Episodes(
        page.runs[:, 0], page.runs[:, 1], high - low, rate_bpm, p_af / beats, flagged / beats
    )


def _sums(
    values: NDArray[Any], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.float64]:
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    return np.asarray(total[high] - total[low])


def mean_rate(page: Page, beats: NDArray[np.bool_]) -> float | None:
    """Mean heart rate over the intervals before the chosen beats, per minute."""
    rr_s = page.rr_s[beats & np.isfinite(page.rr_s)]
    return 60 / float(rr_s.mean(dtype=np.float64)) if len(rr_s) else None
