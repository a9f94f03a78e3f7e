"""EDF and EDF+ recordings (Kemp 1992, DOI 10.1016/0013-4694(92)90009-7; Kemp and Olivan 2003).

An EDF data record is a frame of 16-bit samples, so `storage.formats.wfdb_formats` reads it; only
the header is read here. The libraries for EDF take a truncated file for a shorter recording; here
it is an error. In a discontinuous recording (EDF+D) the time between data records is a gap of NaN.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from storage.errors import HeaderMismatch, TruncatedSignal
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
from storage.formats.start import edf_start, later
from storage.formats.wfdb_formats import MOST_FRAME_SAMPLES, FramedLead
from storage.text import decimal, decode_text

#: Width of each field of a signal, in the order of the header (all signals' labels first).
FIELDS = {"label": 16, "transducer": 80, "units": 8, "physical_min": 8, "physical_max": 8}
FIELDS |= {"digital_min": 8, "digital_max": 8, "prefilter": 80, "samples": 8, "reserved": 32}
FIXED_BYTES = 256
MOST_SIGNALS = 4096
UNKNOWN = -1  #: data records of a file whose recorder was switched off before it closed it
TIMEKEEPING = "EDF Annotations"
TOLD_DRIFT_S = 1.0  #: a clock that runs away from the samples by so much is worth a warning
#: A data record's first annotation is its onset: "+12.5", 0x14, 0x14.
_ONSET = re.compile(rb"([+-]\d{1,9}(?:\.(\d{0,9}))?)\x14")
#: A recorder's clock goes wrong by no more of the time, with room: by 50 ppm in common crystals.
CLOCK = 2e-4


@dataclass(frozen=True)
class _Header:
    """An EDF header: its signals' fields as stored, and the numbers of all data records."""

    kind: bytes
    patient: str
    fields: dict[str, list[bytes]]
    labels: list[str]
    per_record: list[int]
    n_records: int
    duration_s: float
    start: datetime | None
    warnings: tuple[str, ...] = ()

    @property
    def leads(self) -> list[tuple[str, str]]:
        """Name and unit of every signal."""
        units = map(_text, self.fields["units"])
        return list(zip(self.labels, units, strict=True))

    @property
    def bytes(self) -> int:
        return FIXED_BYTES * (len(self.labels) + 1)

    @property
    def record_bytes(self) -> int:
        return 2 * sum(self.per_record)


def open_edf(
    folder: Path, name: str, prefer: Sequence[str], digests: dict[str, str], *, signal: bool
) -> OpenRecording:
    """Read an EDF file's header and check its length; see `records.open_record`."""
    file, path = own_file(folder, name, "edf", name)
    header = _header(path, name, file)
    channel = choose(header.leads, prefer, name, file)
    per_frame = header.per_record[channel]
    if header.duration_s <= 0 or not per_frame:
        actual = f"data records of {header.duration_s:g} s with {per_frame} samples"
        raise HeaderMismatch(name, actual, "a lead with a sampling rate", file)
    fs_hz = per_frame / header.duration_s
    check_extent(fs_hz, header.n_records * per_frame, name, file)
    gain, baseline, valid = _scale(header.fields, channel, name, file)
    lead = FramedLead(
        path=path,
        format=16,
        n_frames=header.n_records,
        frame_samples=sum(header.per_record),
        first=sum(header.per_record[:channel]),
        per_frame=per_frame,
        skew=0,
        offset_bytes=header.bytes,
        gain=gain,
        baseline=baseline,
        valid=valid,
    )
    n_samples, source, onset_s, warnings = _in_time(lead, header, name, file)
    check_extent(fs_hz, n_samples, name, file)
    digests[file] = sha256_file(path)
    return OpenRecording(
        fs_hz=fs_hz,
        n_samples=n_samples,
        counts_hz=fs_hz,
        comments=(),
        file=file,
        lead=header.labels[channel] if signal else None,
        source=source if signal else None,
        warnings=(*header.warnings, *warnings),
        start=later(header.start, onset_s),
    )


def describe_edf(folder: Path, name: str) -> HeaderSummary:
    """What an EDF file's header says of the recording; raises as `open_edf` does."""
    file, path = own_file(folder, name, "edf", name)
    header = _header(path, name, file)
    hours = header.n_records * header.duration_s / 3600
    # EDF+: the first word is the hospital's code of the patient, "X" where it is withheld.
    patient = header.patient.split(" ")[0] if header.kind.startswith(b"EDF+") else header.patient
    withheld = set(patient.upper()) <= {"X", " "}
    return HeaderSummary(tuple(header.leads), hours, patient="" if withheld else patient)


def _header(path: Path, name: str, file: str) -> _Header:
    """Read the header, and compare the file's size with it."""
    with path.open("rb") as stream:
        fixed = stream.read(FIXED_BYTES)
        count = _whole(fixed[252:256], "signals", name, file) if len(fixed) == FIXED_BYTES else 0
        rest = stream.read(FIXED_BYTES * count) if 0 < count <= MOST_SIGNALS else b""
    if _text(fixed[:8]) != "0" or not rest or len(rest) < FIXED_BYTES * count:
        raise HeaderMismatch(name, f"{fixed[:8]!r} and {count} signals", "an EDF header", file)
    fields = _fields(rest, count)
    header = _Header(
        kind=fixed[192:197],
        patient=_text(fixed[8:88]),
        fields=fields,
        labels=[
            signal_name(_text(raw), name, number) for number, raw in enumerate(fields["label"])
        ],
        per_record=[_whole(raw, "samples a data record", name, file) for raw in fields["samples"]],
        n_records=_whole(fixed[236:244], "data records", name, file),
        duration_s=_number(fixed[244:252], "a data record's duration", name, file),
        start=edf_start(
            _text(fixed[168:176]),
            _text(fixed[176:184]),
            _text(fixed[88:168]),
            plus=fixed[192:197].startswith(b"EDF+"),
        ),
    )
    size, available = sum(header.per_record), path.stat().st_size - header.bytes
    if header.n_records == UNKNOWN and size > 0:
        whole = available // header.record_bytes
        warning = f"{file} was not closed: its length is that of its {whole} whole data records"
        header = replace(header, n_records=whole, warnings=(warning,))
    n_records = header.n_records
    if n_records < 1 or min(header.per_record) < 0 or not 0 < size <= MOST_FRAME_SAMPLES:
        actual = f"{n_records} data records of {size} samples"
        raise HeaderMismatch(name, actual, "a finished recording", file)
    if available < n_records * header.record_bytes:
        expected = f"{n_records * header.record_bytes} for {n_records} data records"
        raise TruncatedSignal(name, f"{available} bytes of samples", expected, file)
    if available >= (n_records + 1) * header.record_bytes:
        actual = f"{n_records} data records"
        raise HeaderMismatch(name, actual, f"the {available // header.record_bytes} in it", file)
    return header


def _in_time(
    lead: FramedLead, header: _Header, name: str, file: str
) -> tuple[int, Source, float, tuple[str, ...]]:
    """Length in samples and source of a lead, the gaps between EDF+'s data records in it.

    Then by how many seconds its first sample is later than the header's start, and warnings.
    """
    if header.kind not in (b"EDF+C", b"EDF+D"):
        return lead.n_frames * lead.per_frame, lead, 0.0, ()
    if TIMEKEEPING not in header.labels:
        raise HeaderMismatch(name, "EDF+ without timekeeping", f"{TIMEKEEPING!r}", file)
    number = header.labels.index(TIMEKEEPING)
    before, size = 2 * sum(header.per_record[:number]), 2 * header.per_record[number]
    onsets, first_s, decimals = _onsets(lead, before, size, name, file)
    duration_s = header.duration_s
    # Onsets of fewer decimals than the duration has are rounded: 0, 0.33, 0.67.
    rounded_s = 0.0 if round(duration_s, decimals) == duration_s else 10.0**-decimals
    tolerance_s = CLOCK * duration_s + rounded_s
    n_samples, source, drift_s = _stretches(lead, onsets, duration_s, tolerance_s, name, file)
    if header.kind == b"EDF+C" and isinstance(source, JoinedLead):
        raise HeaderMismatch(name, "gaps between data records", "none in EDF+C", file)
    if abs(drift_s) < TOLD_DRIFT_S:
        return n_samples, source, first_s, ()
    warning = f"the clock of {file} runs away from its samples by {drift_s:+.1f} s to its end"
    return n_samples, source, first_s, (f"{warning}: times are those of the samples",)


def _fields(rest: bytes, count: int) -> dict[str, list[bytes]]:
    out, at = {}, 0
    for field, width in FIELDS.items():
        out[field] = [rest[at + i * width : at + (i + 1) * width] for i in range(count)]
        at += count * width
    return out


def _scale(
    fields: dict[str, list[bytes]], channel: int, name: str, file: str
) -> tuple[float, float, tuple[int, int]]:
    """Converter units per mV, converter value of 0 mV, and the range that is valid."""
    low, high = (
        _number(fields[f"physical_{end}"][channel], f"physical {end}imum", name, file)
        for end in ("min", "max")
    )
    least, most = (
        _whole(fields[f"digital_{end}"][channel], f"digital {end}imum", name, file)
        for end in ("min", "max")
    )
    if low == high or not -(1 << 15) <= least < most < 1 << 15:
        actual = f"{low:g} to {high:g} for {least} to {most}"
        raise HeaderMismatch(name, actual, "two ranges that are not empty", file)
    per_unit = (most - least) / (high - low)
    gain = per_unit * units_per_mv(_text(fields["units"][channel]), name, file)
    return gain, least - low * per_unit, (least, most)


def _onsets(
    lead: FramedLead, before: int, size: int, name: str, file: str
) -> tuple[list[float], float, int]:
    """Seconds from the first data record to each; from the header's start to it; their decimals.

    They stand in each one's timekeeping annotation.
    """
    onsets, decimals = [], 0
    with lead.path.open("rb", buffering=0) as stream:
        for number in range(lead.n_frames):
            at = lead.offset_bytes + number * 2 * lead.frame_samples + before
            match = _ONSET.match(os.pread(stream.fileno(), min(size, 64), at))
            if match is None:
                expected = "the time it begins at"
                raise HeaderMismatch(name, f"data record {number} without", expected, file)
            onsets.append(float(match[1]))
            decimals = max(decimals, len((match[2] or b"").rstrip(b"0")))
    return [onset - onsets[0] for onset in onsets], onsets[0], decimals


def _stretches(
    lead: FramedLead,
    onsets: list[float],
    duration_s: float,
    tolerance_s: float,
    name: str,
    file: str,
) -> tuple[int, Source, float]:
    """Length in samples with its gaps; the lead, joined around them; the clock's drift in seconds.

    Samples are counted on from one data record to the next, whose onset may be off by less than a
    sample, or by the tolerance: a clock that runs 50 ppm fast makes neither an overlap nor a gap,
    however long it runs and however long the data records are.
    """
    fs_hz = lead.per_frame / duration_s
    least = max(1 - 1e-6, tolerance_s * fs_hz + 1e-6)
    first, start, residue, drift = 0, 0, 0.0, 0.0
    starts: list[int] = []
    parts: list[Source | None] = []

    def stretch(stop: int) -> FramedLead:
        offset = lead.offset_bytes + first * 2 * lead.frame_samples
        return replace(lead, offset_bytes=offset, n_frames=stop - first)

    for number, (before, onset) in enumerate(pairwise(onsets), start=1):
        step = (onset - before) * fs_hz - lead.per_frame
        if abs(step) < least:
            drift += step
            continue
        if step < 0:
            actual = f"data record {number} at {onset:g} s, before the one before it ends"
            raise HeaderMismatch(name, actual, "ascending times", file)
        end = start + (number - first) * lead.per_frame
        gap = max(1, round(step + residue))
        residue += step - gap
        starts += [start, end]
        parts += [stretch(number), None]
        first, start = number, end + gap
    n_samples = start + (len(onsets) - first) * lead.per_frame
    if not parts:
        return n_samples, lead, drift / fs_hz
    parts_lead = JoinedLead((*starts, start), (*parts, stretch(len(onsets))))
    return n_samples, parts_lead, drift / fs_hz


def _text(raw: bytes) -> str:
    """A field's text; recorders pad it by NUL as well as by spaces."""
    return decode_text(raw.strip(b"\0").split(b"\0")[0]).strip()


def _number(raw: bytes, quantity: str, name: str, file: str) -> float:
    try:
        return decimal(_text(raw))
    except ValueError as error:
        raise HeaderMismatch(name, f"{quantity} {_text(raw)!r}", "a number", file) from error


def _whole(raw: bytes, quantity: str, name: str, file: str) -> int:
    value = _number(raw, quantity, name, file)
    if value != int(value):
        raise HeaderMismatch(name, f"{value:g} {quantity}", "a whole number", file)
    return int(value)
