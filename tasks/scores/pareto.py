"""Which networks are not beaten: F1 against what a network costs, one cost at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: What a network costs, and how an axis names it. Those of a beat are of a beat that is answered.
COSTS: Mapping[str, str] = {
    "parameters": "parameters",
    "multiply_adds": "multiply-adds a beat",
    "bytes": "bytes of the file",
    "latency_us": "latency",
}


@dataclass(frozen=True)
class Point:
    """A model version as a point of the picture.

    Attributes
    ----------
    name, training : str
        The version, and how it was trained.
    f1 : float
        Of AF, beat level, on the group's test set.
    bounds : tuple of float, or None
        The interval of F1 over patients, where it was asked for.
    costs : mapping of str to float
        By the names of `COSTS`, larger than zero; what is not known is not there.
    """

    name: str
    training: str
    f1: float
    bounds: tuple[float, float] | None
    costs: Mapping[str, float]


def front(points: Sequence[Point], cost: str) -> list[Point]:
    """The points that no other beats: none is as cheap and better, or cheaper and as good.

    Points without that cost are left out, and so are those whose F1 is undefined. Of points that
    are equal in both, all stay.

    Returns
    -------
    list of Point
        The cheapest first; F1 rises along it.
    """
    measured = [p for p in points if cost in p.costs and p.f1 == p.f1]  # NaN is no F1
    return sorted(
        (p for p in measured if not any(_beats(rival, p, cost) for rival in measured)),
        key=lambda p: (p.costs[cost], p.name),
    )


def _beats(first: Point, second: Point, cost: str) -> bool:
    a, b = first.costs[cost], second.costs[cost]
    return a <= b and first.f1 >= second.f1 and (a < b or first.f1 > second.f1)
