"""DICOM ECG waveforms, written by pydicom: what is read of them, and what is refused by name."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pydicom = pytest.importorskip("pydicom", reason="no pydicom: the extra exchange is not installed")

from pydicom import Dataset, dcmread, dcmwrite  # noqa: E402 - after the look for it
from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.dataset import FileMetaDataset  # noqa: E402
from pydicom.uid import (  # noqa: E402
    UID,
    AmbulatoryECGWaveformStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from storage.datasets.dataset import load_spec, record_names  # noqa: E402
from storage.errors import HeaderMismatch, RecordError, TruncatedSignal  # noqa: E402
from storage.formats.start import dicom_start  # noqa: E402
from storage.recordings.identity import identity_of  # noqa: E402
from storage.recordings.records import open_alone, open_record, read_lead  # noqa: E402
from storage.recordings.survey import survey  # noqa: E402
from tasks.analysis.many import recordings_in  # noqa: E402

FS_HZ = 250
N = 2_000
#: How pydicom names the samples of each kind.
DTYPES = {(16, "SS"): "<i2", (16, "US"): "<u2", (8, "SB"): "i1", (8, "UB"): "u1", (32, "SL"): "<i4"}
#: `WaveformPaddingValue` of the tests.
PADDING = 77


def channel(name: str, **elements: Any) -> Any:
    """A channel of microvolts, unless the elements say otherwise."""
    out, source, unit = Dataset(), Dataset(), Dataset()
    source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = "2:2", "MDC", name
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
    out.ChannelSourceSequence = [source]
    out.ChannelSensitivity, out.ChannelSensitivityUnitsSequence = 2.5, [unit]
    out.ChannelSensitivityCorrectionFactor, out.ChannelBaseline = 1, 0
    out.ChannelSampleSkew, out.WaveformBitsStored = 0, 16
    for keyword, value in elements.items():
        if value is None:
            delattr(out, keyword)
        else:
            setattr(out, keyword, value)
    return out


def group(
    samples: NDArray[Any], channels: list[Any], kind: tuple[int, str], **elements: Any
) -> Any:
    """A multiplex group of samples, shape (n, channels)."""
    out = Dataset()
    out.WaveformOriginality = "ORIGINAL"
    out.NumberOfWaveformChannels, out.NumberOfWaveformSamples = len(channels), len(samples)
    out.SamplingFrequency, out.ChannelDefinitionSequence = FS_HZ, channels
    out.WaveformBitsAllocated, out.WaveformSampleInterpretation = kind
    data = samples.astype(DTYPES[kind]).tobytes()
    out.add_new(0x54001010, "OW" if kind[0] > 8 else "OB", data + b"\0" * (len(data) % 2))
    for keyword, value in elements.items():
        setattr(out, keyword, value)
    return out


def write(path: Path, groups: list[Any], syntax: str = ExplicitVRLittleEndian, **more: Any) -> Path:
    """An Ambulatory ECG of these groups."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = more.pop("SOPClassUID", AmbulatoryECGWaveformStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = UID(syntax)
    out = Dataset()
    out.file_meta = meta
    out.SOPClassUID, out.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    out.SpecificCharacterSet, out.Modality = "ISO_IR 192", "ECG"
    out.PatientID, out.PatientName = "ward-7", "Müller^Eva"
    out.PatientBirthDate, out.PatientSex = "19500102", "F"
    out.StudyInstanceUID, out.SeriesInstanceUID = generate_uid(), generate_uid()
    out.AcquisitionDateTime = "20260304083005.25+0100"
    for keyword, value in more.items():
        setattr(out, keyword, value)
    if groups:
        out.WaveformSequence = groups
    out.ContentDate = "20260304"
    dcmwrite(path, out, enforce_file_format=True)
    return path


def ramp(kind: tuple[int, str]) -> NDArray[np.int64]:
    """Two channels that take every value of a kind's range, as far as N samples reach."""
    limits = np.iinfo(np.dtype(DTYPES[kind]))
    one = np.linspace(limits.min, limits.max, N).astype(np.int64)
    return np.stack([one[::-1], one], axis=1)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_samples_are_what_pydicom_makes_of_them(
    tmp_path: Path, kind: tuple[int, str], syntax: str
) -> None:
    """Sensitivity, correction and baseline of each kind of number, the lowest one included."""
    second = channel(
        "Lead II",
        ChannelSensitivity=0.05,
        ChannelSensitivityCorrectionFactor=1.25,
        ChannelBaseline=-40,
    )
    parts = [group(ramp(kind), [channel("Lead V1"), second], kind)]
    path = write(tmp_path / "a.dcm", parts, syntax)
    record = open_alone(path)
    assert (record.lead, record.fs_hz, record.n_samples) == ("Lead II", FS_HZ, N)
    expected = dcmread(path).waveform_array(0)[:, 1] / 1000
    assert read_lead(record) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert read_lead(record, 700, 900).tolist() == read_lead(record)[700:900].tolist()
    assert np.ptp(expected) > 0.01


def test_a_recording_of_a_recorder() -> None:
    """A 12-lead ECG of pydicom's own test files: lead II, and not its median beat."""
    path = Path(str(get_testdata_file("waveform_ecg.dcm")))
    record = open_alone(path)
    assert (record.lead, record.n_samples) == ("Lead II", 10_000)
    assert record.start == datetime(2013, 1, 25, 10, 59, 19)
    expected = dcmread(path).waveform_array(0)[:, 1] / 1000
    assert read_lead(record) == pytest.approx(expected, abs=1e-6)
    assert identity_of(path).patient == "642341"


@pytest.mark.parametrize("kind", DTYPES)
def test_the_padding_value_is_no_sample(tmp_path: Path, kind: tuple[int, str]) -> None:
    """It is NaN wherever it stands, in whatever number; every other number is a sample."""
    samples = ramp(kind)
    samples[::7] = PADDING
    code = PADDING.to_bytes(kind[0] // 8, "little")
    part = group(samples, [channel("Lead II"), channel("Lead I")], kind)
    part.add_new(0x5400100A, "OW" if kind[0] > 8 else "OB", code)
    signal = read_lead(open_alone(write(tmp_path / "a.dcm", [part])))
    assert np.isnan(signal).tolist() == (samples[:, 0] == PADDING).tolist()
    assert np.isnan(signal).any()


@pytest.mark.parametrize(
    ("elements", "samples"),
    [
        ({"ChannelSampleSkew": 3}, 3),
        ({"ChannelSampleSkew": None, "ChannelTimeSkew": 0.02}, 5),
        ({"ChannelSampleSkew": 2, "ChannelOffset": 0.04}, 12),
        ({"ChannelSampleSkew": -4}, -4),
        ({"ChannelSampleSkew": 0.4}, 0),
    ],
)
def test_a_skewed_channel_lies_where_it_was_taken(
    tmp_path: Path, elements: dict[str, Any], samples: int
) -> None:
    """Its first sample is later than its group's by skew and offset; what is not there is NaN."""
    values = np.arange(N)[:, None]
    path = write(tmp_path / "a.dcm", [group(values, [channel("II", **elements)], (16, "SS"))])
    record = open_alone(path)
    signal = read_lead(record)
    taken = np.flatnonzero(~np.isnan(signal))
    assert signal[taken] * 400 == pytest.approx(taken - samples, abs=1e-3)
    assert len(signal) == N + samples
    assert len(taken) == min(N, N + samples)


def test_groups_that_follow_one_another_are_one_lead(tmp_path: Path) -> None:
    """The time between them is a gap; another rate, a derived group and an overlap are not it."""
    values = np.arange(N)[:, None]

    def part(offset_ms: float | None, **elements: Any) -> Any:
        more = {} if offset_ms is None else {"MultiplexGroupTimeOffset": offset_ms}
        return group(values, [channel("II")], (16, "SS"), **more, **elements)

    path = write(tmp_path / "a.dcm", [part(500), part(10_500), part(8_500, SamplingFrequency=500)])
    record = open_alone(path)
    signal = read_lead(record)
    assert record.n_samples == 10 * FS_HZ + N
    assert np.isnan(signal[N : 10 * FS_HZ]).all()
    assert signal[10 * FS_HZ :].tolist() == signal[:N].tolist()
    assert record.start == datetime(2026, 3, 4, 8, 30, 5, 750_000)
    assert record.warnings == ()

    over = open_alone(write(tmp_path / "b.dcm", [part(0), part(1_000)]))
    assert over.n_samples == N
    assert "overlap" in over.warnings[0]
    median = part(0, WaveformOriginality="DERIVED")
    alone = open_alone(write(tmp_path / "c.dcm", [median]))
    assert "derived samples alone" in alone.warnings[0]
    both = open_alone(write(tmp_path / "d.dcm", [median, part(None)]))
    assert both.warnings == ()


def test_a_long_recording_stays_in_its_file(tmp_path: Path) -> None:
    """Samples beyond a megabyte are read where they lie, after other groups too."""
    values = np.arange(400_000)[:, None] % 30_000
    first = group(values, [channel("V1")], (16, "SS"))
    second = group(values[::-1], [channel("II")], (16, "SS"))
    record = open_alone(write(tmp_path / "a.dcm", [first, second]))
    assert (record.lead, record.n_samples) == ("II", 400_000)
    expected = values[::-1][[0, 399_999], 0] / 400
    assert read_lead(record)[[0, -1]] == pytest.approx(expected)


def with_group(change: Callable[[Any], object]) -> Callable[[Path], Path]:
    """A writer of a file whose group is changed."""

    def make(path: Path) -> Path:
        part = group(ramp((16, "SS")), [channel("II"), channel("I")], (16, "SS"))
        change(part)
        return write(path, [part])

    return make


def with_channel(**elements: Any) -> Callable[[Path], Path]:
    """A writer of a file of one channel that is described so."""
    values = np.arange(N)[:, None]
    return lambda path: write(path, [group(values, [channel("II", **elements)], (16, "SS"))])


def cut(path: Path) -> Path:
    with_channel()(path)
    path.write_bytes(path.read_bytes()[:-2_000])
    return path


def in_syntax(syntax: str) -> Callable[[Path], Path]:
    """A writer of a file in another transfer syntax."""
    return lambda path: write(path, [], syntax)


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "mu-law": (
        with_group(lambda g: setattr(g, "WaveformSampleInterpretation", "MB")),
        "companded samples, mu-law",
    ),
    "A-law": (
        with_group(lambda g: setattr(g, "WaveformSampleInterpretation", "AB")),
        "companded samples, A-law",
    ),
    "bits": (with_group(lambda g: setattr(g, "WaveformBitsAllocated", 64)), "SS of 64 bits"),
    "fewer channels": (
        with_group(lambda g: setattr(g, "NumberOfWaveformChannels", 3)),
        "3 channels, 2 of them described",
    ),
    "more samples": (with_group(lambda g: setattr(g, "NumberOfWaveformSamples", N + 1)), "8004"),
    "fewer samples": (with_group(lambda g: setattr(g, "NumberOfWaveformSamples", N - 2)), "7992"),
    "no data": (with_group(lambda g: delattr(g, "WaveformData")), "without samples"),
    "no rate": (with_group(lambda g: delattr(g, "SamplingFrequency")), "SamplingFrequency"),
    "rate": (with_group(lambda g: setattr(g, "SamplingFrequency", 0.5)), "0.5 Hz"),
    "no sensitivity": (with_channel(ChannelSensitivity=None), "expected an ECG"),
    "zero sensitivity": (with_channel(ChannelSensitivity=0), "what a step of it is worth"),
    "no number": (with_channel(ChannelOffset="nan"), "ChannelOffset nan"),
    "endless": (with_channel(ChannelBaseline="inf"), "ChannelBaseline inf"),
    "skew": (with_channel(ChannelSampleSkew=-N), "a skew of 2000 samples"),
    "far skew": (with_channel(ChannelSampleSkew=1e12), "hours"),
    "image": (lambda path: write(path, [], SOPClassUID=CTImageStorage), "12-lead ECG"),
    "no waveform": (lambda path: write(path, []), "no waveform sequence"),
    "deflated": (in_syntax(DeflatedExplicitVRLittleEndian), "not deflated"),
    "big-endian": (in_syntax(ExplicitVRBigEndian), "little-endian"),
    "cut": (cut, "2000 bytes of samples"),
}


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # pydicom's, where it writes them
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_read_is_refused_by_name(tmp_path: Path, case: str) -> None:
    """Record, file and what was found are named, in one sentence."""
    make, words = REFUSED[case]
    with pytest.raises(RecordError, match=r"record a, file a\.dcm: ") as caught:
        open_alone(make(tmp_path / "a.dcm"))
    assert words in str(caught.value)
    assert isinstance(caught.value, TruncatedSignal if case in ("cut", "more samples") else object)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3, 0.9])
def test_a_damaged_file_is_an_error_of_the_record(tmp_path: Path, share: float) -> None:
    """Cut or scrambled anywhere, it ends in no other exception."""
    path = with_channel()(tmp_path / "a.dcm")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RecordError):
        open_alone(path)
    rng = np.random.default_rng(int(100 * share))
    for _ in range(30):
        data = bytearray(whole)
        for at in rng.integers(0, 1_600, 4).tolist():
            data[at] = int(rng.integers(256))
        path.write_bytes(data)
        try:
            record = open_alone(path)
            assert len(read_lead(record)) == record.n_samples
        except RecordError:
            pass


def test_without_the_extra_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package and the extra that has it are named."""
    path = with_channel()(tmp_path / "a.dcm")
    monkeypatch.setitem(sys.modules, "pydicom.filereader", None)
    with pytest.raises(RecordError, match="expected pydicom, of the extra exchange"):
        open_alone(path)


def test_a_folder_of_dicom_files_is_a_data_set(tmp_path: Path) -> None:
    """It is surveyed, described by a TOML and read; a report of ours beside is no recording."""
    with_channel()(tmp_path / "p1.dcm")
    shutil.copy(tmp_path / "p1.dcm", tmp_path / "p2.report.dcm")
    seen = survey(tmp_path)
    assert seen.format == "dicom"
    (header,) = [record.header for record in seen.records if record.name == "p1"]
    assert header is not None
    assert (header.patient, header.leads) == ("ward-7", (("II", "uV"),))
    assert header.hours == pytest.approx(N / FS_HZ / 3600)
    assert [recording.name for recording in recordings_in(tmp_path)] == ["p1"]
    (tmp_path / "set.toml").write_text(
        'name = "set"\ntitle = "t"\nversion = "1"\nlicence = "none"\ncitation = "none"\n'
        '[records]\nformat = "dicom"\nnames = ["p1"]\n[annotations]\nbeats = ["detect"]\n'
        '[leads]\nprefer = ["II"]\n[rhythms]\naf = ["AFIB"]\nunmarked = "N"\n'
        'map = { N = "N", AFIB = "AFIB" }\n'
    )
    spec = load_spec(tmp_path / "set.toml")
    assert record_names(spec, tmp_path) == ["p1"]
    record = open_record(spec, tmp_path, "p1")
    assert set(record.digests) == {"p1.dcm"}
    assert read_lead(record)[400] == pytest.approx(1.0)


def test_an_identity_is_read_where_there_is_one(tmp_path: Path) -> None:
    """Patient and study as the header has them; one that names nobody is an error."""
    path = with_channel()(tmp_path / "a.dcm")
    identity = identity_of(path)
    assert (identity.patient, identity.name) == ("ward-7", "Müller^Eva")
    assert (identity.birth_date, identity.sex) == ("19500102", "F")
    assert identity.study == str(dcmread(path).StudyInstanceUID)
    nobody = write(tmp_path / "b.dcm", [], PatientID="")
    for named in (nobody, tmp_path / "c"):
        with pytest.raises(RecordError, match="no number of a patient"):
            identity_of(named)
    assert HeaderMismatch.__bases__ == (RecordError,)


@pytest.mark.parametrize(
    ("words", "start"),
    [
        ("20260304083005.25+0100", datetime(2026, 3, 4, 8, 30, 5, 250_000)),
        ("202603040830", datetime(2026, 3, 4, 8, 30)),
        ("2026030408-0500", datetime(2026, 3, 4, 8)),
        ("20260304", None),
        ("20261304083005", None),
        ("00000000000000", None),
        ("", None),
    ],
)
def test_a_start_is_a_day_and_an_hour(words: str, start: datetime | None) -> None:
    """Local time without its zone; a day alone, or one that no calendar has, is no start."""
    assert dicom_start(words) == start
