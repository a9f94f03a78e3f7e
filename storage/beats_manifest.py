"""The manifest of a data set: its beat tables, what failed, and one digest of it all."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from storage.errors import PlaceError, TableError
from storage.files import AnyPlace, checked, parsed, sha256_file, sha256_json, write_json
from storage.places import Place

MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One record's beat table.

    Attributes
    ----------
    record, subject : str
        The record and whose it is.
    file : str
        The Parquet file, relative to the manifest's folder.
    sha256 : str
        Digest of the Parquet file's bytes.
    key : str
        Digest of everything the table was made from; see `storage.beats.Source`.
    lead : str or None
        Lead used.
    hours : float
        Length of the record.
    beats, af_beats, unknown_beats, flagged_beats : int
        Rows; rows labelled AF; rows without a label; rows with any quality flag.
    counts : dict of str to int
        Beats annotated, detected, matched, missed and extra.
    uncovered_hours : float
        Hours in which no beat is annotated, though beats are; see `storage.check`.
    files : dict of str to str
        SHA-256 of every source file, by name relative to the data set's folder.
    task_run_id : str
        The Prefect task run that built the table.
    """

    record: str
    subject: str
    file: str
    sha256: str
    key: str
    lead: str | None
    hours: float
    beats: int
    af_beats: int
    unknown_beats: int
    flagged_beats: int
    counts: dict[str, int]
    uncovered_hours: float = 0.0
    files: dict[str, str] = field(default_factory=dict)
    task_run_id: str = ""


@dataclass(frozen=True)
class Manifest:
    """The beat tables of one data set.

    Attributes
    ----------
    dataset, title, version, licence, citation, origin : str
        The data set, as its TOML tells it, and where its records were read.
    spec_sha256, preprocessing_sha256, code_sha256 : str
        Digests of the TOML, of the preprocessing configuration and of the code.
    simulated : bool
        Whether the recordings are simulated.
    entries : tuple of Entry
        The tables, by record name.
    failures : dict of str to str
        Records that could not be used, and why.
    excluded : dict of str to str
        Records the TOML leaves out, and why.
    spec, preprocessing : dict
        The TOML (annotators, leads, rhythms, subjects ...) and the preprocessing, whole.
    flow_run_id : str
        The Prefect flow run of the ingest.
    """

    dataset: str
    title: str
    version: str
    licence: str
    citation: str
    origin: str
    spec_sha256: str
    preprocessing_sha256: str
    code_sha256: str
    simulated: bool
    entries: tuple[Entry, ...]
    failures: dict[str, str]
    excluded: dict[str, str]
    spec: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    flow_run_id: str = ""

    def digest(self) -> str:
        """SHA-256 over the records, subjects and table digests: the content, not the place."""
        return sha256_json([[e.record, e.subject, e.sha256] for e in self.entries])


def manifest_path(beats: Place, dataset: str) -> Place:
    """Where the manifest of a data set lies under the beats folder."""
    return beats / f"dataset={dataset}" / "manifest.json"


def write_manifest(path: AnyPlace, manifest: Manifest) -> AnyPlace:
    """Write a manifest, whole or not at all."""
    return write_json(path, {"manifest_version": MANIFEST_VERSION, **asdict(manifest)})


def read_manifest(path: Place) -> Manifest:
    """Read a manifest.

    Raises
    ------
    TableError
        The file is missing, damaged or of another version.
    PlaceError
        The store that it lies in does not answer.
    """
    try:
        value: dict[str, Any] = parsed(path.read_text())
        version = value.pop("manifest_version")
        entries = tuple(checked(Entry(**entry)) for entry in value.pop("entries"))
        manifest = checked(Manifest(entries=entries, **value))
    except FileNotFoundError as error:
        raise TableError(f"manifest {path}: found no file; expected one made by ingest") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TableError(f"manifest {path}: found a damaged file ({error})") from error
    outside = [entry.file for entry in entries if not _inside(entry.file)]
    if outside:
        raise TableError(
            f"manifest {path}: found the file {outside[0]!r}; expected one in the manifest's folder"
        )
    if version != MANIFEST_VERSION:
        raise TableError(f"manifest {path}: found version {version}; expected {MANIFEST_VERSION}")
    return manifest


def _inside(file: str) -> bool:
    """Whether a table's name stays in its manifest's folder."""
    parts = file.split("/")
    return not any(part in ("", ".", "..") for part in parts) and "\\" not in file


def known_entries(path: Place) -> dict[str, Entry]:
    """The entries of an earlier manifest by record, or none where there is no usable one."""
    try:
        return {entry.record: entry for entry in read_manifest(path).entries}
    except TableError:
        return {}


def earlier_failures(path: Place) -> dict[str, str]:
    """The failures of an earlier manifest by record, or none where there is no usable one."""
    try:
        return dict(read_manifest(path).failures)
    except TableError:
        return {}


def note_entry(folder: Place, entry: Entry) -> None:
    """Keep a table's entry beside it: a run that is killed before its manifest redoes nothing."""
    write_json(folder / "entries" / f"{entry.record}.json", asdict(entry))


def noted_entry(folder: Place, record: str) -> Entry | None:
    """The entry kept beside a table, or None where there is no usable one.

    Raises
    ------
    PlaceError
        The store that it lies in does not answer: it may well be there.
    """
    try:
        entry = checked(Entry(**parsed((folder / "entries" / f"{record}.json").read_bytes())))
    except PlaceError:
        raise
    except (OSError, ValueError, TypeError):
        return None
    return entry if entry.record == record and _inside(entry.file) else None


def still_good(entry: Entry | None, key: str, folder: Place) -> bool:
    """Whether an earlier table was made from the same things and its bytes are unaltered."""
    if entry is None or entry.key != key:
        return False
    file = folder / entry.file
    return file.is_file() and sha256_file(file) == entry.sha256
