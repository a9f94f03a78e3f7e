"""The manifest of a data set: its beat tables, what failed, and one digest of it all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Strict, TypeAdapter, ValidationError

from storage.errors import PlaceError, TableError
from storage.files import AnyPlace, parse_text, sha256_file, sha256_json, write_json
from storage.places import Place
from storage.recordings.marks import LABEL
from storage.registry.signing import sign, signed_by

MANIFEST_VERSION = 1
#: What of a manifest's file is the signature of the ingest that made it, with the release key.
SIGNATURE = "signature"
#: The policy of tables that are named by their data set alone.
USUAL = "consensus"
#: How a file's fields are read: no other names, and no value of another type.
FIELDS = ConfigDict(extra="forbid")
Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict()]
Hours = Annotated[float, Strict()]


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
        Digest of everything the table was made from; see `storage.tables.beats.Source`.
    lead : str or None
        Lead used.
    hours : float
        Length of the record.
    beats, af_beats, unknown_beats, flagged_beats : int
        Rows; rows labelled AF; rows without a label; rows with any quality flag.
    counts : dict of str to int
        Beats annotated, detected, matched, missed and extra.
    analysable_hours : float or None
        Hours of it that can be analysed (`storage.recordings.stretches`); None where it is not
        known.
    uncovered_hours : float
        Hours in which no beat is annotated, though beats are; see `storage.recordings.check`.
    files : dict of str to str
        SHA-256 of every source file, by name relative to the data set's folder.
    task_run_id : str
        The Prefect task run that built the table.
    content : dict of str to list of str
        Prints of its signal and of its annotated beats, whatever it is called; see
        `storage.tables.content`. Empty in a table of before there were prints.
    warnings : list of str
        What the record's files do not tell for certain; see `storage.formats.leads.OpenRecording`.
    label_source : str
        What told the rhythm; see `storage.recordings.records.Record`. "" in an entry that does not
        say.
    review : dict of str to int
        How many decisions about its passages each reviewer took, where they are a layer of it.
    corrected : int
        Passages in which these say otherwise than its files.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FIELDS

    record: Text
    subject: Text
    file: Text
    sha256: Text
    key: Text
    lead: Text | None
    hours: Hours
    beats: Count
    af_beats: Count
    unknown_beats: Count
    flagged_beats: Count
    counts: dict[Text, Count]
    analysable_hours: Hours | None = None
    uncovered_hours: Hours = 0.0
    files: dict[Text, Text] = field(default_factory=dict)
    task_run_id: Text = ""
    content: dict[Text, list[Text]] = field(default_factory=dict)
    warnings: list[Text] = field(default_factory=list)
    label_source: Text = ""
    review: dict[Text, Count] = field(default_factory=dict)
    corrected: Count = 0

    @property
    def labelled_whole(self) -> bool:
        """Whether one label is of the whole record, of whose beats AF may fill a part alone."""
        return self.label_source == LABEL


def review_words(entries: Iterable[Entry]) -> str:
    """How far people's decisions shape the labels of records; "" where they do not."""
    rows = [entry for entry in entries if entry.review]
    reviewers = len({name for entry in rows for name in entry.review})
    corrected, decisions = (
        sum(entry.corrected for entry in rows),
        sum(sum(entry.review.values()) for entry in rows),
    )
    if not rows:
        return ""
    return (
        f"{_count(corrected, 'episode')} corrected by {_count(reviewers, 'reviewer')} "
        f"({_count(decisions, 'decision')} about {_count(len(rows), 'record')})"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def rhythm_words(spec: Mapping[str, Any]) -> str:
    """Where a data set's rhythm comes from, by its TOML: its layers in order."""
    rhythm = spec.get("annotations", {}).get("rhythm")
    return ", then ".join(rhythm) if isinstance(rhythm, list | tuple) else str(rhythm)


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
    signal : bool or None
        Whether signals were read; None in a manifest that does not say.
    duplicates : dict of str to list of str
        Records whose recording is here under another name too, and those names (DATASET/RECORD).
    withdrawn : int
        Records that were left out as their use was withdrawn; no name of theirs is kept.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FIELDS

    dataset: Text
    title: Text
    version: Text
    licence: Text
    citation: Text
    origin: Text
    spec_sha256: Text
    preprocessing_sha256: Text
    code_sha256: Text
    simulated: Flag
    entries: tuple[Entry, ...]
    failures: dict[Text, Text]
    excluded: dict[Text, Text]
    spec: dict[Text, Any] = field(default_factory=dict)
    preprocessing: dict[Text, Any] = field(default_factory=dict)
    flow_run_id: Text = ""
    signal: Flag | None = None
    duplicates: dict[Text, list[Text]] = field(default_factory=dict)
    withdrawn: Count = 0

    @property
    def has_signal(self) -> bool:
        """Whether signals were read; where it does not say, whether any record has a lead."""
        return any(entry.lead for entry in self.entries) if self.signal is None else self.signal

    def digest(self) -> str:
        """SHA-256 over the records, subjects and table digests: the content, not the place."""
        return sha256_json([[e.record, e.subject, e.sha256] for e in self.entries])


_ENTRY, _MANIFEST = TypeAdapter(Entry), TypeAdapter(Manifest)


def variant(dataset: str, *, signal: bool, policy: str) -> str:
    """The name of a data set's tables: its own, and what else than usual shapes them.

    "afdb.annotations" are of annotations alone, "afdb.reference" of that policy.
    """
    return ".".join(
        [dataset, *([] if signal else ["annotations"]), *([] if policy == USUAL else [policy])]
    )


def manifest_path(beats: Place, dataset: str, *, signal: bool = True, policy: str = USUAL) -> Place:
    """Where the manifest of a data set's tables lies under the beats folder."""
    return beats / f"dataset={variant(dataset, signal=signal, policy=policy)}" / "manifest.json"


def manifest_places(beats: Place, manifest: Manifest) -> list[Place]:
    """Where the tables of a manifest may lie: in the place of their own.

    One that does not say whether signals were read is of when tables of every kind lay in the data
    set's one place: they may still be there.
    """
    policy = manifest.preprocessing.get("policy", USUAL)
    own = manifest_path(beats, manifest.dataset, signal=manifest.has_signal, policy=policy)
    before = [manifest_path(beats, manifest.dataset)] if manifest.signal is None else []
    return list(dict.fromkeys([*before, own]))


def every_manifest(beats: Place) -> Iterator[Manifest]:
    """The manifests of all data sets under the beats folder that can be read."""
    for path in manifest_paths(beats):
        with suppress(TableError):
            yield read_manifest(path)


def manifest_from(document: Mapping[str, Any]) -> Manifest:
    """A manifest as a chain, or the file of a manifest, holds it."""
    entries = tuple(Entry(**entry) for entry in document["entries"])
    beside = ("sha256", "manifest_version", SIGNATURE)
    values = {name: value for name, value in document.items() if name not in beside}
    return Manifest(**values | {"entries": entries})


def manifest_paths(beats: Place) -> list[Place]:
    """Where the manifests of all data sets under the beats folder lie, by name.

    Raises
    ------
    PlaceError
        The store that they lie in does not answer.
    """
    names = sorted(p.name for p in beats.glob("*")) if isinstance(beats, Path) else beats.names()
    paths = [beats / name / "manifest.json" for name in names if name.startswith("dataset=")]
    return [path for path in paths if path.is_file()]


def write_manifest(path: AnyPlace, manifest: Manifest, *, signed: bool = False) -> AnyPlace:
    """Write a manifest, whole or not at all; signed with the release key where that is asked."""
    value = {"manifest_version": MANIFEST_VERSION, **asdict(manifest)}
    return write_json(path, {**value, **({SIGNATURE: sign(_canonical(value))} if signed else {})})


def _canonical(value: Mapping[str, Any]) -> bytes:
    """What is signed of a manifest: all but the signature, as canonical JSON."""
    parts = {name: part for name, part in value.items() if name != SIGNATURE}
    return json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()


def is_signed(path: Place, trusted: Iterable[str]) -> bool:
    """Whether a manifest is there as an ingest whose key is trusted signed it.

    Raises
    ------
    PlaceError
        The store that it lies in does not answer.
    """
    try:
        value = parse_text(path.read_text())
        signature = value[SIGNATURE]
        return signature["key"] in set(trusted) and signed_by(_canonical(value), signature)
    except PlaceError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


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
        value: dict[str, Any] = parse_text(path.read_text())
        value.pop(SIGNATURE, None)
        version = value.pop("manifest_version")
        manifest = _MANIFEST.validate_python(value)
    except FileNotFoundError as error:
        raise TableError(f"manifest {path}: found no file; expected one made by ingest") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        words = f"{place}: {first['msg']}"
        raise TableError(f"manifest {path}: found a damaged file ({words})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TableError(f"manifest {path}: found a damaged file ({error})") from error
    outside = [entry.file for entry in manifest.entries if not _inside(entry.file)]
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
        path = folder / "entries" / f"{record}.json"
        entry = _ENTRY.validate_python(parse_text(path.read_bytes()))
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
