"""A plan of change control: what may change of a model without a new decision about the plan.

What a plan does not name stays as it is in the version in use. Its sections follow FDA's final
guidance "Marketing Submission Recommendations for a Predetermined Change Control Plan for
Artificial Intelligence-Enabled Device Software Functions" (August 2025): description of
modifications, modification protocol, impact assessment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import tomllib
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)

from storage.errors import PolicyError
from storage.files import parse_text, sha256_bytes
from storage.registry.policy import DEFAULT, Policy, read_policy
from storage.registry.reference import check_name

#: The plan that comes with this: a pattern to copy.
PATTERN = DEFAULT.with_name("plan.toml")
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Table):
    """Numbers from least to most, each allowed."""

    least: Number = -math.inf
    most: Number = math.inf

    @model_validator(mode="after")
    def _is_bounded(self) -> Range:
        if not self.model_fields_set or self.least > self.most:
            raise ValueError("found no bound, or least above most; expected least, most or both")
        return self

    def holds(self, text: str) -> bool:
        """Whether a number, as text, is within; no text that is none is."""
        try:
            return self.least <= float(text) <= self.most
        except ValueError:
            return False

    def words(self) -> str:
        """The bounds in words."""
        bounds = {"at least": self.least, "at most": self.most}
        return ", ".join(f"{word} {at:g}" for word, at in bounds.items() if math.isfinite(at))


#: What a setting may be: within a range, or one of a list.
Allowed = Range | tuple[bool | int | float | str, ...]


class Modification(_Table):
    """A modification that the plan foresees; its texts are the manufacturer's, "" unwritten."""

    title: Annotated[str, Field(min_length=1)]
    rationale: str = ""
    effect: str = ""
    risk: str = ""
    labelling: str = ""


class Inside(_Table):
    """What is inside the plan.

    Attributes
    ----------
    networks, datasets : tuple of str
        Networks by name, and data sets by name.
    beats : tuple of str
        Which beats tables hold: "consensus", "reference", "detected".
    signal : tuple of bool
        Whether signals are read.
    settings : mapping
        A training's settings by name. One that is not named stays as in the version in use.
    decision : mapping of str to Range
        `threshold`, `smoothing_change` and `margin` of the rule by which answers are decided.
    """

    networks: Annotated[tuple[str, ...], Field(min_length=1)]
    datasets: Annotated[tuple[str, ...], Field(min_length=1)]
    beats: tuple[str, ...] = ("consensus",)
    signal: tuple[bool, ...] = (True, False)
    settings: Mapping[str, Allowed] = Field(default_factory=dict)
    decision: Mapping[str, Range] = Field(default_factory=dict)

    @field_validator("decision")
    @classmethod
    def _are_figures(cls, decision: Mapping[str, Range]) -> Mapping[str, Range]:
        if missing := sorted({*DECISION} - decision.keys()):
            raise ValueError(f"found no {', '.join(missing)}; expected a range of each")
        if unknown := sorted(decision.keys() - {*DECISION}):
            raise ValueError(f"found unknown {', '.join(unknown)}; expected {', '.join(DECISION)}")
        return decision


#: The numbers of a rule that a plan bounds.
DECISION = ("threshold", "smoothing_change", "margin")


class Manufacturer(_Table):
    """What nobody but the manufacturer can say; "" is told as theirs to write."""

    name: str = ""
    device: str = ""
    intended_use: str = ""
    benefits_and_risks: str = ""
    post_market: str = ""


class Date(_Table):
    """A date of a law or guidance, with its source and whether it could be confirmed."""

    duty: Annotated[str, Field(min_length=1)]
    date: date
    source: Annotated[str, Field(min_length=1)]
    confirmed: Annotated[bool, Strict()] = False
    note: str = ""


class Plan(_Table):
    """A plan of change control.

    Attributes
    ----------
    title, model : str
        Its title, and the registered model that it is of.
    alias : str
        The alias that moves by it.
    policy : str
        The promotion policy that every version must pass: a file beside the plan, or the name of
        one that comes with this.
    inside : Inside
        What may change.
    modification, date : tuples
        Modifications that are foreseen, and dates of laws.
    manufacturer : Manufacturer
        What is the manufacturer's to write.
    """

    title: Annotated[str, Field(min_length=1)]
    model: str
    alias: str = "champion"
    policy: str = "champion.toml"
    inside: Inside
    modification: tuple[Modification, ...] = ()
    date: tuple[Date, ...] = ()
    manufacturer: Manufacturer = Manufacturer()

    @field_validator("model")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        check_name(name)
        return name


def parse_plan(text: str, source: str) -> Plan:
    """A plan from its TOML.

    Raises
    ------
    PolicyError
        It is no TOML, or something in it is not what a plan has: all that is wrong is told.
    """
    try:
        value: Any = parse_text(text, tomllib.loads)
        return Plan.model_validate(value)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the plan'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise PolicyError(f"plan {source}, {wrong}") from error
    except ValueError as error:
        raise PolicyError(f"plan {source}: cannot be read: {error}") from error


def read_plan(path: Path) -> tuple[Plan, str]:
    """A plan and its text; errors as `parse_plan`."""
    try:
        text = path.read_text()
    except (OSError, ValueError) as error:
        raise PolicyError(f"plan {path}: cannot be read: {error}") from error
    return parse_plan(text, str(path)), text


def policy_of(plan: Plan, folder: Path) -> Policy:
    """The promotion policy that a plan in a folder names; PolicyError where there is none."""
    name = Path(plan.policy).name
    beside = folder / name
    return read_policy(beside if beside.is_file() else DEFAULT.with_name(name))


def sha256_of(text: str) -> str:
    """The digest of a plan's text."""
    return sha256_bytes(text.encode())
