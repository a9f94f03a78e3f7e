"""Beat tables on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from storage.errors import TableError
from storage.tables.beats import BeatTable, Source, read_beats, read_source, write_beats

SOURCE = Source(
    dataset="sim",
    record="sim001",
    subject="s1",
    lead="ECG1",
    fs_hz=250.0,
    n_samples=9_000,
    stretches=[[0, 4_000], [5_000, 9_000]],
    files={"sim001.dat": "0" * 64},
    preprocessing={"low_hz": 0.5},
    preprocessing_sha256="1" * 64,
    code_sha256="2" * 64,
    key="3" * 64,
    counts={"annotated": 3},
    simulated=True,
)


def table(n: int, *, waveform: bool = True, seed: int = 0) -> BeatTable:
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(10 * n + 10, n, replace=False)).astype(np.int64)
    shapes = rng.normal(size=(n, 300)).astype(np.float32)
    shapes[:1] = np.nan
    return BeatTable(
        dataset="sim",
        record="sim001",
        subject="s1",
        sample=sample,
        time_s=sample / 250.0,
        rr_prev_s=rng.random(n).astype(np.float32),
        rr_next_s=rng.random(n).astype(np.float32),
        symbol=rng.choice(np.array(["N", "V", ""]), n),
        rhythm=rng.choice(np.array(["N", "AFIB", ""]), n),
        label=rng.integers(-1, 2, n).astype(np.int8),
        quality=rng.integers(0, 512, n).astype(np.uint16),
        noise=rng.random(n).astype(np.float32),
        waveform=shapes if waveform else None,
        stretches_s=np.array([[0.0, 16.0], [20.0, 36.0]]),
    )


def assert_same(found: BeatTable, expected: BeatTable) -> None:
    assert (found.dataset, found.record, found.subject) == ("sim", "sim001", "s1")
    for name, values in vars(expected).items():
        if isinstance(values, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), values, err_msg=name)
            assert getattr(found, name).dtype.kind == values.dtype.kind


@settings(max_examples=25)
@given(n=st.integers(1, 60), waveform=st.booleans(), seed=st.integers(0, 9), cut=st.integers(0, 60))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, n: int, waveform: bool, seed: int, cut: int
) -> None:
    """What is written in any number of stretches is what is read."""
    path = tmp_path_factory.mktemp("beats") / "sim001.parquet"
    whole = table(n, waveform=waveform, seed=seed)
    if waveform and n == 1:
        whole = replace(whole, waveform=np.zeros((1, 300), np.float32))
    parts = [whole.take(slice(None, cut)), whole.take(slice(cut, None))]
    assert write_beats(path, (part for part in parts if len(part)), SOURCE) == n
    assert_same(read_beats(path), whole)
    assert read_source(path) == SOURCE
    assert read_beats(path, waveform=False).waveform is None


@settings(max_examples=20)
@given(values=hnp.arrays(np.float32, 300, elements=st.floats(-10, 10, width=32)))
def test_waveform_bytes_are_exact(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray
) -> None:
    """A waveform comes back bit for bit."""
    path = tmp_path_factory.mktemp("beats") / "sim001.parquet"
    write_beats(path, [replace(table(1), waveform=values[None])], SOURCE)
    found = read_beats(path).waveform
    assert found is not None
    assert found.tobytes() == values.tobytes()


def test_same_table_same_bytes(tmp_path: Path) -> None:
    """Writing the same beats twice gives the same file, byte for byte."""
    for name in ("a", "b"):
        write_beats(tmp_path / name, [table(20)], SOURCE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_nothing_half_written(tmp_path: Path) -> None:
    """A record that fails midway leaves the old table as it was and no other file."""
    path = tmp_path / "sim001.parquet"
    write_beats(path, [table(5)], SOURCE)
    before = path.read_bytes()

    def breaks() -> Iterator[BeatTable]:
        yield table(5)
        raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write_beats(path, breaks(), SOURCE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "missing", "version"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    """A damaged, missing or foreign file is an error that names it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "sim001.parquet"
    write_beats(path, [table(50)], SOURCE)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        data[-20] ^= 0xFF
        path.write_bytes(data)
    elif damage == "text":
        path.write_text("not a table")
    elif damage == "missing":
        path.unlink()
    else:
        pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(TableError, match=r"sim001\.parquet"):
        read_beats(path)
