"""Beat tables: one Parquet file a record, one row a beat."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from enum import IntFlag
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import PlaceError, TableError
from storage.files import check_fields, parse_text, whole
from storage.places import Place, Remote, answering
from storage.recordings.stretches import seconds
from storage.tables.columns import dictionary, numbers_of, plain, text_column, texts_of

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 2
WAVEFORM_SAMPLES = 300
R_INDEX = 100
#: What a damaged table makes pyarrow, JSON and numpy raise, besides pyarrow's own.
DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError)


class Quality(IntFlag):
    """What is known against a beat. A flagged beat stays in the table; users of it decide."""

    GAP = 1  #: invalid samples (WFDB's, or NaN) inside the beat's segment
    FLAT = 2  #: a flat stretch inside the segment (lead off, electrode loose)
    SATURATED = 4  #: the signal sits at the converter's limit inside the segment
    NOISY = 8  #: noise index above the configured limit
    MISSED = 16  #: annotated, but no R peak was detected within 150 ms
    EXTRA = 32  #: detected, but not annotated within 150 ms
    RR_RANGE = 64  #: an RR interval on either side outside 0.2 to 3.0 s
    NO_RHYTHM = 128  #: no rhythm is known at this beat, so its label is -1
    UNCOVERED = 256  #: outside the stretch that the beat annotations cover


#: A bad beat: what its signal shows may not be a heart's. The one meaning, in counts and pages.
BAD = np.uint16(Quality.GAP | Quality.FLAT | Quality.SATURATED | Quality.NOISY)


@dataclass(frozen=True, eq=False)
class BeatTable:
    """The beats of one record, or of a stretch of it, in time order.

    Attributes
    ----------
    dataset, record, subject : str
        Where the beats come from, and from whom.
    sample : int64, shape (n,)
        R peak, as a sample index of the record.
    time_s : float64, shape (n,)
        R peak, in seconds from the record's start.
    rr_prev_s, rr_next_s : float32, shape (n,)
        RR intervals before and after the beat in seconds; NaN at both ends of every stretch, so
        that NaN before a beat says that a stretch begins with it.
    symbol : str, shape (n,)
        Beat annotation (WFDB mnemonic); "" where the beat was detected but not annotated.
    rhythm : str, shape (n,)
        Rhythm in force at the beat, in the data set's mapped names; "" where none is known.
    label : int8, shape (n,)
        1 AF, 0 not AF, -1 unknown.
    quality : uint16, shape (n,)
        Sum of `Quality` flags.
    noise : float32, shape (n,)
        Noise index of the beat's segment, 0 clean, NaN without a signal.
    waveform : float32, shape (n, 300), or None
        Millivolts, R at index 100; rows of NaN where the beat has none; None where the whole
        table has none.
    stretches_s : float64, shape (k, 2)
        Start and end of the record's stretches that can be analysed, in seconds; see
        `storage.recordings.stretches`. Every beat lies in one.
    """

    dataset: str
    record: str
    subject: str
    sample: NDArray[np.int64]
    time_s: NDArray[np.float64]
    rr_prev_s: NDArray[np.float32]
    rr_next_s: NDArray[np.float32]
    symbol: NDArray[np.str_]
    rhythm: NDArray[np.str_]
    label: NDArray[np.int8]
    quality: NDArray[np.uint16]
    noise: NDArray[np.float32]
    waveform: NDArray[np.float32] | None
    stretches_s: NDArray[np.float64]

    @property
    def begins(self) -> NDArray[np.bool_]:
        """Whether each beat is the first of its stretch, shape (n,)."""
        return np.isnan(self.rr_prev_s)

    def __len__(self) -> int:
        return len(self.sample)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_] | slice) -> BeatTable:
        """The rows at `index`, as a table of the same record."""
        columns = {name: getattr(self, name)[index] for name in _COLUMNS}
        waveform = None if self.waveform is None else self.waveform[index]
        return replace(self, **columns, waveform=waveform)


def join_tables(tables: Sequence[BeatTable]) -> BeatTable:
    """Successive stretches of a record as one table."""
    names = [*_COLUMNS, *([] if tables[0].waveform is None else ["waveform"])]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(table, name) for table in tables]) for name in names
    }
    return replace(tables[0], **columns)


@dataclass(frozen=True)
class Source:
    """What a beat table was made from and by: the metadata of its Parquet file.

    Attributes
    ----------
    dataset, record, subject : str
        As in the table.
    lead : str or None
        Lead the beats were found on; None without a signal.
    fs_hz : float
        Sampling rate of the record.
    n_samples : int
        Length of the record in samples.
    stretches : list of [int, int]
        Stretches of it that can be analysed, in samples.
    files : dict of str to str
        SHA-256 of every source file, by name.
    preprocessing : dict
        The preprocessing configuration, whole.
    preprocessing_sha256, code_sha256 : str
        Digest of the configuration, and of the code that shapes beat tables.
    key : str
        Digest of everything the table depends on: the same key means the same table.
    counts : dict of str to int
        Beats annotated, detected, matched, missed and extra.
    simulated : bool
        Whether the record was simulated.
    content : dict of str to list of str
        Prints of its signal and of its annotated beats; see `storage.tables.content`.
    label_source : str
        What told the rhythm; see `storage.recordings.records.Record`. "" in a table that does not
        say.
    """

    dataset: str
    record: str
    subject: str
    lead: str | None
    fs_hz: float
    n_samples: int
    stretches: list[list[int]]
    files: dict[str, str]
    preprocessing: dict[str, Any]
    preprocessing_sha256: str
    code_sha256: str
    key: str
    counts: dict[str, int]
    simulated: bool
    content: dict[str, list[str]] = field(default_factory=dict)
    label_source: str = ""


#: The columns that differ from beat to beat, with their numpy types; None is text.
_COLUMNS: dict[str, str | None] = {
    "sample": "int64",
    "time_s": "float64",
    "rr_prev_s": "float32",
    "rr_next_s": "float32",
    "symbol": None,
    "rhythm": None,
    "label": "int8",
    "quality": "uint16",
    "noise": "float32",
}
_CONSTANTS = ("dataset", "record", "subject")


@cache
def arrow_schema() -> pa.Schema:
    """The columns of a beat table on disk.

    A waveform is 300 little-endian float32 in 1,200 bytes: measured 4 times faster to write and
    read than a list of floats, and the same size.
    """
    import pyarrow as pa

    text = pa.dictionary(pa.int16(), pa.string())
    kinds: dict[str, str | None] = {**dict.fromkeys(_CONSTANTS), **_COLUMNS}
    fields = [
        pa.field(
            name, text if kind is None else pa.from_numpy_dtype(np.dtype(kind)), nullable=False
        )
        for name, kind in kinds.items()
    ]
    return pa.schema([*fields, pa.field("waveform", pa.binary(4 * WAVEFORM_SAMPLES))])


def _to_arrow(table: BeatTable) -> pa.Table:
    import pyarrow as pa

    n, schema = len(table), arrow_schema()

    columns: dict[str, Any] = {
        name: dictionary([getattr(table, name)], np.zeros(n, np.int16)) for name in _CONSTANTS
    }
    for name, dtype in _COLUMNS.items():
        values = getattr(table, name)
        columns[name] = (
            text_column(values)
            if dtype is None
            else plain(values.astype(dtype, copy=False), schema.field(name).type)
        )
    if table.waveform is None:
        columns["waveform"] = pa.nulls(n, schema.field("waveform").type)
    else:
        rows = np.ascontiguousarray(table.waveform, dtype="<f4")
        present = ~np.isnan(rows[:, 0])
        bits = pa.py_buffer(np.packbits(present, bitorder="little"))
        columns["waveform"] = pa.FixedSizeBinaryArray.from_buffers(
            schema.field("waveform").type, n, [bits, pa.py_buffer(rows)], int((~present).sum())
        )
    return pa.table(columns, schema=schema)


def write_beats(path: Place, tables: Iterable[BeatTable], source: Source) -> int:
    """Write the beat tables of one record as one Parquet file, whole or not at all.

    Parameters
    ----------
    tables : iterable of BeatTable
        Stretches of one record in time order; each becomes one row group, so that memory stays
        bounded by the largest of them.
    source : Source
        Kept in the file's metadata.

    Returns
    -------
    int
        Rows.
    """
    import pyarrow.parquet as pq

    metadata = {
        "holter.schema": str(SCHEMA_VERSION),
        "holter.source": json.dumps(asdict(source), sort_keys=True),
    }
    rows = 0
    with whole(path) as partial:
        schema = arrow_schema().with_metadata(metadata)
        options = {
            # No float of a waveform is like the one before: lz4 would take time, and save nothing.
            "compression": {name: "lz4" for name in schema.names} | {"waveform": "none"},
            "use_dictionary": [f.name for f in schema if str(f.type).startswith("dictionary")],
            "write_statistics": False,
        }
        with pq.ParquetWriter(partial, schema, **options) as writer:
            for table in tables:
                writer.write_table(_to_arrow(table).replace_schema_metadata(metadata))
                rows += len(table)
    return rows


@contextmanager
def _reading(path: Place) -> Iterator[None]:
    """Whatever a damaged table makes pyarrow and numpy raise becomes one TableError."""
    import pyarrow as pa

    try:
        with answering(path):
            yield
    except (PlaceError, TableError):
        raise
    except FileNotFoundError as error:
        raise TableError(f"beat table {path}: found no file; expected the one to read") from error
    except (pa.ArrowException, *DAMAGE) as error:
        cause = str(error).split("\n", 1)[0][:200]
        raise TableError(f"beat table {path}: found a damaged file ({cause})") from error


def _open(path: Place) -> Any:
    import pyarrow.parquet as pq

    with _reading(path):
        file = pq.ParquetFile(path.open() if isinstance(path, Remote) else path)
        metadata = file.schema_arrow.metadata or {}
    version = metadata.get(b"holter.schema", b"none").decode(errors="replace")
    if version != str(SCHEMA_VERSION):
        file.close()
        problem = f"found schema version {version}; expected {SCHEMA_VERSION}"
        raise TableError(f"beat table {path}: {problem}")
    return file


def read_source(path: Place) -> Source:
    """What a beat table was made from, read from its file's metadata."""
    with _open(path) as file:
        return _source(path, file)


def _source(path: Place, file: Any) -> Source:
    with _reading(path):
        return check_fields(Source(**parse_text(file.schema_arrow.metadata[b"holter.source"])))


def read_beats(path: Place, *, waveform: bool = True) -> BeatTable:
    """Read one record's beat table; `waveform=False` leaves the waveforms on disk.

    Raises
    ------
    TableError
        The file is missing, damaged, or of another schema version.
    """
    with _open(path) as file:
        return _table(path, file, file.read, waveform=waveform)


def read_groups(path: Place) -> Iterator[BeatTable]:
    """Read one record's beat table a row group at a time; errors as `read_beats`."""
    with _open(path) as file:
        for number in range(file.num_row_groups):
            yield _table(path, file, partial(file.read_row_group, number), waveform=True)


def read_waveforms(path: Place, group: int) -> NDArray[np.float32]:
    """Read a row group's waveforms, shape (n, 300), NaN where there is none; errors as above."""
    with _open(path) as file:
        table = _arrow(path, partial(file.read_row_group, group), ["waveform"])
    with _reading(path):
        rows = _waveforms(table["waveform"])
    return np.full((len(table), WAVEFORM_SAMPLES), np.nan, np.float32) if rows is None else rows


def _arrow(path: Place, read: Callable[..., pa.Table], names: list[str]) -> pa.Table:
    with _reading(path):
        table = read(columns=names, use_threads=False)
        for name in names:
            column, expected = table[name], arrow_schema().field(name).type
            if not str(expected).startswith("dictionary") and column.type != expected:
                raise ValueError(f"{name} is {column.type}; expected {expected}")
            if name != "waveform" and column.null_count:
                raise ValueError(f"{name} has {column.null_count} gaps; expected none")
        return table


def _table(path: Place, file: Any, read: Callable[..., pa.Table], *, waveform: bool) -> BeatTable:
    source = _source(path, file)
    table = _arrow(path, read, [*_COLUMNS, "waveform"] if waveform else list(_COLUMNS))
    columns: dict[str, Any] = {}
    with _reading(path):
        for name in _COLUMNS:
            column, dtype = table[name], _COLUMNS[name]
            columns[name] = texts_of(column) if dtype is None else numbers_of(column, dtype)
        return BeatTable(
            **{name: getattr(source, name) for name in _CONSTANTS},
            **columns,
            waveform=_waveforms(table["waveform"]) if waveform else None,
            stretches_s=seconds(source.stretches, source.fs_hz),
        )


def _waveforms(column: pa.ChunkedArray) -> NDArray[np.float32] | None:
    if column.null_count == len(column):
        return None
    rows = np.full((len(column), WAVEFORM_SAMPLES), np.nan, dtype=np.float32)
    at = 0
    for chunk in column.chunks:
        block = rows[at : at + len(chunk)]
        values = np.frombuffer(chunk.buffers()[1], dtype="<f4").reshape(-1, WAVEFORM_SAMPLES)
        present = chunk.is_valid().to_numpy(zero_copy_only=False)
        block[present] = values[chunk.offset : chunk.offset + len(chunk)][present]
        at += len(chunk)
    return rows
