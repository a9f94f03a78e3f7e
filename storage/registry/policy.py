"""Figures and their bounds, as one TOML: a promotion policy, or the thresholds of drift."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tomllib
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from storage.checks import Check as Check
from storage.errors import PolicyError
from storage.files import parse_text, sha256_bytes

#: The policy that is used where none is given.
DEFAULT = Path(__file__).parents[1] / "policies" / "champion.toml"
#: The thresholds of drift that are used where none are given.
DRIFT = DEFAULT.with_name("drift.toml")
#: Where the bounds of a check are that has none below, or none above.
UNBOUNDED = {"least": float("-inf"), "most": float("inf")}


@dataclass(frozen=True)
class Policy:
    """A policy: its title, the declared use, what licences allow, its checks, and its text."""

    title: str
    use: str
    licences: dict[str, list[str]]
    checks: tuple[Check, ...]
    text: str

    @property
    def sha256(self) -> str:
        """Digest of the file."""
        return sha256_bytes(self.text.encode())


def _as_float(bound: Any) -> Any:
    """A whole number as a float, infinite where it is beyond the largest one; the rest as it is."""
    if isinstance(bound, bool) or not isinstance(bound, int):
        return bound
    try:
        return float(bound)
    except OverflowError:
        return math.inf if bound > 0 else -math.inf


Bound = Annotated[float, BeforeValidator(_as_float)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _CheckTable(_Strict):
    """A `[[check]]`."""

    title: str
    figure: str
    least: Bound = UNBOUNDED["least"]
    most: Bound = UNBOUNDED["most"]

    @model_validator(mode="before")
    @classmethod
    def _has_a_bound(cls, table: Any) -> Any:
        if not isinstance(table, dict) or not table.keys() & UNBOUNDED:
            raise PydanticCustomError("bound", "found no bound; expected least or most")
        return table

    @model_validator(mode="after")
    def _is_bounded(self) -> _CheckTable:
        bounds = [getattr(self, name) for name in UNBOUNDED if name in self.model_fields_set]
        if not all(map(math.isfinite, bounds)) or bounds != sorted(bounds):
            words = " and ".join(f"{bound:g}" for bound in bounds)
            raise PydanticCustomError(
                "bound", f"found {words}; expected finite bounds, least not above most"
            )
        return self


class _ChecksFile(_Strict):
    """A file of checks alone."""

    title: str
    check: Annotated[list[_CheckTable], Field(min_length=1)]

    def checks(self) -> tuple[Check, ...]:
        """The checks, as they are used."""
        return tuple(Check(**table.model_dump()) for table in self.check)


class _PolicyFile(_ChecksFile):
    """A file of a policy."""

    use: str
    licences: dict[str, list[str]]


File = TypeVar("File", bound=_ChecksFile)


def read_policy(path: Path) -> Policy:
    """Read a policy.

    Raises
    ------
    PolicyError
        There is no such file, it is no TOML, a key is unknown or missing, or a check has no bound.
    """
    text, value = _parse_file(path)
    file = _validate(path, _PolicyFile, value)
    return Policy(file.title, file.use, file.licences, file.checks(), text)


def read_checks(path: Path) -> tuple[Check, ...]:
    """Read a table of checks alone: thresholds of drift; errors as above."""
    return _validate(path, _ChecksFile, _parse_file(path)[1]).checks()


def _parse_file(path: Path) -> tuple[str, Any]:
    """A policy's text, and its value."""
    try:
        text = path.read_text()
        return text, parse_text(text, tomllib.loads)
    except (OSError, ValueError) as error:
        raise PolicyError(f"policy {path}: cannot be read: {error}") from error


def _validate(path: Path, kind: type[File], value: Any) -> File:
    """A file's value by its model; PolicyError with all that is wrong, each with its place."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        wrong = "; ".join(_words(fault, value) for fault in error.errors())
        raise PolicyError(f"policy {path}, {wrong}") from error


def _words(error: ErrorDetails, value: Any) -> str:
    """What is wrong, and where: of which check, or of the policy."""
    place, kind, key = error["loc"], error["type"], str(error["loc"][-1])
    if place[:1] == ("licences",) and len(place) > 1:
        return f"licence {place[1]!r}: expected a list of uses"
    subject = "the policy"
    if place[:1] == ("check",) and len(place) > 1:
        table = value["check"][place[1]]
        subject = (
            f"check {_excerpt(table.get('title', table) if isinstance(table, dict) else table)}"
        )
    words = {
        "bound": error["msg"],
        "too_short": "found no check; expected at least one",
        "missing": f"found missing {[key]}",
        "extra_forbidden": f"found unknown {[key]}",
    }
    return f"{subject}: " + words.get(kind, f"{key} is {_excerpt(error['input'])}")


def _excerpt(value: object) -> str:
    """A value in a message, cut where it is long."""
    return repr(value)[:200]
