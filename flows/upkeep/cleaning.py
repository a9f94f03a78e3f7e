"""Clean up: what lies in the state folder, who needs each thing, and how large it is.

Ledgers, chains, MLflow's database and its artifacts are never touched. A thing goes where no
version, chain or ledger names it, no flow runs, and it has not changed for some days.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flows.ingest.flow import slug
from flows.upkeep.archive import names_text
from flows.upkeep.needs import Needs, manifests_below, reasons
from storage.errors import BackupError, TableError
from storage.files import alone, home, sha256_file
from storage.places import beats_place
from storage.run_notes import live_runs
from storage.tables.beats_manifest import read_manifest

DAY_S = 86_400.0
#: How old a thing is, in days, before it may go.
USUAL_DAYS = 30.0


@dataclass(frozen=True)
class Item:
    """A thing that may go, or stays.

    Attributes
    ----------
    kind, name : str
        What it is: "beat tables", "test set" and so on.
    bytes : int
        How large it is.
    reason : str
        Why it stays; "" for one that goes.
    paths : tuple of Path
        What of it is removed.
    lock : str
        The lock under which it is removed; "" where it needs none.
    """

    kind: str
    name: str
    bytes: int
    reason: str
    paths: tuple[Path, ...]
    lock: str = ""


@dataclass(frozen=True)
class View:
    """What decides whether a thing stays: who needs it, what runs, and since when it may go."""

    needs: Needs
    busy: str
    since_s: float
    days: float

    def young(self, paths: list[Path]) -> str:
        """The reason of files one of which has changed of late; "" where none has."""
        newest = max((path.lstat().st_mtime for path in paths), default=0.0)
        return f"changed within {self.days:g} days" if newest > self.since_s else ""


def view_of(needs: Needs, days: float) -> View:
    """How things stand now."""
    return View(needs, busy(), time.time() - days * DAY_S, days)


def busy() -> str:
    """The flows that run, in words; "" where none does."""
    names = (f"{run.flow}, process {run.pid} on {run.host}" for run in live_runs())
    return f"in use: {words}" if (words := names_text(names)) else ""


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def _size(paths: list[Path]) -> int:
    return sum(path.lstat().st_size for path in paths)


def _tables(view: View) -> Iterator[Item]:
    """Folders of beat tables that no chain names, and in the others what no manifest names."""
    beats = beats_place()
    if not (isinstance(beats, Path) and beats.resolve().is_relative_to(home().resolve())):
        return  # others may share it, whose versions are not known here
    for folder in manifests_below(beats):
        files = _files(folder)
        dataset = folder.name.removeprefix("dataset=")
        lock = f"ingest-{slug(dataset.partition('.')[0])}"
        unknown = names_text(view.needs.unreadable, 1)
        doubt = f"nobody can tell who needs it ({unknown})" if unknown else ""
        if reason := _needed(view.needs, folder):
            yield Item("beat tables", dataset, _size(files), reason, ())
            yield from _orphans(view, folder, doubt, lock)
            continue
        reason = doubt or view.busy or view.young(files)
        yield Item("beat tables", dataset, _size(files), reason, (folder,), lock)


def _needed(needs: Needs, folder: Path) -> str:
    """Which versions need tables in a folder, by its place or by the digest of its data set."""
    if references := needs.folders.get(folder):
        return reasons(references)
    try:
        digest = read_manifest(folder / "manifest.json").digest()
    except TableError:
        return ""
    return reasons([needs.datasets[digest]]) if digest in needs.datasets else ""


def _orphans(view: View, folder: Path, doubt: str, lock: str) -> Iterator[Item]:
    """The tables of a folder that neither its manifest nor any chain names."""
    try:
        named = {folder / entry.file for entry in read_manifest(folder / "manifest.json").entries}
    except TableError:
        return
    for path in sorted(folder.rglob("*.parquet")):
        if path in named or path.name.startswith("."):
            continue
        entry = folder / "entries" / path.relative_to(folder).with_suffix(".json")
        paths = (path, *([entry] if entry.is_file() else []))
        reason = doubt or view.busy or view.young(list(paths))
        if not reason and (reference := view.needs.tables.get(sha256_file(path))):
            reason = reasons([reference])
        name = f"{folder.name.removeprefix('dataset=')}/{path.relative_to(folder)}"
        yield Item("beat table of no manifest", name, _size(list(paths)), reason, paths, lock)


def _testsets(view: View) -> Iterator[Item]:
    """Test sets that were fetched and that no version names."""
    for path in sorted((home() / "testsets").glob("*.npz")):
        reference = view.needs.testsets.get(path.stem)
        reason = reasons([reference]) if reference else view.busy or view.young([path])
        yield Item("test set", path.stem[:12], _size([path]), reason, (path,))


def _profiles(view: View) -> Iterator[Item]:
    """Profiles of training data, of chains that no ledger names."""
    for path in sorted((home() / "profiles").glob("*.json")):
        reference = view.needs.chains.get(path.stem)
        reason = reasons([reference]) if reference else view.busy or view.young([path])
        yield Item("profile", path.stem[:12], _size([path]), reason, (path,))


def _runs(view: View) -> Iterator[Item]:
    """Files of runs: MLflow has those of every run that ended well."""
    for folder in sorted((home() / "runs").glob("*")):
        files = _files(folder) if folder.is_dir() else [folder]
        reason = view.busy or view.young([*files, folder])
        yield Item("work folder of a run", folder.name, _size(files), reason, (folder,))


def _checkpoints(view: View) -> Iterator[Item]:
    """Trainings that were broken off."""
    for path in sorted((home() / "checkpoints").glob("*.npz")):
        reason = view.busy or view.young([path])
        yield Item("checkpoint", path.stem[:12], _size([path]), reason, (path,))


def _folds(view: View) -> Iterator[Item]:
    """Answers of the folds of cross-validations: they can be trained again."""
    for path in sorted((home() / "folds").glob("*.npz")):
        reason = view.busy or view.young([path])
        yield Item("answers of a fold", path.stem[:12], _size([path]), reason, (path,))


#: What is looked at, in the order in which it is told.
KINDS: tuple[Callable[[View], Iterator[Item]], ...] = (
    _tables,
    _testsets,
    _profiles,
    _runs,
    _checkpoints,
    _folds,
)


def look(view: View) -> list[Item]:
    """Every thing that may go or stays, with its reason."""
    return [item for kind in KINDS for item in kind(view)]


def outside() -> str:
    """What is not looked at, in words; "" where all is."""
    beats = beats_place()
    if isinstance(beats, Path) and beats.resolve().is_relative_to(home().resolve()):
        return ""
    return f"beat tables at {beats} (HOLTER_BEATS): others may share them"


def remove(item: Item) -> None:
    """Take a thing away, unless a flow has begun since it was looked at.

    Raises
    ------
    BackupError
        A flow runs.
    """
    work = partial(_remove, item)
    if not item.lock:
        work()
        return
    with alone(item.lock):
        work()


def _remove(item: Item) -> None:
    if words := busy():
        raise BackupError(f"{item.kind} {item.name}: found it {words}; expected no flow to run")
    for path in item.paths:
        if path.is_dir() and not path.is_symlink():
            (path / "manifest.json").unlink(missing_ok=True)  # no table is missed by a reader
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
