"""Which code made something: digests of source files, the git commit, the locked environment."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from dis import opmap
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import distributions
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType

from storage.files import sha256_bytes, sha256_file, sha256_json
from storage.registry.tags import GIT_CHANGES_TAG, GIT_COMMIT_TAG, GIT_DIRTY_TAG

ROOT = Path(__file__).parents[2]

#: Where the code that shapes beat tables begins; what these import counts too.
BEAT_CODE = (
    "tasks.signal.beats",
    "storage.recordings.records",
    "storage.tables.beats",
    "storage.tables.content",
)
#: The same in commits before 0.2.0, whose modules lay side by side.
FLAT_BEAT_CODE = ("tasks.beats", "storage.records", "storage.beats", "storage.content")
#: Operations of byte code: an import, whose names the operation before it loads, and more of an
#: operand.
IMPORT_NAME, EXTENDED_ARG = opmap["IMPORT_NAME"], opmap["EXTENDED_ARG"]


def code_of(*roots: str, top: Path = ROOT) -> dict[str, Path]:
    """Every module of `tasks` and `storage` that the roots import, themselves included.

    A module's C source, of the same name beside it, counts too.
    """
    paths: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        path = top / (name.replace(".", "/") + ".py")
        if name in paths or not path.is_file():
            continue
        paths[name] = path
        if (compiled := path.with_suffix(".c")).is_file():
            paths[f"{name}.c"] = compiled
        code = SourceFileLoader(name, str(path)).get_code(name)  # Python's own cache of it
        waiting += _imports(code) if code else ()
    return paths


def _imports(code: CodeType) -> Iterator[str]:
    """Every module that compiled code imports, functions' own imports included.

    From the byte code: Python 3.11's `ast.parse` fails while another thread calls it.
    """
    # A word is an operation and its operand; `modulefinder` reads the same, forty times slower.
    kinds, operands = code.co_code[::2], code.co_code[1::2]
    at = kinds.find(IMPORT_NAME)
    while at >= 0:
        module = code.co_names[_operand(kinds, operands, at)]
        before = at - 1
        while kinds[before] == EXTENDED_ARG:
            before -= 1
        names = code.co_consts[_operand(kinds, operands, before)]
        if module.partition(".")[0] in ("tasks", "storage"):
            yield module
            yield from (f"{module}.{name}" for name in names or ())
        at = kinds.find(IMPORT_NAME, at + 1)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _imports(inner)


def _operand(kinds: bytes, operands: bytes, at: int) -> int:
    """A word's operand, with what the words before it extend it by."""
    value, shift = operands[at], 8
    while at and kinds[at - 1] == EXTENDED_ARG:
        at -= 1
        value |= operands[at] << shift
        shift += 8
    return value


@cache
def beat_code_sha256() -> str:
    """Digest of the source code that shapes beat tables: a change in it rebuilds every table."""
    return sha256_json({name: sha256_file(path) for name, path in code_of(*BEAT_CODE).items()})


def beat_code_at(commit: str) -> str:
    """The same of a commit of this checkout."""
    with TemporaryDirectory(prefix="holter-") as folder:
        words = ["git", "-C", str(ROOT), "archive", commit, "tasks", "storage"]
        packed = subprocess.run(words, capture_output=True, check=True, timeout=60).stdout  # noqa: S603 - fixed words, no shell
        with tarfile.open(fileobj=BytesIO(packed)) as files:
            files.extractall(folder, filter="data")
        modules = code_of(*BEAT_CODE, *FLAT_BEAT_CODE, top=Path(folder))
        return sha256_json({name: sha256_file(path) for name, path in modules.items()})


def has_commit(commit: str) -> bool:
    """Whether this checkout has a commit."""
    words = ["git", "-C", str(ROOT), "cat-file", "-e", f"{commit}^{{commit}}"]
    try:
        return subprocess.run(words, capture_output=True, timeout=20).returncode == 0  # noqa: S603 - no shell
    except (OSError, subprocess.SubprocessError):
        return False


@cache
def git_state() -> dict[str, str]:
    """The checkout's commit and whether it is dirty; "unknown" where there is no git."""

    def git(*words: str) -> str:
        return subprocess.run(  # noqa: S603 - fixed words, no shell
            ["git", "-C", str(ROOT), *words],  # noqa: S607 - git is looked up on PATH
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return {
            GIT_COMMIT_TAG: git("rev-parse", "HEAD"),
            GIT_DIRTY_TAG: str(bool(changes)).lower(),
            GIT_CHANGES_TAG: sha256_bytes(git("diff", "HEAD").encode()) if changes else "",
        }
    except (OSError, subprocess.SubprocessError):
        return {GIT_COMMIT_TAG: "unknown", GIT_DIRTY_TAG: "unknown", GIT_CHANGES_TAG: ""}


@cache
def git_changes() -> bytes:
    """What differs from the commit in tracked files, as a patch; empty where nothing does."""
    words = ["git", "-C", str(ROOT), "diff", "HEAD", "--binary"]
    try:
        return subprocess.run(words, capture_output=True, check=True, timeout=20).stdout  # noqa: S603 - fixed words, no shell
    except (OSError, subprocess.SubprocessError):
        return b""


def packages() -> dict[str, str]:
    """Every installed distribution and its version."""
    return {str(package.metadata["Name"]): package.version for package in distributions()}


def environment_sha256() -> str:
    """Digest of the constraints file: the locked environment."""
    return sha256_file(ROOT / "constraints.txt")
