"""The judgement of a promotion: what was asked, what was found, and what follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite

from storage.checks import Check

PASSED, FAILED, MISSING, INAPPLICABLE = "passed", "failed", "missing", "not asked"


@dataclass(frozen=True)
class Figure:
    """A measured figure.

    Attributes
    ----------
    value : float or None
        None where it was not measured.
    note : str
        Where it is from; why it was not measured, and by which command it is.
    applies : bool
        False where there is nothing to measure: no champion to compare with.
    """

    value: float | None
    note: str = ""
    applies: bool = True


@dataclass(frozen=True)
class Verdict:
    """One check of a policy and how it ended: "passed", "failed", "missing" or "not asked"."""

    title: str
    figure: str
    asked: str
    found: str
    state: str
    note: str


def judge(checks: Iterable[Check], figures: Mapping[str, Figure]) -> tuple[Verdict, ...]:
    """Hold figures against checks; one that is missing or undefined never passes."""
    return tuple(_verdict(check, figures.get(check.figure, Figure(None))) for check in checks)


def _verdict(check: Check, figure: Figure) -> Verdict:
    value = figure.value
    note = figure.note
    if not figure.applies:
        state = INAPPLICABLE
    elif value is None or not isfinite(value):
        state, note = MISSING, note or f"nothing measures a figure {check.figure!r}"
    else:
        state = PASSED if check.least <= value <= check.most else FAILED
    text = "-" if value is None else f"{value:.6g}"
    return Verdict(check.title, check.figure, check.bounds_text, text, state, note)


def unmet(verdicts: Iterable[Verdict]) -> list[str]:
    """The titles of the checks that failed or are missing."""
    return [verdict.title for verdict in verdicts if verdict.state in (FAILED, MISSING)]


def against(verdicts: Iterable[Verdict]) -> list[str]:
    """What keeps a version from passing, a sentence each."""
    return [
        f"{v.title}: found {v.found}, asked {v.asked}"
        if v.state == FAILED
        else f"{v.title}: not measured ({v.note})"
        for v in verdicts
        if v.state in (FAILED, MISSING)
    ]
