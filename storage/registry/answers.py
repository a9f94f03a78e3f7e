"""Values of a server's answer: each is taken by its type, size and form, or is an error of ours.

Whoever holds the server may answer anything. What is used of an answer goes through this door, and
a path on disk is built from nothing of it but an id that `run_id` let through.
"""

from __future__ import annotations

import re
from typing import Any

from storage.errors import RegistryError

#: No text of an answer is longer: MLflow's own limit of a tag is 8,000 characters.
MOST_TEXT = 1 << 20
#: No list of an answer is longer.
MOST_ROWS = 100_000
#: No number is larger: what a float holds exactly.
MOST_NUMBER = 1 << 53
RUN_ID = re.compile(r"[0-9a-f]{32}")
EXPERIMENT_ID = re.compile(r"[0-9]{1,24}")
SHA256 = re.compile(r"[0-9a-f]{64}")


def part(value: Any, *names: str) -> Any:
    """What lies in objects within objects under these names; RegistryError where nothing does."""
    for name in names:
        if not isinstance(value, dict) or name not in value:
            raise RegistryError(f"MLflow's answer: found no {'.'.join(names)}; expected it")
        value = value[name]
    return value


def text(value: Any, name: str, form: re.Pattern[str] | None = None) -> str:
    """A text that can be encoded, of a form where one is given.

    Raises
    ------
    RegistryError
        Another type, half of a character pair, longer than `MOST_TEXT`, or another form.
    """
    expected = f"a text of the form {form.pattern}" if form else "a text"
    good = isinstance(value, str) and len(value) <= MOST_TEXT
    if not good or (form is not None and not form.fullmatch(value)):
        raise RegistryError(f"MLflow's answer: {name}: found {excerpt(value)}; expected {expected}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RegistryError(
            f"MLflow's answer: {name}: found {excerpt(value)}; expected {expected}"
        ) from error
    return str(value)


def run_id(value: Any) -> str:
    """A run's id: 32 hexadecimal digits, which lead to no other folder."""
    return text(value, "run id", RUN_ID)


def whole_number(value: Any, name: str, most: int = MOST_NUMBER) -> int:
    """A whole number from 0 to `most`, as a number or in digits, as MLflow writes long ones."""
    digits = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20
    number = int(value) if digits else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= most:
        raise RegistryError(
            f"MLflow's answer: {name}: found {excerpt(value)}; expected a whole number in 0..{most}"
        )
    return number


def rows(value: Any, name: str) -> list[Any]:
    """A list under a name; MLflow leaves an empty one out."""
    listing = value.get(name, []) if isinstance(value, dict) else None
    if not isinstance(listing, list) or len(listing) > MOST_ROWS:
        raise RegistryError(f"MLflow's answer: found no list of {name}; expected one")
    return listing


def texts(value: Any, name: str) -> dict[str, str]:
    """A list of keys and values, as tags and parameters are, as a mapping."""
    return {
        text(part(row, "key"), f"{name}.key"): text(part(row, "value"), f"{name}.value")
        for row in rows(value, name)
    }


def numbers(value: Any, name: str) -> dict[str, float]:
    """A list of keys and numbers, as metrics are, as a mapping; NaN and infinity as MLflow has."""
    figures = {}
    for row in rows(value, name):
        key, number = text(part(row, "key"), f"{name}.key"), part(row, "value")
        try:
            is_number = isinstance(number, int | float | str) and not isinstance(number, bool)
            figures[key] = float(number if is_number else "")
        except (ValueError, OverflowError) as error:
            raise RegistryError(
                f"MLflow's answer: {name}.{key}: found {excerpt(number)}; expected a number"
            ) from error
    return figures


def excerpt(value: Any) -> str:
    """A value in a message: its kind where it is long or nested, else itself, in ASCII."""
    if isinstance(value, dict | list):
        return f"{type(value).__name__} of {len(value)}"
    return ascii(value[:80] if isinstance(value, str) else value)[:100]


def plain(words: object) -> str:
    """A text for a log or a terminal: what cannot be printed, line ends too, becomes `?`."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(words))
