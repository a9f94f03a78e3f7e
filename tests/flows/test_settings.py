"""One settings model: command, form, TOML, a run's parameters and pages have the same names."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest
import typer
import yaml
from prefect.utilities.importtools import import_object
from typer.main import get_command
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.from_settings import fields_of, option_of
from flows.cli.training import train as cli_train
from flows.decide.rebuild import params_of, settings_of
from flows.ingest.folders import DatasetSettings, data_sets
from flows.settings import Settings, setting
from flows.train import flow as flow_module
from flows.train import settings as settings_module
from flows.train import training_run
from flows.train.flow import train
from flows.train.retrain import retrain
from flows.train.settings import (
    KINDS,
    Alone,
    BeatSettings,
    RecordSettings,
    RetrainSettings,
    Training,
    WatchSettings,
    train_settings,
)
from flows.train.teacher import Distillation
from flows.train.training_run import TrainingRun
from flows.train.watch import watch
from storage.audit.versions import VersionRecord
from storage.bounds import BOUNDS
from storage.registry.tags import NETWORK_TAG
from tasks.learning.rhythm_training import RhythmConfig
from tasks.learning.splits import FIRST_RULES, Split
from tasks.learning.training import TrainingConfig
from tasks.scores.rule import Rule
from tests.conftest import ROOT

SETS = data_sets(["mitdb", "afdb"], weight=[2, 1])
#: The flows, their commands, and the settings that are theirs beside those of a training.
FLOWS: dict[str, tuple[Any, type[Settings]]] = {
    "train": (train, Settings),
    "retrain": (retrain, RetrainSettings),
    "data watch": (watch, WatchSettings),
}
STEPS = f"Steps of an epoch. ({BOUNDS['steps'].words})"
#: Options that are shorter than their field's name.
SHORT = {"quiet_s": "quiet"}
#: A value of every field that is not the usual one.
OTHERS: dict[str, Any] = {
    "name": "ward7-af",
    "epochs": 7,
    "learning_rate": 0.125,
    "seed": 11,
    "policy": "detected",
    "balance": "class",
    "patience": 3,
    "sparsity": 0.995,
    "quantised": True,
    "runtime": "litert-int8",
    "teacher": "holter-fused/1",
    "teacher_weight": 0.001,
    "temperature": 2.5,
    "most_failed": "3",
    "paradigm": "intrapatient",
    "most_beats": 500,
    "averaged": 0.25,
    "calibration_folds": 3,
    "risk": 0.01,
}


def places() -> Iterator[tuple[str, type[Settings], str]]:
    """Every field of every settings, with each command that asks for it."""
    for command, (_, own) in FLOWS.items():
        models: list[type[Settings]] = [*KINDS, DatasetSettings, own]
        for model in models:
            for name in model.model_fields:
                if name not in ("datasets", "training"):
                    yield command, model, name


@pytest.fixture(scope="module")
def options() -> dict[str, dict[str, Any]]:
    """The options of each command, by name."""
    root: Any = get_command(app)
    commands = {"data watch": root.commands["data"].commands["watch"], **root.commands}
    return {name: {one.name: one for one in commands[name].params} for name in FLOWS}


@pytest.mark.parametrize(("command", "model", "name"), places())
def test_a_field_is_one_everywhere(
    command: str, model: type[Settings], name: str, options: dict[str, dict[str, Any]]
) -> None:
    """Its option, its place in the form and its row of the page have its name, sentence, bounds."""
    field = model.model_fields[name]
    assert field.description
    option = options[command][name]
    assert f"--{SHORT.get(name, name.replace('_', '-'))}" in option.opts or name == "dataset"
    form = FLOWS[command][0].parameters.model_dump()["definitions"][model.__name__]["properties"]
    assert form[name]["description"] == field.description
    (row,) = re.findall(
        rf"^\| `{name}` \|.*$", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE
    )
    sentence = max((form[name]["description"], option.help.split(": ")[-1]), key=len)
    assert field.description in row or sentence.split(" (")[0] in row
    if name in BOUNDS:
        parts = form[name].get("anyOf", [form[name]])
        assert any(BOUNDS[name].schema.items() <= part.items() for part in parts)
        assert BOUNDS[name].words in option.help
        assert BOUNDS[name].words in row


def test_calibration_folds_leave_out_whom_nothing_else_knows() -> None:
    """A teacher knows the patients of a fold, and early stopping needs some of them."""
    settings = train_settings(datasets=SETS, model="rhythm", calibration_folds=3)
    assert isinstance(settings, RecordSettings)
    assert settings.calibration_folds == 3
    for beside in ({"teacher": "m/1"}, {"patience": 2}):
        with pytest.raises(ValueError, match="calibration folds leave patients out"):
            train_settings(datasets=SETS, model="rhythm", calibration_folds=3, **beside)
    with pytest.raises(ValueError, match="found 1; expected 0, or at least 2"):
        train_settings(datasets=SETS, model="rhythm", calibration_folds=1)


def test_an_option_is_one_line() -> None:
    """A field that settings gain is in the form and among the options, with its bound."""

    class More(BeatSettings):
        steps: int = setting(2, "Steps of an epoch.")

    option = option_of("steps", fields_of(More)["steps"])
    (told,) = [one for one in get_args(option.annotation) if hasattr(one, "show_default")]
    assert (told.help, told.show_default) == (f"Single beats: {STEPS}", "2")
    form = More.model_json_schema()["properties"]["steps"]
    assert (form["description"], form["minimum"]) == ("Steps of an epoch.", 1)
    with pytest.raises(ValueError, match="steps: found 0; expected at least 1"):
        More(datasets=SETS, steps=0)


def test_prefect_s_form_knows_what_the_schema_says() -> None:
    """Prefect's page draws `anyOf`, and nothing where it finds `oneOf`."""
    for flow, _ in FLOWS.values():
        schema = str(flow.parameters.model_dump())
        assert "anyOf" in schema
        assert "oneOf" not in schema


def test_what_one_kind_alone_takes_says_why() -> None:
    """A network of the other kind is told the reason."""
    beats, records = (one.model_fields for one in KINDS)
    for name in beats.keys() ^ records.keys():
        field = {**beats, **records}[name]
        assert [one for one in field.metadata if isinstance(one, Alone)], name


@pytest.mark.parametrize("value", ["resnet21", 3, None, {"model": ["rhythm"]}, {"model": None}])
def test_what_are_no_settings_is_refused(value: Any) -> None:
    """Whatever a form sends, the answer is that of a value that is not right."""
    with pytest.raises(Exception, match="invalid parameters"):
        train.validate_parameters({"settings": value})


def own_values(kind: type[Training]) -> dict[str, Any]:
    """A value of every field of a kind's settings that is not the usual one."""
    own = {name: value for name, value in OTHERS.items() if name in kind.model_fields}
    own["model"] = "squeeze" if kind is BeatSettings else "fused"
    assert {*own, "datasets"} == {*kind.model_fields}, "OTHERS has every field"
    if kind is RecordSettings:
        own |= {"patience": 0, "sparsity": 0.0}  # no average beside them
        own |= {"calibration_folds": 0}  # no teacher beside them
    return own


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_makes_the_settings_that_it_is_told(
    kind: type[Training], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every option reaches its field, each data set's in their order."""
    asked: list[Any] = []

    def trained(settings: Any) -> None:
        asked.append(settings)
        raise typer.Exit

    monkeypatch.setattr(cli_train, "serving", nullcontext)
    monkeypatch.setattr(settings_module, "resolve_folders", list)
    monkeypatch.setattr(flow_module, "train", trained)
    own = own_values(kind)
    words = ["train", "mitdb", "afdb", "--weight", "2", "--weight", "1", "--quantised"]
    for name, value in own.items():
        if name != "quantised":
            words += [f"--{name.replace('_', '-')}", str(value)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert asked == [kind(datasets=SETS, **own)]


def test_a_training_registers_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trainings of one network gain versions of two models; the tag says which network."""
    made: list[tuple[str, str]] = []
    opened: list[str] = []

    class EnoughError(Exception):
        """Registered: what follows is of no interest here."""

    def registered(_run_id: str, *, name: str, tags: dict[str, str], **_: Any) -> None:
        made.append((name, tags[NETWORK_TAG]))
        raise EnoughError

    def open_ledger(name: str) -> None:
        opened.append(name)
        raise EnoughError

    monkeypatch.setattr("storage.registry.tracking.register_model", registered)
    monkeypatch.setattr("storage.registry.tracking.log_tags", lambda *_: None)
    monkeypatch.setattr("storage.audit.ledger.check_open", open_ledger)
    monkeypatch.setattr(training_run, "read_json", lambda _: None)
    monkeypatch.setattr(training_run, "runtime_tags", lambda _: {})
    monkeypatch.setattr(training_run, "description", lambda *_: "")
    release: Any = SimpleNamespace(
        **{"folder": Path(), "title": "", "metrics": {"f1": 1.0}, "testset_sha256": ""},
        rule=Rule(0.5),
    )
    for name in (None, "ward7-af"):
        settings = train_settings(datasets=SETS, model="rhythm", name=name)
        facts = {"tags": {}, "dataset": "d", "data": [], "sides": {}}
        run: Any = SimpleNamespace(
            settings=settings, split=SimpleNamespace(paradigm="interpatient"), **facts
        )
        with pytest.raises(EnoughError):
            vars(training_run.register)["fn"](run, release, "0" * 32)
        with pytest.raises(EnoughError), training_run.mlflow_run(run):
            pass
    assert made == [("holter-rhythm", "rhythm"), ("ward7-af", "rhythm")]
    assert opened == ["holter-rhythm", "ward7-af"]


@pytest.mark.parametrize(
    "name",
    ["", " ward7", "ward7/2", "ward7@champion", "a'b", "../x", "-x", "a" * 101, "Säle", "a\nb"],
)
def test_a_name_that_no_model_can_have_is_refused(name: str) -> None:
    """It becomes part of files' names, of addresses and of searches in MLflow."""
    with pytest.raises(ValueError, match=r"^name .*found no name of a reg.*expected"):
        train_settings(datasets=SETS, name=name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_recorded_and_done_again(kind: type[Training]) -> None:
    """A run's parameters have each by its name; a rebuild reads the same settings from them."""
    own = own_values(kind)
    settings = kind(datasets=SETS, **own)
    preprocessing = {"policy": settings.policy}
    manifests = [
        SimpleNamespace(dataset=one.dataset, has_signal=True, preprocessing=preprocessing)
        for one in SETS
    ]
    how = {"teacher": settings.teacher, "teacher_weight": 0.001, "temperature": 2.5}
    paradigm = own.get("paradigm", "interpatient")
    rule = {"intrapatient": "train_test_split/1"}.get(paradigm, FIRST_RULES["interpatient"])
    run = TrainingRun(
        settings=settings,
        manifests=cast(Any, dict(enumerate(manifests))),
        split=cast(Split, SimpleNamespace(paradigm=paradigm, rule=rule)),
        sides={},
        title="",
        caveat="",
        distillation=Distillation(None, how, {}, ()),
    )
    params = {name: str(value) for name, value in run.params.items()}
    recorded = {**own, "weight": "2.0,1.0", "dataset": "mitdb+afdb"}
    assert {name: str(value) for name, value in recorded.items()}.items() <= params.items()
    version = cast(VersionRecord, SimpleNamespace(params=params, manifests=manifests))
    again = settings_of(version, ["mitdb", "afdb"], [])
    aside = {"most_failed": "100%", "datasets": again.datasets}
    assert again == settings.model_copy(update=aside)
    assert [one.weight for one in again.datasets] == [2, 1]


def test_a_version_of_before_is_read_by_its_old_names() -> None:
    """`weights` was `weight`; what it does not say is as it was without the option."""
    params = {"model": "rhythm", "epochs": "3", "learning_rate": "0.01", "seed": "4"}
    params |= {
        "weights": "1.0,0.5",
        "paradigm": "interpatient",
        "batch": "16",
        "quantised": "False",
    }
    told = SimpleNamespace(has_signal=False, preprocessing={"policy": "reference"})
    version = cast(VersionRecord, SimpleNamespace(params=params, manifests=[told, told]))
    again = settings_of(version, ["a", "b"], [Path("x"), Path("y")])
    assert isinstance(again, RecordSettings)
    assert (again.epochs, again.averaged, again.policy) == (3, 0.0, "reference")
    expected = data_sets(["a", "b"], data=[Path("x"), Path("y")], weight=[1, 0.5], signal=False)
    assert again.datasets == expected
    assert params_of(version)["weight"] == "1.0,0.5"


def test_trainings_are_configured_by_their_settings() -> None:
    """What is usual of a setting is what is usual of the training; a field reaches it by name."""
    beats, records = BeatSettings(datasets=SETS), RecordSettings(datasets=SETS, model="rhythm")
    assert (beats.config, records.config) == (TrainingConfig(), RhythmConfig())
    for kind, config in ((beats, TrainingConfig), (records, RhythmConfig)):
        shared = {one.name for one in fields(config)} & type(kind).model_fields.keys()
        own = {name: OTHERS[name] for name in shared if name not in ("patience", "sparsity")}
        changed = type(kind)(datasets=SETS, model=kind.model, **own).config
        assert {name: getattr(changed, name) for name in own} == own


@pytest.mark.parametrize(
    "deployment",
    yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"],
    ids=lambda one: f"{one['entrypoint']}/{one['name']}",
)
def test_deployments_name_flows_and_settings_that_are_there(deployment: dict[str, Any]) -> None:
    """Each entrypoint is a flow, and takes the parameters that the file has for it."""
    flow = import_object(deployment["entrypoint"])
    given = flow.validate_parameters(deployment["parameters"])
    for name in deployment["parameters"]:
        assert given[name] is not None


@pytest.mark.parametrize("value", [{"epochs": 0}, {"sparsity": 1}, {"model": "resnet22"}])
def test_a_form_is_refused_as_a_command_is(value: dict[str, Any]) -> None:
    """Before its flow begins, and in the same words."""
    with pytest.raises(ValueError, match=r".") as said:
        train_settings(datasets=SETS, **value)
    with pytest.raises(Exception, match=re.escape(str(said.value))):
        train.validate_parameters({"settings": {"datasets": [{"dataset": "mitdb"}], **value}})


def test_the_page_is_what_its_script_writes() -> None:
    """The page of settings is made from them."""
    page = runpy.run_path(str(ROOT / "docs" / "list_settings.py"))["page"]()
    assert (ROOT / "docs" / "settings.md").read_text() == page
