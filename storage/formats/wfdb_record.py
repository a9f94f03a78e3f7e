"""A WFDB recording: its header, the signal files checked against it, and the wanted lead in them.

All packed formats are read by our own numpy code, as wfdb 4.3.1 reads blocks of format 8 wrongly
and fails on two different skews; FLAC goes through libsndfile. A lead with several samples a frame
keeps its own sampling rate: nothing is averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

from storage.errors import HeaderMismatch, NoLead, TruncatedSignal
from storage.files import sha256_file, stored_name
from storage.formats.flac import FORMATS as FLAC
from storage.formats.flac import FlacLead, read_flac, stream_samples
from storage.formats.lead_names import signal_name
from storage.formats.leads import (
    HeaderSummary,
    JoinedLead,
    OpenRecording,
    Source,
    check_extent,
    choose,
    own_file,
    present,
    read_whole,
    units_per_mv,
)
from storage.formats.wfdb_formats import MOST_FRAME_SAMPLES, FramedLead, valid_range
from storage.formats.wfdb_header import Header, SignalHeader, parse_header
from storage.formats.wfdb_signal import BITS, FAST_FORMATS, PackedLead, packed_bytes

KNOWN_FORMATS = frozenset({*BITS, 310, 311, *FLAC})
GAP = "~"


def open_wfdb(
    folder: Path, name: str, prefer: Sequence[str], digests: dict[str, str], *, signal: bool
) -> OpenRecording:
    """Read a record's header and check its signal files; see
    `storage.recordings.records.open_record`.
    """
    file, header = _header(folder, name, name, digests)
    if not signal or not header.n_signals:
        return OpenRecording(
            fs_hz=header.fs_hz,
            n_samples=header.n_samples,
            counts_hz=header.fs_hz,
            comments=header.comments,
            file=file,
            n_signals=header.n_signals,
            start=header.start,
        )
    if header.segments:
        lead, per_frame, n_frames, source = _segments(folder, name, prefer, header, digests)
    else:
        lead, per_frame, n_frames, source = _single(folder, name, prefer, header, digests)
    fs_hz = header.fs_hz * per_frame
    check_extent(fs_hz, n_frames * per_frame, name, file)
    return OpenRecording(
        fs_hz=fs_hz,
        n_samples=n_frames * per_frame,
        counts_hz=header.fs_hz,
        comments=header.comments,
        file=file if isinstance(source, JoinedLead) else _signal_file(folder, name, header, lead),
        lead=lead,
        source=source,
        n_signals=header.n_signals,
        start=header.start,
    )


def describe_wfdb(folder: Path, name: str) -> HeaderSummary:
    """What a record's header says of it; raises `RecordError` for one that cannot be read."""
    _, header = _header(folder, name, name, {})
    parts = tuple(dict.fromkeys(_beside(name, part) for part, _ in header.segments if part != GAP))
    signals = _header(folder, parts[0], name, {})[1].signals if parts else header.signals
    leads = tuple((signal.lead, signal.units) for signal in signals)
    return HeaderSummary(
        leads, header.n_samples / header.fs_hz / 3600, header.comments, segments=parts
    )


def _signal_file(folder: Path, name: str, header: Header, lead: str) -> str:
    file = next(signal.file for signal in header.signals if signal.lead == lead)
    return stored_name(folder, _beside(name, file))


def _header(folder: Path, name: str, record: str, digests: dict[str, str]) -> tuple[str, Header]:
    """A header's file name and what it says."""
    file, path = own_file(folder, name, "wfdb", record)
    return file, parse_header(read_whole(file, path, record, digests), record, file)


def _beside(name: str, file: str) -> str:
    """A file that a header names, relative to the data set's folder."""
    parent = name.rpartition("/")[0]
    return f"{parent}/{file}" if parent else file


def _single(
    folder: Path, name: str, prefer: Sequence[str], header: Header, digests: dict[str, str]
) -> tuple[str, int, int, Source]:
    """The wanted lead of a record in one piece: name, samples a frame, frames, source."""
    n_frames = check_files(folder, name, name, header, digests)
    channel = choose(_leads(header), prefer, name, f"{name}.hea")
    signal = header.signals[channel]
    source = _source(folder, name, name, header.signals, channel, n_frames)
    return signal.lead, signal.per_frame, n_frames, source


def _leads(header: Header) -> list[tuple[str, str]]:
    return [(signal.lead, signal.units) for signal in header.signals]


def _segments(
    folder: Path, name: str, prefer: Sequence[str], header: Header, digests: dict[str, str]
) -> tuple[str, int, int, Source]:
    """The wanted lead of a multi-segment record, which a segment may lack: a gap there.

    A first segment without samples is the layout: it names every signal that any segment has.
    Without one the layout is fixed, and every segment has the first one's signals.
    """
    file = f"{name}.hea"
    total = sum(length for _, length in header.segments)
    if header.n_samples not in (0, total):
        raise HeaderMismatch(name, f"{header.n_samples} samples", f"{total} of its segments", file)
    if not total:
        raise HeaderMismatch(name, "no samples", "a number of samples", file)
    check_extent(header.fs_hz, total, name, file)
    parts = {
        segment: _header(folder, _beside(name, segment), name, digests)[1]
        for segment, _ in header.segments
        if segment != GAP
    }
    if not parts:
        raise HeaderMismatch(name, "gaps alone", "a segment with signals", file)
    first = next(iter(parts.values()))
    variable = header.segments[0][1] == 0
    channel = choose(_leads(first), prefer, name, file)
    lead, per_frame = first.signals[channel].lead, first.signals[channel].per_frame
    if variable and lead == signal_name("", name, channel):
        expected = "one by which segments can be told to have it"
        raise HeaderMismatch(name, f"signal {channel} without description", expected, file)
    starts: list[int] = []
    sources: list[Source | None] = []
    at = 0
    for segment, length in header.segments:
        if not length:
            continue
        part = parts.get(segment)
        starts.append(at * per_frame)
        at += length
        if part is None:
            sources.append(None)
            continue
        path = _beside(name, segment)
        hea = f"{path}.hea"
        if part.segments or (part.fs_hz, part.n_samples) != (header.fs_hz, length):
            actual = f"{part.n_samples} samples at {part.fs_hz:g} Hz"
            raise HeaderMismatch(name, actual, f"{length} at {header.fs_hz:g}, as {file} says", hea)
        check_files(folder, path, name, part, digests)
        channels = _channels(part, lead, per_frame, name, hea)
        if not channels and not variable:
            leads = ", ".join(repr(signal.lead) for signal in part.signals)
            raise NoLead(name, f"leads {leads}", f"{lead!r}", hea)
        part_sources = [
            _source(folder, path, name, part.signals, number, length) for number in channels[:1]
        ]
        sources += part_sources or [None]
    return lead, per_frame, total, JoinedLead(tuple(starts), tuple(sources))


def _channels(part: Header, lead: str, per_frame: int, record: str, hea: str) -> list[int]:
    """Numbers of the signals of a lead's name in a segment, at the rate of the other segments'."""
    channels = [number for number, signal in enumerate(part.signals) if signal.lead == lead]
    for number in channels[:1]:
        if (rate := part.signals[number].per_frame) != per_frame:
            expected = f"{per_frame}, as in the first segment"
            raise HeaderMismatch(record, f"{rate} samples of {lead!r} a frame", expected, hea)
    return channels


def _source(
    folder: Path,
    name: str,
    record: str,
    signals: tuple[SignalHeader, ...],
    channel: int,
    n_frames: int,
) -> Source:
    """Where the samples of signal number `channel` of the header `name` are."""
    signal = signals[channel]
    per_mv = units_per_mv(signal.units, record, f"{name}.hea")
    together = [entry for entry in signals if entry.file == signal.file]
    before = [entry for entry in signals[:channel] if entry.file == signal.file]
    path = folder / stored_name(folder, _beside(name, signal.file))
    gain = signal.gain * per_mv
    if signal.format in FLAC:
        lead = _flac(path, signal, len(together), n_frames)
        return replace(lead, channel=len(before), skew=signal.skew, gain=gain)
    plain = signal.skew == 0 and all(entry.per_frame == 1 for entry in together)
    if plain and signal.format in FAST_FORMATS:
        return PackedLead(
            path=path,
            format=signal.format,
            n_signals=len(together),
            channel=len(before),
            offset_bytes=together[0].offset_bytes,
            gain=gain,
            baseline=signal.baseline,
            checksum=signal.checksum,
        )
    return FramedLead(
        path=path,
        format=signal.format,
        n_frames=n_frames,
        frame_samples=sum(entry.per_frame for entry in together),
        first=sum(entry.per_frame for entry in before),
        per_frame=signal.per_frame,
        skew=signal.skew,
        offset_bytes=together[0].offset_bytes,
        gain=gain,
        baseline=signal.baseline,
        valid=valid_range(signal.format),
        initial=signal.initial,
        checksum=signal.checksum,
    )


def _flac(path: Path, signal: SignalHeader, channels: int, n_frames: int) -> FlacLead:
    """The first lead of a FLAC file, its values as they are stored."""
    return FlacLead(
        path=path,
        format=signal.format,
        channels=channels,
        channel=0,
        offset_samples=signal.offset_bytes,
        n_frames=n_frames,
        per_frame=signal.per_frame,
        skew=0,
        gain=1.0,
        baseline=signal.baseline,
    )


def check_files(
    folder: Path, name: str, record: str, header: Header, digests: dict[str, str]
) -> int:
    """Check and digest each signal file of a header; return the length in frames.

    Raises
    ------
    MissingFile, TruncatedSignal, HeaderMismatch
        A file is not there, ends early, or is a second or more longer than the header says: read
        by such a header, it would be cut off or its leads mixed up.
    """
    hea, n_frames = f"{name}.hea", header.n_samples
    lengths = []
    flac: dict[str, list[SignalHeader]] = {}
    for file_name in dict.fromkeys(signal.file for signal in header.signals):
        together = [signal for signal in header.signals if signal.file == file_name]
        file, form = _beside(name, file_name), together[0].format
        file, path = present(folder, file, record, "the signal file")
        if form not in KNOWN_FORMATS:
            raise HeaderMismatch(record, f"format {form}", "a WFDB format", hea)
        if any(signal.format != form for signal in together):
            raise HeaderMismatch(record, f"two formats in {file}", "one format a file", hea)
        lengths.append(_frames(path, together, n_frames, record, file, hea))
        if n_frames and lengths[-1] >= n_frames + ceil(header.fs_hz):
            actual = f"{n_frames} frames of {sum(signal.per_frame for signal in together)} samples"
            raise HeaderMismatch(record, actual, f"the {lengths[-1]} frames of {file}", hea)
        digests[file] = sha256_file(path)
        if form in FLAC:
            flac[file] = together
    n_frames = n_frames or min(lengths, default=0)
    if not n_frames:
        raise HeaderMismatch(record, "no samples", "a number of samples", hea)
    if any(signal.skew >= n_frames for signal in header.signals):
        raise HeaderMismatch(record, "a skew beyond the end", f"less than {n_frames}", hea)
    for file, together in flac.items():
        _check_flac_end(_flac(folder / file, together[0], len(together), n_frames), record, file)
    return n_frames


def _frames(
    path: Path, together: list[SignalHeader], expected_frames: int, record: str, file: str, hea: str
) -> int:
    """Frames in a signal file, by its size or its FLAC header; fewer than expected is an error."""
    first, per_frame = together[0], sum(signal.per_frame for signal in together)
    if per_frame > MOST_FRAME_SAMPLES:
        actual = f"{per_frame} samples a frame"
        raise HeaderMismatch(record, actual, f"at most {MOST_FRAME_SAMPLES}", hea)
    if first.format in FLAC:
        samples = stream_samples(path)
        if samples is None:
            raise HeaderMismatch(record, "no FLAC stream", "the file its header names", file)
        if len({signal.per_frame for signal in together}) > 1:
            raise HeaderMismatch(record, "leads of several rates", "one rate in FLAC", file)
        frames = max(0, samples - first.offset_bytes) // first.per_frame
        if frames < expected_frames:
            raise TruncatedSignal(record, f"{frames} frames", f"{expected_frames}", file)
        return frames
    available = path.stat().st_size - first.offset_bytes
    expected_bytes = packed_bytes(first.format, expected_frames * per_frame) or 0
    if available < expected_bytes:
        actual = f"{available} bytes of samples"
        raise TruncatedSignal(
            record, actual, f"{expected_bytes} for {expected_frames} frames", file
        )
    # 12 frames are whole bytes in every format, and whole groups of 310 and 311.
    return max(0, 12 * available // (packed_bytes(first.format, 12 * per_frame) or 1))


def _check_flac_end(lead: FlacLead, record: str, file: str) -> None:
    """Read the last frame of a FLAC file: the stream's own count does not see a cut."""
    stop = lead.n_frames * lead.per_frame
    try:
        read_flac(lead, stop - lead.per_frame, stop)
    except (ImportError, OSError) as error:
        expected = "the package soundfile with libsndfile, which decodes it"
        raise HeaderMismatch(record, f"FLAC, and no decoder ({error})", expected, file) from error
    except ValueError as error:
        expected = f"{lead.n_frames} whole frames"
        raise TruncatedSignal(record, f"{error}", expected, file) from error
