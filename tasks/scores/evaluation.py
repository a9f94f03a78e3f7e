"""Evaluation at every level: beats, 30 s segments, episodes and AF burden; patients and rhythms.

Beats whose rhythm is unknown (label -1) count nowhere. Atrial flutter counts as not AF; with
`without` its beats are left out of the beat level, and of truth and decision alike at the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.tables.beats import BAD, BeatTable, Quality
from tasks.scores.bootstrap import RATES, Interval, bootstrap_patients
from tasks.scores.calibration import calibration
from tasks.scores.episodes import (
    EpisodeCounts,
    Intervals,
    compare_episodes,
    durations_s,
    episodes,
    segment_shares,
)
from tasks.scores.metrics import area_under_roc
from tasks.scores.rule import Judgement

if TYPE_CHECKING:
    import pandas as pd  # a device imports this module, and has none

SEGMENT_S = 30.0
FLUTTER = "AFL"
#: A segment is AF where at least this share of it is.
SEGMENT_SHARE = 0.5
#: Supraventricular and ventricular ectopic beats and fusions (classes S, V and F of EC57).
ECTOPIC = tuple("AaJSVEFejn!")
#: A premature beat bends the intervals of so many beats around it.
ECTOPIC_REACH = 2
UNSURE_BEAT = np.uint16(Quality.MISSED | Quality.EXTRA | Quality.RR_RANGE)


@dataclass(frozen=True, eq=False)
class ScoredRecord:
    """One record with its truth, its probabilities and the decisions made of them.

    Attributes
    ----------
    dataset, record, subject : str
        Where it comes from, and from whom.
    time_s : float64, shape (n,)
        R peaks, in seconds from the record's start.
    stretches_s : float64, shape (k, 2)
        What of the record can be analysed, in seconds.
    label : int8, shape (n,)
        1 AF, 0 not AF, -1 unknown.
    rhythm, symbol : str, shape (n,)
        Rhythm at each beat, and its annotation (WFDB mnemonic; "" where there is none).
    quality : uint16, shape (n,)
        Quality flags of each beat.
    probability : float32, shape (n,)
        P(AF).
    decided : bool, shape (n,)
        Whether each beat was decided AF, told or not.
    sure : bool, shape (n,)
        Whether that is told; else it cannot be told (`tasks.scores.rule`).
    distance : float32, shape (n,)
        How far each beat is from the threshold, as of `tasks.scores.rule.Judgement`.
    labelled_whole : bool
        Whether one label is of the whole record (`tasks.scores.levels.record_level`).
    """

    dataset: str
    record: str
    subject: str
    time_s: NDArray[np.float64]
    stretches_s: Intervals
    label: NDArray[np.int8]
    rhythm: NDArray[np.str_]
    symbol: NDArray[np.str_]
    quality: NDArray[np.uint16]
    probability: NDArray[np.float32]
    decided: NDArray[np.bool_]
    sure: NDArray[np.bool_]
    distance: NDArray[np.float32]
    labelled_whole: bool = False

    def without(self, rhythms: Iterable[str]) -> ScoredRecord:
        """The same, the beats in any of `rhythms` unknown."""
        out = np.isin(self.rhythm, list(rhythms))
        return replace(self, label=np.where(out, np.int8(-1), self.label))

    @property
    def rr_s(self) -> NDArray[np.float64]:
        """Interval before each beat in seconds, NaN where a stretch begins, shape (n,)."""
        stretch = np.searchsorted(self.stretches_s[:, 0], self.time_s, side="right")
        begins = np.diff(stretch, prepend=-1) != 0
        return np.where(begins, np.nan, np.diff(self.time_s, prepend=np.nan))

    @property
    def patient(self) -> str:
        """The subject, under its data set's name."""
        return f"{self.dataset}/{self.subject}"

    def confusion(self) -> NDArray[np.float64]:
        """Beats as tp, fp, fn, tn."""
        return confusion_counts(self.label, self.decided)

    def told_counts(self) -> NDArray[np.float64]:
        """Beats with a known rhythm; of those that are told, tp, fp, fn, tn."""
        known = np.count_nonzero(self.label >= 0)
        return np.array([known, *confusion_counts(self.label[self.sure], self.decided[self.sure])])

    def told_s(self) -> tuple[float, float]:
        """Seconds told to be AF, and seconds that cannot be told, of beats with a known rhythm."""
        known = self.label >= 0
        parts = (self.decided & self.sure & known, ~self.sure & known)
        told, untold = (
            durations_s(episodes(part, self.time_s, self.stretches_s)).sum() for part in parts
        )
        return float(told), float(untold)

    def intervals(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """True and decided episodes; none over beats whose rhythm is unknown."""
        truth = episodes(self.label == 1, self.time_s, self.stretches_s)
        decided = episodes(self.decided & (self.label >= 0), self.time_s, self.stretches_s)
        return truth, decided

    def episode_counts(self, least_s: float = 30.0) -> EpisodeCounts:
        """How the record's episodes agree; PPV leaves flutter out, as EC57 does."""
        flutter = (self.rhythm == FLUTTER) & (self.label == 0)
        return compare_episodes(
            *self.intervals(),
            self.stretches_s,
            least_s,
            episodes(flutter, self.time_s, self.stretches_s),
        )

    def segments(self) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
        """Truth and decision of every 30 s segment of which at least half can be analysed."""
        truth, decided = (segment_shares(i, self.stretches_s, SEGMENT_S) for i in self.intervals())
        finite = np.isfinite(truth)
        return (
            (truth[finite] >= SEGMENT_SHARE).astype(np.int8),
            decided[finite] >= SEGMENT_SHARE,
        )

    @property
    def analysable_hours(self) -> float:
        """Hours that can be analysed."""
        return float(durations_s(self.stretches_s).sum()) / 3600


def score_table(
    table: BeatTable,
    judgement: Judgement,
    mask: NDArray[np.bool_] | None = None,
    labelled_whole: bool = False,
) -> ScoredRecord:
    """A beat table with what a release tells of it.

    Parameters
    ----------
    table : BeatTable
        The record's beats, n of them.
    judgement : Judgement
        What is told of them.
    mask : bool, shape (n,), optional
        The beats that the network answered: the others' labels count as unknown.
    labelled_whole : bool
        As of `ScoredRecord`.
    """
    label = table.label if mask is None else np.where(mask, table.label, np.int8(-1))
    return ScoredRecord(
        dataset=table.dataset,
        record=table.record,
        subject=table.subject,
        time_s=table.time_s,
        stretches_s=table.stretches_s,
        label=label,
        rhythm=table.rhythm,
        symbol=table.symbol,
        quality=table.quality,
        probability=judgement.probability,
        decided=judgement.decided,
        sure=judgement.sure,
        distance=judgement.distance,
        labelled_whole=labelled_whole,
    )


def confusion_counts(label: NDArray[np.int8], decided: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Count tp, fp, fn, tn; what is labelled -1 is left out."""
    af, not_af = label == 1, label == 0
    cells = (af & decided, not_af & decided, af & ~decided, not_af & ~decided)
    return np.array([np.count_nonzero(cell) for cell in cells], np.float64)


def per_patient(scored: Sequence[ScoredRecord]) -> pd.DataFrame:
    """A row a patient: counts, rates, what is told, episodes and burden.

    The burden is a share of the analysable time: `burden_low` of AF that is told, `burden_high`
    with all that cannot be told beside.
    """
    import pandas as pd

    rows: list[dict[str, object]] = []
    for patient in dict.fromkeys(s.patient for s in scored):
        records = [s for s in scored if s.patient == patient]
        counts = reduce(add, (s.confusion() for s in records))
        total = reduce(add, (s.episode_counts() for s in records))
        known, tp, fp, fn, tn = np.sum([s.told_counts() for s in records], axis=0)
        af_s, untold_s = np.sum([s.told_s() for s in records], axis=0)
        analysable_s = np.float64(3600 * sum(s.analysable_hours for s in records))
        rows.append(
            {
                "patient": patient,
                "analysable_hours": round(sum(s.analysable_hours for s in records), 2),
                **_rates(counts),
                "coverage": _share(tp + fp + fn + tn, known),
                "sure_accuracy": _share(tp + tn, tp + fp + fn + tn),
                "burden_low": _share(af_s, analysable_s),
                "burden_high": _share(af_s + untold_s, analysable_s),
                "episodes": total.reference,
                "detected_episodes": total.detected,
                **total.metrics(),
                "burden_error_pp": total.burden_error_pp,
            }
        )
    return pd.DataFrame(rows)


def per_rhythm(scored: Sequence[ScoredRecord]) -> pd.DataFrame:
    """A row a rhythm: shares of its beats decided AF, rightly decided, told as AF, and not told."""
    import pandas as pd

    names = ("rhythm", "label", "decided", "sure")
    beats = pd.DataFrame(
        {name: np.concatenate([getattr(s, name) for s in scored]) for name in names}
    )
    beats = beats[beats["label"] >= 0]
    shares = {
        "decided_af": beats["decided"],
        "right": beats["decided"] == (beats["label"] == 1),
        "told_af": beats["decided"] & beats["sure"],
        "cannot_tell": ~beats["sure"],
    }
    table = (
        beats.assign(**shares)
        .groupby("rhythm", as_index=False)
        .agg(beats=("label", "size"), **{name: (name, "mean") for name in shares})
    )
    return table.replace({"rhythm": {"": "unknown"}})


def near_ectopy(scored: ScoredRecord) -> NDArray[np.bool_]:
    """Whether each beat is ectopic or within `ECTOPIC_REACH` beats of one that is."""
    beats = np.isin(scored.symbol, ECTOPIC).astype(np.int8)
    return np.convolve(beats, np.ones(2 * ECTOPIC_REACH + 1, np.int8), "same") > 0


#: Kinds of beats that figures are given for apart: what is told of them, and which they are.
STRATA: dict[str, Callable[[ScoredRecord], NDArray[np.bool_]]] = {
    "ectopic beats and two on either side": near_ectopy,
    "away from ectopic beats": lambda s: ~near_ectopy(s),
    "poor signal (gap, flat, saturated, noisy)": lambda s: (s.quality & BAD) != 0,
    "signal without a flag": lambda s: (s.quality & BAD) == 0,
    "beat missed, extra or at an odd interval": lambda s: (s.quality & UNSURE_BEAT) != 0,
}


def per_stratum(scored: Sequence[ScoredRecord]) -> pd.DataFrame:
    """A row a kind of beats with rhythm known: counts and rates; strata overlap."""
    import pandas as pd

    rows: list[dict[str, object]] = []
    for name, stratum in STRATA.items():
        parts = [
            confusion_counts(s.label[inside], s.decided[inside])
            for s in scored
            for inside in [stratum(s)]
        ]
        rows.append({"stratum": name, **_rates(np.sum(parts, axis=0))})
    return pd.DataFrame(rows)


def summary(scored: Sequence[ScoredRecord], draws: int = 2_000, seed: int = 0) -> dict[str, float]:
    """Every figure of a set of records; rates come with `_low` and `_high` over patients.

    Returns
    -------
    dict of str to float
        `beat_*` and `segment_*` rates, `beat_auc`, `beat_ece`, `episode_*` and `duration_*`,
        `burden_error_median_pp`, `burden_error_worst_pp` (absolute, per patient),
        `worst_patient_accuracy`, and how many patients, records, beats, AF beats and analysable
        hours there were. NaN where there is nothing to compute a figure from.
    """
    patients = list(dict.fromkeys(s.patient for s in scored))
    grouped = [[s for s in scored if s.patient == patient] for patient in patients]
    labelled = np.concatenate([s.label for s in scored]) >= 0
    label = np.concatenate([s.label for s in scored])[labelled]
    probability = np.concatenate([s.probability for s in scored])[labelled]
    beats = np.stack([sum(s.confusion() for s in group) for group in grouped])
    segments = np.stack([sum(confusion_counts(*s.segments()) for s in group) for group in grouped])
    patient_episodes = [reduce(add, (s.episode_counts() for s in group)) for group in grouped]
    counts = np.array([list(vars(c).values()) for c in patient_episodes])
    total = reduce(add, patient_episodes)
    burden = np.abs([c.burden_error_pp for c in patient_episodes])
    out: dict[str, float] = {
        "patients": len(patients),
        "records": len(scored),
        "beats": len(label),
        "af_beats": int((label == 1).sum()),
        "analysable_hours": sum(s.analysable_hours for s in scored),
    }
    for level, table in (("beat", beats), ("segment", segments)):
        for name, rate in RATES.items():
            out |= with_interval(f"{level}_{name}", bootstrap_patients(table, rate, draws, seed))
    for name, columns in EPISODE_COLUMNS.items():
        out |= with_interval(name, bootstrap_patients(counts[:, columns], share_of, draws, seed))
    out["beat_auc"] = area_under_roc(label, probability)
    out["beat_ece"] = calibration(label, probability).error
    out["episodes"], out["detected_episodes"] = total.reference, total.detected
    out["burden_error_median_pp"] = float(np.median(burden))
    out["burden_error_worst_pp"] = float(burden.max())
    rights = (beats[:, 0] + beats[:, 3]) / np.maximum(beats.sum(1), 1)
    out["worst_patient_accuracy"] = float(rights[beats.sum(1) > 0].min())
    return out


#: Columns of `EpisodeCounts` that make each ratio.
EPISODE_COLUMNS = {
    "episode_sensitivity": [1, 0],
    "episode_ppv": [3, 2],
    "duration_sensitivity": [6, 4],
    "duration_ppv": [6, 5],
}


def share_of(counts: NDArray[np.float64]) -> NDArray[np.floating]:
    """The first of two columns over the second, shape (n,)."""
    part, whole = counts.T
    return np.asarray(part / whole)


def _share(part: float, whole: float) -> float:
    """A share of 1; NaN of nothing."""
    return float(part / whole) if whole else float("nan")


def with_interval(name: str, interval: Interval) -> dict[str, float]:
    """A figure and the bounds of its interval, by their names."""
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _rates(counts: NDArray[np.float64]) -> dict[str, float]:
    """Beats, AF beats and every rate of tp, fp, fn, tn."""
    tp, _, fn, _ = counts
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = {name: float(rate(counts[None])[0]) for name, rate in RATES.items()}
    return {"beats": int(counts.sum()), "af_beats": int(tp + fn), **rates}
