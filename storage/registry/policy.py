"""Figures and their bounds, as one TOML: a promotion policy, or the thresholds of drift."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from storage.errors import PolicyError
from storage.files import parsed, sha256_bytes

#: The policy that is used where none is given.
DEFAULT = Path(__file__).parents[1] / "policies" / "champion.toml"
#: The thresholds of drift that are used where none are given.
DRIFT = DEFAULT.with_name("drift.toml")


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
    def asked(self) -> str:
        """The bounds in words."""
        bounds = {"at least": self.least, "at most": self.most}
        return ", ".join(f"{word} {at:g}" for word, at in bounds.items() if abs(at) < float("inf"))


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


def read_policy(path: Path) -> Policy:
    """Read a policy.

    Raises
    ------
    PolicyError
        There is no such file, it is no TOML, a key is unknown or missing, or a check has no bound.
    """
    text, said, checks = _read(path, {"title": str, "use": str, "licences": dict, "check": list})
    for licence, uses in said["licences"].items():
        if not (isinstance(uses, list) and all(isinstance(use, str) for use in uses)):
            raise PolicyError(f"policy {path}: licence {licence!r}: expected a list of uses")
    return Policy(said["title"], said["use"], said["licences"], checks, text)


def read_checks(path: Path) -> tuple[Check, ...]:
    """Read a table of checks alone: thresholds of drift; errors as above."""
    return _read(path, {"title": str, "check": list})[2]


def _read(path: Path, kinds: dict[str, Any]) -> tuple[str, dict[str, Any], tuple[Check, ...]]:
    try:
        text = path.read_text()
        said = parsed(text, tomllib.loads)
    except (OSError, ValueError) as error:
        raise PolicyError(f"policy {path}: cannot be read: {error}") from error
    _keys(path, "the policy", said, kinds)
    checks = tuple(_check(path, one) for one in said["check"])
    if not checks:
        raise PolicyError(f"policy {path}: found no check; expected at least one")
    return text, said, checks


def _check(path: Path, said: Any) -> Check:
    bounds = {"least": float("-inf"), "most": float("inf")}
    where = f"check {said.get('title', said)!r}" if isinstance(said, dict) else f"check {said!r}"
    if not isinstance(said, dict) or not said.keys() & bounds:
        raise PolicyError(f"policy {path}, {where}: found no bound; expected least or most")
    kinds: dict[str, Any] = dict.fromkeys(said.keys() & bounds, (int, float))
    _keys(path, where, said, {"title": str, "figure": str, **kinds})
    given = [_as_float(said[name]) for name in bounds if name in said]
    if not all(map(math.isfinite, given)) or given != sorted(given):
        raise PolicyError(
            f"policy {path}, {where}: found {' and '.join(f'{one:g}' for one in given)}; expected "
            "finite bounds, least not above most"
        )
    return Check(**{**bounds, **said})


def _as_float(bound: float) -> float:
    """A bound as a float; infinite where it is a whole number beyond the largest one."""
    try:
        return float(bound)
    except OverflowError:
        return math.inf if bound > 0 else -math.inf


def _keys(path: Path, where: str, said: dict[str, Any], kinds: dict[str, Any]) -> None:
    """Exactly these keys, each of its kind."""
    unknown, missing = sorted(said.keys() - kinds), sorted(kinds.keys() - said)
    if unknown or missing:
        raise PolicyError(
            f"policy {path}, {where}: found unknown {unknown}, missing {missing}; "
            f"expected {', '.join(kinds)}"
        )
    for key, kind in kinds.items():
        if not isinstance(said[key], kind) or isinstance(said[key], bool):
            raise PolicyError(f"policy {path}, {where}: {key} is {said[key]!r}")
