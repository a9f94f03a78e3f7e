"""Settings: values whose type, bounds and sentence are written once.

Prefect's form, the command's options and a run's parameters are read from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import core_schema

from storage.bounds import BOUNDS, all_within, within
from storage.text import did_you_mean


@dataclass(frozen=True)
class Choice:
    """A text that is one of some names; they are looked up when they are asked for.

    Attributes
    ----------
    names : callable
        Gives the names for the form.
    check : callable
        Raises ValueError, with the names that there are, where a text is none of them.
    """

    names: Callable[[], Iterable[str]]
    check: Callable[[str], object]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check_value, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "enum": sorted(self.names())}

    def _check_value(self, value: str) -> str:
        self.check(value)
        return value


def validator_of(check: Callable[[Any], object]) -> AfterValidator:
    """The mark of a value that a check may refuse with a ValueError; None is none to check."""

    def same_value(value: Any) -> Any:
        if value is not None:
            check(value)
        return value

    return AfterValidator(same_value)


def bound_of(name: str) -> AfterValidator:
    """The mark of a number that is held to the bound of a name."""
    return validator_of(lambda value: within(name, value))


def setting(default: Any, description: str, **more: Any) -> Any:
    """The field of a setting: its usual value (`...` for none), and one sentence."""
    return Field(default, description=description, **more)


def same(settings: type[BaseModel], name: str) -> Any:
    """The field of another's settings, for those that take it too."""
    return settings.model_fields[name]


def _with_bounds(schema: dict[str, Any]) -> None:
    """Tell each number's bounds in the form; Prefect's reads those of an `anyOf` by its parts."""
    for name, field in schema["properties"].items():
        if name in BOUNDS:
            parts = [p for p in field.get("anyOf", [field]) if p.get("type") != "null"]
            for part in parts:
                part.update(BOUNDS[name].schema)


class Settings(BaseModel):
    """Frozen values; a number is held to the bound of its name, an unknown name is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_with_bounds)
    #: What is trained by them, where there are settings of several kinds.
    kind: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        for name in values if isinstance(values, dict) else ():
            if name not in cls.model_fields:
                expected = ", ".join(cls.model_fields)
                raise ValueError(
                    f"no setting {name!r}{did_you_mean(name, cls.model_fields)}: {expected}"
                )
        return values

    @model_validator(mode="before")
    @classmethod
    def _check_bounds(cls, values: Any) -> Any:
        if isinstance(values, dict):  # what is no number at all is told with its bound too
            all_within(**values)
        return values

    @model_validator(mode="after")
    def _within(self) -> Self:
        all_within(**{name: getattr(self, name) for name in type(self).model_fields})
        return self


def valid(kind: Any, values: Any) -> Any:
    """Settings of a kind from their values.

    Raises
    ------
    ValueError
        What they cannot be, in words: without the places that Pydantic tells.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        words = []
        for problem in error.errors():
            cause = problem.get("ctx", {}).get("error")
            words.append(
                str(cause or f"{problem['loc'][-1]}: {problem['msg']}; found {problem['input']!r}")
            )
        raise ValueError("; ".join(words)) from error
