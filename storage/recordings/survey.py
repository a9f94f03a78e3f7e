"""Survey: what lies in a folder of recordings that nobody has described yet."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from storage.datasets.dataset import listed_names
from storage.datasets.labels import plain_name, read_rows
from storage.errors import RecordError, SpecError
from storage.files import owner
from storage.formats.dicom import describe_dicom
from storage.formats.edf import describe_edf
from storage.formats.ishne import describe_ishne
from storage.formats.leads import SUFFIX, HeaderSummary, read_small
from storage.formats.wfdb_annotation import BEAT, parse_annotations
from storage.formats.wfdb_record import describe_wfdb
from storage.recordings.marks import COLUMNS, MOST_CSV_BYTES, rhythm_changes
from storage.text import lines, table_rows

DESCRIBE = {"wfdb": describe_wfdb, "edf": describe_edf, "ishne": describe_ishne}
DESCRIBE |= {"dicom": describe_dicom}
LISTING = "RECORDS"
#: Extensions that are no annotators, though some could be parsed as such.
NOT_ANNOTATORS = frozenset(
    (
        "hea",
        "dat",
        "edf",
        "ecg",
        "dcm",
        "txt",
        "toml",
        "json",
        "xml",
        "html",
        "pdf",
        "png",
        "zip",
        "gz",
    )
)
#: How the header of a CSV may call what it holds of a record.
COLUMN_WORDS = {
    "label": re.compile(r"label|rhythm|diagnosis|class|reference", re.I),
    "subject": re.compile(r"(subject|patient)([ _-]?(id|no|number))?", re.I),
    "exclude": re.compile(r"excluded?", re.I),
    "why": re.compile(r"why|reason", re.I),
}
#: A table of records tells what is looked for in its first columns.
MOST_COLUMNS = 32
_ANNOTATOR = re.compile(r"[A-Za-z0-9_]+(\.csv)?")


@dataclass(frozen=True)
class Annotator:
    """What one annotation file of a record holds.

    Attributes
    ----------
    beats : int
        Annotated beats.
    rhythms : dict of str to int
        Rhythm codes as they stand in the file, and how often each is marked.
    first : tuple of (int, str) or None
        Sample and code of the first rhythm mark; of a CSV, its second and code.
    ends : int
        Marks that end a rhythm and begin none.
    """

    beats: int = 0
    rhythms: dict[str, int] = field(default_factory=dict)
    first: tuple[int, str] | None = None
    ends: int = 0


@dataclass(frozen=True)
class LabelFile:
    """A CSV that names records of the folder: what its columns hold, and the labels in it.

    Attributes
    ----------
    file : str
        Its name within the folder.
    columns : dict of str to (str or int)
        The columns that are told by their names in the header, or without one by their number
        from 1; as `storage.datasets.dataset.Labels.columns`. Only "record" where nothing tells the
        others.
    labels : dict of str to int
        Every label, and how many records have it.
    records : frozenset of str
        The records that it labels.
    subjects : int
        Different subjects; 0 where it has no such column.
    """

    file: str
    columns: dict[str, str | int]
    labels: dict[str, int]
    records: frozenset[str]
    subjects: int


@dataclass(frozen=True)
class RecordSurvey:
    """One record: its header, its annotation files by extension, or why it cannot be read."""

    name: str
    header: HeaderSummary | None
    annotators: dict[str, Annotator]
    problem: str | None = None


@dataclass(frozen=True)
class Survey:
    """A folder of recordings.

    Attributes
    ----------
    folder : Path
        Where.
    format : str
        "wfdb", "edf", "ishne" or "dicom".
    records : tuple of RecordSurvey
        Every record, by name, parts of multi-segment records left out.
    has_list : bool
        A file RECORDS lists exactly these.
    parts : int
        Headers that are parts of another record.
    other_formats : dict of str to int
        Files of other formats, by suffix.
    licence : str
        First line of a licence file; "" where there is none.
    tables : tuple of LabelFile
        CSVs that name the records.
    """

    folder: Path
    format: str
    records: tuple[RecordSurvey, ...]
    has_list: bool
    parts: int
    other_formats: dict[str, int]
    licence: str
    tables: tuple[LabelFile, ...] = ()


def survey(
    folder: Path, form: str | None = None, on_record: Callable[[str, int], None] = lambda *_: None
) -> Survey:
    """Look at every header and annotation file of a folder; no sample is read.

    Parameters
    ----------
    folder : Path
        The folder, with its folders below.
    form : str, optional
        Format to look for; by default the one with the most files.
    on_record : callable
        Told each record's name and how many there are.

    Raises
    ------
    SpecError
        The folder is not there, or holds no recording.
    """
    if not folder.is_dir():
        raise SpecError(f"the folder {folder} is not there")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    counts = {kind: sum(p.suffix.lower() == end for p in files) for kind, end in SUFFIX.items()}
    form = form or max(counts, key=lambda kind: counts[kind])
    if not counts[form]:
        suffixes = ", ".join(
            f"{n} {end}" for end, n in Counter(p.suffix for p in files).most_common(5)
        )
        raise SpecError(
            f"{folder}: found {suffixes or 'no files'}; expected recordings: "
            f"{', '.join(f'{end} ({kind})' for kind, end in SUFFIX.items())}"
        )
    end = SUFFIX[form]
    beside: dict[str, list[str]] = {
        path.relative_to(folder).as_posix()[: -len(end)]: []
        for path in files
        if path.suffix.lower() == end
    }
    any_case = {name.lower(): name for name in beside}
    loose: list[str] = []
    for path in files:
        file = path.relative_to(folder).as_posix()
        if name := owner(file, beside) or any_case.get(owner(file.lower(), any_case) or ""):
            beside[name].append(file[len(name) + 1 :].lower())
        elif path.suffix.lower() == ".csv":
            loose.append(file)
    records, names = [], list(beside)
    for name in names:
        records.append(_record(folder, form, name, beside[name]))
        on_record(name, len(names))
    parts = {part for record in records if record.header for part in record.header.segments}
    whole_records = tuple(record for record in records if record.name not in parts)
    tables = (
        _label_file(folder, file, [record.name for record in whole_records]) for file in loose
    )
    return Survey(
        folder=folder,
        format=form,
        records=whole_records,
        has_list=_record_list(folder, form) == {record.name for record in whole_records},
        parts=len(records) - len(whole_records),
        other_formats={SUFFIX[kind]: n for kind, n in counts.items() if n and kind != form},
        licence=_licence(folder),
        tables=tuple(table for table in tables if table),
    )


def _record(folder: Path, form: str, name: str, beside: list[str]) -> RecordSurvey:
    try:
        header = DESCRIBE[form](folder, name)
    except (RecordError, OSError) as error:
        return RecordSurvey(name, None, {}, str(error))
    annotators = {}
    for rest in sorted(beside):
        if _ANNOTATOR.fullmatch(rest) and rest not in NOT_ANNOTATORS:
            read = _intervals if rest.rpartition(".")[2] == "csv" else _annotator
            try:
                annotator = read(
                    read_small(folder, f"{name}.{rest}", name, "annotations", {}), name
                )
            except RecordError:
                continue  # not an annotation file; one that is damaged is told by the check
            if annotator.beats or annotator.rhythms:
                annotators[rest] = annotator
    return RecordSurvey(name, header, annotators)


def _annotator(data: bytes, name: str) -> Annotator:
    annotations = parse_annotations(data, name, name)
    changes = rhythm_changes(annotations)
    starts = [(at, code) for at, code in changes if code is not None]
    return Annotator(
        beats=int(BEAT[annotations.code].sum()),
        rhythms=dict(Counter(code for _, code in starts)),
        first=starts[0] if starts and changes[0] == starts[0] else None,
        ends=len(changes) - len(starts),
    )


def _intervals(data: bytes, name: str) -> Annotator:  # noqa: ARG001 - called as `_annotator` is
    if len(data) > MOST_CSV_BYTES:
        return Annotator()
    try:
        rows = table_rows(data)
    except ValueError:
        return Annotator()
    if not rows or rows[0] != COLUMNS:
        return Annotator()
    codes = [row[2] for row in rows[1:] if len(row) == len(COLUMNS)]
    return Annotator(0, dict(Counter(codes)), (0, codes[0]) if codes else None)


def _label_file(folder: Path, file: str, names: Sequence[str]) -> LabelFile | None:
    """A CSV's columns, where one of them names half of the records, or records in half its rows."""
    try:
        rows = read_rows(folder / file)
    except (OSError, ValueError):
        return None
    by_name = {name.rpartition("/")[2].lower(): name for name in names}
    by_name |= {name.lower(): name for name in names}
    width = min(MOST_COLUMNS, statistics.mode(map(len, rows))) if rows else 0
    # A line of a total, or of a remark, has fewer cells.
    rows = [[*row, *[""] * (width - len(row))] for row in rows]
    columns = [
        [by_name.get(plain_name(row[place]).lower()) for row in rows] for place in range(width)
    ]
    if not columns:
        return None
    place = max(range(width), key=lambda place: sum(map(bool, columns[place])))
    records = columns[place]
    if 2 * sum(map(bool, records)) < min(len(names), len(rows)) or not any(records):
        return None
    if records[0] is not None:  # no header
        places: dict[str, int] = {"record": place}
        if width == 2:
            places["label"] = 1 - place
        numbers: dict[str, str | int] = {name: at + 1 for name, at in places.items()}
        return _table(file, numbers, places, rows, records)
    header = rows[0][:width]
    places = {"record": place}
    for at, word in enumerate(header):
        name = next((name for name, words in COLUMN_WORDS.items() if words.fullmatch(word)), "")
        if name and at != place:
            places.setdefault(name, at)
    return _table(
        file, {name: header[at] for name, at in places.items()}, places, rows[1:], records[1:]
    )


def _table(
    file: str,
    columns: dict[str, str | int],
    places: Mapping[str, int],
    rows: Sequence[Sequence[str]],
    records: Sequence[str | None],
) -> LabelFile:
    pairs = [(row, name) for row, name in zip(rows, records, strict=True) if name]
    labels = {name: row[places["label"]] for row, name in pairs} if "label" in places else {}
    subjects = {row[places["subject"]] for row, _ in pairs} if "subject" in places else set()
    labels = {name: label for name, label in labels.items() if label}
    return LabelFile(
        file, columns, dict(Counter(labels.values())), frozenset(labels), len(subjects - {""})
    )


def _record_list(folder: Path, form: str) -> set[str]:
    path = folder / LISTING
    return set(listed_names(path.read_bytes(), form)) if path.is_file() else set()


def _licence(folder: Path) -> str:
    for path in sorted(folder.glob("LICEN[CS]E*")):
        with path.open("rb") as file:
            words = [line for line in lines(file.read(4096)) if line]
        if words:
            return words[0][:80]
    return ""
