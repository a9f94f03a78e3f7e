"""ISHNE Holter recordings (Badilini 1998, DOI 10.1111/j.1542-474X.1998.tb00353.x).

A fixed header of 522 bytes, a text block, then 16-bit samples, the leads interleaved. Read as WFDB
format 16; the value -32768 means lead failure, and becomes NaN.
"""

from __future__ import annotations

import struct
from binascii import crc_hqx
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from storage.errors import HeaderMismatch, TruncatedSignal
from storage.files import sha256_file
from storage.formats.leads import (
    MOST_TEXT_BYTES,
    HeaderSummary,
    OpenRecording,
    check_extent,
    choose,
    own_file,
)
from storage.formats.start import moment
from storage.formats.wfdb_signal import PackedLead
from storage.text import decode_text

MAGIC = b"ISHNE1.0"
FIXED_BYTES = 522
MOST_LEADS = 12
UNIT = "nV"
#: Lead names by their code in the header.
LEADS = ["unknown", "bipolar", "X", "Y", "Z", "I", "II", "III", "aVR", "aVL", "aVF"]
LEADS += ["V1", "V2", "V3", "V4", "V5", "V6", "ES", "AS", "AI"]
#: Offsets in the file: lengths and offsets, leads, their codes, resolutions (nV), rate (Hz).
SIZES_AT, LEADS_AT, CODES_AT, RESOLUTION_AT, RATE_AT = 10, 156, 158, 206, 272
#: Day, month, year of the recording; hour, minute, second of its start.
DATE_AT, TIME_AT = 138, 150
#: The patient's number, after the two names.
PATIENT = slice(108, 128)


def open_ishne(
    folder: Path, name: str, prefer: Sequence[str], digests: dict[str, str], *, signal: bool
) -> OpenRecording:
    """Read an ISHNE file's header, check it and the length; see
    `storage.recordings.records.open_record`.
    """
    file, path = own_file(folder, name, "ishne", name)
    head, names, fs_hz, n_samples, ecg_at = _header(path, name, file)
    n_leads = len(names)
    check_extent(fs_hz, n_samples, name, file)
    channel = choose([(lead, UNIT) for lead in names], prefer, name, file)
    (resolution_nv,) = struct.unpack_from("<h", head, RESOLUTION_AT + 2 * channel)
    if resolution_nv <= 0:
        raise HeaderMismatch(name, f"{resolution_nv} nV a step", "more than 0", file)
    digests[file] = sha256_file(path)
    start = _start(head)
    if not signal:
        return OpenRecording(float(fs_hz), n_samples, float(fs_hz), (), file, start=start)
    source = PackedLead(path, 16, n_leads, channel, ecg_at, 1e6 / resolution_nv, 0)
    lead = names[channel]
    return OpenRecording(float(fs_hz), n_samples, float(fs_hz), (), file, lead, source, start=start)


def _start(head: bytes) -> datetime | None:
    """When the recording began, where the header has it."""
    day, month, year = struct.unpack_from("<3h", head, DATE_AT)
    return moment(year, month, day, *struct.unpack_from("<3h", head, TIME_AT))


def describe_ishne(folder: Path, name: str) -> HeaderSummary:
    """What an ISHNE file's header says of the recording; raises as `open_ishne` does."""
    file, path = own_file(folder, name, "ishne", name)
    head, names, fs_hz, n_samples, _ = _header(path, name, file)
    check_extent(fs_hz, n_samples, name, file)
    patient = decode_text(head[PATIENT].split(b"\0")[0]).strip()
    return HeaderSummary(
        tuple((lead, UNIT) for lead in names), n_samples / fs_hz / 3600, (), patient
    )


def _header(path: Path, name: str, file: str) -> tuple[bytes, list[str], float, int, int]:
    """Check a header: itself, lead names, rate in Hz, samples of each lead, where they begin."""
    with path.open("rb") as stream:
        head = stream.read(FIXED_BYTES)
        if len(head) < FIXED_BYTES or head[:8] != MAGIC:
            actual = f"{len(head)} bytes that begin {head[:8]!r}"
            raise HeaderMismatch(name, actual, f"an ISHNE header, {MAGIC!r}", file)
        text_bytes, samples, text_at, ecg_at = struct.unpack_from("<4i", head, SIZES_AT)
        if not 0 <= text_bytes <= MOST_TEXT_BYTES or text_at + text_bytes != ecg_at:
            actual = f"a text of {text_bytes} bytes from {text_at}, samples from {ecg_at}"
            raise HeaderMismatch(name, actual, "blocks one after the other", file)
        covered = head[10:] + stream.read(text_bytes)
    (header_crc,) = struct.unpack_from("<H", head, 8)
    if (crc := crc_hqx(covered, 0xFFFF)) != header_crc:
        actual = f"a header with CRC {crc:04x}"
        raise HeaderMismatch(name, actual, f"{header_crc:04x}, as it says", file)
    (n_leads,) = struct.unpack_from("<h", head, LEADS_AT)
    (fs_hz,) = struct.unpack_from("<h", head, RATE_AT)
    if not 1 <= n_leads <= MOST_LEADS or samples < 1 or text_at != FIXED_BYTES:
        actual = f"{n_leads} leads of {samples} samples"
        raise HeaderMismatch(name, actual, f"1 to {MOST_LEADS} leads", file)
    codes = struct.unpack_from(f"<{n_leads}h", head, CODES_AT)
    names = [LEADS[code] if 0 <= code < len(LEADS) else f"lead {code}" for code in codes]
    n_samples = _length(path.stat().st_size - ecg_at, samples, n_leads, name, file)
    return head, names, float(fs_hz), n_samples, ecg_at


def _length(available: int, samples: int, n_leads: int, name: str, file: str) -> int:
    """Samples of each lead. Recorders count them for each lead, or for all: the file's size tells.

    A file of the first kind that is cut off at exactly one lead's share looks like the second.
    """
    if available == 2 * n_leads * samples:
        return samples
    if available == 2 * samples and samples % n_leads == 0:
        return samples // n_leads
    actual, expected = f"{available} bytes of samples", f"{2 * n_leads * samples}"
    if available < 2 * n_leads * samples:
        raise TruncatedSignal(name, actual, expected, file)
    raise HeaderMismatch(name, actual, expected, file)
