"""Data sets: one TOML each, which says what a folder of recordings holds and how to read it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tomllib
from pydantic import (
    StringConstraints,
    ValidationError,
)

from storage.datasets.labels import excluded_rows, rows_without_record
from storage.datasets.sections import (
    LAYER,
    LAYERS,
    Annotations,
    Labels,
    Leads,
    Records,
    Review,
    Rhythms,
    Source,
    Strict,
    Subjects,
    Text,
)
from storage.errors import RecordError, SpecError
from storage.files import home, parse_text, safe_path, sha256_json
from storage.formats.leads import SUFFIX
from storage.text import decode_text, did_you_mean, file_name, lines

SHIPPED = Path(__file__).parent


class DatasetSpec(Strict):
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
    review: Review = Review()

    def digest(self) -> str:
        """SHA-256 of all that shapes a record's table.

        Title, licence, notes, source, the list of records and the patients' numbers are left out:
        to word a note better or to exclude one record must not rebuild the others.
        """
        shaping = {"name", "version", "annotations", "labels", "leads", "rhythms", "subjects"}
        shaping |= {"review"} if self.annotations.has_review else set()
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
    path = [str(part) for part in problem["loc"] if part not in (LAYER, LAYERS)]
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
