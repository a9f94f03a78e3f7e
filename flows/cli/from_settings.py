"""Commands whose options are the fields of settings: `def work(settings: TrainSettings)`.

The settings are loaded when a command is asked for its options: `holter --help` is quick.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand
from typer.main import get_command

from flows.cli.options import callback_of
from storage.bounds import BOUNDS, all_within

#: Options that are not called as their field is.
NAMES = {
    "fold_rule": "--folds",
    "form": "--file-format",
    "one_record_one_subject": "--one-record-one-subject",
    "overwrite": "--replace",
    "quantised": "--quantised",
    "quiet_s": "--quiet",
    "signal": "--signal/--no-signal",
}
#: Modules of settings that commands take.
MODULES = (
    "flows.train.settings",
    "flows.decide.fold_settings",
    "flows.cli.data_sets.add_answers",
)
#: Fields that are told without their name.
ARGUMENTS = ("dataset", "folder", "network")
#: The fields of a name, by the settings that have it.
Owners = dict[Any, Any]


def models_of(kind: Any) -> list[Any]:
    """The settings that a type names: itself, or those of a union or a list."""
    if hasattr(kind, "model_fields"):
        return [kind]
    return [model for part in get_args(kind) for model in models_of(part)]


def fields_of(kind: Any) -> dict[str, Owners]:
    """Every field that is asked for by its name, those of settings within settings too."""
    fields: dict[str, Owners] = {}
    for model in models_of(kind):
        for name, field in model.model_fields.items():
            nested = fields_of(field.annotation) or {name: {model: field}}
            for leaf, owners in nested.items():
                fields.setdefault(leaf, {}).update(owners)
    return fields


def words_of(name: str, owners: Owners) -> tuple[str, str]:
    """A field's sentence with its bounds, and its usual value; of which kind, where they differ."""
    (model, *siblings), fields = owners, owners.values()
    alone = f"{model.kind.capitalize()}: " if model.kind and not siblings else ""
    bounds = f" ({BOUNDS[name].words})" if name in BOUNDS else ""
    default = {m: None if f.is_required() else f.default for m, f in owners.items()}
    default = {m: None if v is False or v in ([], {}) else v for m, v in default.items()}
    default = {m: ", ".join(map(str, v)) if isinstance(v, list) else v for m, v in default.items()}
    usual = {m: str(value) for m, value in default.items() if value is not None}
    differ = len({str(value) for value in default.values()}) > 1
    texts = {f"{value} for {m.kind}" if differ else value: m for m, value in usual.items()}
    return alone + max((f.description for f in fields), key=len) + bounds, ", ".join(texts)


def option_of(name: str, owners: Owners) -> Parameter:
    """The option of a field; of one that each data set has, it is given once for each."""
    from flows.ingest.folders import DatasetSettings

    annotated: Any = Annotated
    listing: Any = list
    words, usual = words_of(name, owners)
    repeated, annotation = DatasetSettings in owners, next(iter(owners.values())).annotation
    kind = get_args(annotation)[0] if type(None) in get_args(annotation) else annotation
    kind = listing[str] if get_origin(kind) is dict else listing[kind] if repeated else kind
    if name in ARGUMENTS:
        argument = annotated[kind, typer.Argument(help=words)]
        return Parameter(name, Parameter.KEYWORD_ONLY, annotation=argument)
    option = typer.Option(
        *([NAMES[name]] if name in NAMES else []),
        help=words + (" Once for each data set, in their order." if repeated else ""),
        show_default=usual or False,
        callback=callback_of(lambda value: all_within(**{name: value})),
    )
    parameter = annotated[kind | None, option]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=parameter)


def settings_values(kind: Any, options: dict[str, Any]) -> dict[str, Any]:
    """What settings are made of, from the values of the options."""
    from flows.ingest.folders import DatasetSettings, data_sets

    values: dict[str, Any] = {}
    for name, field in {k: v for m in models_of(kind) for k, v in m.model_fields.items()}.items():
        if DatasetSettings in models_of(field.annotation):
            columns = {column: options[column] for column in DatasetSettings.model_fields}
            values[name] = data_sets(columns.pop("dataset"), **columns)
        elif models_of(field.annotation):
            values[name] = settings_values(field.annotation, options)
        elif options.get(name) is not None:
            values[name] = options[name]
    return values


def with_options(work: Callable[..., None]) -> Callable[..., None]:
    """A function that takes the options of `work`'s settings, and its own others, one by one."""
    from flows.settings import valid

    types = {name: value for path in MODULES for name, value in vars(import_module(path)).items()}
    (first, *extras) = signature(work, eval_str=True, locals=types).parameters.values()

    def command(**options: Any) -> None:
        own = {extra.name: options.pop(extra.name) for extra in extras}
        work(valid(first.annotation, settings_values(first.annotation, options)), **own)

    parameters = [option_of(name, owners) for name, owners in fields_of(first.annotation).items()]
    own = [extra.replace(kind=Parameter.KEYWORD_ONLY) for extra in extras]
    vars(command).update(__signature__=Signature(parameters + own), __annotations__={})
    return command


class FromSettings(TyperCommand):
    """A command whose options are made when they are first asked for."""

    @property
    def params(self) -> Any:
        """The options; the command's work comes with them."""
        if "_params" not in vars(self):
            app = typer.Typer(add_completion=False)
            app.command()(with_options(vars(self.callback)["work"]))
            whole = get_command(app)
            self._params, self.callback = whole.params, whole.callback
        return self._params

    @params.setter
    def params(self, _: Any) -> None:
        """Typer has none to set: it is shown a function without parameters."""


def enter(app: typer.Typer, work: Callable[..., None], panel: str | None = None) -> None:
    """Enter `work` as a command of an app; where it takes settings, its options are theirs."""
    if "settings" not in work.__annotations__:
        app.command(rich_help_panel=panel)(work)
        return
    name = work.__name__.replace("_", "-")

    def stub() -> None:
        """Stand for the work until its options are asked for."""

    vars(stub)["work"] = work
    app.command(name, cls=FromSettings, help=work.__doc__, rich_help_panel=panel)(stub)
