"""The beat comparison, held against WFDB's: bxb's published rule, and wfdb's own function."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from wfdb.processing import compare_annotations

from storage.datasets.dataset import load_spec
from storage.recordings.records import open_record, read_lead
from tasks.signal.beats import clean_lead
from tasks.signal.match import match_beats
from tasks.signal.preprocessing import Preprocessing

Samples = NDArray[np.int64]
WINDOW = 54  # 150 ms at 360 Hz


def by_bxb(annotated: Samples, detected: Samples) -> list[int]:
    """Pairs by the rule that WFDB's bxb follows, of ANSI/AAMI EC57.

    In time order: the earlier of the two is paired with the other if that is within the window, and
    the other has no nearer one after the earlier; else the earlier is alone.
    """
    late = [np.iinfo(np.int64).max // 2]
    a, d = annotated.tolist() + late, detected.tolist() + late
    i = j = 0
    out = [-1] * len(annotated)
    while i < len(annotated) and j < len(detected):
        away = abs(a[i] - d[j])
        rival = abs(a[i] - d[j + 1]) if d[j] < a[i] else abs(d[j] - a[i + 1])
        both = away <= WINDOW and away < rival
        if both:
            out[i] = j
        i, j = i + (both or a[i] <= d[j]), j + (both or d[j] < a[i])
    return out


def beats(least: int) -> st.SearchStrategy[Samples]:
    """Ascending samples, at least so far apart."""
    steps = st.lists(st.integers(least, 400), min_size=1, max_size=12)
    return steps.map(lambda rr: np.cumsum(np.array(rr, np.int64)))


@settings(max_examples=300)
@given(annotated=beats(2 * WINDOW + 1), detected=beats(2 * WINDOW + 1))
def test_pairs_are_bxbs(annotated: Samples, detected: Samples) -> None:
    """Where beats are more than 300 ms apart the pairs are those of bxb's rule, to the last."""
    assert match_beats(annotated, detected, WINDOW).tolist() == by_bxb(annotated, detected)


@settings(max_examples=300)
@given(annotated=beats(1), detected=beats(1))
def test_no_pair_of_bxbs_is_lost(annotated: Samples, detected: Samples) -> None:
    """However close beats lie there are as many pairs as bxb finds, or more, each used once."""
    found = match_beats(annotated, detected, WINDOW)
    pairs = found[found >= 0]
    assert len(pairs) >= sum(j >= 0 for j in by_bxb(annotated, detected))
    assert len(set(pairs.tolist())) == len(pairs)
    assert (np.abs(detected[pairs] - annotated[found >= 0]) <= WINDOW).all()


@pytest.mark.real
@pytest.mark.parametrize("name", ["105", "106", "108", "203", "207", "208", "222", "228", "231"])
def test_pairs_of_hard_records_are_wfdbs(real_data: Path, name: str) -> None:
    """On mitdb's hard records: wfdb's pairs, as many as bxb's, with and without five minutes."""
    record = open_record(load_spec("mitdb"), real_data / "mitdb", name)
    found = clean_lead(record, partial(read_lead, record), Preprocessing()).peaks
    for start in (0, round(300 * record.fs_hz)):
        annotated, detected = (x[x >= start] for x in (record.beats, found))
        pairs = match_beats(annotated, detected, WINDOW)
        # Of two that are equally near, as once in 105, bxb takes the later one.
        assert np.count_nonzero(np.array(by_bxb(annotated, detected)) >= 0) == (pairs >= 0).sum()
        # wfdb's window leaves its end out.
        judged = compare_annotations(annotated, detected, WINDOW + 1)
        assert pairs.tolist() == judged.matching_sample_nums.tolist()
        assert judged.tp == np.count_nonzero(pairs >= 0) > 1_000
