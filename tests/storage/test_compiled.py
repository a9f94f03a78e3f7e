"""The compiled inner loops and their numpy twins: the same bits, whatever compiled them."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from storage.compiled import build, kernels
from storage.formats.wfdb_signal import INVALID, PackedLead, read_packed
from storage.recordings import stretches
from storage.tables import content
from tasks.scores import smoothing
from tasks.signal import qrs, quality, segment, wavelet
from tests.conftest import ROOT
from tests.tasks.signal.test_signal_path import ecg, tables

pytestmark = pytest.mark.skipif(not build.compiler(), reason="no C compiler here")
BITS = settings(max_examples=40, deadline=None, derandomize=True)
SEEDS = st.integers(0, 1 << 16)
Floats = NDArray[np.float32]
#: All that an x86-64 processor of today has; a compiler for another takes none of it.
WIDEST = ("-mavx2", "-mfma") if platform.machine() == "x86_64" else ("-O2",)


@pytest.fixture(scope="module", autouse=True)
def library() -> Any:
    """The library of this source, compiled where it is not."""
    if kernels.LIBRARY is None:
        assert build.build()
        kernels.LIBRARY = kernels.load()
    return kernels.LIBRARY


def both(call: Callable[[], Any]) -> tuple[Any, Any]:
    """What a call gives with the library and without it."""
    compiled = call()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "LIBRARY", None)
        return compiled, call()


def assert_same_bits(call: Callable[[], Any]) -> None:
    for compiled, plain in zip(*both(call), strict=True):
        x, y = np.asarray(compiled), np.asarray(plain)
        assert x.dtype == y.dtype
        # Zeros of either sign are equal; everything else is, to the bit.
        np.testing.assert_array_equal(x, y)


def signal(seed: int, n: int, gaps: int = 0) -> Floats:
    """Noise of any size on a slow wave, with flat stretches, and gaps where wanted."""
    random = np.random.default_rng(seed)
    x = random.normal(0, 10.0 ** random.integers(-6, 3), n) + np.sin(np.arange(n) / 40)
    out: Floats = np.round(x, int(random.integers(1, 8))).astype(np.float32)
    for start in random.integers(0, n, gaps + 2):
        out[start : start + random.integers(1, 40)] = np.nan if gaps else out[start]
    return out


@BITS
@given(
    seed=SEEDS,
    n=st.integers(2, 60),
    name=st.sampled_from(["haar", "db2", "db4", "db6", "sym5", "bior3.5"]),
    levels=st.integers(1, 5),
    cut=st.integers(0, 30),
)
def test_shrinkage(seed: int, n: int, name: str, levels: int, cut: int) -> None:
    """Of any wavelet, length and stretch that is judged."""
    x = signal(seed, 32 * n)
    assert_same_bits(lambda: [wavelet.shrink(x, name, levels, slice(cut, len(x) - cut))])


def test_the_plain_transform_is_pywavelets() -> None:
    """Down and up again are PyWavelets' own sums, in one order: within a rounding of each."""
    x = signal(0, 4096)
    bank = wavelet._filter_bank("db4")
    a, detail = wavelet._down(x, bank)
    expected = pywt.dwt(x, "db4", mode="zero")
    np.testing.assert_allclose(a, expected[0], rtol=1e-5, atol=1e-5 * np.abs(x).max())
    np.testing.assert_allclose(detail, expected[1], rtol=1e-5, atol=1e-5 * np.abs(x).max())
    back = wavelet._up(a, detail, bank)[: len(x)]
    np.testing.assert_allclose(back, x, atol=1e-5 * np.abs(x).max())


@BITS
@given(seed=SEEDS, n=st.integers(300, 5000), fs_hz=st.sampled_from([50.0, 128.0, 250.0, 1000.0]))
def test_candidates(seed: int, n: int, fs_hz: float) -> None:
    """The moving mean, its peaks, and what is seen about each."""
    slope = signal(seed, n + 600)
    assert_same_bits(lambda: [qrs._moving_mean(slope, fs_hz)])
    mean, reach = qrs._moving_mean(slope, fs_hz), round(qrs.REFRACTORY_S * fs_hz)
    assert_same_bits(lambda: [qrs._highest(mean, 300, n, reach)])
    peak = qrs._highest(mean, 300, n, reach)

    class Sides:
        band, slope = signal(seed + 1, n + 600), signal(seed, n + 600)

    sides: Any = Sides()
    half, wide = round(0.075 * fs_hz), round(0.1 * fs_hz)
    assert_same_bits(lambda: qrs._look(sides, peak, peak, half, wide))


@BITS
@given(seed=SEEDS, n=st.integers(0, 400), parts=st.integers(1, 6), quiet=st.booleans())
def test_rules(seed: int, n: int, parts: int, quiet: bool) -> None:
    """Candidates in any number of lots: the same beats, and the same state after each."""
    random = np.random.default_rng(seed)
    centre = np.cumsum(random.integers(51, 400, n)) + 4000 * (random.random(n) < 0.01).cumsum()
    height = random.lognormal(0, 1, n) * np.where(quiet & (centre > 20_000), 0.01, 1.0)
    all_of_them = qrs.Candidates(centre + random.integers(-20, 20, n), centre, height, height * 3)
    edges = np.sort(random.integers(0, n + 1, parts + 1))
    edges[0], edges[-1] = 0, n

    def run() -> list[Any]:
        rules, out = qrs.Rules(250.0), []
        for start, stop in pairwise(edges.tolist()):
            columns = (getattr(all_of_them, name)[start:stop] for name in qrs.COLUMNS)
            out.append(rules.take(qrs.Candidates(*columns), last=stop == n))
            state = (rules.at, rules.signal or 0.0, rules.noise, rules.slope_before, rules.since)
            out.append(np.array([*state, rules.searched, rules.last, *rules.recent], float))
        return out

    assert_same_bits(run)


@BITS
@given(seed=SEEDS, n=st.integers(3, 2000), count=st.integers(1, 40))
def test_beats(seed: int, n: int, count: int) -> None:
    """Segments inside a signal and out of it, and their noise."""
    random = np.random.default_rng(seed)
    x = signal(seed, n, gaps=seed % 2)
    r = np.sort(random.integers(0, n + 50, count))
    before, after = random.integers(0, 900, (2, count))

    def cut() -> list[Any]:
        rows = segment.segment(x, 20, r, before, after)
        return [rows, quality.noise_index(rows)]

    assert_same_bits(cut)


@BITS
@given(
    seed=SEEDS,
    n=st.integers(0, 3000),
    gaps=st.integers(0, 4),
    fs_hz=st.sampled_from([50.0, 128.0, 250.0, 1000.0]),
)
def test_quality_and_prints(seed: int, n: int, gaps: int, fs_hz: float) -> None:
    """Cells, runs of looks and prints, with gaps and without."""
    x = signal(seed, max(n, 1), gaps)[:n]
    assert_same_bits(lambda: list(vars(quality.cells_of(x, fs_hz)).values()))
    assert_same_bits(lambda: stretches._longest_runs(x, 5))
    if n:
        whole = x[: (n - 1) // 512 * 512 + 1]
        assert_same_bits(lambda: [content._step_digests(whole, 512)])


@BITS
@given(seed=SEEDS, n=st.integers(0, 3000), change=st.sampled_from([0.5, 1e-2, 1e-6]))
def test_decisions(seed: int, n: int, change: float) -> None:
    """The chain of two rhythms, whatever the evidence."""
    evidence = np.random.default_rng(seed).normal(0, 8, n)
    most = float(np.log((1 - change) / change))
    assert_same_bits(lambda: [smoothing._leads(evidence, most)])


@pytest.mark.parametrize("flags", [("-O1",), ("-O3", "-funroll-loops"), WIDEST])
def test_flags_change_no_bit(
    flags: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fused multiply-adds of the processor and another order of work give the same lead."""
    lead, of = ecg(300.0)
    x = lead.copy()
    x[20_000:20_200] = np.nan
    expected = tables(x, of)
    monkeypatch.setattr(build, "LIBRARY", tmp_path / "other.so")
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, *flags))
    monkeypatch.setattr(kernels, "PATH", build.LIBRARY)
    assert build.build()
    for library in (kernels.load(), None):
        monkeypatch.setattr(kernels, "LIBRARY", library)
        found = tables(x, of)
        for name, column in vars(expected).items():
            if isinstance(column, np.ndarray):
                np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)


def test_prints_are_blake2b() -> None:
    """A piece's digest is that of hashlib."""
    x = signal(3, 513)
    steps = np.concatenate([np.packbits(x[1:] > x[:-1]), np.packbits(x[1:] < x[:-1])])
    expected = hashlib.blake2b(steps.tobytes(), digest_size=8).hexdigest()
    assert content._hexadecimal(content._step_digests(x, 512)) == [expected]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=SEEDS,
    code=st.sampled_from([16, 212]),
    signals=st.integers(1, 5),
    frames=st.integers(1, 3000),
    missing=st.integers(0, 40),
)
def test_samples(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    code: int,
    signals: int,
    frames: int,
    missing: int,
) -> None:
    """Any lead of any frames, from any sample on, of files that end early too."""
    random = np.random.default_rng(seed)
    size = (2 if code == 16 else 1.5) * frames * signals
    data = bytearray(random.bytes(int(np.ceil(size))))
    if code == 16:
        data[: 2 * signals] = np.full(signals, INVALID[16], "<i2").tobytes()
    path = tmp_path_factory.mktemp("lead") / "r.dat"
    path.write_bytes(b"head" + data[: max(len(data) - missing, 0)])
    channel, start = int(random.integers(signals)), int(random.integers(frames))
    lead = PackedLead(path, code, signals, channel, 4, 200.5, int(random.integers(-9, 9)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.formats.wfdb_signal.BLOCK_BYTES", 1 << 9)
        assert_same_bits(lambda: [read_packed(lead, start, frames)])


def test_memory_is_contiguous() -> None:
    """An array with holes is refused, one that may not be written is not."""
    x = np.arange(10.0)
    with pytest.raises((TypeError, ValueError, BufferError)):
        kernels.memory(x[::2])
    x.flags.writeable = False
    assert kernels.memory(x) == x.ctypes.data


def test_a_library_of_another_source_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One compiled before the source changed, a damaged one and none: the twins run."""
    for name in ("SOURCE", "LIBRARY"):
        copy = tmp_path / getattr(build, name).name
        shutil.copy(getattr(build, name), copy)
        monkeypatch.setattr(build, name, copy)
    monkeypatch.setattr(kernels, "PATH", build.LIBRARY)
    assert kernels.load() is not None
    build.SOURCE.write_text(build.SOURCE.read_text() + "/* changed */\n")
    assert kernels.load() is None
    build.LIBRARY.unlink()  # never over what is loaded
    build.LIBRARY.write_bytes(b"no library")
    assert kernels.load() is None
    build.LIBRARY.unlink()
    assert kernels.load() is None


def test_a_machine_without_a_compiler_installs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is left behind where there is no compiler, or it fails; the reason is told."""
    monkeypatch.setattr(build, "LIBRARY", tmp_path / "holter-kernels.so")
    monkeypatch.setenv("CC", "false")
    assert not build.build()
    assert "was not compiled" in capsys.readouterr().err
    monkeypatch.delenv("CC")
    monkeypatch.setattr(build, "SYSTEM", ())
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert build.compiler() == []
    assert not build.build()
    assert list(tmp_path.iterdir()) == []


def test_the_build_needs_no_package() -> None:
    """The installation runs the build before numpy is there."""
    words = "import sys, storage.compiled.build; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", words], cwd=ROOT, check=True, timeout=60)
