"""Names that are pronouns or participles: how many the code has, and where.

A value is a noun and a function a verb: `found` says nothing of what it holds. The script counts
functions, classes, arguments, variables, attributes and aliases of imports, each once a scope, by
the head of the name: its last word before prepositions (`found_in` is `found`, `known_models` is
`models`). A public name has no underscore before it, nor before the classes and functions around
it, and is no variable of a function. Usage:

    python scripts/names.py [FOLDER ...] [--list] [--most-public SHARE] [--most-all SHARE]

With a share (0.02 is two in a hundred) it fails where a folder's names in all are above it.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("flows", "tasks", "storage", "edge_agent")


def vocabulary(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


#: Words that stand for a thing without naming it.
PRONOUNS = vocabulary(
    "about all another any both each every few he here how it its many mine none nothing one ones "
    "other others ours several she some somebody something that theirs them there these they this "
    "those we what when where which who whom whose why you yours"
)
#: Past forms, whatever they name. Those that are adjectives too, as `hidden`, are left out.
PAST = vocabulary(
    "began begun brought built came chosen dealt did done drawn forgotten found gave given gone "
    "got had heard held kept knew known learnt made meant said saw seen sent shown spent stood "
    "taken taught thought told took was went were written wrote"
)
#: Regular ones, of a value. A flag may be an adjective: `simulated`, `signed`, `decided`.
PAST_OF_VALUES = vocabulary(
    "answered arrived asked checked counted ended entered fetched followed handed joined listed "
    "located named needed numbered opened required shaped turned used wanted worked"
)
#: Words in "ed" that are no past forms: a function or class may be called so.
NO_PAST = vocabulary("bed deed embed exceed feed need red seed speed weed")
PREPOSITIONS = vocabulary("as at by for from in of on to with")
#: Methods whose arguments are ours to name; Python names those of the others, as of `__eq__`.
OWN_ARGUMENTS = vocabulary("__call__ __init__ __new__ __post_init__")
#: Names that stay, each with its reason: a file or an interface outside fixes them, perhaps.
EXEMPT = {
    "WorkersGone": "an error's name says what happened",
    "decision_kinds.py:about": "a key of `holter pareto --format json`",
    "decision_kinds.py:who": "a key of `holter lineage --format json`",
    # storage
    "arrivals.py:taken": "a field of a folder's last look, kept on disk",
    "labels.py:why": "a column of the CSV of labels",
    "ledger_entry.py:who": "a field of a ledger's entry, which is signed",
    "ledger.py:who": "what becomes that field",
    "findings.py:told": "a key of the JSON that `holter verify` prints",
    # tasks
    "answers.py:told": "a key of the JSON that `holter analyse` writes",
    "promotion.py:asked": "a key of the verdicts in a decision's JSON",
    "promotion.py:found": "a key of the verdicts in a decision's JSON",
    # flows
    "train.py:every": "an argument of Typer is its option: `holter watch --every`",
}

Kind = str  # "function", "class" or "value"


@dataclass(frozen=True)
class Name:
    """A name where it is first bound in its scope."""

    path: Path
    line: int
    text: str
    kind: Kind
    public: bool

    @property
    def at_fault(self) -> bool:
        """Whether its head is a pronoun or a participle."""
        head = head_of(self.text)
        if EXEMPT.keys() & {self.text, f"{self.path.name}:{self.text}"}:
            return False
        if head in PRONOUNS or head in PAST:
            return True
        if self.kind == "value":
            return head in PAST_OF_VALUES
        alone = self.text.strip("_").lower() == head  # `write_simulated` has its verb
        return alone and head.endswith("ed") and head not in NO_PAST


def head_of(name: str) -> str:
    """The word that says what a name is of: the last one before prepositions, in lower case."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    words = [word for word in snake.split("_") if word]
    while len(words) > 1 and words[-1] in PREPOSITIONS:
        words.pop()
    return words[-1] if words else ""


def bindings(node: ast.AST) -> Iterator[tuple[str, Kind]]:
    """The names that a node itself binds, none of those below it."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            decorators = {ast.unparse(entry).split(".")[-1] for entry in node.decorator_list}
            yield name, "value" if decorators & {"property", "cached_property"} else "function"
        case ast.ClassDef(name=name):
            yield name, "class"
        case ast.arg(arg=name):
            yield name, "value"
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield name, "value"
        case ast.alias(name=source, asname=str(name)) if name != source.split(".")[-1]:
            yield name, "value"
        case ast.ExceptHandler(name=str(name)):
            yield name, "value"
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name, "value"
        case ast.MatchMapping(rest=str(name)):
            yield name, "value"


def names_of(path: Path) -> list[Name]:
    """Every name that a module binds, once a scope, by line; `self`, `cls` and `_` are none."""
    names: dict[tuple[str, ...], Name] = {}

    def walk(node: ast.AST, scope: tuple[str, ...], *, public: bool, local: bool) -> None:
        for child in ast.iter_child_nodes(node):
            for text, kind in bindings(child):
                argument = isinstance(child, ast.arg)
                if text in ("self", "cls") or not text.strip("_") or (argument and foreign(scope)):
                    continue
                visible = public and not text.startswith("_")
                visible &= not local or argument or isinstance(child, ast.Attribute)
                line = getattr(child, "lineno", 1)
                names.setdefault((*scope, text), Name(path, line, text, kind, visible))
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = public and not local and not re.match("_[^_]", child.name)
                function = not isinstance(child, ast.ClassDef)
                walk(child, (*scope, child.name), public=inner, local=local or function)
            elif isinstance(child, ast.Lambda):
                walk(child, (*scope, f"lambda {child.lineno}"), public=False, local=True)
            else:
                walk(child, scope, public=public, local=local)

    walk(ast.parse(path.read_text(encoding="utf-8"), str(path)), (), public=True, local=False)
    return sorted(names.values(), key=lambda name: name.line)


def foreign(scope: tuple[str, ...]) -> bool:
    """Whether a function's arguments are named by Python."""
    return bool(scope) and scope[-1].startswith("__") and scope[-1] not in OWN_ARGUMENTS


def share(names: Iterable[Name]) -> tuple[int, int, float]:
    """How many names there are, how many at fault, and their share."""
    faults = [name.at_fault for name in names]
    return len(faults), sum(faults), sum(faults) / len(faults) if faults else 0.0


def main(words: list[str] | None = None) -> int:
    """Print the counts of each folder; gives 1 where a share is above its bound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folders", nargs="*", type=Path, default=[Path(name) for name in FOLDERS])
    parser.add_argument("--list", action="store_true", help="print each name with file and line")
    parser.add_argument("--most-public", type=float, default=1.0, help="share of public names")
    parser.add_argument("--most-all", type=float, default=1.0, help="share of all names")
    options = parser.parse_args(words)
    by_folder = {
        str(folder): [name for path in sorted(folder.rglob("*.py")) for name in names_of(path)]
        for folder in options.folders
    }
    names = [name for group in by_folder.values() for name in group]
    if not names:
        parser.error(f"no Python names in {', '.join(by_folder)}")
    print(f"{'folder':20} {'names':>7} {'at fault':>9} {'share':>7}   public: the same")
    for folder, group in [*by_folder.items(), ("all", names)]:
        figures = "{:7} {:9} {:7.2%}".format(*share(group))
        public = "{:7} {:9} {:7.2%}".format(*share(name for name in group if name.public))
        print(f"{folder:20} {figures}   {public}")
    faults = [name for name in names if name.at_fault]
    for path, count in Counter(name.path for name in faults).most_common(10):
        texts = Counter(name.text for name in faults if name.path == path).most_common(6)
        print(f"{count:4}  {path}: {', '.join(text for text, _ in texts)}")
    beyond = {
        "public": share(name for name in names if name.public)[2] > options.most_public,
        "all": share(names)[2] > options.most_all,
    }
    for name in faults:
        if options.list or beyond["all"] or (beyond["public"] and name.public):
            side = "public " if name.public else ""
            print(f"{name.path}:{name.line}: {side}{name.kind} {name.text}")
    for side, fails in beyond.items():
        if fails:
            print(f"the share of {side} names at fault is above its bound", file=sys.stderr)
    return int(any(beyond.values()))


if __name__ == "__main__":
    sys.exit(main())
