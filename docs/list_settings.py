"""Write the page of settings from the settings themselves: `python docs/list_settings.py`."""

from __future__ import annotations

from pathlib import Path

from flows.cli.from_settings import ARGUMENTS, NAMES, fields_of, words_of
from flows.decide.fold_settings import CrossValidationSettings
from flows.train.settings import RetrainSettings, WatchSettings

HEAD = (
    "# Settings\n\n"
    "Here you can look up what a training takes. A setting has one name: in a command, in a "
    "deployment's form, in\nprefect.yaml, and among the parameters of a run. "
    "`docs/list_settings.py` makes this page.\n\n"
)
COLUMNS = "| name | option | usually | what it is |\n| -- | -- | -- | -- |\n"


def row(name: str, words: str, usual: str) -> str:
    """The row of a field."""
    option = NAMES.get(name, f"--{name.replace('_', '-')}")
    option = name.upper() if name in ARGUMENTS else option
    return f"| `{name}` | `{option}` | {usual} | {words} |\n"


def page() -> str:
    """The page: what trainings take, then what others take beside it."""
    every = {
        "Trainings": fields_of(RetrainSettings.model_fields["training"].annotation),
        "Retrainings": fields_of(RetrainSettings),
        "Watches": fields_of(WatchSettings),
        "Cross-validations": fields_of(CrossValidationSettings),
    }
    text, told = HEAD, set[str]()
    for title, fields in every.items():
        rows = [row(name, *words_of(name, f)) for name, f in fields.items() if name not in told]
        text += f"## {title}\n\n{COLUMNS}{''.join(rows)}\n"
        told |= set(fields)
    return text.rstrip() + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "settings.md").write_text(page())
