"""Columns of numbers and of text between numpy and Arrow, without a step a row.

Text of a beat table is of few values in long runs: a dictionary on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa


def plain(values: NDArray[Any], kind: Any) -> pa.Array:
    """Numbers as an Arrow array of their own bytes; `kind` is its Arrow type."""
    import pyarrow as pa

    # pa.array would import pandas, a second's work, to see whether this is a series.
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(kind, len(values), buffers)


def dictionary(values: Sequence[str], codes: NDArray[Any]) -> pa.DictionaryArray:
    """Text of which each row's `codes` says which of the values it is, shape (n,)."""
    import pyarrow as pa

    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    text = pa.StringArray.from_buffers(
        len(values), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))
    )
    return pa.DictionaryArray.from_arrays(plain(codes.astype(np.int16), pa.int16()), text)


def text_column(values: NDArray[np.str_]) -> pa.DictionaryArray:
    """Text, shape (n,), as a dictionary of its values in order.

    One row of each run is sorted: sorting every row's text would take most of a table's time.
    """
    changes = values[1:] != values[:-1]
    first = np.flatnonzero(np.append(True, changes)[: len(values)])
    distinct, codes = np.unique(values[first], return_inverse=True)
    return dictionary(distinct.tolist(), np.repeat(codes, np.diff(first, append=len(values))))


def numbers_of(column: pa.ChunkedArray, dtype: str) -> NDArray[Any]:
    """A column of numbers without gaps as an array of its own, shape (n,)."""
    # pyarrow's own `to_numpy` imports pandas, a quarter of a second's work.
    return np.concatenate([np.empty(0, dtype), *(np.from_dlpack(part) for part in column.chunks)])


def texts_of(column: pa.ChunkedArray) -> NDArray[np.str_]:
    """A text column's values, shape (n,); of a dictionary each value is decoded once."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return np.array(_objects(column), dtype=np.str_)
    parts = [np.empty(0, np.str_)]
    for chunk in column.chunks:
        values = np.array(_objects(chunk.dictionary), dtype=np.str_)
        parts.append(values[np.from_dlpack(chunk.indices)])
    return np.concatenate(parts)


def _objects(array: pa.Array | pa.ChunkedArray) -> list[str | None]:
    """Every row as a Python object: only for what is short, or not as it was written."""
    return list(array.to_pylist())
