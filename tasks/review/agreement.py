"""How two reviewers agree: Cohen's kappa by episode and by time, and where they do not.

An episode is a piece of a recording that the same decision of each covers; by time it counts as
long as it lasts. What one of them alone looked at says nothing of agreement. Kappa is of Cohen 1960
(doi:10.1177/001316446002000104).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from storage.labels.decisions import Decision
from storage.labels.passages import pieces


@dataclass(frozen=True)
class SharedPassage:
    """A passage that one decision of each of two reviewers covers.

    Attributes
    ----------
    record : str
        The recording.
    start, end : int
        The passage in samples, [start, end).
    rhythms : tuple of str
        What each says, in the order of `Agreement.reviewers`; "" for "cannot tell".
    """

    record: str
    start: int
    end: int
    rhythms: tuple[str, str]


@dataclass(frozen=True)
class Agreement:
    """How two reviewers agree about a data set.

    Attributes
    ----------
    reviewers : tuple of str
        The two, by name.
    episodes : int
        Pieces that both decided about.
    samples : int
        Their length.
    kappa_episodes, kappa_time : float
        Cohen's kappa, 1 where they always agree, 0 where as often as by chance; NaN where both
        say one and the same thing of everything, or nothing was looked at by both.
    disputes : tuple of SharedPassage
        Where they say different things, by record and time.
    """

    reviewers: tuple[str, str]
    episodes: int
    samples: int
    kappa_episodes: float
    kappa_time: float
    disputes: tuple[SharedPassage, ...]


def agreements(decisions: Iterable[Decision]) -> tuple[Agreement, ...]:
    """Each pair of reviewers who looked at the same passages of one data set, by name.

    Parameters
    ----------
    decisions : iterable of Decision
        Those about the data set, as they were made.
    """
    by_record: dict[str, list[Decision]] = {}
    for decision in decisions:
        by_record.setdefault(decision.record, []).append(decision)
    common: dict[tuple[str, str], list[SharedPassage]] = {}
    for record in sorted(by_record):
        for pair, piece in _common_pieces(record, by_record[record]):
            common.setdefault(pair, []).append(piece)
    return tuple(_agreement(pair, common[pair]) for pair in sorted(common))


def _common_pieces(
    record: str, decisions: Sequence[Decision]
) -> Iterator[tuple[tuple[str, str], SharedPassage]]:
    """What two reviewers both decided about, pair by pair, agreed or not."""
    cut = pieces(decisions)
    rhythms = [decision.rhythm for decision in decisions]
    for pair in combinations(cut.by_reviewer, 2):
        numbers = np.stack([cut.by_reviewer[name] for name in pair], axis=1)
        # A third one's limits part no episode of these two.
        first = np.flatnonzero(np.append(True, np.diff(numbers, axis=0).any(axis=1)))
        last = np.append(first[1:], len(numbers))
        for begin, end in zip(first.tolist(), last.tolist(), strict=True):
            left, right = numbers[begin].tolist()
            if left >= 0 and right >= 0:
                start, stop = cut.edges[[begin, end]].tolist()
                yield pair, SharedPassage(record, start, stop, (rhythms[left], rhythms[right]))


def _agreement(pair: tuple[str, str], common: Sequence[SharedPassage]) -> Agreement:
    lengths = np.array([piece.end - piece.start for piece in common], np.float64)
    words = [piece.rhythms for piece in common]
    return Agreement(
        reviewers=pair,
        episodes=len(common),
        samples=int(lengths.sum()),
        kappa_episodes=kappa(words, np.ones(len(common))),
        kappa_time=kappa(words, lengths),
        disputes=tuple(piece for piece in common if piece.rhythms[0] != piece.rhythms[1]),
    )


def kappa(pairs: Sequence[tuple[str, str]], weight: NDArray[np.float64]) -> float:
    """Cohen's kappa of two who each gave one of several words to the same things.

    Parameters
    ----------
    pairs : sequence of (str, str), length n
        The words.
    weight : float64, shape (n,)
        What each thing counts.

    Returns
    -------
    float
        NaN where both gave one and the same word to everything, or there is nothing.
    """
    from sklearn.metrics import cohen_kappa_score  # slow to load

    if len({word for pair in pairs for word in pair}) < 2:
        return float("nan")
    first, second = zip(*pairs, strict=True)
    return float(cohen_kappa_score(first, second, sample_weight=weight))
