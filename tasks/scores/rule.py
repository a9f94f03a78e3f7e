"""From a network's answers to what is told of each beat: AF, not AF, or that it cannot be told.

Three things stand between an answer and a decision, all of them in a release's manifest:

- calibration by length: beside few beats an answer is less sure, and how much less is measured on
  stretches of many lengths, at even odds of AF;
- how common AF is among whom the question is asked: its log odds are added (Saerens et al. 2002,
  doi:10.1162/089976602753284446). In hand-held strips AF is rarer than in databases of patients
  with AF;
- a margin: where the mean probability of the beats around lies nearer to the threshold than this,
  or the signal is poor, nothing is told.

A device imports this module: it needs numpy alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import ModelError
from storage.files import parse_text
from storage.recordings.stretches import slices
from storage.registry.tags import CERTAINTY_TAG, SMOOTHING_CHANGE_TAG, THRESHOLD_TAG
from storage.tables.beats import BAD, BeatTable
from tasks.scores.smoothing import UNSMOOTHED, Decisions, decide

Floats = NDArray[np.float32]
#: The manifest's member that holds a rule, but for its threshold and smoothing.
CERTAINTY = "certainty"
#: A recording with less to analyse is a strip: somebody held a device, or pressed a button.
STRIP_S = 120.0
#: AF among those who are asked for a strip: 12 % of people of 75 and 76 years who were screened by
#: hand-held ECG, known and new (Svennberg et al. 2015, doi:10.1161/CIRCULATIONAHA.114.014343).
STRIP_AF_SHARE = 0.12
#: Log odds are taken of probabilities this far from 0 and 1.
EDGE = 1e-6
#: Log odds are held within these: beyond them a float32 probability is 0 or 1.
MOST_ODDS = 80.0
#: No number of a rule is larger.
MOST = 1e6
#: Beats of no recording are more: 116 days at 100 a minute.
MOST_BEATS = 2**24


@dataclass(frozen=True)
class LengthScaling:
    """In a stretch of so many beats: slope * log odds + offset are the log odds at even odds."""

    beats: int
    slope: float
    offset: float


@dataclass(frozen=True)
class Risk:
    """What the margin gave in patients whom the network did not learn from.

    Attributes
    ----------
    aim : float
        The share of wrong answers that the margin was fixed for; 0 where it is the usual one.
    wrong, coverage : float
        Mean over patients: beats with a wrong answer, and with any answer, among all.
    patients : int
        How many they were.
    bound : float or None
        Expected `wrong` of one more patient like them, at most: (patients * aim + 1) over
        (patients + 1), by conformal risk control (Angelopoulos et al. 2024, arXiv:2208.02814).
        None where the margin was not fixed for an aim, or missed it.
    """

    aim: float
    wrong: float
    coverage: float
    patients: int
    bound: float | None


@dataclass(frozen=True)
class Rule:
    """How a release decides.

    Attributes
    ----------
    threshold : float
        Of the network's own answers in a whole record.
    change : float
        Probability of a change of rhythm, for smoothing (`tasks.scores.smoothing.viterbi`).
    scalings : tuple of LengthScaling
        Ascending by beats; none leaves answers as they are. Between two it is interpolated over
        the logarithm of beats, beyond the ends it is the end's.
    af_share : float
        Share of AF in the whole records that the scalings were fitted on.
    margin : float
        Distance from the threshold, in log odds, within which nothing is told; 0 tells everything.
    around : int
        Beats, an odd number, whose mean probability is held against the margin, the beat in their
        middle. It is 1 for a network that sees no beats to come, and lengths are of the beats so
        far.
    risk : Risk or None
        What the margin gave; None where no patient was left to tell.
    """

    threshold: float
    change: float = UNSMOOTHED
    scalings: tuple[LengthScaling, ...] = ()
    af_share: float = 0.5
    margin: float = 0.0
    around: int = 1
    risk: Risk | None = None

    @property
    def calibrated_threshold(self) -> float:
        """The threshold of calibrated probabilities: AF is decided where it is the likelier."""
        return 0.5 if self.scalings else self.threshold

    @property
    def limits(self) -> tuple[float, float]:
        """Calibrated probabilities between which nothing is told; equal where all is told."""
        middle = log_odds_of(self.calibrated_threshold)
        return probability_of(middle - self.margin), probability_of(middle + self.margin)

    def certainty(self) -> dict[str, Any]:
        """The manifest's member, which `rule_of` reads."""
        members = asdict(self)
        return {key: value for key, value in members.items() if key not in ("threshold", "change")}


@dataclass(frozen=True, eq=False)
class Judgement:
    """What is told of each beat of a record, shape (n,) each.

    Attributes
    ----------
    probability : float32
        Calibrated P(AF).
    decided : bool
        AF or not, whether sure or not.
    sure : bool
        Whether that is told; else it cannot be told.
    distance : float32
        Of the mean probability around from the threshold, log odds, on the side of the decision; 0
        or less of a beat of which nothing is told whatever the margin.
    """

    probability: Floats
    decided: Decisions
    sure: NDArray[np.bool_]
    distance: Floats


def judge(
    rule: Rule,
    table: BeatTable,
    answers: Floats,
    *,
    least_beats: int = 1,
    af_share: float | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> Judgement:
    """What a release tells of a record.

    Parameters
    ----------
    rule : Rule
        The release's.
    table : BeatTable
        The record's n beats.
    answers : float32, shape (n,)
        The network's own P(AF).
    least_beats : int
        Runs of fewer equal decisions become what surrounds them.
    af_share : float, optional
        How common AF is among whom the question is asked; left out, 0.12 where less than two
        minutes can be analysed, else the rule's.
    mask : bool, shape (n,), optional
        Where the network could answer; nothing is told elsewhere.
    """
    if af_share is None:
        af_share = usual_share(table)
    probability = calibrate(rule, answers, table.begins, af_share)
    decided = decide(probability, rule.calibrated_threshold, rule.change, least_beats, table.begins)
    mask = np.ones(len(table), bool) if mask is None else mask
    readable = mask & ((table.quality & BAD) == 0)
    distance = distances(rule, probability, decided, table.begins)
    sure = readable & (distance >= rule.margin) if rule.margin else mask
    return Judgement(probability, decided, sure, np.where(readable, distance, 0).astype(np.float32))


def usual_share(table: BeatTable) -> float | None:
    """How common AF is among whom such a record is taken of; None where nothing says it."""
    seconds = float(np.diff(table.stretches_s, axis=1).sum())
    return STRIP_AF_SHARE if seconds < STRIP_S else None


def calibrate(
    rule: Rule, answers: Floats, begins: NDArray[np.bool_], af_share: float | None = None
) -> Floats:
    """Calibrated P(AF) of beats, shape (n,), by the beats of each one's stretch.

    A rule without scalings leaves the network's own answers.
    """
    if not rule.scalings or not len(answers):
        return answers
    slope, offset = lines(rule, lengths(begins, so_far=rule.around == 1))
    odds = slope * log_odds(answers) + offset
    return expit(odds + log_odds_of(rule.af_share if af_share is None else af_share))


def lengths(begins: NDArray[np.bool_], *, so_far: bool = False) -> NDArray[np.int64]:
    """How many beats the stretch of each beat has, or has until then, shape (n,)."""
    beats = [part.stop - part.start for part in slices(begins)]
    if so_far:
        return np.concatenate([np.arange(1, n + 1) for n in beats])
    return np.repeat(beats, beats)


def lines(rule: Rule, beats: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope and offset where stretches have so many beats, shape (n,) each."""
    at = np.log([scaling.beats for scaling in rule.scalings])
    place = np.log(beats.astype(np.float64))
    slope = np.interp(place, at, [scaling.slope for scaling in rule.scalings])
    return slope, np.interp(place, at, [scaling.offset for scaling in rule.scalings])


def distances(
    rule: Rule, probability: Floats, decided: Decisions, begins: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """How far the mean probability around each beat lies beyond the threshold, log odds, (n,).

    Below 0 it lies on the other side than the decision.
    """
    means = [mean_around(probability[part], rule.around) for part in slices(begins)]
    odds = log_odds(np.concatenate([np.empty(0), *means]))
    beyond = odds - log_odds_of(rule.calibrated_threshold)
    return np.asarray(np.where(decided, beyond, -beyond))


def mean_around(values: NDArray[Any], around: int) -> NDArray[np.float64]:
    """Mean of the `around` (odd) values around each; of those that there are at the ends."""
    n, half = len(values), around // 2
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    place = np.arange(n)
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, n)
    return np.asarray((total[high] - total[low]) / (high - low))


def log_odds(probability: NDArray[Any]) -> NDArray[np.float64]:
    """Log odds of probabilities, held within -13.8 to 13.8."""
    p = np.clip(np.asarray(probability, np.float64), EDGE, 1 - EDGE)
    return np.asarray(np.log(p / (1 - p)))


def expit(odds: NDArray[np.float64]) -> Floats:
    """Probabilities of log odds."""
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -MOST_ODDS, MOST_ODDS))), np.float32)


def log_odds_of(probability: float) -> float:
    """Log odds of a probability, as `log_odds`."""
    p = min(max(probability, EDGE), 1 - EDGE)
    return math.log(p / (1 - p))


def probability_of(odds: float) -> float:
    """The probability of log odds."""
    return 1 / (1 + math.exp(-min(max(odds, -MOST_ODDS), MOST_ODDS)))


def rule_of(manifest: Mapping[str, Any]) -> Rule:
    """The rule of a release's manifest; one from before certainty tells everything.

    Raises
    ------
    ModelError
        The manifest has no threshold, or a certainty of another form.
    """
    try:
        threshold = float(manifest["threshold"])
        change = float(manifest.get("smoothing_change", UNSMOOTHED))
        return _checked(Rule(threshold, change, **_members(manifest.get(CERTAINTY) or {})))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"release: its manifest tells no decision: {error!r}") from error


def rule_of_tags(tags: Mapping[str, str]) -> Rule:
    """The rule of a registered version; one without a threshold takes 0.5.

    Raises
    ------
    ModelError
        As `rule_of`.
    """
    try:
        certainty = parse_text(tags.get(CERTAINTY_TAG, "{}").encode())
        change = float(tags.get(SMOOTHING_CHANGE_TAG, UNSMOOTHED))
    except ValueError as error:
        raise ModelError(f"version: its tags tell no decision: {error}") from error
    threshold = tags.get(THRESHOLD_TAG, "0.5")
    return rule_of({"threshold": threshold, "smoothing_change": change, CERTAINTY: certainty})


def _members(certainty: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a rule as JSON gives them, each of its kind."""
    kinds: dict[str, Any] = {
        "scalings": lambda rows: tuple(_row(LengthScaling, row) for row in rows),
        "risk": lambda row: None if row is None else _row(Risk, row),
        "af_share": _number,
        "margin": _number,
        "around": _count,
    }
    return {key: kinds[key](value) for key, value in certainty.items() if key in kinds}


def _row(kind: Any, row: Mapping[str, Any]) -> Any:
    names = [field.name for field in fields(kind)]
    own = {"beats": _count, "patients": _count, "bound": _number_or_none}
    return kind(**{name: own.get(name, _number)(row[name]) for name in names})


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)


def _number(value: Any) -> float:
    """A number of JSON, no larger than a decision is made by; NaN and text are none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST:
        raise ValueError(f"found {value!r}; expected a number from -{MOST:g} to {MOST:g}")
    return float(value)


def _count(value: Any) -> int:
    """A whole number of JSON, at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_BEATS:
        raise ValueError(f"found {value!r}; expected a whole number from 1 to {MOST_BEATS}")
    return value


def _checked(rule: Rule) -> Rule:
    """The rule, whose numbers are what a rule's may be."""
    beats, risk = [scaling.beats for scaling in rule.scalings], rule.risk
    shares = [] if risk is None else [risk.aim, risk.wrong, risk.coverage, risk.bound or 0]
    sound = (
        0 < rule.threshold < 1
        and 0 < rule.af_share < 1
        and 0 < rule.change < 1
        and 0 <= rule.margin <= MOST_ODDS
        and rule.around % 2 == 1
        and all(s.slope > 0 for s in rule.scalings)
        and beats == sorted(set(beats))
        and all(0 <= x <= 1 for x in shares)
    )
    if not sound:
        raise ValueError(f"found {rule}; expected numbers that a decision can be made by")
    return rule
