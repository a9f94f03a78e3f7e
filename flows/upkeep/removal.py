"""Removal of a data set: its TOML, its beat tables, and what was kept of its records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from flows.ingest.flow import slug
from flows.upkeep.archive import names_text
from flows.upkeep.cleaning import Item, busy
from flows.upkeep.needs import Needs, reasons
from storage.datasets.dataset import available_specs, user_folders
from storage.errors import BackupError, SpecError, TableError
from storage.files import home, sha256_file
from storage.labels.decisions import log_heads, log_path, reviewed_datasets
from storage.places import beats_place
from storage.recordings.download import FETCH_NOTE, fetched_files
from storage.run_notes import live_runs
from storage.tables.beats_manifest import read_manifest
from storage.text import did_you_mean

#: What names the tables of a data set beside the usual ones.
VARIANTS = {"annotations", "reference", "detected"}


@dataclass(frozen=True)
class Plan:
    """What of a data set goes and stays, and what is to be known."""

    items: tuple[Item, ...]
    notes: tuple[str, ...]


def plan(name: str, needs: Needs) -> Plan:
    """What there is of a data set, each with why it stays.

    Raises
    ------
    SpecError
        There is nothing of that name.
    BackupError
        A flow runs.
    """
    if live_runs():
        raise BackupError(f"data set {name}: found it {busy()}; expected no flow to run")
    items = [*_tomls(name), *_tables(name, needs), *_watched(name), *_folds(name)]
    specs = available_specs()
    if not items and name not in specs:
        known = sorted({*specs, *_table_names()})
        raise SpecError(
            f"no data set named {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}"
        )
    notes = []
    mine = {path for item in items for path in item.paths}
    if name in specs and specs[name] not in mine:
        notes.append(f"its TOML is part of this installation and stays: {specs[name]}")
    if count := len(log_heads(name)) if name in reviewed_datasets() else 0:
        notes.append(f"{count} decisions of reviewers stay: {log_path(name)}")
    beats = beats_place()
    if not isinstance(beats, Path):
        notes.append(f"beat tables at {beats} are not looked at: others may share them")
    return Plan(tuple(items), tuple(notes))


def _item(kind: str, name: str, paths: list[Path], reason: str = "", lock: str = "") -> Item:
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    size = sum(file.lstat().st_size for file in files if not file.is_dir())
    return Item(kind, name, size, reason, tuple(paths), lock)


def _tomls(name: str) -> Iterator[Item]:
    """The TOML of a data set in the user's own folders, and the picture of its beats."""
    for folder in user_folders():
        for path in (folder / f"{name}.toml", folder / f"{name}.png"):
            if path.parent == folder and path.is_file():
                yield _item("TOML" if path.suffix == ".toml" else "picture", str(path), [path])


def _table_folders() -> list[Path]:
    beats = beats_place()
    return sorted(beats.glob("dataset=*")) if isinstance(beats, Path) else []


def _dataset_of(folder: Path) -> str:
    """The data set of a folder of tables, by its manifest, else by its name."""
    try:
        return read_manifest(folder / "manifest.json").dataset
    except TableError:
        first, *rest = folder.name.removeprefix("dataset=").split(".")
        return first if set(rest) <= VARIANTS else folder.name.removeprefix("dataset=")


def _table_names() -> set[str]:
    return {_dataset_of(folder) for folder in _table_folders()}


def _tables(name: str, needs: Needs) -> Iterator[Item]:
    """The beat tables of a data set; those that a version needs stay, as the others in doubt."""
    for folder in _table_folders():
        if _dataset_of(folder) != name:
            continue
        references = needs.folders.get(folder, [])
        doubt = names_text(needs.unreadable, 1)
        reason = reasons(references) if references else ""
        reason = reason or (f"nobody can tell who needs it ({doubt})" if doubt else "")
        title = folder.name.removeprefix("dataset=")
        yield _item("beat tables", title, [folder], reason, f"ingest-{slug(name)}")


def _watched(name: str) -> Iterator[Item]:
    """What `holter data watch` has seen of it."""
    folder = home() / "watch"
    names = [name, *(f"{name}.{variant}" for variant in sorted(VARIANTS))]
    for stem in names:
        for path in (folder / f"{stem}.json", folder / f"{stem}.count.json"):
            if path.parent == folder and path.is_file():
                yield _item("watch note", path.name, [path])


def _folds(name: str) -> Iterator[Item]:
    """Answers of cross-validations' folds about its records, which they name DATASET/RECORD."""
    for path in sorted((home() / "folds").glob("*.npz")):
        names: set[str] = set()
        with suppress(BadZipFile, OSError), ZipFile(path) as file:
            names = {member.partition("/")[0] for member in file.namelist()}
        if name in names:
            yield _item("answers of a fold", path.name, [path])


def recordings_of(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of a folder that `holter data fetch` brought; and those that it did not.

    A file counts that the fetch noted, with the digest that it noted: it can be fetched again.

    Raises
    ------
    BackupError
        The folder has no such note.
    """
    digests = fetched_files(folder)
    if not digests:
        raise BackupError(
            f"{folder}: found no note of a fetch ({FETCH_NOTE}); expected a folder that "
            "`holter data fetch` filled. Recordings of another origin are never removed"
        )
    files, others = [], []
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        name = path.relative_to(folder).as_posix()
        if name == FETCH_NOTE:
            continue
        own = name in digests and not path.is_symlink() and sha256_file(path) == digests[name]
        if own:
            files.append(path)
        else:
            others.append(name)
    return [*files, folder / FETCH_NOTE], others


def remove_fetched(files: list[Path], folder: Path) -> None:
    """Remove files, and the folders that are empty then."""
    for path in files:
        path.unlink(missing_ok=True)
    below = sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True)
    for path in (*below, folder):
        if not any(path.iterdir()):
            path.rmdir()
