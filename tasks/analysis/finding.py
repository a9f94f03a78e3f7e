"""What a network says of a record: beats, episodes, burden, and what cannot be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.recordings.records import Record
from storage.tables.beats import BAD, BeatTable
from tasks.analysis.page.facts import CLINICAL_S, burden_limits
from tasks.analysis.reliability import reliability
from tasks.analysis.words import percent
from tasks.scores.drift import Profile
from tasks.scores.episodes import Intervals, durations_s, episodes, told_share
from tasks.scores.levels.certainty import TOLD_SHARE
from tasks.scores.rule import STRIP_S, Judgement

#: The shortest ECG on which AF is diagnosed, a standard one of twelve leads (the same source).
LEAST_S = 10.0
#: With more beats of poor signal, what was found is of the noise; with fewer, they are a caveat. Of
#: 367 readable recordings (MITDB, CPSC2021, CinC 2017) none has more than 0.28; noise has 0.45.
MOST_BAD, MUCH_BAD = 0.35, 0.2
#: Less of a recording than this share is no picture of it.
LEAST_SHARE = 0.5
#: Where so much of the analysed time cannot be told, and no AF is, nothing is told of the whole.
MOST_UNTOLD = 0.5
#: The data set whose figures are those of short recordings.
SHORT_STRIPS = "cinc2017"


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a network says of a record.

    Attributes
    ----------
    record : Record
        The record, opened.
    beats : BeatTable
        Its beats, without waveforms.
    judgement : Judgement
        P(AF) of each beat, whether it is decided AF, and whether that is told.
    runs : float64, shape (k, 2)
        Start and end of every AF episode, told or not, seconds.
    model : mapping
        Name, digest and rule of what decided, its registered version, where it is from and why it
        was chosen.
    profile : Profile
        Of its beats as they are usually decided, for the look for drift.
    figures : sequence of mapping
        What it reached on data sets, as its manifest has it; empty where it has none.
    look : str
        Where a person looks at the record, an address; empty where nowhere.
    """

    record: Record
    beats: BeatTable
    judgement: Judgement
    runs: Intervals
    model: Mapping[str, Any]
    profile: Profile
    figures: Sequence[Mapping[str, Any]] = ()
    look: str = ""

    @property
    def probability(self) -> NDArray[np.float32]:
        """P(AF) of each beat, shape (n,)."""
        return self.judgement.probability

    @property
    def decided(self) -> NDArray[np.bool_]:
        """AF or not, told or not, shape (n,)."""
        return self.judgement.decided

    @property
    def duration_s(self) -> float:
        """Length of the record."""
        return self.record.n_samples / self.record.fs_hz

    @property
    def analysable_s(self) -> float:
        """Seconds of it that can be analysed."""
        return float(durations_s(self.beats.stretches_s).sum())

    @property
    def af_s(self) -> float:
        """Seconds in AF, told or not."""
        return float(durations_s(self.runs).sum())

    @cached_property
    def told_af_s(self) -> float:
        """Seconds that are told to be AF."""
        told = self.judgement.decided & self.judgement.sure
        return float(durations_s(self._spans(told)).sum())

    @cached_property
    def untold(self) -> Intervals:
        """Where successive beats cannot be told, shape (k, 2) in seconds."""
        return self._spans(~self.judgement.sure)

    @property
    def untold_s(self) -> float:
        """Seconds that can be analysed and cannot be told."""
        return float(durations_s(self.untold).sum())

    @property
    def untold_share(self) -> float:
        """Share of the analysable time that cannot be told; 0 of none."""
        return self.untold_s / self.analysable_s if self.analysable_s else 0.0

    @property
    def has_told_af(self) -> bool:
        """Whether an AF episode of 30 s or more is told."""
        long = durations_s(self.runs) >= CLINICAL_S
        return bool((long & (self.told_shares >= TOLD_SHARE)).any())

    @property
    def told_shares(self) -> NDArray[np.float64]:
        """Share of the beats of each episode that are told, shape (k,)."""
        return told_share(self.runs, self.beats.time_s, self.judgement.sure)

    def _spans(self, beats: NDArray[np.bool_]) -> Intervals:
        return episodes(beats, self.beats.time_s, self.beats.stretches_s)

    @property
    def doubt(self) -> str:
        """Why nothing can be told of the record's rhythm; "" where something can."""
        if self.analysable_s < LEAST_S:
            return (
                f"found {self.analysable_s:.1f} s that can be analysed; "
                f"expected at least {LEAST_S:g} s"
            )
        if (share := bad_share(self.beats)) > MOST_BAD:
            return (
                f"found a poor signal at {100 * share:.0f} % of {len(self.beats):,} beats; "
                f"expected at most {100 * MOST_BAD:.0f} %"
            )
        if self.untold_share >= MOST_UNTOLD and not self.has_told_af:
            return (
                f"found {percent(self.untold_share)} of the analysed time where the rhythm cannot "
                f"be told; expected less than {100 * MOST_UNTOLD:g} %"
            )
        return ""

    @property
    def burden(self) -> float | None:
        """Share of the analysable time in AF, told or not; None where nothing can be told."""
        return None if self.doubt else self.af_s / self.analysable_s

    @property
    def limits(self) -> tuple[float, float] | tuple[None, None]:
        """The burden where all that cannot be told is not AF, and where all of it is."""
        if self.doubt:
            return None, None
        return burden_limits(self.af_s, self.told_af_s, self.untold_s, self.analysable_s)

    @property
    def _found_in_strips(self) -> str:
        """The network's own sensitivity in short strips, in words; "" where it is not known."""
        for row in reliability(self.figures, None):
            if row["dataset"] == SHORT_STRIPS and row["sensitivity"] is not None:
                share = percent(row["sensitivity"])
                return f"; of that in {SHORT_STRIPS}'s strips of a minute it finds {share}"
        return ""

    @property
    def _short(self) -> str:
        """What a reader of a short recording must know."""
        share = self.model["af_share"]
        if share is None:
            return (
                "The recording is short, and the network leans on the beats around: it may miss "
                f"AF{self._found_in_strips}."
            )
        return (
            f"The recording is short: P(AF) is calibrated for so few beats, and takes "
            f"{percent(share)} of such recordings to be AF. The network may miss "
            f"AF{self._found_in_strips}."
        )

    @property
    def caveats(self) -> list[str]:
        """What a reader of the burden must know, in sentences."""
        share, bad = self.analysable_s / self.duration_s, bad_share(self.beats)
        facts = (
            (
                self.analysable_s < CLINICAL_S,
                f"Only {self.analysable_s:.0f} s were analysed: clinical AF lasts "
                f"{CLINICAL_S:g} s or more.",
            ),
            (self.analysable_s < STRIP_S, self._short),
            (share < LEAST_SHARE, f"Only {percent(share)} of the recording could be analysed."),
            (
                self.untold_share >= MOST_UNTOLD,
                f"Of {percent(self.untold_share)} of the analysed time the rhythm cannot be told: "
                "AF that is told is there, and how much more there is cannot be told.",
            ),
            (bad > MUCH_BAD, f"The signal is poor at {100 * bad:.0f} % of the beats."),
        )
        return [words for holds, words in facts if holds]


def bad_share(beats: BeatTable) -> float:
    """Share of the beats whose signal is poor; 0 where there are none."""
    return float(np.mean((beats.quality & BAD) != 0)) if len(beats) else 0.0
