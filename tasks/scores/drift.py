"""Drift: how far recordings lie from those that a model learnt from, by counts over fixed bins.

A profile is counts, so profiles add up, travel in a device's report and hold no one's heartbeat.
The population stability index of two shares p and q is the sum of (p - q) ln(p / q) over the bins
(Siddiqi 2006, ISBN 978-0-471-75451-0, chapter 10: below 0.1 little, above 0.25 much).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import TableError
from storage.tables.beats import BAD, BeatTable
from tasks.scores.promotion import Figure

#: What is counted, and the inner edges of its bins; the outer ones are open.
BINS: dict[str, NDArray[np.float64]] = {
    "heart rate, /min": np.arange(30.0, 221.0, 10.0),
    "P(AF)": np.arange(0.05, 1.0, 0.05),
    "noise index": np.arange(0.05, 1.0, 0.05),
}
#: The least share of a bin: an empty one would make the index infinite.
LEAST_SHARE = 1e-4
#: The share of the reference's beats that its range of heart rates may leave out on either side.
TAIL = 0.005


@dataclass(frozen=True)
class Profile:
    """Counts of a set of recordings.

    Attributes
    ----------
    records, beats, af_beats, bad_beats : int
        How many, how many decided AF, and how many with poor signal.
    counts : dict of str to list of int
        Beats in each bin of `BINS`; beats of which a quantity is not known count nowhere.
    """

    records: int
    beats: int
    af_beats: int
    bad_beats: int
    counts: dict[str, list[int]]

    def __add__(self, other: Profile) -> Profile:
        """Both together."""
        numbers = ("records", "beats", "af_beats", "bad_beats")
        return Profile(
            **{name: getattr(self, name) + getattr(other, name) for name in numbers},
            counts={name: np.add(self.counts[name], other.counts[name]).tolist() for name in BINS},
        )

    def shares(self, name: str) -> NDArray[np.float64]:
        """Share of the beats in each bin."""
        counts = np.asarray(self.counts[name], np.float64)
        return np.asarray(counts / max(counts.sum(), 1.0))

    def as_json(self) -> dict[str, Any]:
        """The profile as it goes into a report."""
        return asdict(self)


def profile(
    table: BeatTable, probability: NDArray[np.floating], decided: NDArray[np.bool_]
) -> Profile:
    """The profile of one recording: its beats, P(AF) and decision of each, shape (n,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = 60 / np.asarray(table.rr_prev_s, np.float64)
    values = {"heart rate, /min": rate, "P(AF)": probability, "noise index": table.noise}
    return Profile(
        records=1,
        beats=len(table),
        af_beats=int(decided.sum()),
        bad_beats=int(np.count_nonzero(table.quality & BAD)),
        counts={name: _bin_counts(values[name], edges) for name, edges in BINS.items()},
    )


def _bin_counts(values: NDArray[np.floating], edges: NDArray[np.float64]) -> list[int]:
    finite = values[np.isfinite(values)]
    bins = np.digitize(finite, edges)
    return [int(n) for n in np.bincount(bins, minlength=len(edges) + 1)]


def together(profiles: Iterable[Profile]) -> Profile:
    """All as one.

    Raises
    ------
    ValueError
        There is none.
    """
    parts = list(profiles)
    if not parts:
        raise ValueError("no recording to profile")
    return reduce(add, parts)


def read_profile(document: Any, source: str) -> Profile:
    """A profile from JSON.

    Raises
    ------
    TableError
        It is none, or is counted over other bins.
    """
    try:
        profile = Profile(**document)
        lengths = {name: len(counts) for name, counts in profile.counts.items()}
        values = [profile.records, profile.beats, profile.af_beats, profile.bad_beats]
        values += [n for counts in profile.counts.values() for n in counts]
    except (TypeError, AttributeError) as error:
        raise TableError(f"{source}: found no profile; expected its counts ({error})") from error
    expected = {name: len(edges) + 1 for name, edges in BINS.items()}
    if lengths != expected or not all(isinstance(n, int) and n >= 0 for n in values):
        raise TableError(f"{source}: found bins {lengths}; expected counts over {expected}")
    return profile


def stability(reference: NDArray[np.float64], new: NDArray[np.float64]) -> float:
    """Population stability index of two sets of shares; 0 where they are the same."""
    p, q = (np.maximum(shares, LEAST_SHARE) for shares in (new, reference))
    return float(np.sum((p - q) * np.log(p / q)))


def drift(reference: Profile, new: Profile) -> dict[str, Figure]:
    """Every figure that a table of thresholds may ask for.

    Returns
    -------
    dict of str to Figure
        `heart_rate_psi`, `score_psi`, `noise_psi`; `af_share_change_pp` (either way) and
        `bad_share_rise_pp` in percentage points; `heart_rate_outside_pp`, the percentage of beats
        at heart rates outside those of 99 % of the reference's beats.
    """
    names = dict(zip(BINS, ("heart_rate_psi", "score_psi", "noise_psi"), strict=True))
    out = {}
    for name, figure in names.items():
        totals = [sum(profile.counts[name]) for profile in (reference, new)]
        value = stability(reference.shares(name), new.shares(name)) if all(totals) else None
        out[figure] = Figure(value, f"{totals[0]:,} and {totals[1]:,} beats")
    shares = {
        kind: [100 * getattr(profile, kind) / max(profile.beats, 1) for profile in (reference, new)]
        for kind in ("af_beats", "bad_beats")
    }
    af, bad = shares["af_beats"], shares["bad_beats"]
    out["af_share_change_pp"] = Figure(abs(af[1] - af[0]), f"{af[0]:.1f} % to {af[1]:.1f} %")
    out["bad_share_rise_pp"] = Figure(bad[1] - bad[0], f"{bad[0]:.1f} % to {bad[1]:.1f} %")
    rates = "heart rate, /min"
    below = np.cumsum(reference.shares(rates))
    usual = (below > TAIL) & (below - reference.shares(rates) < 1 - TAIL)
    outside = float(100 * new.shares(rates)[~usual].sum())
    low, high = _range(usual, BINS[rates])
    out["heart_rate_outside_pp"] = Figure(outside, f"outside {low} to {high} /min")
    return out


def _range(usual: NDArray[np.bool_], edges: NDArray[np.float64]) -> tuple[str, str]:
    inside = np.flatnonzero(usual)
    if not len(inside):
        return "-", "-"
    bounds: Mapping[int, str] = {i + 1: f"{edge:g}" for i, edge in enumerate(edges)}
    return bounds.get(int(inside[0]), "0"), bounds.get(int(inside[-1]) + 1, "any")
