"""Every format that is read has a record written here, by encoders of the tests' own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from storage.datasets.dataset import DatasetSpec, load_spec
from storage.errors import (
    HeaderMismatch,
    NoLead,
    RecordError,
    TruncatedSignal,
    UnsafeName,
)
from storage.formats.flac import FlacLead
from storage.formats.leads import JoinedLead
from storage.formats.wfdb_annotation import encode_annotations
from storage.formats.wfdb_formats import WIDTH, FramedLead
from storage.formats.wfdb_signal import PackedLead
from storage.formats.wfdb_write import write_dataset
from storage.recordings.check import check_record
from storage.recordings.records import open_record, read_lead

Ints = NDArray[np.int64]
FS_HZ, N = 100, 1009  # a prime: no group of samples ends with the record
PACKED = [8, 16, 24, 32, 61, 80, 160, 212, 310, 311]
FLAC = [508, 516, 524]


def encode(form: int, x: Ints) -> bytes:
    """Samples as bytes of a format, one by one, as its description says (wag/signal-5)."""
    if form in (16, 24, 32):
        return b"".join(int(v).to_bytes(form // 8, "little", signed=True) for v in x)
    if form == 61:
        return b"".join(int(v).to_bytes(2, "big", signed=True) for v in x)
    if form in (8, 80):
        return bytes((int(v) + (128 if form == 80 else 0)) % 256 for v in x)
    if form == 160:
        return b"".join((int(v) + 32768).to_bytes(2, "little") for v in x)
    out = b""
    if form == 212:
        for a, b in zip(*[iter([*(int(v) % 4096 for v in x), 0])] * 2, strict=False):
            out += bytes([a & 255, a >> 8 | b >> 8 << 4, b & 255])
        return out[: -(-3 * len(x) // 2)]
    for a, b, c in zip(*[iter([*(int(v) % 1024 for v in x), 0, 0])] * 3, strict=False):
        if form == 311:
            out += (a | b << 10 | c << 20).to_bytes(4, "little")
        else:
            out += (a << 1 | (c & 31) << 11).to_bytes(2, "little")
            out += (b << 1 | c >> 5 << 11).to_bytes(2, "little")
    return out


def values(form: int, n: int, seed: int = 0) -> Ints:
    """Samples over the whole range of a format, an invalid one among them."""
    rng = np.random.default_rng(seed)
    if form == 8:  # its differences have 8 bits
        return np.cumsum(rng.integers(-128, 128, n))
    half = 1 << WIDTH[form] - 1
    out = rng.integers(-half + 1, half, n)
    out[[0, n // 3, n - 1]] = half - 1, -half, -half + 1
    return out


def interleaved(signals: Sequence[Ints], per_frame: Sequence[int]) -> Ints:
    shaped = [x.reshape(-1, k) for x, k in zip(signals, per_frame, strict=False)]
    return np.concatenate(shaped, axis=1).reshape(-1)


def write_wfdb(
    folder: Path,
    form: int,
    signals: Sequence[Ints],
    *,
    name: str = "rec",
    per_frame: Sequence[int] = (1, 1),
    skew: Sequence[int] = (0, 0),
    offset: int = 0,
    leads: Sequence[str] = ("A", "B"),
    length: int | None = None,
) -> None:
    """One record in one signal file; `signals` as stored, skew and all."""
    stored = list(signals)
    first = [int(x[0]) for x in signals]
    if form == 8:
        stored = [np.diff(x, prepend=x[0]) for x in signals]
    data = bytes(offset) + encode(form, interleaved(stored, per_frame))
    (folder / f"{name}.dat").write_bytes(data)
    n = len(signals[0]) // per_frame[0]
    lines = [f"{name} {len(signals)} {FS_HZ} {n if length is None else length}"]
    for i, x in enumerate(signals):
        shape = f"{form}x{per_frame[i]}:{skew[i]}+{offset}"
        total = (int(x.sum()) + 0x8000) % 65536 - 0x8000
        lines.append(f"{name}.dat {shape} 200(7)/mV 16 0 {first[i]} {total} 0 {leads[i]}")
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")


def spec_of(folder: Path, lead: str, more: str = "") -> DatasetSpec:
    """A data set of `folder` with beats and a rhythm, whatever its signals' format."""
    toml = write_dataset(folder, ["rec"], {}, "a test")
    (folder / "rec.qrs").write_bytes(encode_annotations(np.array([10, 300, 900]), list("NNN")))
    (folder / "rec.atr").write_bytes(encode_annotations(np.array([0]), ["+"], {0: "(N"}))
    text = toml.read_text().replace('["ECG1", "ECG2"]', f'["{lead}"]') + more
    toml.write_text(text)
    (folder / "SHA256SUMS.txt").unlink()
    return load_spec(toml)


def millivolts(form: int, x: Ints) -> NDArray[np.float64]:
    out = (x - 7) / 200
    if form != 8:
        out[x == -(1 << WIDTH[form] - 1)] = np.nan
    return out


def assert_mv(found: NDArray[np.float32], expected: NDArray[np.float64]) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("lead", [0, 1])
@pytest.mark.parametrize("form", PACKED)
def test_every_packed_format(tmp_path: Path, form: int, lead: int) -> None:
    """Every sample of every packed format is read, whole and in blocks, as it was written."""
    signals = [values(form, N, seed) for seed in (1, 2)]
    write_wfdb(tmp_path, form, signals)
    spec = spec_of(tmp_path, "AB"[lead])
    record = open_record(spec, tmp_path, "rec")
    assert isinstance(record.source, PackedLead if form in (16, 212) else FramedLead)
    assert (record.fs_hz, record.n_samples, record.lead) == (FS_HZ, N, "AB"[lead])
    whole = read_lead(record)
    assert_mv(whole, millivolts(form, signals[lead]))
    for start, stop in ((0, 1), (1, 2), (335, 339), (500, 777), (N - 1, N), (9, 9)):
        np.testing.assert_array_equal(read_lead(record, start, stop), whole[start:stop])
    theirs = wfdb.rdrecord(str(tmp_path / "rec"), channels=[lead]).p_signal[:, 0]
    assert_mv(whole, theirs)
    assert check_record(spec, tmp_path, "rec", signal=True).problem is None


@pytest.mark.parametrize("form", PACKED)
def test_small_blocks_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: int
) -> None:
    """A lead read in many blocks is the one read in one, whatever the format."""
    signals = [values(form, 3 * N, 1), values(form, N, 2)]
    write_wfdb(tmp_path, form, signals, per_frame=(3, 1))
    record = open_record(spec_of(tmp_path, "A"), tmp_path, "rec")
    whole = read_lead(record)
    monkeypatch.setattr("storage.formats.wfdb_formats.BLOCK_SAMPLES", 40)
    np.testing.assert_array_equal(read_lead(record), whole)
    np.testing.assert_array_equal(read_lead(record, 1234, 2345), whole[1234:2345])


@pytest.mark.parametrize("form", PACKED)
def test_several_samples_a_frame(tmp_path: Path, form: int) -> None:
    """A lead of 4 samples a frame is read at its own rate; annotations count frames."""
    signals = [values(form, N, 1), values(form, 4 * N, 2)]
    write_wfdb(tmp_path, form, signals, per_frame=(1, 4))
    slow = open_record(spec_of(tmp_path, "A"), tmp_path, "rec")
    fast = open_record(spec_of(tmp_path, "B"), tmp_path, "rec")
    assert (slow.fs_hz, fast.fs_hz) == (FS_HZ, 4 * FS_HZ)
    assert (slow.n_samples, fast.n_samples) == (N, 4 * N)
    assert slow.beats.tolist() == [10, 300, 900]
    assert fast.beats.tolist() == [40, 1200, 3600]
    assert_mv(read_lead(slow), millivolts(form, signals[0]))
    assert_mv(read_lead(fast), millivolts(form, signals[1]))
    np.testing.assert_array_equal(read_lead(fast, 7, 1013), read_lead(fast)[7:1013])
    theirs = wfdb.rdrecord(str(tmp_path / "rec"), smooth_frames=False)
    assert_mv(read_lead(fast), theirs.e_p_signal[1])


@pytest.mark.parametrize("form", PACKED)
def test_skew_and_byte_offset(tmp_path: Path, form: int) -> None:
    """Skewed leads are put right, the end they lack is NaN, and bytes before them are passed."""
    signals = [values(form, N, 1), values(form, N, 2)]
    write_wfdb(tmp_path, form, signals, skew=(2, 5), offset=6)
    for lead, skew in ((0, 2), (1, 5)):
        record = open_record(spec_of(tmp_path, "AB"[lead]), tmp_path, "rec")
        expected = np.append(millivolts(form, signals[lead])[skew:], np.full(skew, np.nan))
        assert_mv(read_lead(record), expected)
        assert_mv(read_lead(record, 500, 600), expected[500:600])
        assert np.isnan(read_lead(record, N - skew, N)).all()


@pytest.mark.parametrize("form", PACKED)
def test_a_length_that_is_not_said(tmp_path: Path, form: int) -> None:
    """Where the header gives no length, the file's size does."""
    signals = [values(form, 1008, seed) for seed in (1, 2)]
    write_wfdb(tmp_path, form, signals, length=0)
    record = open_record(spec_of(tmp_path, "B"), tmp_path, "rec")
    assert_mv(read_lead(record), millivolts(form, signals[1]))


@pytest.mark.parametrize("form", PACKED)
def test_a_packed_file_cut_short_is_noticed(tmp_path: Path, form: int) -> None:
    """One byte less than the header needs is TruncatedSignal, at opening."""
    write_wfdb(tmp_path, form, [values(form, N, seed) for seed in (1, 2)])
    path, spec = tmp_path / "rec.dat", spec_of(tmp_path, "A")
    path.write_bytes(path.read_bytes()[: -2 if form == 310 else -1])
    if form == 311:  # the last byte of its last group holds nothing
        open_record(spec, tmp_path, "rec")
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TruncatedSignal, match=r"rec\.dat"):
        open_record(spec, tmp_path, "rec")


@pytest.mark.parametrize("form", PACKED)
def test_a_file_that_shrinks_is_noticed(tmp_path: Path, form: int) -> None:
    """A file that became shorter after opening is TruncatedSignal, at reading."""
    write_wfdb(tmp_path, form, [values(form, N, seed) for seed in (1, 2)])
    path = tmp_path / "rec.dat"
    record = open_record(spec_of(tmp_path, "A"), tmp_path, "rec")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(TruncatedSignal, match=r"record rec, file rec\.dat"):
        read_lead(record)


@settings(max_examples=60)
@given(
    form=st.sampled_from(PACKED),
    per_frame=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    skew=st.integers(0, 4),
    cut=st.tuples(st.integers(0, 60), st.integers(0, 60)),
)
def test_any_layout(
    tmp_path_factory: pytest.TempPathFactory,
    form: int,
    per_frame: tuple[int, int],
    skew: int,
    cut: tuple[int, int],
) -> None:
    """Any mix of format, samples a frame and skew gives the samples written, from any start."""
    folder = tmp_path_factory.mktemp("any")
    signals = [values(form, 20 * k + 1 * k, k) for k in per_frame]
    write_wfdb(folder, form, signals, per_frame=per_frame, skew=(0, skew))
    spec = spec_of(folder, "B")
    (folder / "rec.qrs").write_bytes(encode_annotations(np.array([1, 2, 3]), list("NNN")))
    record = open_record(spec, folder, "rec")
    lost = skew * per_frame[1]
    expected = np.append(millivolts(form, signals[1])[lost:], np.full(lost, np.nan))
    start, stop = sorted(min(c, record.n_samples) for c in cut)
    assert_mv(read_lead(record, start, stop), expected[start:stop])


def write_flac(folder: Path, form: int, name: str = "rec") -> Ints:
    signals = np.stack([values(form, N, seed) for seed in (1, 2)], axis=1)
    wfdb.wrsamp(
        name,
        fs=FS_HZ,
        units=["mV", "mV"],
        sig_name=["A", "B"],
        d_signal=signals,
        fmt=[str(form)] * 2,
        adc_gain=[200, 200],
        baseline=[7, 7],
        write_dir=str(folder),
    )
    return signals


@pytest.mark.parametrize("form", FLAC)
def test_flac(tmp_path: Path, form: int) -> None:
    """FLAC is read as it was written, whole and in blocks, skewed or not."""
    signals = write_flac(tmp_path, form)
    record = open_record(spec_of(tmp_path, "B"), tmp_path, "rec")
    assert isinstance(record.source, FlacLead)
    expected = millivolts(form, signals[:, 1])
    assert_mv(read_lead(record), expected)
    assert_mv(read_lead(record, 300, 411), expected[300:411])
    assert_mv(read_lead(record, N - 1, N), expected[-1:])
    hea = tmp_path / "rec.hea"
    hea.write_text(hea.read_text().replace(f" {form} ", f" {form}:3 "))
    skewed = open_record(spec_of(tmp_path, "B"), tmp_path, "rec")
    assert_mv(read_lead(skewed), np.append(expected[3:], [np.nan] * 3))


def write_frames(
    folder: Path, form: int, signals: Sequence[Ints], per_frame: Sequence[int]
) -> None:
    """A record whose signals are each in a FLAC file of their own rate."""
    files = [f"rec_{k}.flac" for k in range(len(signals))]
    for file, x in zip(files, signals, strict=True):
        shift = {508: 8, 516: 0, 524: 8}[form]
        subtype = {508: "PCM_S8", 516: "PCM_16", 524: "PCM_24"}[form]
        stored = (x << shift).astype(np.int32 if form == 524 else np.int16)
        soundfile.write(folder / file, stored, 8000, format="FLAC", subtype=subtype)
    lines = [f"rec {len(signals)} {FS_HZ} {len(signals[0]) // per_frame[0]}"]
    for file, name, each in zip(files, "AB", per_frame, strict=False):
        lines.append(f"{file} {form}x{each} 200(7)/mV 16 0 0 0 0 {name}")
    (folder / "rec.hea").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("form", FLAC)
def test_flac_of_several_samples_a_frame(tmp_path: Path, form: int) -> None:
    """A FLAC file of 4 samples a frame is read at its rate, beside one of another rate."""
    signals = [values(form, 4 * N, 1), values(form, N, 2)]
    write_frames(tmp_path, form, signals, (4, 1))
    fast = open_record(spec_of(tmp_path, "A"), tmp_path, "rec")
    assert (fast.fs_hz, fast.n_samples) == (4 * FS_HZ, 4 * N)
    assert_mv(read_lead(fast), millivolts(form, signals[0]))
    np.testing.assert_array_equal(read_lead(fast, 7, 1013), read_lead(fast)[7:1013])
    slow = open_record(spec_of(tmp_path, "B"), tmp_path, "rec")
    assert_mv(read_lead(slow), millivolts(form, signals[1]))
    theirs = wfdb.rdrecord(str(tmp_path / "rec"), smooth_frames=False)
    assert_mv(read_lead(fast), theirs.e_p_signal[0])


def test_a_flac_signal_that_is_constant(tmp_path: Path) -> None:
    """Days of one value pack into nothing: they are what the header announces, and no bomb."""
    flat = np.full(2 * 3600 * FS_HZ, 42)
    write_frames(tmp_path, 516, [flat], [1])
    assert (tmp_path / "rec_0.flac").stat().st_size * 100 < flat.nbytes // 4
    record = open_record(spec_of(tmp_path, "A"), tmp_path, "rec")
    assert_mv(read_lead(record), (flat - 7) / 200)
    hea = tmp_path / "rec.hea"
    hea.write_text(hea.read_text().replace(f" {len(flat)}", " 1000"))
    with pytest.raises(HeaderMismatch, match=f"1000 frames .* the {len(flat)} frames of rec_0"):
        open_record(spec_of(tmp_path, "A"), tmp_path, "rec")


def test_flac_where_nothing_decodes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device without libsndfile says so of the record."""
    write_flac(tmp_path, 516)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(HeaderMismatch, match=r"no decoder .* expected the package soundfile"):
        open_record(spec_of(tmp_path, "A"), tmp_path, "rec")


@pytest.mark.parametrize(
    ("keep", "said"), [(0.5, "whole frames"), (0.002, "FLAC"), (0.0, "no FLAC stream")]
)
@pytest.mark.parametrize("form", FLAC)
def test_flac_cut_short_is_noticed(tmp_path: Path, form: int, keep: float, said: str) -> None:
    """A FLAC file that ends early is noticed at opening, though its own header says nothing."""
    write_flac(tmp_path, form)
    path = next(p for p in tmp_path.iterdir() if p.suffix not in (".hea", ".qrs", ".atr"))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises((TruncatedSignal, HeaderMismatch), match=said):
        open_record(spec_of(tmp_path, "A"), tmp_path, "rec")


def test_a_flac_header_that_says_more(tmp_path: Path) -> None:
    """A header that claims more frames than the stream holds is TruncatedSignal."""
    write_flac(tmp_path, 516)
    hea = tmp_path / "rec.hea"
    hea.write_text(hea.read_text().replace(f"{FS_HZ} {N}", f"{FS_HZ} {N + 1}"))
    with pytest.raises(TruncatedSignal, match=f"{N} frames; expected {N + 1}"):
        open_record(spec_of(tmp_path, "A"), tmp_path, "rec")


def write_segments(folder: Path, *, variable: bool) -> NDArray[np.float64]:
    """Two segments about a gap; in a variable layout the second one lacks the lead A."""
    one, two = ([values(16, n, n + seed) for seed in (1, 2)] for n in (400, 300))
    write_wfdb(folder, 16, one, name="one")
    lines = ["one 400", "~ 50", "two 300"]
    if variable:
        write_wfdb(folder, 212, [values(212, 300)], name="two", leads=["B"])
        layout = "lay 2 100 0\n~ 0 200/mV 16 0 0 0 0 A\n~ 0 200/mV 16 0 0 0 0 B\n"
        (folder / "lay.hea").write_text(layout)
        lines.insert(0, "lay 0")
        end = np.full(300, np.nan)
    else:
        write_wfdb(folder, 61, two, name="two")
        end = millivolts(61, two[0])
    (folder / "rec.hea").write_text(f"rec/{len(lines)} 2 {FS_HZ} 750\n" + "\n".join(lines) + "\n")
    return np.concatenate([millivolts(16, one[0]), np.full(50, np.nan), end])


@pytest.mark.parametrize("variable", [False, True])
def test_segments(tmp_path: Path, variable: bool) -> None:
    """A multi-segment record is read across segments of several formats; gaps are NaN."""
    expected = write_segments(tmp_path, variable=variable)
    spec = spec_of(tmp_path, "A")
    (tmp_path / "rec.qrs").write_bytes(encode_annotations(np.array([1, 2, 3]), list("NNN")))
    record = open_record(spec, tmp_path, "rec")
    assert isinstance(record.source, JoinedLead)
    assert (record.n_samples, record.lead) == (750, "A")
    assert_mv(read_lead(record), expected)
    for start, stop in ((0, 400), (399, 401), (400, 450), (449, 451), (380, 700), (749, 750)):
        assert_mv(read_lead(record, start, stop), expected[start:stop])
    if variable:  # of a gap in a fixed layout wfdb 4.3.1 makes an AttributeError
        theirs = wfdb.rdrecord(str(tmp_path / "rec"), channels=[0]).p_signal[:, 0]
        assert_mv(read_lead(record), theirs)
    assert {"one.dat", "two.hea", "two.dat", "rec.hea"} <= set(record.digests)


@pytest.mark.parametrize(
    ("file", "old", "new", "error", "said"),
    [
        ("rec.hea", "one 400", "one 401", HeaderMismatch, "one of 749 samples|751 of its segments"),
        ("rec.hea", "one 400\n~ 50", "one 390\n~ 60", HeaderMismatch, "400 samples at 100 Hz"),
        ("rec.hea", "~ 50", "~ 99999999999", HeaderMismatch, "of its segments|hours"),
        ("rec.hea", "750\none 400\n~ 50", "0\none 400\n~ 99999999999", HeaderMismatch, "hours"),
        ("rec.hea", "two 300", "../two 300", UnsafeName, r"\.\./two"),
        ("rec.hea", "two 300", "rec 300", HeaderMismatch, "750 samples"),
        ("two.hea", " 100 300", " 200 300", HeaderMismatch, "300 samples at 200 Hz"),
        ("two.hea", "0 A", "0 C", NoLead, "leads 'C', 'B'; expected 'A'"),
        ("one.hea", " 16x1", " 16x2", TruncatedSignal, r"one\.dat"),
    ],
)
def test_segments_that_disagree(
    tmp_path: Path, file: str, old: str, new: str, error: type[RecordError], said: str
) -> None:
    """Segments that do not fit the record, or are no recording of a sane length, are errors."""
    write_segments(tmp_path, variable=False)
    path, spec = tmp_path / file, spec_of(tmp_path, "A")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(error, match=said):
        open_record(spec, tmp_path, "rec")


def test_several_files(tmp_path: Path) -> None:
    """Each lead of a multi-file record is read from its own file; all are checked."""
    lines = [f"rec 3 {FS_HZ} {N}"]
    signals = {}
    for lead, form in (("A", 16), ("B", 212), ("C", 80)):
        signals[lead] = values(form, N, form)
        (tmp_path / f"{lead}.dat").write_bytes(encode(form, signals[lead]))
        lines.append(
            f"{lead}.dat {form} 200(7)/mV 12 0 0 {int(signals[lead].sum()) % 65536} 0 {lead}"
        )
    (tmp_path / "rec.hea").write_text("\n".join(lines) + "\n")
    for lead, form in (("A", 16), ("B", 212), ("C", 80)):
        record = open_record(spec_of(tmp_path, lead), tmp_path, "rec")
        assert record.file == f"{lead}.dat"
        assert_mv(read_lead(record), millivolts(form, signals[lead]))
    (tmp_path / "C.dat").write_bytes(bytes(N - 1))
    with pytest.raises(TruncatedSignal, match=r"C\.dat"):
        open_record(spec_of(tmp_path, "A"), tmp_path, "rec")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rec 2 100", "rec 2 0.001", "0.001 Hz"),
        ("rec 2 100", "rec 2 1e9", "1e"),
        (f" {N}", " 900000000000", "expected"),
        ("16x1", "16x60000", "samples a frame|bytes|expected"),
        ("/mV", "/mmHg", "unit 'mmHg'"),
        (":0+", ":2000+", "skew beyond the end"),
        ("rec.dat 16x1:0+0 200(7)/mV 16 0 511", "rec.dat 61 200(7)/mV 16 0 511", "two formats"),
    ],
)
def test_absurd_headers(tmp_path: Path, old: str, new: str, said: str) -> None:
    """A header that no recorder writes is an error before memory is taken for it."""
    x = np.arange(N) + 511
    write_wfdb(tmp_path, 16, [x, x])
    hea = tmp_path / "rec.hea"
    assert old in hea.read_text()
    hea.write_text(hea.read_text().replace(old, new, 1 if "61" in new else -1))
    with pytest.raises((HeaderMismatch, TruncatedSignal), match=said):
        open_record(spec_of(tmp_path, "A"), tmp_path, "rec")
