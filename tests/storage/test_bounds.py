"""One table of bounds: commands, Prefect's form, settings and TOMLs refuse the same numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from edge_agent.cli import parser
from flows.cli.app import app
from flows.decide.drift import drift
from flows.decide.evaluate import evaluate
from flows.train.evaluate_device import evaluate_on_device
from flows.train.settings import ReproduceSettings
from storage.bounds import BOUNDS, all_within, from_environment, most_allowed
from storage.errors import PolicyError
from storage.registry.policy import read_checks
from tasks.learning.distillation import Teaching
from tasks.learning.rhythm_training import RhythmConfig
from tasks.learning.training import TrainingConfig

#: Options whose names are not those of the table.
NAMES = {"every": "every_s"}
FLOWS = (drift, evaluate, evaluate_on_device)


def outside(name: str) -> list[float]:
    """Numbers that a bound does not hold: beyond each end, infinite, huge, and none at all."""
    bound = BOUNDS[name]
    beyond = [bound.least - 1, bound.most + 1, bound.above, bound.below]
    huge = [10**400, -(10**400)]  # no float is so large
    return [*filter(math.isfinite, beyond), *huge, math.nan, math.inf, -math.inf]


def numbers(command: Any, path: str = "holter") -> Iterator[tuple[str, Any]]:
    """Every option of a command, and of those below it, that takes a number or several."""
    for name, one in getattr(command, "commands", {}).items():
        yield from numbers(one, f"{path} {name}")
    for option in command.params:
        if option.type_descriptor.annotation in (int, float, list[float]):
            yield path, option


def test_every_number_of_a_command_has_its_bound() -> None:
    """Each option's callback refuses what the table does not hold, and takes the usual value."""
    found = list(numbers(get_command(app)))
    assert len(found) > 30
    for path, option in found:
        name = NAMES.get(option.name, option.name)
        assert name in BOUNDS, f"{path} --{option.name}"
        assert BOUNDS[name].words in option.help, f"{path} --{option.name}"
        option.callback(None, option, option.default)
        for value in outside(name):
            with pytest.raises(typer.BadParameter, match=f"{name}: found"):
                option.callback(None, option, [value] if option.multiple else value)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_the_form_has_the_same_bounds(flow: Any) -> None:
    """Prefect's form tells each number's bound; a flow refuses what is out of it, and names it."""
    form = flow.parameters.properties
    for name in form.keys() & BOUNDS.keys():
        assert BOUNDS[name].schema.items() <= form[name].items(), name
        for value in outside(name):
            with pytest.raises(Exception, match=f"{name}") as refused:
                flow.validate_parameters({**required(flow), name: value})
            assert "invalid parameters" in str(refused.value)
    flow.validate_parameters(required(flow))


def required(flow: Any) -> dict[str, Any]:
    """Values of the parameters that a flow must have."""
    usual = {"model": "m/1", "datasets": ["mitdb"], "data": [Path()], "dataset": "mitdb"}
    return {name: usual[name] for name in flow.parameters.required or ()}


@pytest.mark.parametrize("settings", [TrainingConfig, RhythmConfig, ReproduceSettings])
def test_settings_have_the_same_bounds(settings: Any) -> None:
    """Settings that are made anywhere else refuse the same numbers."""
    for name in vars(settings()).keys() & BOUNDS.keys():
        for value in outside(name):
            with pytest.raises(ValueError, match=f"{name}: found"):
                settings(**{name: value})


def test_a_teacher_counts_by_the_same_bounds() -> None:
    """As little as there is of a teacher is taken; none, or more than all, is not."""
    Teaching("squeeze", lambda _: _, weight=0.001)  # type: ignore[arg-type, return-value]
    for value in outside("teacher_weight"):
        with pytest.raises(ValueError, match="teacher_weight: found"):
            Teaching("squeeze", lambda _: _, weight=value)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_policy_has_finite_bounds(value: str, tmp_path: Path) -> None:
    """A check against what is no number would pass, or fail, whatever was found."""
    path = tmp_path / "policy.toml"
    path.write_text(
        f'title = "t"\n[[check]]\ntitle = "a"\nfigure = "f1"\nleast = 0.5\nmost = {value}\n'
    )
    with pytest.raises(PolicyError, match=f"found 0.5 and {value}; expected finite bounds"):
        read_checks(path)


def test_a_policy_s_least_is_not_above_its_most(tmp_path: Path) -> None:
    """No figure would ever pass."""
    path = tmp_path / "policy.toml"
    path.write_text('title = "t"\n[[check]]\ntitle = "a"\nfigure = "f1"\nleast = 0.9\nmost = 0.5\n')
    with pytest.raises(PolicyError, match=r"found 0\.9 and 0\.5; expected .*least not above most"):
        read_checks(path)


def test_the_environment_has_the_same_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of the environment is named by its variable; without it, the usual one is taken."""
    assert from_environment("workers", "HOLTER_WORKERS", 2) == 2
    monkeypatch.setenv("HOLTER_WORKERS", "3")
    assert from_environment("workers", "HOLTER_WORKERS", 2) == 3
    for text in ("0", "nan", "many", "-1"):
        monkeypatch.setenv("HOLTER_WORKERS", text)
        with pytest.raises(ValueError, match="HOLTER_WORKERS, workers: found"):
            from_environment("workers", "HOLTER_WORKERS", 2)


@pytest.mark.parametrize(
    "words",
    [
        ("analyse", "x.hea", "--least-beats", "0"),
        ("live", "--fs", "nan"),
        ("live", "--fs", "0"),
        ("live", "--fs", "250", "--units-per-mv", "inf"),
        ("live", "--fs", "250", "--baud", "0"),
    ],
)
def test_the_device_has_the_same_bounds(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """The agent's command refuses the number before it reads anything."""
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(words)
    assert ended.value.code == 2
    assert f"found {words[-1]}; expected" in capsys.readouterr().err


def test_how_many_may_fail_is_a_count_or_a_share() -> None:
    """A share is rounded down: no more records fail than it says."""
    assert [most_allowed(text, 48) for text in ("3", "0", "10%", "0.1", "100%", "50 %")] == [
        3,
        0,
        4,
        4,
        48,
        24,
    ]
    for text in ("", "many", "-1", "101%", "nan", "inf%", "1.5", "-10%"):
        with pytest.raises(ValueError, match="expected a count of records"):
            most_allowed(text, 48)


def test_what_is_no_number_has_no_bound() -> None:
    """True is no number, None is none, and other names are not held."""
    all_within(epochs=None, quantised=True, other=-1, model="resnet21", weight=[])
