"""The numbers that options may be: one table for commands, Prefect's form, settings and TOMLs."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass

#: The largest number that a float holds; Python's integers go beyond.
LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Bound:
    """What a number may be; neither infinity nor a number that is none is ever one.

    Attributes
    ----------
    least, most : float
        The bounds, each allowed.
    above, below : float
        The bounds, neither allowed.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether a number is within."""
        inside = self.least <= value <= self.most and self.above < value < self.below
        return inside and abs(value) <= LARGEST

    @property
    def words(self) -> str:
        """The bounds in words."""
        bounds = {
            "at least": self.least,
            "above": self.above,
            "at most": self.most,
            "below": self.below,
        }
        phrases = [f"{word} {_plain(at)}" for word, at in bounds.items() if abs(at) < math.inf]
        return " and ".join(phrases) or "a finite number"

    @property
    def schema(self) -> dict[str, float]:
        """The bounds in the words of JSON Schema."""
        bounds = {
            "minimum": self.least,
            "exclusiveMinimum": self.above,
            "maximum": self.most,
            "exclusiveMaximum": self.below,
        }
        return {word: at for word, at in bounds.items() if abs(at) < math.inf}


def _plain(number: float) -> str:
    return f"{number:.0f}" if number == round(number) else f"{number:g}"


YEAR_S = 31_536_000
SHARE = Bound(least=0, most=1)
POSITIVE = Bound(above=0)
MOST_COUNT = 1_000_000_000
ANY_COUNT = Bound(least=0, most=MOST_COUNT)
POSITIVE_COUNT = Bound(least=1, most=MOST_COUNT)
DURATION_S = Bound(above=0, most=YEAR_S)
PORT = Bound(least=1, most=65535)

#: Every number that may be chosen, by its name.
BOUNDS: dict[str, Bound] = {
    "epochs": POSITIVE_COUNT,
    "batch": POSITIVE_COUNT,
    "steps": POSITIVE_COUNT,
    "learning_rate": Bound(above=0, most=1),
    "weight_decay": SHARE,
    "most_beats": ANY_COUNT,
    "patience": ANY_COUNT,
    "averaged": SHARE,
    "sparsity": Bound(least=0, below=1),
    "hidden": SHARE,
    "cues_alone": SHARE,
    "simulated": ANY_COUNT,
    "seed": Bound(least=0, most=2**32 - 1),  # what Keras and NumPy both take
    "teacher_weight": Bound(above=0, most=1),
    "temperature": Bound(least=1, most=100),
    "weight": Bound(above=0, most=MOST_COUNT),
    "folds": Bound(least=2, most=MOST_COUNT),
    "calibration_folds": ANY_COUNT,
    "risk": Bound(above=0, below=1),
    "repeats": ANY_COUNT,
    "workers": POSITIVE_COUNT,
    "wait_s": DURATION_S,
    "every_s": Bound(least=1, most=YEAR_S),
    "poll_s": Bound(least=1, most=3_600),
    "quiet_s": Bound(least=0, most=YEAR_S),
    "patience_s": DURATION_S,
    "retrain_after": ANY_COUNT,
    "keep_days": Bound(least=0, most=36_500),
    "least_beats": POSITIVE_COUNT,
    "af_share": Bound(above=0, below=1),
    "most_p99_ms": POSITIVE,
    "subjects": Bound(least=1, most=1_000_000),
    "hours": Bound(least=0.01, most=100_000),
    "fs_hz": Bound(above=0, most=100_000),
    "detector_hz": Bound(least=100, most=1_000),
    "units_per_mv": POSITIVE,
    "baud": POSITIVE_COUNT,
    "port": PORT,
    "prefect_port": PORT,
    "mlflow_port": PORT,
}


def within(name: str, value: float) -> float:
    """A number as it is, where its bound holds.

    Raises
    ------
    ValueError
        It does not.
    """
    bound = BOUNDS[name]
    if not bound.holds(value):
        text = str(value) if abs(value) > LARGEST else f"{value:g}"
        raise ValueError(f"{name}: found {text}; expected {bound.words}")
    return value


def all_within(**values: object) -> None:
    """Hold each number, and each of a list, to the bound of its name; None is no number.

    Raises
    ------
    ValueError
        One is out of it.
    """
    for name, value in values.items():
        elements = value if isinstance(value, list | tuple) else [value]
        for element in elements if name in BOUNDS else ():
            if isinstance(element, int | float) and not isinstance(element, bool):
                within(name, element)


def read(name: str, text: str) -> float:
    """The number that a text tells, held to its bound.

    Raises
    ------
    ValueError
        It is no number, or out of its bound.
    """
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(f"{name}: found {text!r}; expected {BOUNDS[name].words}") from error
    return within(name, value)


def from_environment(name: str, variable: str, usual: float) -> float:
    """The number that a variable of the environment tells, or the usual one without it.

    Raises
    ------
    ValueError
        It is no number, or out of its bound.
    """
    text = os.environ.get(variable)
    try:
        return read(name, text) if text else usual
    except ValueError as error:
        raise ValueError(f"{variable}, {error}") from error


#: How many records of a data set may fail where a training says nothing of it.
MOST_FAILED = "50%"


def most_allowed(text: str, records: int) -> int:
    """How many of so many records may fail: a count ("3") or a share ("10%", "0.1").

    Raises
    ------
    ValueError
        The text is neither, or the share is not within 0 and 1.
    """
    number = text.strip()
    if number.isascii() and number.isdigit():
        return int(number)
    try:
        share = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not SHARE.holds(share):
        raise ValueError(
            f"most_failed: found {text!r}; expected a count of records (3) or a share (10%, 0.1)"
        )
    return math.floor(share * records)
