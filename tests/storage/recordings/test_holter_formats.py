"""EDF, EDF+ and ISHNE recordings, and rhythms from a CSV of intervals, down to Parquet."""

from __future__ import annotations

import re
import struct
from binascii import crc_hqx
from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np
import pytest
from numpy.typing import NDArray

from flows.ingest.build import Plan, build_table
from storage.datasets.dataset import DatasetSpec, load_spec, record_names
from storage.errors import (
    BadAnnotation,
    HeaderMismatch,
    MissingFile,
    NoLead,
    NoRhythm,
    RecordError,
    SpecError,
    TruncatedSignal,
    UnknownRhythm,
)
from storage.formats.wfdb_annotation import encode_annotations
from storage.recordings.check import check_record
from storage.recordings.records import open_record, read_lead
from storage.tables.beats import Quality, read_beats, read_source
from tasks.learning.simulate import SimulatedRecording, simulate_subject
from tasks.signal.preprocessing import Preprocessing

FS_HZ = 250
CSV = "start_s,end_s,rhythm\n0,20,N\n20,40,AFIB\n45,60,N\n"
TOML = """
name = "holter"
title = "Recordings of a hospital"
version = "1"
licence = "none"
citation = "none"

[records]
format = "{format}"
pattern = "*"

[annotations]
beats = ["qrs", "detect"]
rhythm = "csv"

[leads]
prefer = ["II"]

[rhythms]
af = ["AFIB"]
map = {{ N = "N", AFIB = "AFIB" }}
"""


@pytest.fixture(scope="module")
def made() -> SimulatedRecording:
    return simulate_subject(2, 1 / 60, float(FS_HZ), "sinus")


def write_edf(path: Path, made: SimulatedRecording, *, plus: bool = False) -> None:
    """One minute: leads I and II at 250 Hz, and a slow respiration between them."""
    one, two = (made.signal_mv[:, lead].astype(np.float64) for lead in range(2))
    breath = np.sin(np.arange(60 * 10) / 10)
    signals = [
        edfio.EdfSignal(two, FS_HZ, label="I", physical_dimension="mV"),
        edfio.EdfSignal(breath, 10, label="Resp", physical_dimension="V"),
        edfio.EdfSignal(
            1000 * one, FS_HZ, label="II", physical_dimension="uV", physical_range=(-9000, 9000)
        ),
    ]
    notes = [edfio.EdfAnnotation(3.0, None, "a note")] if plus else None
    edfio.Edf(signals, annotations=notes).write(path)


def write_ishne(path: Path, made: SimulatedRecording, *, per_lead: bool = True) -> None:
    """One minute: leads I and II, 2,500 nV a step."""
    steps = np.clip(np.rint(made.signal_mv[:, ::-1] * 400), -32767, 32767)
    path.write_bytes(ishne_bytes(steps[:, ::-1], per_lead=per_lead))


def ishne_bytes(steps: NDArray[np.number], *, per_lead: bool = True) -> bytes:
    """An ISHNE file of leads II and I (n, 2), 2,500 nV a step; I comes first in it."""
    steps = steps[:, ::-1].astype("<i2")
    text = b"made by a test"
    head = bytearray(522)
    head[:8] = b"ISHNE1.0"
    n = len(steps) if per_lead else steps.size
    struct.pack_into("<4ih", head, 10, len(text), n, 522, 522 + len(text), 1)
    struct.pack_into("<h12h12h12h", head, 156, 2, 5, 6, *[-9] * 10, *[0] * 12, *[2500] * 12)
    struct.pack_into("<h", head, 272, FS_HZ)
    struct.pack_into("<H", head, 8, crc_hqx(bytes(head[10:]) + text, 0xFFFF))
    return bytes(head) + text + steps.tobytes()


def dataset(folder: Path, form: str, csv: str = CSV) -> DatasetSpec:
    (folder / "dataset.toml").write_text(TOML.format(format=form))
    (folder / "rec.csv").write_text(csv)
    return load_spec(folder)


@pytest.fixture(params=["edf", "edf+", "ishne"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, made: SimulatedRecording) -> Path:
    if request.param == "ishne":
        write_ishne(tmp_path / "rec.ecg", made)
    else:
        write_edf(tmp_path / "rec.edf", made, plus=request.param == "edf+")
    dataset(tmp_path, request.param.rstrip("+"))
    return tmp_path


def test_the_samples_are_those_written(folder: Path, made: SimulatedRecording) -> None:
    """The wanted lead is read as it was written, in millivolts, whole and in blocks."""
    record = open_record(load_spec(folder), folder, "rec")
    assert (record.fs_hz, record.n_samples, record.lead) == (FS_HZ, 60 * FS_HZ, "II")
    whole = read_lead(record)
    np.testing.assert_allclose(whole, made.signal_mv[:, 0], atol=2e-3)
    for start, stop in ((0, 1), (249, 251), (1234, 9876), (14_999, 15_000), (7, 7)):
        np.testing.assert_array_equal(read_lead(record, start, stop), whole[start:stop])


def test_edf_is_read_as_edfio_reads_it(tmp_path: Path, made: SimulatedRecording) -> None:
    """Every sample of an EDF is what edfio makes of it."""
    write_edf(tmp_path / "rec.edf", made)
    found = read_lead(open_record(dataset(tmp_path, "edf"), tmp_path, "rec"))
    expected = edfio.read_edf(tmp_path / "rec.edf").get_signal("II").data / 1000
    np.testing.assert_allclose(found, expected, rtol=3e-7, atol=1e-9)


@pytest.mark.parametrize("beats", ["annotated", "detected"])
def test_from_file_to_parquet(folder: Path, made: SimulatedRecording, beats: str) -> None:
    """A record goes through ingest to a table of beats, each with its interval's rhythm."""
    spec = load_spec(folder)
    assert record_names(spec, folder) == ["rec"]
    if beats == "annotated":
        data = encode_annotations(made.beats, made.symbols.tolist())
        (folder / "rec.qrs").write_bytes(data)
    assert check_record(spec, folder, "rec", signal=True).problem is None
    out = folder / "out"
    state, entry = build_table(Plan(spec, folder, out, Preprocessing(), True), "rec")
    assert state == "built"
    table = read_beats(out / entry.file)
    assert abs(len(table) - len(made.beats)) <= 3
    assert table.waveform is not None
    assert set(table.symbol.tolist()) == ({""} if beats == "detected" else set(made.symbols))
    within = (table.time_s >= 20) & (table.time_s < 40)
    assert (table.rhythm[within] == "AFIB").all()
    assert (table.label[within] == 1).all()
    unknown = (table.time_s >= 40) & (table.time_s < 45)
    assert unknown.sum() >= 3
    assert (table.label[unknown] == -1).all()
    assert ((table.quality[unknown] & Quality.NO_RHYTHM) != 0).all()
    assert (table.label[~within & ~unknown] == 0).all()
    files = read_source(out / entry.file).files
    assert {"rec.csv", (spec.records.format == "edf" and "rec.edf") or "rec.ecg"} <= set(files)


def patch(file: str, old: bytes, new: bytes, at: int = 0) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / file
        data = bytearray(path.read_bytes())
        assert len(old) == len(new)
        found = data.index(old, at)
        data[found : found + len(new)] = new
        path.write_bytes(bytes(data))

    return change


def cut(file: str, by: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[:by] if by < 0 or by < len(data) else data + bytes(by))

    return change


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (cut("rec.edf", -1), TruncatedSignal, "30599 bytes|bytes of samples"),
        (cut("rec.edf", 600), HeaderMismatch, "EDF header"),
        (cut("rec.edf", 0), HeaderMismatch, "EDF header"),
        (cut("rec.edf", 1 << 20), HeaderMismatch, "60 data records"),
        (patch("rec.edf", b"0       ", b"\xffBIOSEMI"), HeaderMismatch, "EDF header"),
        (patch("rec.edf", b"60      1 ", b"0       1 "), HeaderMismatch, "finished recording"),
        (patch("rec.edf", b"60      1 ", b"60      0 "), HeaderMismatch, "sampling rate"),
        (patch("rec.edf", b"60      1 ", b"60      no"), HeaderMismatch, "duration 'no'"),
        (patch("rec.edf", b"60      1 ", b"60      9 "), HeaderMismatch, "27.7778 Hz"),
        (patch("rec.edf", b"1       3   ", b"1       3x  "), HeaderMismatch, "signals '3x'"),
        (patch("rec.edf", b"1       3   ", b"1       9999"), HeaderMismatch, "9999 signals"),
        (patch("rec.edf", b"uV", b"xx"), HeaderMismatch, "unit 'xx'"),
        (patch("rec.edf", b"II ", b"IV "), NoLead, "leads 'I', 'Resp', 'IV'"),
        (patch("rec.edf", b"-32768  " * 3, b"32767   " * 3), HeaderMismatch, "two ranges"),
        (patch("rec.edf", b"250     10", b"9999999910"), HeaderMismatch, "data records of"),
    ],
)
def test_bad_edf(
    tmp_path: Path,
    made: SimulatedRecording,
    change: Callable[[Path], None],
    error: type[RecordError],
    said: str,
) -> None:
    """An EDF that is cut short, padded, or of an absurd header is an error that names it."""
    write_edf(tmp_path / "rec.edf", made)
    change(tmp_path)
    with pytest.raises(error, match=rf"record rec, file rec\.edf: .*({said})"):
        open_record(dataset(tmp_path, "edf"), tmp_path, "rec")


def onset(old: int, new: float) -> tuple[bytes, bytes]:
    """A data record's onset as stored, and another of the same width."""
    was = f"+{old}\x14\x14\x00".encode()
    return was + bytes(4), f"+{new}\x14\x14\x00".encode().ljust(len(was) + 4, b"\0")


def test_edf_with_gaps(tmp_path: Path, made: SimulatedRecording) -> None:
    """In EDF+D the time between data records is NaN; what EDF+C says is one piece must be one."""
    write_edf(tmp_path / "rec.edf", made, plus=True)
    path, spec = tmp_path / "rec.edf", dataset(tmp_path, "edf")
    whole = read_lead(open_record(spec, tmp_path, "rec"))
    data = path.read_bytes()
    for second in range(59, 29, -1):  # from the 30th data record on, 7.5 s later
        was, now = onset(second, second + 7.5)
        assert data.count(was) == 1
        data = data.replace(was, now)
    path.write_bytes(data)
    with pytest.raises(HeaderMismatch, match="gaps between data records; expected none in EDF"):
        open_record(spec, tmp_path, "rec")
    path.write_bytes(data.replace(b"EDF+C", b"EDF+D"))
    record = open_record(spec, tmp_path, "rec")
    assert record.n_samples == round(67.5 * FS_HZ)
    found = read_lead(record)
    gap = slice(30 * FS_HZ, round(37.5 * FS_HZ))
    assert np.isnan(found[gap]).all()
    np.testing.assert_array_equal(np.delete(found, gap), whole)
    np.testing.assert_array_equal(read_lead(record, 7400, 9500), found[7400:9500])
    _, entry = build_table(Plan(spec, tmp_path, tmp_path, Preprocessing(), True), "rec")
    table = read_beats(tmp_path / entry.file)
    about = (table.time_s > 29) & (table.time_s < 38.5)
    assert ((table.quality[about] & Quality.GAP) != 0).any()
    assert not ((table.quality[~about] & Quality.GAP) != 0).any()


@pytest.mark.parametrize(
    ("old", "said"),
    [
        (onset(9, 8), "ascending times"),
        ((b"+9\x14\x14", b"x9\x14\x14"), "the time it begins at"),
        ((b"EDF Annotations", b"EDF_Annotations"), "timekeeping"),
        (onset(59, 9 * 10**6), "hours"),
    ],
)
def test_bad_timekeeping(
    tmp_path: Path,
    made: SimulatedRecording,
    old: tuple[bytes, bytes],
    said: str,
) -> None:
    """EDF+ data records that overlap, lie years apart, or do not say when they are, are errors."""
    write_edf(tmp_path / "rec.edf", made, plus=True)
    path = tmp_path / "rec.edf"
    data = path.read_bytes().replace(b"EDF+C", b"EDF+D")
    assert old[0] in data
    path.write_bytes(data.replace(*old))
    with pytest.raises(HeaderMismatch, match=said):
        open_record(dataset(tmp_path, "edf"), tmp_path, "rec")


def test_edf_values_out_of_range_are_invalid(tmp_path: Path, made: SimulatedRecording) -> None:
    """A value outside the digital range that the header gives is no sample."""
    write_edf(tmp_path / "rec.edf", made)
    path = tmp_path / "rec.edf"
    data = bytearray(path.read_bytes())
    data = bytearray(bytes(data).replace(b"-32768  " * 3, b"-32767  " * 3))
    at = 256 * 4 + 2 * (250 + 10 + 100)
    data[at : at + 2] = (-32768).to_bytes(2, "little", signed=True)
    path.write_bytes(data)
    found = read_lead(open_record(dataset(tmp_path, "edf"), tmp_path, "rec"))
    assert np.flatnonzero(np.isnan(found)).tolist() == [100]


@pytest.mark.parametrize("per_lead", [True, False])
def test_ishne_counts_both_ways(tmp_path: Path, made: SimulatedRecording, per_lead: bool) -> None:
    """Samples counted for each lead, or for all leads, make the same recording."""
    write_ishne(tmp_path / "rec.ecg", made, per_lead=per_lead)
    record = open_record(dataset(tmp_path, "ishne"), tmp_path, "rec")
    assert record.n_samples == 60 * FS_HZ


def test_ishne_lead_failure_is_invalid(tmp_path: Path, made: SimulatedRecording) -> None:
    """The value -32768 means that the lead failed: NaN."""
    write_ishne(tmp_path / "rec.ecg", made)
    path = tmp_path / "rec.ecg"
    data = bytearray(path.read_bytes())
    at = 522 + 14 + 4 * 100 + 2
    data[at : at + 2] = b"\x00\x80"
    path.write_bytes(data)
    found = read_lead(open_record(dataset(tmp_path, "ishne"), tmp_path, "rec"))
    assert np.flatnonzero(np.isnan(found)).tolist() == [100]


def header(at: int, form: str, *values: int) -> Callable[[Path], None]:
    """Change an ISHNE header and its CRC with it."""

    def change(folder: Path) -> None:
        path = folder / "rec.ecg"
        data = bytearray(path.read_bytes())
        struct.pack_into(form, data, at, *values)
        struct.pack_into("<H", data, 8, crc_hqx(bytes(data[10 : 522 + 14]), 0xFFFF))
        path.write_bytes(bytes(data))

    return change


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (cut("rec.ecg", -2), TruncatedSignal, "59998 bytes of samples; expected 60000"),
        (cut("rec.ecg", 100), HeaderMismatch, "an ISHNE header"),
        (cut("rec.ecg", 1 << 20), HeaderMismatch, "bytes of samples; expected 60000"),
        (patch("rec.ecg", b"ISHNE1.0", b"ANN  1.0"), HeaderMismatch, "an ISHNE header"),
        (patch("rec.ecg", b"a test", b"a jest"), HeaderMismatch, "CRC"),
        (header(14, "<i", 1 << 30), TruncatedSignal, "bytes of samples"),
        (header(14, "<i", -5), HeaderMismatch, "-5 samples"),
        (header(156, "<h", 0), HeaderMismatch, "0 leads"),
        (header(156, "<h", 500), HeaderMismatch, "500 leads"),
        (header(158, "<2h", 7, 99), NoLead, "leads 'III', 'lead 99'"),
        (header(206, "<2h", 0, 0), HeaderMismatch, "0 nV a step"),
        (header(272, "<h", -250), HeaderMismatch, "-250 Hz"),
        (header(10, "<i", -1), HeaderMismatch, "a text of -1 bytes"),
        (header(22, "<i", 99999), HeaderMismatch, "one after the other"),
    ],
)
def test_bad_ishne(
    tmp_path: Path,
    made: SimulatedRecording,
    change: Callable[[Path], None],
    error: type[RecordError],
    said: str,
) -> None:
    """An ISHNE file that is cut short, padded, altered or absurd is an error that names it."""
    write_ishne(tmp_path / "rec.ecg", made)
    change(tmp_path)
    with pytest.raises(error, match=rf"record rec, file rec\.ecg: .*({said})"):
        open_record(dataset(tmp_path, "ishne"), tmp_path, "rec")


@pytest.mark.parametrize(
    ("csv", "error", "said"),
    [
        ("", BadAnnotation, "the header ''"),
        ("begin,end,rhythm\n", BadAnnotation, "expected start_s,end_s,rhythm"),
        ("start_s,end_s,rhythm\n", NoRhythm, "no rhythm mark"),
        ("start_s,end_s,rhythm\n0,ten,N\n", BadAnnotation, "line 2: '0,ten,N'"),
        ("start_s,end_s,rhythm\n0,nan,N\n", BadAnnotation, "line 2"),
        ("start_s,end_s,rhythm\n0,10\n", BadAnnotation, "line 2"),
        ("start_s,end_s,rhythm\n0,10,N,x\n", BadAnnotation, "line 2"),
        ("start_s,end_s,rhythm\n10,10,N\n", BadAnnotation, "line 2"),
        ("start_s,end_s,rhythm\n-1,10,N\n", BadAnnotation, "line 2"),
        ("start_s,end_s,rhythm\n0,10,N\n9,20,AFIB\n", BadAnnotation, "line 3: an interval"),
        ("start_s,end_s,rhythm\n0,62,N\n", BadAnnotation, "line 2: '0,62,N'"),
        ("start_s,end_s,rhythm\n0,10,AF\n", UnknownRhythm, "'AF'; expected one of N, AFIB"),
        ('start_s,end_s,rhythm\n0,10,"N\n', BadAnnotation, "expected a CSV of intervals"),
    ],
)
def test_bad_intervals(folder: Path, csv: str, error: type[RecordError], said: str) -> None:
    """A CSV that is no table of intervals within the record is an error naming file and line."""
    (folder / "rec.csv").write_text(csv)
    with pytest.raises(error, match=re.escape("record rec, file rec.csv: ") + f".*{said}"):
        open_record(load_spec(folder), folder, "rec")
    (folder / "rec.csv").unlink()
    with pytest.raises(MissingFile, match=r"rec\.csv"):
        open_record(load_spec(folder), folder, "rec")


def test_outside_the_intervals(folder: Path) -> None:
    """Where the TOML says what holds outside the intervals, a CSV may list AF alone."""
    path = folder / "dataset.toml"
    path.write_text(path.read_text() + 'outside = "N"\n')
    (folder / "rec.csv").write_text("start_s,end_s,rhythm\n\n 10 , 20.5, AFIB\n")
    record = open_record(load_spec(folder), folder, "rec")
    assert record.rhythm_start.tolist() == [0, 2500, 5125]
    assert record.rhythms.tolist() == ["N", "AFIB", "N"]
    (folder / "rec.csv").write_text("start_s;end_s;rhythm\n10;20,5;AFIB\n")
    assert open_record(load_spec(folder), folder, "rec").rhythm_start.tolist() == [0, 2500, 5125]
    (folder / "rec.csv").write_text("start_s,end_s,rhythm\n")
    record = open_record(load_spec(folder), folder, "rec")
    assert record.rhythms.tolist() == ["N"]


def test_rhythm_from_a_wfdb_annotation(folder: Path) -> None:
    """Beside EDF and ISHNE, rhythm marks and beats may be WFDB annotation files."""
    path = folder / "dataset.toml"
    path.write_text(path.read_text().replace('rhythm = "csv"', 'rhythm = "atr"'))
    marks = encode_annotations(np.array([0, 5000]), ["+", "+"], {0: "(N", 1: "(AFIB"})
    (folder / "rec.atr").write_bytes(marks)
    record = open_record(load_spec(folder), folder, "rec")
    assert record.rhythm_start.tolist() == [0, 5000]
    assert record.rhythms.tolist() == ["N", "AFIB"]


def test_an_unknown_format_is_named(folder: Path) -> None:
    """A format that is not read is an error of the TOML, naming those that are."""
    path = folder / "dataset.toml"
    path.write_text(re.sub(r'format = ".*"', 'format = "scp"', path.read_text()))
    with pytest.raises(SpecError, match=r"records\.format: .*'wfdb', 'edf', 'ishne' or 'dicom'"):
        load_spec(folder)


def test_annotations_alone(folder: Path, made: SimulatedRecording) -> None:
    """Without the signal, rate and length still come from the file, and no lead is chosen."""
    (folder / "rec.qrs").write_bytes(encode_annotations(made.beats, made.symbols.tolist()))
    record = open_record(load_spec(folder), folder, "rec", signal=False)
    assert (record.lead, record.fs_hz, record.n_samples) == (None, FS_HZ, 60 * FS_HZ)
    np.testing.assert_array_equal(record.beats, made.beats)
