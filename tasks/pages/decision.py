"""How a release decides and what it leaves untold, in sentences."""

from __future__ import annotations

from tasks.scores.rule import STRIP_AF_SHARE, STRIP_S, Risk, Rule
from tasks.scores.smoothing import UNSMOOTHED


def decision_words(rule: Rule) -> list[str]:
    """Threshold and smoothing; what cannot be told, at which risk; how common AF is taken to be."""
    words = [f"{threshold_words(rule)}, {smoothing_words(rule.change)}."]
    if not rule.margin:
        return [*words, "The release has no margin: every beat is told."]
    words.append(margin_words(rule))
    words += [risk_words(rule.risk)] if rule.risk else []
    return [*words, *([share_words(rule)] if rule.scalings else [])]


def threshold_words(rule: Rule) -> str:
    """From which P(AF) on a beat is AF."""
    if not rule.scalings:
        return f"Threshold {rule.threshold:g}"
    return (
        f"Threshold {rule.calibrated_threshold:.3g} of P(AF) calibrated by length "
        f"({rule.threshold:g} of the network's own in a whole record)"
    )


def smoothing_words(change: float) -> str:
    """How decisions are made of probabilities."""
    if change == UNSMOOTHED:
        return "not smoothed"
    return f"smoothed by a two-state Viterbi path, probability of a change {change:g}"


def margin_words(rule: Rule) -> str:
    """Where nothing is told."""
    low, high = rule.limits
    of = f"the mean P(AF) of {rule.around} beats around" if rule.around > 1 else "P(AF)"
    return (
        f"A beat cannot be told where {of} lies between {low:.2g} and {high:.2g}, or where the "
        "signal is poor."
    )


def risk_words(risk: Risk) -> str:
    """What the margin gave, and what one more patient may expect."""
    aim = f"was fixed for {share(risk.aim)} of wrong answers" if risk.aim else "is the usual one"
    people = "1 patient" if risk.patients == 1 else f"{risk.patients:,} patients"
    return (
        f"The margin {aim}. In {people} whom the network did not learn from, mean over patients, "
        f"{share(risk.coverage)} of the beats were told and {share(risk.wrong)} told wrongly. "
        f"{bound_words(risk)}"
    )


def bound_words(risk: Risk) -> str:
    """What one more patient may expect."""
    if risk.bound is None:
        return "What one more patient may expect has no bound."
    return (
        f"In one more patient like them {share(risk.bound)} at most are expected to be told "
        "wrongly; in others it may be more."
    )


def share_words(rule: Rule) -> str:
    """How common AF is taken to be."""
    return (
        f"P(AF) takes AF to be {share(rule.af_share)} of the time, as in the records that the "
        f"network was calibrated on, and {share(STRIP_AF_SHARE)} where less than {STRIP_S:g} s can "
        "be analysed."
    )


def share(value: float) -> str:
    """A share in per cent, three digits of it."""
    return f"{100 * value:.3g} %"
