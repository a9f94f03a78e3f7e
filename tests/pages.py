"""The commands that pages show: found in their blocks and sentences, and parsed as they are run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

import edge_agent.cli
from flows.cli.app import app
from tests.conftest import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
OURS = ("holter", "holter-edge")
#: A command goes on to one of these, or to its line's end.
ENDS = {"|", "||", "&&", ";", ">", ">>"}


def blocks(page: Path) -> list[str]:
    """The lines of a page's console blocks, those that go on joined, without prompt and comment."""
    found = re.findall(r"```(?:console)?\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line for block in found for line in block.replace("\\\n", " ").splitlines()]
    return [line.strip().removeprefix("$ ").split("  #")[0].strip() for line in lines]


def commands(page: Path) -> list[list[str]]:
    """The words of every command of ours in a page's blocks, wherever in its line it begins."""
    return [words for line in blocks(page) if "holter" in line for words in _ours(line)]


def _ours(line: str) -> Iterator[list[str]]:
    parts = shlex.shlex(line, posix=True, punctuation_chars=True)
    parts.whitespace_split, parts.commenters = True, ""
    try:
        words = list(parts)
    except ValueError:  # a text with an apostrophe
        return
    for place, word in enumerate(words[:-1]):
        before = words[place - 1] if place else "|"
        if word.rpartition("/")[2] in OURS and (before in ENDS or "=" in before):
            rest = words[place + 1 :]
            end = next((n for n, one in enumerate(rest) if one in ENDS), len(rest))
            yield [word.rpartition("/")[2], *rest[:end]]


def named(page: Path) -> list[list[str]]:
    """The words of every command that a sentence or table of a page names."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = re.findall(r"`(?:[A-Z_]+=\S+ )*(holter(?:-edge)? [^`]+)`", text)
    return [one.split() for one in found]


def found_in(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, with the words that are left for it.

    Raises
    ------
    ValueError
        There is no such command.
    """
    if words[0] == "holter-edge":
        subs = next(one for one in edge_agent.cli.parser()._actions if one.dest == "command")
        if words[1] not in (subs.choices or {}):
            raise ValueError(f"no command {' '.join(words[:2])}")
        return dict(subs.choices or {})[words[1]], words[2:]
    node: Any = get_command(app)
    while words[1:] and words[1] in getattr(node, "commands", {}):
        node, words = node.commands[words[1]], words[1:]
    if hasattr(node, "commands") and words[1:] and not words[1].startswith("-"):
        raise ValueError(f"no command {' '.join(words)}")
    return node, words[1:]


def options_of(command: Any) -> set[str]:
    """Every option that a command has."""
    if hasattr(command, "params"):
        each = [name for one in command.params for name in [*one.opts, *one.secondary_opts]]
        return {*each, "--help"}
    return {name for one in command._actions for name in one.option_strings}


def parse(words: list[str]) -> None:
    """Parse a command as it is when it is run: what is missing, unknown or out of bounds raises."""
    command, rest = found_in(words)
    if words[0] == "holter-edge":
        edge_agent.cli.parser().parse_args(words[1:])
        return
    for one in command.params:  # what would be asked for on a terminal
        if getattr(one, "prompt", None) and one.opts[0] not in rest:
            rest = [*rest, one.opts[0], "made-up-password"]
    command.make_context(words[-1], rest)
