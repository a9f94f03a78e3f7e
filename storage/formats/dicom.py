"""DICOM ECG waveforms: General, 12-lead and Ambulatory ECG (PS3.3, A.34 and C.10.9).

A multiplex group is a row of frames of a sample a channel, so `storage.formats.wfdb_formats` reads
it where it lies; `pydicom` reads what describes it. A sample is worth its number by the channel's
sensitivity and correction factor, and the baseline is added after that, in the channel's unit. The
padding value is no sample. A channel's first sample is taken later than its group's by the
channel's skew and offset. Groups that are derived, such as median beats, are read where there are
no others; groups of one lead that follow one another are joined, the time between them a gap.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from storage.errors import HeaderMismatch, RecordError, TruncatedSignal
from storage.files import sha256_file
from storage.formats.lead_names import signal_name
from storage.formats.leads import (
    HeaderSummary,
    JoinedLead,
    OpenRecording,
    Source,
    check_extent,
    choose,
    own_file,
    units_per_mv,
)
from storage.formats.start import dicom_start, later
from storage.formats.wfdb_formats import MOST_FRAME_SAMPLES, PLAIN, SIGNED_8, FramedLead
from storage.formats.wfdb_signal import packed_bytes

#: What of DICOM is read: ECGs of some seconds, and of days.
CLASSES = {
    "1.2.840.10008.5.1.4.1.1.9.1.1": "12-lead ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.2": "General ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.3": "Ambulatory ECG",
    "1.2.840.10008.5.1.4.1.1.9.1.4": "General 32-bit ECG",
}
#: Transfer syntaxes whose samples lie in the file as they are: little-endian, not deflated.
SYNTAXES = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}
#: Formats of samples by their bits and their interpretation: WFDB's, of the same bytes.
FORMATS = {(16, "SS"): 16, (16, "US"): 160, (8, "UB"): 80, (8, "SB"): SIGNED_8, (32, "SL"): 32}
#: Interpretations that are no numbers but codes of them.
COMPANDED = {"MB": "mu-law", "AB": "A-law"}
SEQUENCE, DATA, ITEM = 0x54000100, 0x54001010, 0xFFFEE000
UNDEFINED = 0xFFFFFFFF
#: An element's value of more bytes is samples, and stays where it is.
MOST_VALUE_BYTES = 1 << 20
MOST_GROUPS = 64
#: Any number of a format is a sample: nothing but the padding value is none.
FULL_RANGE = (-(1 << 31), (1 << 31) - 1)
DERIVED = "DERIVED"


@dataclass(frozen=True)
class _Channel:
    """A channel: its lead's name, its unit, and what a step and the number 0 are worth in it."""

    name: str
    unit: str
    step: float | None
    zero: float
    shift_s: float
    status: str


@dataclass(frozen=True)
class _Group:
    """A multiplex group: where its samples lie, what they are, and when it begins."""

    channels: tuple[_Channel, ...]
    fs_hz: float
    n_samples: int
    format: int
    offset_bytes: int
    padding: int | None
    start_s: float | None
    derived: bool


@dataclass(frozen=True)
class _Header:
    """What a file's header says, and its groups."""

    patient: str
    start: datetime | None
    groups: tuple[_Group, ...]

    @property
    def readable(self) -> tuple[_Group, ...]:
        """The groups as they were recorded; those that are derived where there are no others."""
        return tuple(group for group in self.groups if not group.derived) or self.groups


def open_dicom(
    folder: Path, name: str, prefer: Sequence[str], digests: dict[str, str], *, signal: bool
) -> OpenRecording:
    """Read a DICOM file's header, check it and the length; see `records.open_record`.

    Raises
    ------
    RecordError
        `pydicom` is not installed; the file is no ECG, damaged, or of samples that are not read.
    """
    file, path = own_file(folder, name, "dicom", name)
    header = _header(path, name, file)
    rows = [(group, number) for group in header.readable for number in range(len(group.channels))]
    leads = [(group.channels[number].name, group.channels[number].unit) for group, number in rows]
    group, number = rows[choose(leads, prefer, name, file)]
    channel = group.channels[number]
    check_extent(group.fs_hz, group.n_samples, name, file)
    same = [other for other in header.readable if _follows(group, other, channel.name)]
    n_samples, source, notes = _in_time(path, group, number, same, name, file)
    check_extent(group.fs_hz, n_samples, name, file)
    digests[file] = sha256_file(path)
    if group.derived:
        notes += (f"{file} has derived samples alone, none as they were recorded",)
    if channel.status not in ("", "OK"):
        notes += (f"lead {channel.name} is marked {channel.status} in {file}",)
    return OpenRecording(
        fs_hz=group.fs_hz,
        n_samples=n_samples,
        counts_hz=group.fs_hz,
        comments=(),
        file=file,
        lead=channel.name if signal else None,
        source=source if signal else None,
        warnings=notes,
        start=later(header.start, group.start_s or 0.0),
    )


def describe_dicom(folder: Path, name: str) -> HeaderSummary:
    """What a DICOM file's header says of the recording; raises as `open_dicom` does."""
    file, path = own_file(folder, name, "dicom", name)
    header = _header(path, name, file)
    leads = [(channel.name, channel.unit) for g in header.readable for channel in g.channels]
    hours = max(group.n_samples / group.fs_hz for group in header.readable) / 3600
    return HeaderSummary(tuple(leads), hours, patient=header.patient)


def dicom_head(path: Path) -> Any:
    """The elements before a DICOM file's waveforms, as pydicom has them; raises as `open_dicom`."""
    with path.open("rb") as stream:
        return _guard(lambda: _head(stream, path.stem, path.name), path)


def _follows(group: _Group, other: _Group, lead: str) -> bool:
    """Whether another group may have more of a lead: at the same rate, at a later time."""
    return (
        group.start_s is not None
        and other.start_s is not None
        and other.start_s > group.start_s
        and other.fs_hz == group.fs_hz
        and lead in [channel.name for channel in other.channels]
    )


def _in_time(
    path: Path, group: _Group, number: int, others: Sequence[_Group], name: str, file: str
) -> tuple[int, Source, tuple[str, ...]]:
    """Length in samples and source of a lead on the time of its first group, and warnings."""
    lead = group.channels[number].name
    starts: list[int] = []
    parts: list[Source | None] = []
    notes: tuple[str, ...] = ()
    end = 0
    for part in [group, *sorted(others, key=lambda other: other.start_s or 0.0)]:
        at = number if part is group else [c.name for c in part.channels].index(lead)
        begin_s = (part.start_s or 0.0) - (group.start_s or 0.0) + part.channels[at].shift_s
        begin, source = round(begin_s * group.fs_hz), _source(path, part, at, name, file)
        check_extent(group.fs_hz, abs(begin), name, file)
        if begin < 0 and part is group:  # taken before its group begins
            source, begin = _without(source, -begin, name, file), 0
        if begin < end:
            notes = (f"multiplex groups of lead {lead} in {file} overlap: the first is read",)
            break
        if begin > end:
            starts.append(end)
            parts.append(None)
        starts.append(begin)
        parts.append(source)
        end = begin + source.n_frames
    if len(parts) == 1 and parts[0] is not None:
        return end, parts[0], notes
    return end, JoinedLead(tuple(starts), tuple(parts)), notes


def _without(source: FramedLead, frames: int, name: str, file: str) -> FramedLead:
    """A lead without its first frames."""
    n_frames = source.n_frames - frames
    if n_frames < 1:
        raise HeaderMismatch(name, f"a skew of {frames} samples", "less than the signal", file)
    size = packed_bytes(source.format, frames * source.frame_samples) or 0
    return replace(source, n_frames=n_frames, offset_bytes=source.offset_bytes + size)


def _source(path: Path, group: _Group, number: int, name: str, file: str) -> FramedLead:
    """Where a channel's samples lie, and what they are worth in millivolts."""
    channel = group.channels[number]
    if not channel.step:
        actual = f"lead {channel.name!r} with a sensitivity of {channel.step}"
        raise HeaderMismatch(name, actual, "what a step of it is worth", file)
    _, subtracted = PLAIN[group.format]
    return FramedLead(
        path=path,
        format=group.format,
        n_frames=group.n_samples,
        frame_samples=len(group.channels),
        first=number,
        per_frame=1,
        skew=0,
        offset_bytes=group.offset_bytes,
        gain=units_per_mv(channel.unit, name, file) / channel.step,
        baseline=-channel.zero / channel.step - subtracted,
        valid=FULL_RANGE,
        missing=None if group.padding is None else group.padding - subtracted,
    )


def _header(path: Path, name: str, file: str) -> _Header:
    """Read a header and all that describes its groups; no sample is read."""
    with path.open("rb") as stream:
        size = path.stat().st_size
        return _guard(lambda: _read_header(stream, size, name, file), path)


Result = TypeVar("Result")


def _guard(read: Callable[[], Result], path: Path) -> Result:
    """What a reading gives; what pydicom raises on damaged bytes is an error of the record."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values that are checked here
            return read()
    except (RecordError, OSError):
        raise
    except Exception as error:
        actual = f"{type(error).__name__}: {error}"[:200]
        raise HeaderMismatch(path.stem, actual, "a DICOM file", path.name) from error


def _head(stream: BinaryIO, name: str, file: str) -> Any:
    """The header up to its waveforms, where the stream is then."""
    try:
        from pydicom.filereader import read_file_meta_info, read_partial
    except ImportError as error:
        expected = "pydicom, of the extra exchange"
        raise RecordError(
            name, "a DICOM file, and nothing that reads it", expected, file
        ) from error
    meta = read_file_meta_info(stream.name)
    syntax = str(meta.get("TransferSyntaxUID", ""))
    if syntax not in SYNTAXES:
        actual = f"transfer syntax {syntax or 'none'}"
        expected = "little-endian samples that are not deflated"
        raise HeaderMismatch(name, actual, expected, file)
    head = read_partial(
        stream, stop_when=lambda tag, *_: tag >= SEQUENCE, defer_size=MOST_VALUE_BYTES
    )
    kind = str(head.get("SOPClassUID", ""))
    if kind not in CLASSES:
        actual = f"SOP class {kind[:64] or 'none'}"
        raise HeaderMismatch(name, actual, ", ".join(CLASSES.values()), file)
    return head


def _read_header(stream: BinaryIO, size: int, name: str, file: str) -> _Header:
    head = _head(stream, name, file)
    implicit = str(head.file_meta.TransferSyntaxUID) == "1.2.840.10008.1.2"
    groups = tuple(
        _group(item, size, name, file) for item in _items(stream, implicit, head, name, file)
    )
    if not groups:
        raise HeaderMismatch(name, "no multiplex group", "waveforms", file)
    return _Header(
        patient=str(head.get("PatientID") or "").strip(),
        start=dicom_start(str(head.get("AcquisitionDateTime") or "")),
        groups=groups,
    )


def _items(stream: BinaryIO, implicit: bool, head: Any, name: str, file: str) -> Iterator[Any]:
    """The items of the waveform sequence; their samples stay in the file."""
    from pydicom.filereader import read_dataset

    words = stream.read(8 if implicit else 12)
    tag = int.from_bytes(words[0:2], "little") << 16 | int.from_bytes(words[2:4], "little")
    if len(words) < 8 or tag != SEQUENCE:
        raise HeaderMismatch(name, "no waveform sequence", "waveforms", file)
    length = int.from_bytes(words[-4:], "little")
    end = math.inf if length == UNDEFINED else stream.tell() + length
    for _ in range(MOST_GROUPS):
        words = stream.read(8) if stream.tell() < end else b""
        tag = int.from_bytes(words[0:2], "little") << 16 | int.from_bytes(words[2:4], "little")
        if len(words) < 8 or tag != ITEM:
            return
        length = int.from_bytes(words[4:], "little")
        yield read_dataset(
            stream,
            implicit,
            True,
            None if length == UNDEFINED else length,
            defer_size=MOST_VALUE_BYTES,
            parent_encoding=head.original_character_set,
            at_top_level=False,
        )
    raise HeaderMismatch(name, f"more than {MOST_GROUPS} groups", "fewer", file)


def _group(item: Any, size: int, name: str, file: str) -> _Group:
    """A multiplex group, its samples' place checked against the file's size."""
    bits, interpretation = item.WaveformBitsAllocated, str(item.WaveformSampleInterpretation)
    if interpretation in COMPANDED:
        actual = f"companded samples, {COMPANDED[interpretation]}"
        raise HeaderMismatch(name, actual, "samples that are numbers", file)
    if (bits, interpretation) not in FORMATS:
        expected = ", ".join(f"{kind} of {n} bits" for n, kind in FORMATS)
        raise HeaderMismatch(name, f"samples {interpretation} of {bits} bits", expected, file)
    channels = tuple(
        _channel(channel, float(item.SamplingFrequency), name, number)
        for number, channel in enumerate(item.ChannelDefinitionSequence)
    )
    count, n_samples = int(item.NumberOfWaveformChannels), int(item.NumberOfWaveformSamples)
    if count != len(channels) or not 0 < count <= MOST_FRAME_SAMPLES or n_samples < 1:
        actual = f"{n_samples} samples of {count} channels, {len(channels)} of them described"
        raise HeaderMismatch(name, actual, "as many channels as are described", file)
    data = item.get_item(DATA, keep_deferred=True)
    if data is None:
        raise HeaderMismatch(name, "a group without samples", "waveform data", file)
    expected_bytes = n_samples * count * bits // 8
    available = min(data.length, size - data.value_tell)
    if available < expected_bytes:
        expected = f"{expected_bytes} for {n_samples} samples of {count} channels"
        raise TruncatedSignal(name, f"{available} bytes of samples", expected, file)
    if data.length > expected_bytes + expected_bytes % 2:
        expected = f"{expected_bytes} for {n_samples} samples of {count} channels"
        raise HeaderMismatch(name, f"{data.length} bytes of samples", expected, file)
    offset = item.get("MultiplexGroupTimeOffset")
    return _Group(
        channels=channels,
        fs_hz=float(item.SamplingFrequency),
        n_samples=n_samples,
        format=FORMATS[bits, interpretation],
        offset_bytes=data.value_tell,
        padding=_padding(item.get("WaveformPaddingValue"), bits, interpretation),
        start_s=None if offset is None else _number(item, "MultiplexGroupTimeOffset") / 1000,
        derived=str(item.get("WaveformOriginality", "")) == DERIVED,
    )


def _padding(value: Any, bits: int, interpretation: str) -> int | None:
    """The number that stands where there is no sample; None where none does."""
    if value is None or value == b"":
        return None
    if isinstance(value, bytes):
        return int.from_bytes(value[: bits // 8], "little", signed=interpretation[0] == "S")
    return int(value)


def _number(item: Any, keyword: str, otherwise: float = 0.0) -> float:
    """An element's number, or another where it is not there or empty."""
    value = item.get(keyword)
    number = otherwise if value is None else float(value)
    if not math.isfinite(number):
        raise ValueError(f"{keyword} {number}")
    return number


def _channel(item: Any, fs_hz: float, name: str, number: int) -> _Channel:
    """A channel; its lead is named by its code's meaning, else by its label."""
    source: Any = next(iter(item.get("ChannelSourceSequence") or ()), {})
    label = str(source.get("CodeMeaning") or item.get("ChannelLabel") or "")
    units: Any = next(iter(item.get("ChannelSensitivityUnitsSequence") or ()), {})
    step = None
    if item.get("ChannelSensitivity") is not None:
        correction = _number(item, "ChannelSensitivityCorrectionFactor", 1.0)
        step = _number(item, "ChannelSensitivity") * correction
    skew_s = _number(item, "ChannelTimeSkew")
    if item.get("ChannelSampleSkew") is not None:
        skew_s = _number(item, "ChannelSampleSkew") / fs_hz
    status = item.get("ChannelStatus") or ""
    return _Channel(
        name=signal_name(label, name, number),
        unit=str(units.get("CodeValue") or "") if step is not None else "",
        step=step,
        zero=_number(item, "ChannelBaseline"),
        shift_s=skew_s + _number(item, "ChannelOffset"),
        status=status if isinstance(status, str) else ", ".join(status),
    )
