"""Pyramids of minima and maxima."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import TableError
from storage.tables import pyramid
from storage.tables.pyramid import BLOCK, Floats, Pyramid, level_sizes, make_pyramid, view

N = 300_007
RANDOM = np.random.default_rng(7)
SIGNAL = RANDOM.normal(size=N).astype(np.float32)
SIGNAL[40_000:90_001] = np.nan
SIGNAL[RANDOM.integers(0, N, 500)] = np.nan


def read(start: int, stop: int) -> Floats:
    return SIGNAL[start:stop]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyramid, "AT_ONCE", BLOCK * 64)  # so that it is read in many pieces
        return make_pyramid(tmp_path_factory.mktemp("pyramid") / "lead.npy", N, read)


@given(st.integers(0, N - 1), st.integers(1, N), st.integers(1, 1500))
def test_a_view_hides_no_peak_and_shows_none_that_is_not_near(
    made: Pyramid, start: int, length: int, bins: int
) -> None:
    """Every sample of a stretch lies within its column; what a column shows lies in or beside it.

    Beside it means within one row of the level that the view reads.
    """
    stop = min(start + length, N)
    bins = min(bins, stop - start)
    rows = view(made, read, start, stop, bins)
    assert rows.shape == (bins, 2)
    edges = start + np.arange(bins + 1) * ((stop - start) / bins)
    wide = max((stop - start) / bins, 1)
    for number in {0, bins // 2, bins - 1}:
        inside = SIGNAL[int(np.ceil(edges[number])) : int(edges[number + 1])]
        low, high = max(0, int(edges[number] - wide) - 1), int(edges[number + 1] + wide) + 2
        around = SIGNAL[low:high]
        shown = rows[number]
        if np.isfinite(shown).all():
            assert np.nanmin(around) <= shown[0] <= shown[1] <= np.nanmax(around)
        if len(inside) and np.isfinite(inside).any():
            near = view(made, read, start, stop, bins)[max(0, number - 1) : number + 2]
            assert np.nanmin(near) <= np.nanmin(inside)
            assert np.nanmax(near) >= np.nanmax(inside)


def test_a_hole_is_shown_as_a_hole(made: Pyramid) -> None:
    """Where nothing was recorded nothing is drawn, from the samples and from every level."""
    for stop in (41_000, 60_000, 89_000):
        assert np.isnan(view(made, read, 40_600, stop, 5)).all()
    whole = view(made, read, 0, N, 300)
    assert np.isnan(whole[45:88]).all()
    assert np.isfinite(whole[:39]).all()


def test_a_pyramid_of_another_lead_or_a_damaged_one_is_refused(
    made: Pyramid, tmp_path: Path
) -> None:
    """A file that is not the pyramid of so many samples is told of, and never drawn."""
    path = tmp_path / "lead.npy"
    make_pyramid(path, 1000, read)
    with pytest.raises(TableError, match="expected float32"):
        pyramid.open_pyramid(path, 2000)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TableError, match="damaged"):
        pyramid.open_pyramid(path, 1000)
    assert [len(level) for level in made.levels] == level_sizes(N)
