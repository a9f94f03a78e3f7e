"""What commands answer with `--format json` is held to the schemas that their readers are given."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import validate

from tests import ROOT

SCHEMA = json.loads((ROOT / "docs" / "answers.schema.json").read_text())


def held(text: str, command: str) -> Any:
    """The value of a command's JSON, which is all of its output, once it keeps its schema."""
    value = json.loads(text)
    validate(value, {"$defs": SCHEMA["$defs"], **SCHEMA["properties"][command]})
    return value
