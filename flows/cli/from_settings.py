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

from flows.cli.options import checked
from storage.bounds import BOUNDS, all_within

#: Options that are not called as their field is.
NAMES = {
    "form": "--format",
    "one_record_one_subject": "--one-record-one-subject",
    "overwrite": "--replace",
    "quantised": "--quantised",
    "quiet_s": "--quiet",
    "signal": "--signal/--no-signal",
}
#: Modules of settings that commands take.
MODULES = ("flows.train.settings", "flows.cli.add_answers")
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
    (model, *others), fields = owners, owners.values()
    alone = f"{model.kind.capitalize()}: " if model.kind and not others else ""
    bounds = f" ({BOUNDS[name].words})" if name in BOUNDS else ""
    default = {one: None if f.is_required() else f.default for one, f in owners.items()}
    default = {m: None if one is False or one in ([], {}) else one for m, one in default.items()}
    usual = {one: str(value) for one, value in default.items() if value is not None}
    differ = len({str(value) for value in default.values()}) > 1
    shown = {f"{value} for {one.kind}" if differ else value: one for one, value in usual.items()}
    return alone + max((f.description for f in fields), key=len) + bounds, ", ".join(shown)


def option_of(name: str, owners: Owners) -> Parameter:
    """The option of a field; of one that each data set has, it is given once for each."""
    from flows.ingest.folders import DatasetSettings

    annotated: Any = Annotated
    many: Any = list
    words, usual = words_of(name, owners)
    each, annotation = DatasetSettings in owners, next(iter(owners.values())).annotation
    kind = get_args(annotation)[0] if type(None) in get_args(annotation) else annotation
    kind = many[str] if get_origin(kind) is dict else many[kind] if each else kind
    if name in ("dataset", "folder"):
        argument = annotated[kind, typer.Argument(help=words)]
        return Parameter(name, Parameter.KEYWORD_ONLY, annotation=argument)
    option = typer.Option(
        *([NAMES[name]] if name in NAMES else []),
        help=words + (" Once for each data set, in their order." if each else ""),
        show_default=usual or False,
        callback=checked(lambda value: all_within(**{name: value})),
    )
    taken = annotated[kind | None, option]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=taken)


def gathered(kind: Any, given: dict[str, Any]) -> dict[str, Any]:
    """What settings are made of, from the values of options that were given."""
    from flows.ingest.folders import DatasetSettings, data_sets

    values: dict[str, Any] = {}
    for name, field in {k: v for m in models_of(kind) for k, v in m.model_fields.items()}.items():
        if DatasetSettings in models_of(field.annotation):
            columns = {one: given[one] for one in DatasetSettings.model_fields}
            values[name] = data_sets(columns.pop("dataset"), **columns)
        elif models_of(field.annotation):
            values[name] = gathered(field.annotation, given)
        elif given.get(name) is not None:
            values[name] = given[name]
    return values


def with_options(work: Callable[..., None]) -> Callable[..., None]:
    """A function that takes the options of `work`'s settings, and its own others, one by one."""
    from flows.settings import valid

    known = {name: one for path in MODULES for name, one in vars(import_module(path)).items()}
    (first, *others) = signature(work, eval_str=True, locals=known).parameters.values()

    def command(**given: Any) -> None:
        own = {one.name: given.pop(one.name) for one in others}
        work(valid(first.annotation, gathered(first.annotation, given)), **own)

    options = [option_of(name, owners) for name, owners in fields_of(first.annotation).items()]
    own = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in others]
    vars(command).update(__signature__=Signature(options + own), __annotations__={})
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

    def stub() -> None:
        """Stand for the work until its options are asked for."""

    vars(stub)["work"] = work
    app.command(work.__name__, cls=FromSettings, help=work.__doc__, rich_help_panel=panel)(stub)
