"""The episodes of a recording as CSV."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from storage.formats.start import later
from storage.tables.beats import BAD, BeatTable
from tasks.analysis.words import state_of
from tasks.scores.episodes import Intervals

#: Columns of the episodes' CSV.
COLUMNS: tuple[str, ...] = ("start_s", "end_s", "duration_s", "beats", "mean_p_af")
COLUMNS += ("mean_heart_rate_bpm", "flagged_share", "start_time", "end_time")
COLUMNS += ("told_share", "state")


def episode_table(
    beats: BeatTable,
    probability: NDArray[np.float32],
    runs: Intervals,
    told_shares: NDArray[np.float64],
    start_time: datetime | None = None,
) -> str:
    """The episodes as CSV: times, beats, mean P(AF) and heart rate, share of flagged beats.

    An episode of one beat without an interval after it has no heart rate. `start_time` and
    `end_time` are the recorder's date and time, local; empty where its header does not have them.
    `told_shares`, shape (k,), is the share of each episode's beats that are told.
    """
    lines = [",".join(COLUMNS)]
    flagged = (beats.quality & BAD) != 0
    for (start, end), told_share in zip(runs.tolist(), told_shares.tolist(), strict=True):
        low, high = np.searchsorted(beats.time_s, (start, end))
        inside = slice(low, max(high, low + 1))
        rr_s = beats.rr_next_s[inside]
        rr_s = rr_s[np.isfinite(rr_s)]
        rate = f"{60 / float(rr_s.mean()):.1f}" if len(rr_s) else ""
        share, p_af = float(flagged[inside].mean()), float(probability[inside].mean())
        times = f"{start:.3f},{end:.3f},{end - start:.3f},{high - low}"
        clocks = [later(start_time, at) for at in (start, end)]
        iso = ",".join(at.isoformat(timespec="milliseconds") if at else "" for at in clocks)
        state = f"{told_share:.3f},{state_of(told_share)}"
        lines.append(f"{times},{p_af:.3f},{rate},{share:.3f},{iso},{state}")
    return "\n".join(lines) + "\n"
