"""Data sets: one TOML each, which says what a folder of recordings holds and how to read it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomllib
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from storage.datasets.labels import DETECT, ERROR, Column, excluded_rows, rows_without_record
from storage.errors import RecordError, SpecError
from storage.files import home, parse_text, safe_path, sha256_json
from storage.formats.leads import SUFFIX
from storage.text import decode_text, did_you_mean, file_name, lines

SHIPPED = Path(__file__).parent

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
#: A file extension: annotator names become part of a path, so they may not hold a separator.
Annotator = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+$")]
#: The same, or a CSV of intervals: "csv" for NAME.csv, "rhythm.csv" for NAME.rhythm.csv.
RhythmSource = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(\.csv)?$")]

#: A key's name and a digest by it, as `storage.datasets.patients` makes them.
NumberDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}:[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Strict):
    """Where the files come from: a PhysioNet slug, a local folder, or our own simulator.

    `files` are globs of what is fetched of a PhysioNet project; all of it where none is given.
    """

    physionet: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")] | None = None
    files: tuple[Text, ...] = ()
    folder: str | None = None
    simulated: bool = False


class Records(_Strict):
    """Which records: a list file, names, or a glob over names; and which are left out, and why.

    `format` says what their files are: WFDB (.hea), EDF or EDF+ (.edf), ISHNE Holter (.ecg),
    DICOM waveforms (.dcm).
    `signal` says whether their signals are read where a command does not: false where there are
    annotations alone.
    """

    format: Literal["wfdb", "edf", "ishne", "dicom"] = "wfdb"
    file: str | None = None
    names: tuple[Text, ...] | None = None
    pattern: Text | None = None
    exclude: Mapping[str, Text] = {}
    signal: bool = True

    @model_validator(mode="after")
    def _one_way(self) -> Records:
        if sum(way is not None for way in (self.file, self.names, self.pattern)) != 1:
            raise ValueError("give exactly one of file, names, pattern")
        return self


class Annotations(_Strict):
    """Annotators: beats in order of preference ("detect": none, find them); rhythm, or none.

    A rhythm annotator that ends in "csv" is a table of intervals with the columns `start_s`,
    `end_s`, `rhythm`.
    """

    beats: Annotated[tuple[Annotator, ...], Field(min_length=1)]
    rhythm: RhythmSource | None = None

    @model_validator(mode="after")
    def _detect_last(self) -> Annotations:
        if DETECT in self.beats[:-1]:
            raise ValueError('"detect" can only be the last choice of beats')
        return self


class Labels(_Strict):
    """Labels of whole records, for those whose rhythm no annotation marks.

    Attributes
    ----------
    file : str or tuple of str
        A CSV of the data set's folder, a row a record; of several names the first that is there.
    columns : mapping of str to str or int
        Its columns `record`, `label`, `subject`, `exclude`, `why` by the names of its header, or
        where it has no header by number from 1. Where nothing is given, its header uses these.
    paths : mapping of str to str
        Pattern of a record's name, with its folders, to label; "*" stands for "/" too.
    """

    file: Text | tuple[Text, ...] = ()
    columns: Mapping[Column, Text | Annotated[int, Field(ge=1)]] = {}
    paths: Mapping[Text, Text] = {}

    @property
    def files(self) -> tuple[str, ...]:
        """The names that the CSV may have."""
        return (self.file,) if isinstance(self.file, str) else self.file

    @model_validator(mode="after")
    def _columns_of_one_kind(self) -> Labels:
        if self.columns and ("record" not in self.columns or len(self.columns) < 2):
            raise ValueError("columns needs record, and label or another one")
        if len({type(place) for place in self.columns.values()}) > 1:
            raise ValueError("columns are all named by the header, or all numbered from 1")
        return self


class Leads(_Strict):
    """Lead names in order of preference; the first one a record has is read.

    One that stands so in a record goes first. Else it is found in other spellings ("II" as "ECG II"
    or "lead ii"), or as a pattern with `*`, among the signals that are no other than an ECG.
    """

    prefer: Annotated[tuple[Text, ...], Field(min_length=1)]


class Rhythms(_Strict):
    """What the rhythm marks mean.

    Attributes
    ----------
    af : tuple of str
        The mapped names that count as atrial fibrillation.
    map : mapping of str to str
        Name in the file, without its "(", or label of a whole record, to the name in the tables.
        One that is not here is an error of its record; "" leaves its beats without a label.
    unmarked : str
        The rhythm of a record without any mark, label or comment, or "error".
    before_first : str
        The rhythm before a record's first mark; "" where it is unknown.
    outside : str
        The rhythm outside the intervals of a CSV, and after a mark ")"; "" where it is unknown.
    from_comments : mapping of str to str
        For a record without any mark: comment line of its header to rhythm.
    """

    af: Annotated[tuple[Text, ...], Field(min_length=1)]
    map: Mapping[str, str]
    unmarked: Text = ERROR
    before_first: str = ""
    outside: str = ""
    from_comments: Mapping[str, Text] = {}

    @model_validator(mode="after")
    def _af_is_mapped(self) -> Rhythms:
        rhythms = {*self.map.values(), *self.from_comments.values(), self.unmarked}
        for name in self.af:
            if name not in rhythms:
                raise ValueError(f"af names {name!r}, which no entry of map gives")
        return self


class Subjects(_Strict):
    """Record to subject: a table, else a regular expression's group `subject`, else itself.

    The expression must fit a record's name as a whole: the last part of it, or else all of it.
    `numbers` are keyed digests of the patients' own numbers, each to its subject:
    `storage.datasets.patients`.
    Where there is one, a record that neither it nor the table tells of is refused.
    """

    map: Mapping[str, Text] = {}
    pattern: str | None = None
    numbers: Mapping[NumberDigest, Text] = {}

    @model_validator(mode="after")
    def _pattern_has_subject(self) -> Subjects:
        if self.pattern is not None:
            try:
                groups = re.compile(self.pattern).groupindex
            except re.error as error:
                raise ValueError(f"pattern is not a regular expression: {error}") from error
            if "subject" not in groups:
                raise ValueError("pattern needs a group named subject: (?P<subject>...)")
        return self


class DatasetSpec(_Strict):
    """One data set, as its TOML tells it."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    title: Text
    version: Text
    licence: Text
    citation: Text
    homepage: str = ""
    notes: str = ""
    source: Source = Source()
    records: Records
    annotations: Annotations
    labels: Labels = Labels()
    leads: Leads
    rhythms: Rhythms
    subjects: Subjects = Subjects()

    def digest(self) -> str:
        """SHA-256 of all that shapes a record's table.

        Title, licence, notes, source, the list of records and the patients' numbers are left out:
        to word a note better or to exclude one record must not rebuild the others.
        """
        shaping = {"name", "version", "annotations", "labels", "leads", "rhythms", "subjects"}
        shape = self.model_dump(include=shaping, exclude={"subjects": {"numbers"}}, mode="json")
        return sha256_json({**shape, "format": self.records.format})

    def subject_of(self, record: str) -> str:
        """The subject (patient) of a record as this TOML alone tells it; else the record itself.

        `storage.datasets.labels.subject_of` reads the data set's CSV as well.
        """
        return self.subject_by_rule(record) or record

    def subject_by_rule(self, record: str) -> str:
        """The subject of a record by the table or the pattern; "" where neither tells it."""
        if record in self.subjects.map:
            return self.subjects.map[record]
        if self.subjects.pattern is not None:
            for name in (record.rpartition("/")[2], record):
                match = re.fullmatch(self.subjects.pattern, name)
                if match is not None and match["subject"]:
                    return match["subject"]
        return ""


def user_folders() -> list[Path]:
    """Where a user's own TOMLs lie: the folders of HOLTER_DATASETS, then the state folder's."""
    folders = os.environ.get("HOLTER_DATASETS", "").split(os.pathsep)
    return [*(Path(folder).absolute() for folder in folders if folder), home() / "datasets"]


def data_folder(spec: DatasetSpec, folder: Path | None) -> Path:
    """The folder of a data set's records: the one given, else the one that its TOML names.

    Raises
    ------
    SpecError
        Neither is there.
    """
    if folder is not None:
        return folder.absolute()
    if spec.source.folder is None:
        raise SpecError(f"data set {spec.name}: say where its records lie (--data FOLDER)")
    return Path(spec.source.folder)


def available_specs() -> dict[str, Path]:
    """Every data set found by name: the shipped ones, then those in the user's own folders.

    A user's own TOML wins over a shipped one of the same file name.
    """
    folders = [SHIPPED, *reversed(user_folders())]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def load_spec(name_or_path: str | Path) -> DatasetSpec:
    """Read a data set's TOML.

    Parameters
    ----------
    name_or_path : str or Path
        A name of `available_specs`, or the path of a TOML file, or a folder with a `dataset.toml`.

    Raises
    ------
    SpecError
        Naming the file and key at fault, with the nearest known name where it looks like a typo.
    """
    path = Path(name_or_path)
    if path.is_dir() and (path / "dataset.toml").is_file():
        path /= "dataset.toml"
    if path.suffix != ".toml":
        specs = available_specs()
        if str(name_or_path) not in specs:
            raise SpecError(
                f"no data set named {str(name_or_path)!r}{did_you_mean(str(name_or_path), specs)}; "
                f"known: {', '.join(sorted(specs))}; or give the path of a .toml file"
            )
        path = specs[str(name_or_path)]
    try:
        data = parse_text(decode_text(path.read_bytes()), tomllib.loads)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SpecError(f"{path}: not valid TOML: {error}") from error
    try:
        return DatasetSpec.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_problem(problem) for problem in error.errors())
        raise SpecError(f"{path}: {problems}") from error


def record_names(spec: DatasetSpec, folder: Path) -> list[str]:
    """Name the data set's records in `folder`, in order, without the excluded ones.

    A name is given as it is listed: opening an unsafe one raises `UnsafeName` for that record
    alone, and the others go on.

    Raises
    ------
    SpecError
        The list file or the CSV of labels is not there or cannot be used, or no record is left.
    """
    names = listed_records(spec, folder)
    excluded = {**spec.records.exclude, **excluded_rows(spec, folder, names)}
    remaining = [name for name in names if name not in excluded]
    if not remaining:
        raise SpecError(f"data set {spec.name}: no records in {folder}")
    return remaining


def excluded_records(spec: DatasetSpec, folder: Path) -> dict[str, str]:
    """The records that are left out, and why: those of the CSV of labels, and those of the TOML."""
    return {**excluded_rows(spec, folder, listed_records(spec, folder)), **spec.records.exclude}


def absent_records(spec: DatasetSpec, folder: Path) -> str:
    """Tell of the records that the CSV labels and that are not there; "" where there is none."""
    absent = rows_without_record(spec, folder, listed_records(spec, folder))
    first = ", ".join([*absent[:5], *["..."] * (len(absent) > 5)])
    return f"{len(absent)} records that have a label are not there: {first}" if absent else ""


def listed_records(spec: DatasetSpec, folder: Path) -> list[str]:
    """Name the data set's records in `folder`, in order, the excluded ones too.

    Raises
    ------
    SpecError
        The folder or the list file is not there.
    """
    if not folder.is_dir():
        raise SpecError(f"data set {spec.name}: the folder {folder} is not there")
    ways = spec.records
    if ways.names is not None:
        names = list(ways.names)
    elif ways.file is not None:
        listing = safe_path(folder, ways.file, record=ways.file)
        if not listing.is_file():
            raise SpecError(
                f"data set {spec.name}: {folder} has no {ways.file}, which lists its records"
            )
        names = listed_names(listing.read_bytes(), ways.format)
    else:
        suffix = SUFFIX[ways.format]
        any_case = "".join(f"[{letter}{letter.upper()}]" for letter in suffix[1:])
        paths = folder.glob(f"{ways.pattern}.{any_case}")
        names = sorted(path.relative_to(folder).as_posix()[: -len(suffix)] for path in paths)
    return list(dict.fromkeys(names))


def select_records(names: list[str], only: list[str], dataset: str) -> list[str]:
    """The records asked for; one that the data set does not hold is an error."""
    if unknown := sorted(set(only) - set(names)):
        raise RecordError(unknown[0], f"no such record in {dataset}", f"one of {', '.join(names)}")
    return [name for name in names if name in set(only)]


def listed_names(data: bytes, form: str) -> list[str]:
    """The records that a list file names, one a line, with their files' suffix or without it."""
    names = [file_name(line) for line in lines(data) if line]
    end = len(SUFFIX[form])
    return [name[:-end] if name[-end:].lower() == SUFFIX[form] else name for name in names]


def _problem(problem: Mapping[str, Any]) -> str:
    """One line for one of pydantic's errors: the key, what is wrong, the nearest known key."""
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}{did_you_mean(path[-1], _keys_at(path[:-1]))}"
    if problem["type"] == "missing":
        return f"the key {key!r} is missing"
    return f"{key}: {problem['msg'].removeprefix('Value error, ')} (found {problem['input']!r})"


def _keys_at(path: list[str]) -> list[str]:
    model: Any = DatasetSpec
    for part in path:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
