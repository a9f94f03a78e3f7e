"""Plans of change control: read whole, or refused with all that is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from storage.errors import PolicyError
from storage.policies.plan import PATTERN, Range, parse_plan, policy_of, read_plan
from storage.registry.policy import DEFAULT

TEXT = PATTERN.read_text()


def test_the_pattern_is_a_plan() -> None:
    """The plan that comes with this is read, and names a policy that comes with this too."""
    plan, text = read_plan(PATTERN)
    assert text == TEXT
    assert plan.inside.settings["epochs"] == Range(least=10, most=300)
    assert policy_of(plan, Path("/nowhere")).text == DEFAULT.read_text()
    assert {date.confirmed for date in plan.date} == {True, False}


def test_a_policy_beside_the_plan_comes_first(tmp_path: Path) -> None:
    """By its name alone: no path of a plan leads elsewhere."""
    own = DEFAULT.read_text().replace("research use", "ward 7")
    (tmp_path / "champion.toml").write_text(own)
    for name in ("champion.toml", "../../elsewhere/champion.toml"):
        plan = parse_plan(TEXT.replace('"champion.toml"', f'"{name}"'), "here")
        assert policy_of(plan, tmp_path).text == own
    with pytest.raises(PolicyError, match=r"none\.toml"):
        policy_of(parse_plan(TEXT.replace('"champion.toml"', '"none.toml"'), "here"), tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('model = "holter-resnet21"', 'model = "../x"', "model"),
        ("epochs = { least = 10, most = 300 }", "epochs = { least = 9, most = 1 }", "epochs"),
        ("epochs = { least = 10, most = 300 }", "epochs = {}", "epochs"),
        ("epochs = { least = 10, most = 300 }", "epochs = { most = nan }", "epochs"),
        ("margin = { least = 0.0, most = 5.0 }", "", "found no margin"),
        ('networks = ["resnet21"]', "networks = []", "inside.networks"),
        ("[manufacturer]", "[maker]", "maker: Extra inputs"),
        ("date = 2025-08-18", 'date = "soon"', "date.0.date"),
        ("[inside]", "[inside", "cannot be read"),
    ],
)
def test_what_is_no_plan_is_refused(old: str, new: str, words: str) -> None:
    """Each fault with its place, and the file's name."""
    with pytest.raises(PolicyError, match=rf"plan ward\.toml.*{re.escape(words)}"):
        parse_plan(TEXT.replace(old, new), "ward.toml")


@pytest.mark.parametrize(
    ("text", "inside"), [("0.5", True), ("1", True), ("1.01", False), ("x", False), ("nan", False)]
)
def test_a_range_holds_its_ends_and_no_word(text: str, inside: bool) -> None:
    """What is no number is in no range."""
    assert Range(least=0.5, most=1).holds(text) == inside
