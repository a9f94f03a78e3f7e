"""Names: of a registered version (NAME@alias, NAME/version, NAME for its newest), of a device."""

from __future__ import annotations

import re
from typing import NamedTuple

FORMS = "NAME@alias, NAME/version or NAME"
#: MLflow takes neither / nor : in a name; a quote would end the name in a search.
_FORM = re.compile(
    r"(?P<name>[^/:@'\"]+)(?:@(?P<alias>[A-Za-z0-9_-]+)|/(?P<version>[1-9][0-9]{0,8}))?", re.ASCII
)


class Reference(NamedTuple):
    """A version's name in its parts; both `alias` and `version` are "" for the newest."""

    name: str
    alias: str
    version: str


def parse(text: str) -> Reference:
    """The parts of a version's name.

    Raises
    ------
    ValueError
        It is of none of the three forms.
    """
    match = _FORM.fullmatch(text)
    if match is None or match["name"].strip() != match["name"]:
        raise ValueError(f"model {text!r}: found no name of a version; expected {FORMS}")
    return Reference(match["name"], match["alias"] or "", match["version"] or "")


def check_name(text: str) -> str:
    """A registered model's name as it is, without a version or an alias.

    Raises
    ------
    ValueError
        It is none.
    """
    if parse(text).name != text:
        raise ValueError(f"model {text!r}: found a version or an alias; expected the name alone")
    return text


#: A name that is made here, of a model or a device, is part of files' names, addresses,
#: experiments' names and accounts'.
_NEW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_NEW_NAME_WORDS = "up to 100 letters, digits, dots, _ and -, a letter or digit first"


def check_new_name(text: str) -> str:
    """A name as it is, where a model can be registered by it; stricter than what MLflow takes.

    Raises
    ------
    ValueError
        It cannot.
    """
    words = f"no name of a registered model; expected {_NEW_NAME_WORDS}"
    return _check_form("name", _NEW_NAME, text, words)


#: MLflow keeps `latest` and `v1` to itself, whatever their case.
_ALIAS = re.compile(r"(?!(?i:latest|v[0-9]+)$)[A-Za-z0-9_-]{1,255}", re.ASCII)


def check_alias(text: str) -> str:
    """An alias as it is, where a version can be named by it.

    Raises
    ------
    ValueError
        It cannot.
    """
    expected = "letters, digits, _ and -, neither 'latest' nor 'v' with a number"
    return _check_form("alias", _ALIAS, text, f"no name of an alias; expected {expected}")


def check_device(text: str) -> str:
    """A device's name as it is, where an experiment can be named by it.

    Raises
    ------
    ValueError
        It cannot.
    """
    words = f"no name of a device; expected {_NEW_NAME_WORDS}"
    return _check_form("device", _NEW_NAME, text, words)


def _check_form(kind: str, form: re.Pattern[str], text: str, otherwise: str) -> str:
    if not form.fullmatch(text):
        raise ValueError(f"{kind} {text!r}: found {otherwise}")
    return text
