"""How a registered version is named: NAME@alias, NAME/version, or NAME for its newest."""

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
