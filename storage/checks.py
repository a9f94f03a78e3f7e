"""A check: one figure and its bounds, of a promotion policy or of the thresholds of drift."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One figure and its bounds.

    Attributes
    ----------
    title, figure : str
        What is asked in words, and the figure's name.
    least, most : float
        The bounds, each allowed; infinite where there is none.
    """

    title: str
    figure: str
    least: float
    most: float

    @property
    def bounds_text(self) -> str:
        """The bounds in words."""
        bounds = {"at least": self.least, "at most": self.most}
        return ", ".join(f"{word} {at:g}" for word, at in bounds.items() if abs(at) < float("inf"))
