"""The queue: which passages a person looks at first, by what a look at them teaches most.

A passage is a run of beats of which the same is to be asked. Its weight is in bits, summed over its
beats: how much its annotation surprises the model, how uncertain the model is, or how far two
versions are apart. So a long passage of clear disagreement comes before a short or a faint one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["disagreement", "doubt", "versions", "patient"]
#: A probability counts as at least this far from 0 and 1: no beat surprises by more than 7 bits.
LEAST_P = 1 / 128
#: A passage of fewer beats is none: a few beats tell no rhythm.
LEAST_BEATS = 5
#: A record is among the worst where so many of its labelled beats are decided wrongly, ...
WORST_SHARE = 0.2
#: ... in so many passages at least; of one passage a look at that is enough.
WORST_PASSAGES = 3
AF, NOT_AF, UNSURE = "AF", "not AF", "cannot tell"
_KINDS: tuple[Kind, ...] = ("disagreement", "doubt", "versions")


@dataclass(frozen=True)
class Case:
    """A passage to look at.

    Attributes
    ----------
    dataset, record : str
        The recording.
    start, end : int
        The passage in samples, [start, end).
    kind : str
        "disagreement" of model and annotation, "doubt" (the model cannot tell), "versions" (two of
        them decide otherwise), or "patient" (a record that is mostly decided wrongly).
    weight : float
        What a look teaches, in bits; the more, the earlier.
    truth : str
        The annotated rhythm at most of its beats, "" where it is unknown.
    answer : str
        What the model says of it: "AF", "not AF" or "cannot tell".
    """

    dataset: str
    record: str
    start: int
    end: int
    kind: Kind
    weight: float
    truth: str
    answer: str


@dataclass(frozen=True, eq=False)
class RecordAnswers:
    """What is annotated of a record's beats, and what a version answers.

    Attributes
    ----------
    dataset, record : str
        The recording.
    n_samples : int
        Its length.
    sample : int64, shape (n,)
        Its beats, ascending.
    label : int8, shape (n,)
        1 AF, 0 not AF, -1 unknown.
    rhythm : str, shape (n,)
        The annotated rhythm; "" where it is unknown.
    probability : float32, shape (n,)
        P(AF) by the version; NaN where it does not answer.
    decided : bool, shape (n,)
        Whether it decides for AF.
    sure : bool, shape (n,)
        Whether it tells that; else it cannot tell (`tasks.scores.rule`).
    rival : float32, shape (n,), optional
        P(AF) by another version.
    rival_decided : bool, shape (n,), optional
        What the other one decides.
    """

    dataset: str
    record: str
    n_samples: int
    sample: NDArray[np.int64]
    label: NDArray[np.int8]
    rhythm: NDArray[np.str_]
    probability: NDArray[np.float32]
    decided: NDArray[np.bool_]
    sure: NDArray[np.bool_]
    rival: NDArray[np.float32] | None = None
    rival_decided: NDArray[np.bool_] | None = None


def cases(
    records: Iterable[RecordAnswers],
    reviewed: Mapping[tuple[str, str], NDArray[np.int64]] | None = None,
    most: int | None = None,
) -> tuple[Case, ...]:
    """The passages to look at, the one that teaches most first.

    Parameters
    ----------
    records : iterable of RecordAnswers
        The records; each is let go before the next is asked for.
    reviewed : mapping of (dataset, record) to int64, shape (k, 2), optional
        Passages that somebody has decided about, in samples: no beat of them is asked again.
    most : int, optional
        How many to give; all where it is None.
    """
    out: list[Case] = []
    for answers in records:
        passages = (reviewed or {}).get((answers.dataset, answers.record))
        out += _record_cases(answers, _inside(answers.sample, passages))
    order = sorted(out, key=lambda c: (-c.weight, c.dataset, c.record, c.start, c.kind))
    return tuple(order[:most])


def _inside(sample: NDArray[np.int64], passages: NDArray[np.int64] | None) -> NDArray[np.bool_]:
    """Whether each beat lies in any of the passages."""
    inside = np.zeros(len(sample), bool)
    if passages is not None:
        for first, last in np.searchsorted(sample, np.reshape(passages, (-1, 2))).tolist():
            inside[first:last] = True
    return inside


def _record_cases(answers: RecordAnswers, reviewed: NDArray[np.bool_]) -> list[Case]:
    """A record's passages, and the record itself where it is among the worst."""
    kind, bits = _questions(answers)
    kind[reviewed] = -1
    # A passage ends where another thing is asked, annotated or answered.
    _, truth = np.unique(answers.rhythm, return_inverse=True)
    asked = np.stack([kind, truth, answers.decided], axis=1)
    edges = np.flatnonzero((np.diff(asked, axis=0) != 0).any(axis=1)) + 1
    starts = np.concatenate([[0], edges])
    stops = np.append(edges, len(kind))
    passages = (kind[starts] >= 0) & (stops - starts >= LEAST_BEATS) if len(kind) else starts > 0
    out = [
        _case(answers, slice(start, stop), _KINDS[kind[start]], float(bits[start:stop].sum()))
        for start, stop in zip(starts[passages].tolist(), stops[passages].tolist(), strict=True)
    ]
    wrong = [case for case in out if case.kind == "disagreement"]
    labelled = (answers.label >= 0) & ~reviewed
    n_wrong = int(np.count_nonzero((kind == _KINDS.index("disagreement")) & labelled))
    share = n_wrong / max(1, int(np.count_nonzero(labelled)))
    if len(wrong) >= WORST_PASSAGES and share >= WORST_SHARE:
        # One look at the whole day teaches as much as one at a passage of it, on average.
        weight = sum(case.weight for case in wrong) / len(wrong)
        out.append(_case(answers, slice(0, len(kind)), "patient", weight))
    return out


def _questions(answers: RecordAnswers) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What is to be asked of each beat, by its number in `_KINDS` or -1, and its bits."""
    p = _clipped(answers.probability)
    is_af = answers.label == 1
    surprise = -np.log2(np.where(is_af, p, 1 - p))
    doubt, disagreement = ~answers.sure, answers.sure & (answers.decided != is_af)
    disagreement &= answers.label >= 0
    kind, bits = np.full(len(p), -1), np.zeros(len(p))
    if answers.rival is not None and answers.rival_decided is not None:
        rival = _clipped(answers.rival)
        apart = answers.decided != answers.rival_decided
        distance = entropy_bits((p + rival) / 2) - (entropy_bits(p) + entropy_bits(rival)) / 2
        kind[apart], bits[apart] = _KINDS.index("versions"), distance[apart]
    kind[doubt], bits[doubt] = _KINDS.index("doubt"), entropy_bits(p)[doubt]
    kind[disagreement], bits[disagreement] = 0, surprise[disagreement]
    return kind, bits


def _clipped(probability: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities away from 0 and 1; an answer that is none tells nothing."""
    p = np.nan_to_num(probability.astype(np.float64), nan=0.5)
    return np.clip(p, LEAST_P, 1 - LEAST_P)


def entropy_bits(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uncertainty of a yes or no in bits, of probabilities within 0 and 1 (Shannon 1948)."""
    return np.asarray(-p * np.log2(p) - (1 - p) * np.log2(1 - p))


def _case(answers: RecordAnswers, beats: slice, kind: Kind, weight: float) -> Case:
    """A run of beats as a passage: from its first beat to the beat after it, or the end."""
    sample = answers.sample
    end = int(sample[beats.stop]) if beats.stop < len(sample) else answers.n_samples
    rhythms, counts = np.unique(answers.rhythm[beats], return_counts=True)
    unsure = np.count_nonzero(~answers.sure[beats]) * 2 > beats.stop - beats.start
    af = np.count_nonzero(answers.decided[beats]) * 2 > beats.stop - beats.start
    return Case(
        dataset=answers.dataset,
        record=answers.record,
        start=0 if kind == "patient" else int(sample[beats.start]),
        end=end,
        kind=kind,
        weight=round(weight, 3),
        truth=str(rhythms[np.argmax(counts)]),
        answer=UNSURE if unsure else AF if af else NOT_AF,
    )
