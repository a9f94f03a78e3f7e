"""Writing a data set's TOML: the values that are not their defaults, in the order of the fields."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.datasets.dataset import DatasetSpec, load_spec
from storage.errors import SpecError
from storage.files import whole

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dataset_toml(spec: DatasetSpec) -> str:
    """The text of a TOML that reads back as `spec`."""
    values = spec.model_dump(mode="json", exclude_defaults=True)
    lines = [f"{key} = {_value(v)}" for key, v in values.items() if not isinstance(v, Mapping)]
    for key, table in values.items():
        if isinstance(table, Mapping) and table:
            lines += ["", f"[{key}]"]
            lines += [f"{_key(name)} = {_value(value)}" for name, value in table.items()]
    return "\n".join(lines) + "\n"


def write_spec(path: Path, spec: DatasetSpec) -> Path:
    """Write a data set's TOML, whole or not at all, after reading it back.

    Raises
    ------
    SpecError
        It would not read back as `spec`: a text holds a character that TOML does not.
    """
    with whole(path) as partial:
        # Read back under a name that ends as a TOML's does.
        trial = partial.with_suffix(".toml")
        try:
            trial.write_text(dataset_toml(spec), encoding="utf-8")
            if load_spec(trial) != spec:
                raise SpecError(f"{path}: the data set {spec.name} does not read back as it was")
            trial.replace(partial)
        finally:
            trial.unlink(missing_ok=True)
    return path


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(name)} = {_value(entry)}" for name, entry in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
