"""Labels of whole records: one CSV of the data set, or patterns of the records' paths.

Challenge sets and hospital exports have them: a row a record, with its label, and where they are
known its subject, whether it is left out, and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from storage.errors import BadLabel, SpecError
from storage.files import safe_path, sha256_json
from storage.formats.leads import SUFFIX
from storage.text import table_rows

if TYPE_CHECKING:  # a device reads records without any data set, and without pydantic
    from storage.datasets.dataset import DatasetSpec

#: What a column may hold; only `record` must be there.
Column = Literal["record", "label", "subject", "exclude", "why"]
#: A row becomes Python objects, thirty times as large; a million records are smaller.
MOST_CSV_BYTES = 1 << 24
YES, NO = ("1", "true", "yes", "x"), ("", "0", "false", "no")
#: Words of a data set's TOML: beats are to be found, a record without marks is refused, what people
#: decided about passages holds.
DETECT, ERROR, REVIEW = "detect", "error", "review"
#: Endings that a row may give a record's name.
_ENDINGS = (*SUFFIX.values(), ".mat", ".dat")


@dataclass(frozen=True)
class Row:
    """What one row says of its record; "" where it says nothing.

    Attributes
    ----------
    label, subject, exclude, why : str
        Its cells.
    problem : str
        Why the row cannot be used.
    """

    label: str = ""
    subject: str = ""
    exclude: str = ""
    why: str = ""
    problem: str = ""

    @property
    def excluded(self) -> bool:
        """Whether the row leaves its record out."""
        return self.exclude.lower() in YES


@dataclass(frozen=True)
class LabelTable:
    """A CSV of records.

    Attributes
    ----------
    file : str
        Its name within the data set's folder; "" where the data set has none.
    columns : frozenset of str
        The columns that it has.
    rows : mapping of str to tuple of Row
        By record, as the rows name it; several where they say different things.
    """

    file: str = ""
    columns: frozenset[str] = frozenset()
    rows: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)

    def key(self, record: str) -> str | None:
        """The name under which a record is in: its whole name, or else the last part of it.

        A name of another case is taken where the record's own is not there.
        """
        if not self.rows:
            return None
        names = (record, record.rpartition("/")[2])
        as_it_is = (name for name in names if name in self.rows)
        folded = (self._folded[name.lower()] for name in names if name.lower() in self._folded)
        return next(as_it_is, None) or next(folded, None)

    @cached_property
    def _folded(self) -> Mapping[str, str]:
        return {name.lower(): name for name in self.rows}


def label_table(spec: DatasetSpec, folder: Path) -> LabelTable:
    """Read the data set's CSV of records; an empty table where its TOML names none.

    Raises
    ------
    SpecError
        The file is not there, is no CSV, or has not the columns that the TOML tells.
    """
    names = spec.labels.files
    if not names:
        return LabelTable()
    for name in names:
        path = safe_path(folder, name, record=name)
        if path.is_file():
            state = path.stat()
            columns = tuple(spec.labels.columns.items())
            return _read(path, name, columns, state.st_mtime_ns, state.st_size, state.st_ino)
    raise SpecError(
        f"data set {spec.name}: {folder} has no {' or '.join(names)}, which labels its records"
    )


def record_row(spec: DatasetSpec, folder: Path, record: str) -> Row:
    """What the CSV says of a record; an empty row where it says nothing.

    Raises
    ------
    BadLabel
        Rows of one record that differ, or one that cannot be used.
    SpecError
        As `label_table`.
    """
    table = label_table(spec, folder)
    key = table.key(record)
    if key is None:
        return Row()
    row, *rest = table.rows[key]
    if rest:
        cells = f"rows that differ ({', '.join(sorted({_cells(line) for line in (row, *rest)}))})"
        raise BadLabel(record, cells, "one row a record", table.file)
    if row.problem:
        raise BadLabel(record, row.problem, f"the columns {_column_names(table)}", table.file)
    return row


def row_sha256(spec: DatasetSpec, folder: Path, record: str) -> str:
    """Digest of what the CSV gives a record's table; "" where it says nothing of it."""
    table = label_table(spec, folder)
    key = table.key(record)
    return sha256_json([[row.label, row.subject] for row in table.rows[key]]) if key else ""


def record_label(spec: DatasetSpec, folder: Path, record: str) -> tuple[str, str]:
    """The label of a whole record, as its CSV or its path gives it, and where it stands.

    Returns
    -------
    str, str
        The label, not mapped yet; "" where the record has none. And the file to name in an error.

    Raises
    ------
    BadLabel
        The CSV and the patterns, or two patterns, give different labels.
    SpecError
        As `label_table`.
    """
    labels = {
        f"[labels.paths] {pattern!r}": label
        for pattern, label in spec.labels.paths.items()
        if fnmatchcase(record, pattern)
    }
    row = record_row(spec, folder, record)
    file = label_table(spec, folder).file
    if row.label:
        labels[file] = row.label
    if len(set(labels.values())) > 1:
        sources = " and ".join(f"{label!r} by {source}" for source, label in labels.items())
        raise BadLabel(record, sources, "one label")
    return next(iter(labels.values()), ""), file if row.label else ""


def subject_of(spec: DatasetSpec, folder: Path, record: str) -> str:
    """The subject (patient) of a record: by the TOML's table, the CSV, the pattern, or itself.

    Raises
    ------
    BadLabel
        A CSV or a pattern tells subjects, and not this record's.
    SpecError
        As `label_table`.
    """
    table, subjects = label_table(spec, folder), spec.subjects
    subject = spec.subject_by_rule(record)
    if record not in subjects.map:
        subject = record_row(spec, folder, record).subject or subject
    if not subject and (subjects.pattern is not None or "subject" in table.columns):
        expected = "a name that [subjects] pattern fits, or one in [subjects] map or a CSV"
        raise BadLabel(record, "no subject", expected, table.file or None)
    return subject or record


def excluded_rows(spec: DatasetSpec, folder: Path, records: Iterable[str]) -> dict[str, str]:
    """The records that the CSV leaves out, and why.

    Raises
    ------
    SpecError
        One row names two records; or as `label_table`.
    """
    table = label_table(spec, folder)
    keys = {record: key for record in records if (key := table.key(record)) is not None}
    for key, times in Counter(keys.values()).items():
        if times > 1:
            pair = " and ".join([record for record, row_key in keys.items() if row_key == key][:2])
            raise SpecError(
                f"data set {spec.name}, file {table.file}: found the record {key!r}, which may be "
                f"{pair}; expected their whole names"
            )
    return {
        record: rows[0].why or f"left out by {table.file}"
        for record, key in keys.items()
        if len(rows := table.rows[key]) == 1 and rows[0].excluded
    }


def rows_without_record(spec: DatasetSpec, folder: Path, records: Iterable[str]) -> list[str]:
    """What the CSV names that is no record of the folder, in its order."""
    table = label_table(spec, folder)
    keys = {table.key(record) for record in records}
    return [name for name in table.rows if name not in keys]


def read_rows(path: Path) -> list[list[str]]:
    """The rows of a CSV, their cells stripped, empty rows left out; commas, ";" or tabs between.

    Raises
    ------
    ValueError
        A quote that is never closed, or far too large.
    OSError
        It cannot be read.
    """
    if (size := path.stat().st_size) > MOST_CSV_BYTES:
        raise ValueError(f"{size} bytes; at most {MOST_CSV_BYTES} are read")
    return table_rows(path.read_bytes())


def plain_name(cell: str) -> str:
    """A record's name as a CSV gives it: without "./" before it and its file's ending."""
    name = cell.replace("\\", "/").removeprefix("./")
    return next((name[: -len(end)] for end in _ENDINGS if name.lower().endswith(end)), name)


@lru_cache(maxsize=4)
def _read(
    path: Path, file: str, columns: tuple[tuple[Column, str | int], ...], *_state: int
) -> LabelTable:
    """The table of a file that has not changed: read once for all of its records."""
    try:
        rows = read_rows(path)
        places = _places(rows[0] if rows else [], dict(columns))
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: found {error}; expected a CSV of records") from error
    headerless = bool(columns) and all(isinstance(place, int) for _, place in columns)
    out: dict[str, dict[Row, None]] = {}
    for row in rows if headerless else rows[1:]:
        name, parsed = _row(row, places)
        out.setdefault(name, {})[parsed] = None
    out.pop("", None)
    return LabelTable(
        file, frozenset(places), {name: tuple(record_rows) for name, record_rows in out.items()}
    )


def _places(header: Sequence[str], columns: Mapping[Column, str | int]) -> dict[Column, int]:
    """Each column's place in a row, by the TOML's numbers or the header's words."""
    names = get_args(Column)
    places = columns or {name: name for name in names if name in header or name == "record"}
    numbers = {name: place - 1 for name, place in places.items() if isinstance(place, int)}
    headings = {name: place for name, place in places.items() if isinstance(place, str)}
    absent = [place for place in headings.values() if place not in header]
    if absent or len(places) < 2:
        expected = ", ".join(map(str, places.values())) if columns else "record, and label"
        raise ValueError(f"the header {','.join(header)[:80]!r} ({expected} wanted)")
    return {**numbers, **{name: header.index(place) for name, place in headings.items()}}


def _row(row: Sequence[str], places: Mapping[Column, int]) -> tuple[str, Row]:
    cells = {name: row[place] if place < len(row) else "" for name, place in places.items()}
    name = plain_name(cells.pop("record"))
    problem = ""
    if max(places.values()) >= len(row):
        problem = f"a row of {len(row)} cells"
    elif cells.get("exclude", "").lower() not in (*YES, *NO):
        problem = f"exclude {cells['exclude']!r}, neither {' nor '.join((YES[2], NO[3]))}"
    return name, Row(**cells, problem=problem)


def _cells(row: Row) -> str:
    return ", ".join(repr(cell) for cell in (row.label, row.subject, row.exclude) if cell) or "''"


def _column_names(table: LabelTable) -> str:
    return ", ".join(name for name in get_args(Column) if name in table.columns)
