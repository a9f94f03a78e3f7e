"""A stretch of beats as the columns of a picture, and its passages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from storage.tables.beats import Quality
from tasks.review.day import AF, EMPTY, NOT_AF, UNKNOWN, day_columns
from tasks.review.passages import (
    disagreements,
    rhythm_runs,
    told_episodes,
    true_episodes,
    untold_passages,
)
from tasks.scores.rule import Judgement
from tests.tiny import tiny_table

N = 40
TABLE = replace(
    tiny_table(0, N),
    rhythm=np.repeat(["N", "AFIB", "", "N"], 10),
    label=np.repeat(np.array([0, 1, -1, 0], np.int8), 10),
    quality=np.where(np.arange(N) < 5, np.uint16(Quality.NOISY), np.uint16(0)),
)


def judgement() -> Judgement:
    """A model that finds AF half a passage late, and tells nothing of the last five beats."""
    decided = (np.arange(N) >= 15) & (np.arange(N) < 25)
    sure = np.arange(N) < 35
    return Judgement(
        np.where(decided, 0.9, 0.1).astype(np.float32), decided, sure, np.ones(N, np.float32)
    )


def test_each_column_has_the_shares_of_its_own_beats() -> None:
    """Truth, model, doubt and poor signal are shares of a column's beats; NaN where none is."""
    view = day_columns(TABLE, judgement(), (0.0, 64.0), 8, 10)  # of ten beats in four columns
    assert view.beats == N
    np.testing.assert_allclose(view.truth[:4], [0, 1, np.nan, 0])
    np.testing.assert_allclose(view.answer[:4], [0, 0.5, 0.5, 0])
    np.testing.assert_allclose(view.untold[:4], [0, 0, 0, 0.5])
    np.testing.assert_allclose(view.bad[:4], [0.5, 0, 0, 0])
    np.testing.assert_allclose(view.rate[1], [75, 75], rtol=1e-5)
    np.testing.assert_allclose(view.probability[1], [0.1, 0.9], rtol=1e-5)
    for values in (view.truth, view.answer, view.untold, view.bad, view.rate, view.probability):
        assert np.isnan(values[4:]).all()


def test_the_scatter_shows_every_beat_and_af_before_the_rest() -> None:
    """A cell with a beat is not empty, and is AF where any beat of it is."""
    view = day_columns(TABLE, None, (0.0, 32.0), 4, 10)
    assert view.scatter.shape == (10, 4)
    assert view.scatter[4].tolist() == [NOT_AF, AF, UNKNOWN, NOT_AF]  # RR of 0.8 s of 2
    assert (view.scatter[5:] == EMPTY).all()
    assert day_columns(TABLE, None, (0.0, 32.0), 1, 10).scatter[4, 0] == AF
    assert np.isnan(view.answer).all()


def test_a_stretch_that_is_none_is_refused() -> None:
    """A stretch ends after it begins, and has a column."""
    for span, columns in (((3.0, 3.0), 5), ((0.0, 9.0), 0)):
        with pytest.raises(ValueError, match="expected some"):
            day_columns(TABLE, None, span, columns, 5)


def test_passages_differ_where_both_tell_and_disagree() -> None:
    """Where truth is unknown, or the model tells nothing, there is no disagreement."""
    assert true_episodes(TABLE).tolist() == [[8.0, 16.0]]
    assert told_episodes(TABLE, judgement()).tolist() == [[12.0, 20.0]]
    assert untold_passages(TABLE, judgement()).tolist() == [[28.0, 48.0]]
    assert disagreements(TABLE, judgement()).tolist() == [[8.0, 12.0]]
    runs = rhythm_runs(TABLE)
    assert [name for _, _, name in runs] == ["N", "AFIB", "", "N"]
    assert [start for start, _, _ in runs] == [0.0, 8.0, 16.0, 24.0]
    assert runs[-1][1] == 48.0
