"""A WFDB recording: its header, the signal files checked against it, and the wanted lead in them.

All packed formats are read by our own numpy code, as wfdb 4.3.1 reads blocks of format 8 wrongly
and fails on two different skews; FLAC goes through wfdb. A lead with several samples a frame keeps
its own sampling rate: nothing is averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from storage.errors import HeaderMismatch, MissingFile, TruncatedSignal
from storage.files import safe_path, sha256_file
from storage.flac import FORMATS as FLAC
from storage.flac import FlacLead, read_flac, stream_samples
from storage.leads import (
    Described,
    Joined,
    Opened,
    Source,
    check_extent,
    choose,
    read_small,
    units_per_mv,
)
from storage.wfdb_formats import MOST_FRAME_SAMPLES, FramedLead, valid_range
from storage.wfdb_header import Header, SignalHeader, parse_header
from storage.wfdb_signal import BITS, FAST_FORMATS, PackedLead, packed_bytes

KNOWN_FORMATS = frozenset({*BITS, 310, 311, *FLAC})
GAP = "~"
#: Noise keeps an ECG from getting smaller than a tenth; a file that unpacks to more is a bomb.
MOST_FLAC_RATIO = 100


def open_wfdb(
    folder: Path, name: str, prefer: Sequence[str], digests: dict[str, str], *, signal: bool
) -> Opened:
    """Read a record's header and check its signal files; see `storage.records.open_record`."""
    file = f"{name}.hea"
    header = _header(folder, name, name, digests)
    if not signal or not header.n_signals:
        return Opened(
            fs_hz=header.fs_hz,
            n_samples=header.n_samples,
            counts_hz=header.fs_hz,
            comments=header.comments,
            file=file,
            n_signals=header.n_signals,
        )
    if header.segments:
        lead, per_frame, n_frames, source = _segments(folder, name, prefer, header, digests)
    else:
        lead, per_frame, n_frames, source = _single(folder, name, prefer, header, digests)
    fs_hz = header.fs_hz * per_frame
    check_extent(fs_hz, n_frames * per_frame, name, file)
    return Opened(
        fs_hz=fs_hz,
        n_samples=n_frames * per_frame,
        counts_hz=header.fs_hz,
        comments=header.comments,
        file=file if isinstance(source, Joined) else _signal_file(name, header, lead),
        lead=lead,
        source=source,
        n_signals=header.n_signals,
    )


def describe_wfdb(folder: Path, name: str) -> Described:
    """What a record's header says of it; raises `RecordError` for one that cannot be read."""
    header = _header(folder, name, name, {})
    parts = tuple(dict.fromkeys(_beside(name, part) for part, _ in header.segments if part != GAP))
    signals = _header(folder, parts[0], name, {}).signals if parts else header.signals
    leads = tuple((one.lead, one.units) for one in signals)
    return Described(leads, header.n_samples / header.fs_hz / 3600, header.comments, segments=parts)


def _signal_file(name: str, header: Header, lead: str) -> str:
    return _beside(name, next(one.file for one in header.signals if one.lead == lead))


def _header(folder: Path, name: str, record: str, digests: dict[str, str]) -> Header:
    file = f"{name}.hea"
    data = read_small(folder, file, record, "its header", digests)
    return parse_header(data, record, file)


def _beside(name: str, file: str) -> str:
    """A file that a header names, relative to the data set's folder."""
    parent = name.rpartition("/")[0]
    return f"{parent}/{file}" if parent else file


def _single(
    folder: Path, name: str, prefer: Sequence[str], header: Header, digests: dict[str, str]
) -> tuple[str, int, int, Source]:
    """The wanted lead of a record in one piece: name, samples a frame, frames, source."""
    n_frames = check_files(folder, name, name, header, digests)
    leads = [signal.lead for signal in header.signals]
    channel = choose(leads, prefer, name, f"{name}.hea")
    source = _source(folder, name, name, header.signals, channel, n_frames)
    return leads[channel], header.signals[channel].per_frame, n_frames, source


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
        segment: _header(folder, _beside(name, segment), name, digests)
        for segment, _ in header.segments
        if segment != GAP
    }
    if not parts:
        raise HeaderMismatch(name, "gaps alone", "a segment with signals", file)
    first = next(iter(parts.values()))
    variable = header.segments[0][1] == 0
    channel = choose([one.lead for one in first.signals], prefer, name, file)
    lead, per_frame = first.signals[channel].lead, first.signals[channel].per_frame
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
        hea = f"{_beside(name, segment)}.hea"
        if part.segments or (part.fs_hz, part.n_samples) != (header.fs_hz, length):
            found = f"{part.n_samples} samples at {part.fs_hz:g} Hz"
            raise HeaderMismatch(name, found, f"{length} at {header.fs_hz:g}, as {file} says", hea)
        check_files(folder, _beside(name, segment), name, part, digests)
        leads = [one.lead for one in part.signals]
        if lead not in leads and variable:
            sources.append(None)
            continue
        here = choose(leads, (lead,), name, hea)
        if part.signals[here].per_frame != per_frame:
            found = f"{part.signals[here].per_frame} samples of {lead} a frame"
            raise HeaderMismatch(name, found, f"{per_frame}, as in the first segment", hea)
        path = _beside(name, segment)
        sources.append(_source(folder, path, name, part.signals, here, length))
    return lead, per_frame, total, Joined(tuple(starts), tuple(sources))


def _source(
    folder: Path,
    name: str,
    record: str,
    signals: tuple[SignalHeader, ...],
    channel: int,
    n_frames: int,
) -> Source:
    """Where the samples of signal number `channel` of the header `name` are."""
    chosen = signals[channel]
    per_mv = units_per_mv(chosen.units, record, f"{name}.hea")
    together = [one for one in signals if one.file == chosen.file]
    before = [one for one in signals[:channel] if one.file == chosen.file]
    path = folder / _beside(name, chosen.file)
    gain = chosen.gain * per_mv
    if chosen.format in FLAC:
        return FlacLead(
            path=folder / name,
            format=chosen.format,
            channel=channel,
            n_frames=n_frames,
            per_frame=chosen.per_frame,
            skew=chosen.skew,
            gain=gain,
            baseline=chosen.baseline,
        )
    plain = chosen.skew == 0 and all(one.per_frame == 1 for one in together)
    if plain and chosen.format in FAST_FORMATS:
        return PackedLead(
            path=path,
            format=chosen.format,
            n_signals=len(together),
            channel=len(before),
            offset_bytes=together[0].offset_bytes,
            gain=gain,
            baseline=chosen.baseline,
            checksum=chosen.checksum,
        )
    return FramedLead(
        path=path,
        format=chosen.format,
        n_frames=n_frames,
        frame_samples=sum(one.per_frame for one in together),
        first=sum(one.per_frame for one in before),
        per_frame=chosen.per_frame,
        skew=chosen.skew,
        offset_bytes=together[0].offset_bytes,
        gain=gain,
        baseline=chosen.baseline,
        valid=valid_range(chosen.format),
        initial=chosen.initial,
        checksum=chosen.checksum,
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
    for file_name in dict.fromkeys(one.file for one in header.signals):
        together = [one for one in header.signals if one.file == file_name]
        file, form = _beside(name, file_name), together[0].format
        path = safe_path(folder, file, record=record)
        if not path.is_file():
            raise MissingFile(record, "no such file", "the signal file", file)
        if form not in KNOWN_FORMATS:
            raise HeaderMismatch(record, f"format {form}", "a WFDB format", hea)
        if any(one.format != form for one in together):
            raise HeaderMismatch(record, f"two formats in {file}", "one format a file", hea)
        lengths.append(_frames(path, together, n_frames, record, file, hea))
        if n_frames and lengths[-1] >= n_frames + ceil(header.fs_hz):
            found = f"{n_frames} frames of {sum(one.per_frame for one in together)} samples"
            raise HeaderMismatch(record, found, f"the {lengths[-1]} frames of {file}", hea)
        digests[file] = sha256_file(path)
    n_frames = n_frames or min(lengths, default=0)
    if not n_frames:
        raise HeaderMismatch(record, "no samples", "a number of samples", hea)
    if any(one.skew >= n_frames for one in header.signals):
        raise HeaderMismatch(record, "a skew beyond the end", f"less than {n_frames}", hea)
    _check_flac_ends(folder, name, record, header, n_frames)
    return n_frames


def _frames(
    path: Path, together: list[SignalHeader], wanted: int, record: str, file: str, hea: str
) -> int:
    """Frames in a signal file, by its size or its FLAC header; fewer than `wanted` is an error."""
    one, per_frame = together[0], sum(signal.per_frame for signal in together)
    if per_frame > MOST_FRAME_SAMPLES:
        found = f"{per_frame} samples a frame"
        raise HeaderMismatch(record, found, f"at most {MOST_FRAME_SAMPLES}", hea)
    if one.format in FLAC:
        samples = stream_samples(path)
        if samples is None:
            raise HeaderMismatch(record, "no FLAC stream", "the file its header names", file)
        if len({signal.per_frame for signal in together}) > 1:
            raise HeaderMismatch(record, "leads of several rates", "one rate in FLAC", file)
        unpacked = 2 * samples * len(together)
        if unpacked > MOST_FLAC_RATIO * path.stat().st_size:
            found = f"{unpacked} bytes of samples in {path.stat().st_size}"
            expected = f"at most {MOST_FLAC_RATIO} times its size"
            raise HeaderMismatch(record, found, expected, file)
        frames = max(0, samples - one.offset_bytes) // one.per_frame
        if frames < wanted:
            raise TruncatedSignal(record, f"{frames} frames", f"{wanted}", file)
        return frames
    available = path.stat().st_size - one.offset_bytes
    needed = packed_bytes(one.format, wanted * per_frame) or 0
    if available < needed:
        found = f"{available} bytes of samples"
        raise TruncatedSignal(record, found, f"{needed} for {wanted} frames", file)
    # 12 frames are whole bytes in every format, and whole groups of 310 and 311.
    return max(0, 12 * available // (packed_bytes(one.format, 12 * per_frame) or 1))


def _check_flac_ends(folder: Path, name: str, record: str, header: Header, n_frames: int) -> None:
    """Read the last sample of every FLAC file: the stream's own count does not see a cut."""
    seen = set()
    for channel, one in enumerate(header.signals):
        if one.format in FLAC and one.file not in seen:
            seen.add(one.file)
            end = FlacLead(folder / name, one.format, channel, n_frames, 1, 0, 1.0, 0)
            try:
                read_flac(end, n_frames - 1, n_frames)
            except ValueError as error:
                file = _beside(name, one.file)
                expected = f"{n_frames} whole frames"
                raise TruncatedSignal(record, f"{error}", expected, file) from error
