"""From decisions to what holds: the passages of a recording, each with one rhythm, by a rule.

A decision speaks of its own passage. Of one reviewer the last decision about a moment counts. Where
several looked, the rule decides: "agreement" (they say the same, else nobody can tell), "latest"
(the last decision, whoever took it) or "reviewer:NAME" (that one alone).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from storage.labels.decisions import Decision

AGREEMENT, LATEST, REVIEWER = "agreement", "latest", "reviewer:"


@dataclass(frozen=True)
class Passage:
    """A stretch of a recording, in samples, and what it is by the decisions about it.

    Attributes
    ----------
    start, end : int
        [start, end).
    rhythm : str
        "" where nobody can tell.
    reviewers : tuple of str
        Who decided about it, by name.
    disputed : bool
        Whether they say different things of it.
    """

    start: int
    end: int
    rhythm: str
    reviewers: tuple[str, ...]
    disputed: bool = False


@dataclass(frozen=True, eq=False)
class Pieces:
    """A recording cut wherever a decision about it begins or ends.

    Attributes
    ----------
    edges : int64, shape (k + 1,)
        Where the pieces begin, and where the last one ends, in samples.
    by_reviewer : mapping of str to int64, shape (k,)
        The number of each reviewer's last decision about each piece; -1 where there is none.
    """

    edges: NDArray[np.int64]
    by_reviewer: Mapping[str, NDArray[np.int64]]


def pieces(decisions: Sequence[Decision]) -> Pieces:
    """Cut one record's decisions, which stand as they were made, into pieces."""
    spans = np.array([(d.start, d.end) for d in decisions], np.int64).reshape(-1, 2)
    edges = np.unique(spans)
    names = sorted({decision.reviewer for decision in decisions})
    numbers = {name: np.full(max(len(edges) - 1, 0), -1, np.int64) for name in names}
    places = np.searchsorted(edges, spans).tolist()
    for number, (decision, (first, last)) in enumerate(zip(decisions, places, strict=True)):
        numbers[decision.reviewer][first:last] = number
    return Pieces(edges, numbers)


def passages(decisions: Sequence[Decision], rule: str = AGREEMENT) -> tuple[Passage, ...]:
    """What holds of one record, ascending and apart; nothing where no decision counts.

    Parameters
    ----------
    decisions : sequence of Decision
        Those about the record, as they were made.
    rule : str
        "agreement", "latest" or "reviewer:NAME".
    """
    if rule.startswith(REVIEWER):
        name = rule.removeprefix(REVIEWER)
        decisions = [decision for decision in decisions if decision.reviewer == name]
    if not decisions:
        return ()
    cut = pieces(decisions)
    rhythms = [decision.rhythm for decision in decisions]
    out: list[Passage] = []
    for place, number in enumerate(np.stack([*cut.by_reviewer.values()], axis=1).tolist()):
        by = {n: name for n, name in zip(number, cut.by_reviewer, strict=True) if n >= 0}
        if not by:
            continue
        words = {rhythms[n] for n in by}
        start, end = cut.edges[place : place + 2].tolist()
        rhythm = rhythms[max(by)] if rule == LATEST or len(words) == 1 else ""
        passage = Passage(start, end, rhythm, tuple(by.values()), len(words) > 1)
        if out and _is_followed_by(out[-1], passage):
            passage = replace(passage, start=out.pop().start)
        out.append(passage)
    return tuple(out)


def _is_followed_by(first: Passage, second: Passage) -> bool:
    """Whether two passages are one: without a gap, of one rhythm, by the same reviewers."""
    return first.end == second.start and replace(second, start=first.start, end=first.end) == first
