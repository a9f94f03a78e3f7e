"""Text columns of beat tables: what goes in comes out, with each value decoded once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.tables.columns import text_column, texts_of

TEXTS = st.lists(st.sampled_from(["", "N", "V", "(AFIB", "µ", "AFIB"]), max_size=60)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(parts=st.lists(TEXTS, max_size=4), repeats=st.integers(1, 5))
def test_text_comes_out_as_it_went_in(parts: list[list[str]], repeats: int) -> None:
    """Of chunks with dictionaries of their own, and of none; as a dictionary in order."""
    arrays = [np.repeat(np.array(part, np.str_), repeats) for part in parts]
    chunks = [text_column(array) for array in arrays]
    for chunk, array in zip(chunks, arrays, strict=True):
        assert chunk.dictionary.to_pylist() == sorted(set(array.tolist()))
    column = pa.chunked_array(chunks, pa.dictionary(pa.int16(), pa.string()))
    expected = [text for array in arrays for text in array.tolist()]
    assert texts_of(column).tolist() == expected
    assert texts_of(column.cast(pa.string())).tolist() == expected


def test_no_text_is_objects_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A column of a million beats of three rhythms decodes three texts."""
    values = np.repeat(np.array(["N", "AFIB", "AFL"]), 333_333)
    column = pa.chunked_array([text_column(values)])
    decoded = []

    def count(array: pa.Array) -> list[str]:
        decoded.append(len(array))
        return [item.as_py() for item in array]

    monkeypatch.setattr("storage.tables.columns._objects", count)
    np.testing.assert_array_equal(texts_of(column), values)
    assert decoded == [3]
