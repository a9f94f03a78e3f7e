"""WFDB header files (.hea): text to a checked value (format: physionet.org, wag/header-5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from storage.errors import HeaderMismatch
from storage.formats.lead_names import signal_name
from storage.formats.start import wfdb_start
from storage.text import decimal, file_name, lines

DEFAULT_FS_HZ = 250.0
DEFAULT_GAIN = 200.0  #: adu per mV where a header gives none, or 0
MAX_SAMPLES = 1 << 40  #: beyond any recording; larger is a damaged header
MAX_SIGNALS = 4096

_RECORD = re.compile(
    r"(?P<name>[^\s/]+)(?:/(?P<segments>\d+))?\s+(?P<signals>\d+)"
    r"(?:\s+(?P<fs>[^\s/]+)(?:/\S*)?(?:\s+(?P<samples>\d+)(?:\s(?P<start>.*))?)?)?"
)
_FORMAT = re.compile(
    r"(?P<code>\d+)(?:x(?P<per_frame>\d+))?(?::(?P<skew>\d+))?(?:\+(?P<skip>\d+))?"
)
_GAIN = re.compile(r"(?P<gain>[^\s(/]+)(?:\((?P<baseline>[+-]?\d+)\))?(?:/(?P<units>\S+))?")


@dataclass(frozen=True)
class SignalHeader:
    """One signal line: where its samples are and what they mean.

    Attributes
    ----------
    file : str
        Name of the file that holds the samples.
    format : int
        WFDB storage format (212, 16, ...).
    per_frame, skew, offset_bytes : int
        Samples per frame, skew in frames, bytes before the first sample.
    gain : float
        Converter units per physical unit; never 0.
    baseline : int
        Converter value of physical zero.
    units, lead : str
        Physical unit and the signal's description, that is the lead's name; see
        `storage.formats.lead_names.signal_name` for one without.
    initial : int
        Value of the first sample, needed by difference formats.
    checksum : int or None
        The sum of all samples modulo 65536, where the header gives it and it is not 0.
    """

    file: str
    format: int
    per_frame: int
    skew: int
    offset_bytes: int
    gain: float
    baseline: int
    units: str
    lead: str
    initial: int
    checksum: int | None


@dataclass(frozen=True)
class Header:
    """A header file: of a record, or of a multi-segment record (`segments` not empty).

    Attributes
    ----------
    fs_hz : float
        Frames per second.
    n_samples : int
        Length in frames; 0 where the header does not say.
    signals : tuple of SignalHeader
        Empty for a record without signals, and for a multi-segment record.
    segments : tuple of (str, int)
        Record name and length in frames of each segment; "~" is a gap.
    n_signals : int
        How many signals the record line announces.
    comments : tuple of str
        Comment lines without their "#".
    start : datetime or None
        Base date and time, where it has both.
    """

    fs_hz: float
    n_samples: int
    signals: tuple[SignalHeader, ...]
    segments: tuple[tuple[str, int], ...]
    n_signals: int
    comments: tuple[str, ...]
    start: datetime | None = None


def parse_header(data: bytes, record: str, file: str) -> Header:
    """Read a header file's bytes.

    Raises
    ------
    HeaderMismatch
        Anything that is not a WFDB header, with the line at fault.
    """
    text = lines(data)
    comments = tuple(line.lstrip("#").strip() for line in text if line.startswith("#"))
    content = [line for line in text if line and not line.startswith("#")]
    if not content:
        raise HeaderMismatch(record, "no record line", "a WFDB header", file)
    first = _RECORD.fullmatch(content[0])
    if first is None:
        raise HeaderMismatch(
            record, f"the line {content[0][:80]!r}", "name, signals, rate, samples", file
        )
    fs_hz = _number(first["fs"] or str(DEFAULT_FS_HZ), "sampling rate", record, file)
    if fs_hz <= 0:
        raise HeaderMismatch(record, f"sampling rate {fs_hz:g} Hz", "more than 0", file)
    n_samples = _count(first["samples"] or "0", "samples", MAX_SAMPLES, record, file)
    n_signals = _count(first["signals"], "signals", MAX_SIGNALS, record, file)
    announced, start = n_signals, wfdb_start(first["start"] or "")
    if first["segments"] is not None:
        announced = _count(first["segments"], "segments", MAX_SAMPLES, record, file)
    if len(content) - 1 != announced:
        kind = "segment" if first["segments"] is not None else "signal"
        raise HeaderMismatch(
            record, f"{len(content) - 1} {kind} lines", f"{announced}, as its first line says", file
        )
    if first["segments"] is not None:
        segments = tuple(_segment(line, record, file) for line in content[1:])
        return Header(fs_hz, n_samples, (), segments, n_signals, comments, start)
    signals = tuple(_signal(line, place, record, file) for place, line in enumerate(content[1:]))
    return Header(fs_hz, n_samples, signals, (), n_signals, comments, start)


def _segment(line: str, record: str, file: str) -> tuple[str, int]:
    words = line.split()
    if len(words) != 2 or not re.fullmatch(r"\d+", words[1], re.ASCII):
        raise HeaderMismatch(record, f"the segment line {line[:80]!r}", "name and length", file)
    return words[0], _count(words[1], "segment samples", MAX_SAMPLES, record, file)


def _signal(line: str, place: int, record: str, file: str) -> SignalHeader:
    # file format gain adc_resolution adc_zero initial checksum block_size description
    fields = line.split(maxsplit=8)
    fields += [""] * (9 - len(fields))
    expected = "file, format, gain, ..."
    form = _FORMAT.fullmatch(fields[1])
    gain_field = _GAIN.fullmatch(fields[2] or f"{DEFAULT_GAIN:g}")
    if form is None or gain_field is None:
        raise HeaderMismatch(record, f"the signal line {line[:80]!r}", expected, file)
    gain = _number(gain_field["gain"], "gain", record, file) or DEFAULT_GAIN
    adc_zero = _integer(fields[4], record, file)
    baseline = _integer(gain_field["baseline"] or fields[4], record, file)
    if abs(baseline) > MAX_SAMPLES:
        raise HeaderMismatch(record, f"baseline {baseline}", "a converter value", file)
    return SignalHeader(
        file=file_name(fields[0]),
        format=_count(form["code"], "format", 1 << 16, record, file),
        per_frame=max(
            1, _count(form["per_frame"] or "1", "samples per frame", 1 << 16, record, file)
        ),
        skew=_count(form["skew"] or "0", "skew", MAX_SAMPLES, record, file),
        offset_bytes=_count(form["skip"] or "0", "byte offset", MAX_SAMPLES, record, file),
        gain=gain,
        baseline=baseline,
        units=gain_field["units"] or "mV",
        lead=signal_name(fields[8].strip(), record, place),
        initial=_integer(fields[5], record, file) if fields[5] else adc_zero,
        checksum=(_integer(fields[6], record, file) % 65536 or None) if fields[6] else None,
    )


def _number(text: str, quantity: str, record: str, file: str) -> float:
    try:
        return decimal(text)
    except ValueError as error:
        raise HeaderMismatch(record, f"{quantity} {text[:40]!r}", "a number", file) from error


def _integer(text: str, record: str, file: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,18}", text or "0"):
        raise HeaderMismatch(record, f"{text[:40]!r} in a signal line", "a whole number", file)
    return int(text or "0")


def _count(text: str, quantity: str, most: int, record: str, file: str) -> int:
    if len(text) > 18 or int(text) > most:
        raise HeaderMismatch(record, f"{text[:40]} {quantity}", f"at most {most}", file)
    return int(text)
