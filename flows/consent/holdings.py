"""What the state folder holds of a person: beat tables, and files of every other kind."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from flows.consent.person import Trace
from flows.ingest.flow import slug
from flows.ingest.withdrawn import remove_table
from storage.datasets.dataset import user_folders
from storage.files import alone, home
from storage.places import Place, beats_place
from storage.registry.signing import trusted_keys
from storage.tables.beats_manifest import (
    is_signed,
    manifest_paths,
    read_manifest,
    write_manifest,
)

#: Folders of the state folder in which no file is of one record, or that are looked through by
#: rules of their own.
ASIDE = {
    *("beats", "mlflow", "prefect", "ledger", "chains", "keys", "logs", "locks", "running"),
    *("closed", "consent", "profiles", "watch", "datasets", "testsets", "runs", "checkpoints"),
    "folds",
}
#: Kinds of files of which nothing tells whose they are: all of them go.
CHECKPOINT, DRAWING = "checkpoint", "drawing or answers of the review page"
ANYBODYS = (CHECKPOINT, DRAWING)


def tables_of(person: Trace) -> dict[Place, list[str]]:
    """The records of a person of which there is a beat table, by the manifest of its folder."""
    places: dict[Place, list[str]] = {}
    for path in manifest_paths(beats_place()):
        manifest = read_manifest(path)
        named = {entry.record for entry in manifest.entries}
        for record in person.records.get(manifest.dataset, ()):
            if record in named or (path.parent / f"{record}.parquet").is_file():
                places.setdefault(path, []).append(record)
    return places


def table_bytes(manifest: Place, records: Collection[str]) -> int:
    """The bytes of beat tables; 0 of those outside this machine."""
    if not isinstance(manifest, Path):
        return 0
    files = (manifest.parent / f"{record}.parquet" for record in records)
    return sum(file.stat().st_size for file in files if file.is_file())


def remove_tables(path: Place, records: Collection[str]) -> None:
    """Take records out of a manifest, then their tables away: no reader misses one.

    The manifest is signed again where it was signed by a key that is trusted.
    """
    dataset = read_manifest(path).dataset
    with alone(f"ingest-{slug(dataset)}"):
        manifest, signed = read_manifest(path), is_signed(path, trusted_keys())
        names = {f"{dataset}/{record}" for record in records}
        others = {
            record: [name for name in copies if name not in names]
            for record, copies in manifest.duplicates.items()
            if record not in records
        }
        rest = replace(
            manifest,
            entries=tuple(e for e in manifest.entries if e.record not in records),
            failures={k: v for k, v in manifest.failures.items() if k not in records},
            duplicates={record: copies for record, copies in others.items() if copies},
        )
        write_manifest(path, rest, signed=signed)
        for record in records:
            remove_table(path.parent, record)


def files_of(person: Trace) -> Iterator[tuple[str, Path]]:
    """Files and folders of the state folder that hold something of a person, each with its kind."""
    yield from ((kind, path) for kind, path in _files(person) if path.exists())


def _files(person: Trace) -> Iterator[tuple[str, Path]]:
    for version in person.versions:
        if version.testset_sha256:
            yield "test set", home() / "testsets" / f"{version.testset_sha256}.npz"
        for run_id in filter(None, (version.run_id, *version.evaluations)):
            yield "work folder of a run", home() / "runs" / run_id
    names = {f"{dataset}/{record}" for dataset, of in person.records.items() for record in of}
    folds = (path for path in sorted((home() / "folds").glob("*.npz")) if _holds(path, names))
    yield from (("answers of a fold", path) for path in folds)
    # Whose data a training that was broken off has seen, nothing tells.
    yield from ((CHECKPOINT, path) for path in sorted((home() / "checkpoints").glob("*.npz")))
    tables = [path.parent for path in manifest_paths(beats_place())]
    places = [*(folder / "pyramids" for folder in tables), home() / "pyramids", home() / "review"]
    drawings = (place for place in places if isinstance(place, Path) and place.is_dir())
    yield from ((DRAWING, file) for place in drawings for file in sorted(place.rglob("*.np[yz]")))
    pictures = [folder / f"{name}.png" for folder in user_folders() for name in person.records]
    yield from (("picture of ten beats", path) for path in pictures)
    tops = sorted(home().iterdir()) if home().is_dir() else []
    for top in (top for top in tops if top.is_dir() and top.name not in ASIDE):
        yield from ((f"file of {top.name}", path) for path in _below(top, person.records))


def _holds(path: Path, names: Collection[str]) -> bool:
    """Whether answers of a fold are of one of some records, DATASET/RECORD."""
    starts = tuple(f"{name}{end}" for name in names for end in "./")
    with suppress(BadZipFile, OSError), ZipFile(path) as file:
        return any(member.startswith(starts) for member in file.namelist())
    return False


def _below(top: Path, records: Mapping[str, tuple[str, ...]]) -> Iterator[Path]:
    """Files below a folder that are of a record: their path has its data set's name and its own."""
    for path in sorted(path for path in top.rglob("*") if path.is_file()):
        parts = path.relative_to(top).with_suffix("").parts
        for dataset, names in records.items():
            ends = [Path(name).parts for name in names]
            if {dataset, f"dataset={dataset}"} & {*parts} and any(
                parts[-len(end) :] == end for end in ends
            ):
                yield path
