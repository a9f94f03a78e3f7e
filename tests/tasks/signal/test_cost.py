"""What a record's work is made of, and that its short cuts change nothing."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.signal import beats, filters, qrs, spool, wavelet
from tasks.signal.beats import clean_lead
from tests.conftest import ROOT
from tests.tasks.signal.test_signal_path import CONFIG, Signal, ecg, reader


def test_a_lead_is_read_and_transformed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three transforms every four blocks; of four samples at most five are read, margins too."""
    x, of = ecg(1500.0)
    calls: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        def call(*words: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*words, **options)

        return call

    def read(start: int, stop: int) -> Signal:
        calls["samples"] += stop - start
        return x[start:stop]

    for name in ("rfft", "irfft"):
        monkeypatch.setattr(np.fft, name, counted(name, getattr(np.fft, name)))
    clean_lead(of, read, CONFIG)
    grid = filters.make_grid(len(x), of.fs_hz)
    turns = -(-len(grid.starts()) // filters.BLOCKS_AT_ONCE)
    assert len(grid.starts()) > filters.BLOCKS_AT_ONCE
    assert (calls["rfft"], calls["irfft"]) == (turns, 2 * turns)
    assert calls["samples"] <= 1.25 * len(x)


def test_a_lead_on_a_disk_is_read_and_transformed_once_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too long for memory, a lead is filtered once, and cleaned to the bits of one in memory."""
    x, of = ecg(700.0)
    expected = clean_lead(of, reader(x), CONFIG)
    calls: Counter[str] = Counter()
    transform = np.fft.rfft

    def count(*words: Any, **options: Any) -> Any:
        calls["rfft"] += 1
        return transform(*words, **options)

    monkeypatch.setattr(np.fft, "rfft", count)
    monkeypatch.setattr(beats, "MOST_IN_MEMORY", 0)
    lead = clean_lead(of, reader(x), CONFIG)
    turns = calls["rfft"]
    for start, stop in ((0, len(x)), (0, 10), (29_990, 30_010), (len(x) - 5, len(x))):
        np.testing.assert_array_equal(lead.clean(start, stop), expected.clean(start, stop))
    assert calls["rfft"] == turns == 1


def test_a_full_disk_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills on the way: the lead is filtered again, and nothing is lost."""
    x, of = ecg(700.0)
    expected = clean_lead(of, reader(x), CONFIG).clean(0, len(x))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(beats, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(spool.Spool, "append", full)
    found = clean_lead(of, reader(x), CONFIG).clean(0, len(x))
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def test_a_lead_on_a_disk_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sees the file, and nothing is left of it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    spooled = spool.Spool(6)
    for part in (np.arange(4, dtype=np.float32), np.arange(4, 6, dtype=np.float32)):
        spooled.append(part)
    assert list(tmp_path.iterdir()) == []
    assert spooled.read(2, 6).tolist() == [2, 3, 4, 5]
    with pytest.raises(OSError, match="samples 4 to 7"):
        spooled.read(4, 7)


def test_the_signal_path_imports_no_scipy() -> None:
    """A record is filtered without scipy, whose import takes as long as hours of signal."""
    words = "import sys, tasks.signal.beats; sys.exit('scipy' in sys.modules)"
    subprocess.run([sys.executable, "-c", words], cwd=ROOT, check=True, timeout=60)


#: Few different values: many are equal.
FLOATS = st.lists(st.integers(0, 6), min_size=1, max_size=300)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(values=FLOATS, seed=st.integers(0, 9), ordered=st.booleans())
def test_the_middle_is_the_median(values: list[int], seed: int, *, ordered: bool) -> None:
    """However values lie, the middle one is what sorting gives."""
    x = np.array(values, np.float32) * np.float32(seed + 1)
    x = np.sort(x) if ordered else x
    assert wavelet._middle(x) == np.sort(x)[len(x) // 2]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(values=st.lists(st.integers(0, 6), min_size=60, max_size=300), reach=st.integers(3, 12))
def test_candidates_are_the_highest_within_reach(values: list[int], reach: int) -> None:
    """Where a value is above all before it and below none after it, within reach on both sides."""
    x = np.array(values, np.float32)
    first, last = 20, len(x) - 20
    expected = [
        i
        for i in range(first, last)
        if x[i] > max(x[i - reach : i]) and x[i] >= max(x[i + 1 : i + reach + 1])
    ]
    assert qrs._highest(x, first, last, reach).tolist() == expected
