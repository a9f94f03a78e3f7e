"""From a record and its lead to beat tables: the signal path, end to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from storage.errors import TooFewBeats, UnusableSignal
from storage.memory import keep_freed_memory
from storage.recordings.marks import LEAST_BEATS
from storage.recordings.records import Record
from storage.recordings.stretches import (
    NOWHERE,
    Stretches,
    analysable,
    begins,
    common,
    find_unrecorded,
    number,
    seconds,
    unite,
    whole_record,
    within,
    without,
)
from storage.tables.beats import BeatTable, Quality
from tasks.signal.filters import Block, Floats, Grid, Reader, filtered_blocks, make_grid
from tasks.signal.match import Counts, count, match_beats
from tasks.signal.preprocessing import Preprocessing
from tasks.signal.qrs import END_S, Rules, candidates
from tasks.signal.quality import (
    NOISY,
    Cells,
    cell_flags,
    cell_samples,
    cells_of,
    noise_index,
    rr_flags,
    segment_flags,
)
from tasks.signal.segment import segment
from tasks.signal.spool import Spool
from tasks.signal.wavelet import cleaned_reader, part_of, shrink_windows, spooled_reader

#: Beats of one table: a row group of about 5 MB, half an hour or more.
TABLE_BEATS = 4096
#: A lead of more samples, 37 hours at 250 Hz, is not held but laid on a disk for its tables.
MOST_IN_MEMORY = 1 << 25
#: Farther than this from any annotated beat, the annotation does not cover a detected one.
COVER_S = 2.0
#: A missed annotated beat is moved to the extremum within this much of its mark.
MARK_S = 0.075


@dataclass(frozen=True, eq=False)
class CleanedLead:
    """A whole lead, filtered, with the beats that were found in it.

    Attributes
    ----------
    clean : callable
        Reads the cleaned signal, millivolts.
    cells : uint8, shape (m,)
        Quality flags of every 0.1 s.
    peaks : int64, shape (k,)
        R peaks that were found, in what was recorded.
    recorded : int64, shape (m, 2)
        Stretches that were recorded, in samples.
    """

    clean: Reader
    cells: NDArray[np.uint8]
    peaks: NDArray[np.int64]
    recorded: Stretches


@dataclass(frozen=True, eq=False)
class ChosenBeats:
    """The beats of a table: where, what they are called, and flags from the comparison."""

    sample: NDArray[np.int64]
    symbol: NDArray[np.str_]
    quality: NDArray[np.uint16]
    counts: Counts

    def of(self, stretches: Stretches) -> ChosenBeats:
        """Those in some stretches."""
        inside = within(self.sample, stretches)
        if inside.all():
            return self
        columns = (self.sample[inside], self.symbol[inside], self.quality[inside])
        return ChosenBeats(*columns, self.counts)


def beat_tables(
    record: Record, read: Reader | None, config: Preprocessing
) -> tuple[Iterator[BeatTable], Counts, Stretches]:
    """Make the beat tables of a record.

    Parameters
    ----------
    record : Record
        The record, opened.
    read : callable or None
        Reads millivolts of samples [start, stop) of its lead; None for annotations alone.
    config : Preprocessing
        How.

    Returns
    -------
    iterator of BeatTable
        Stretches of at most 4096 beats, in time order.
    Counts
        How annotated and detected beats compare.
    int64, shape (k, 2)
        Stretches that can be analysed, in samples: the tables' beats lie in them.

    Raises
    ------
    UnusableSignal
        The lead is NaN or constant throughout.
    TooFewBeats
        Fewer than three beats.
    """
    recorded = whole_record(record.n_samples)
    if read is None:
        cleaned = None
        n = len(record.beats)
        choice = ChosenBeats(record.beats, record.symbols, np.zeros(n, np.uint16), count(n, 0, 0))
    else:
        cleaned = clean_lead(record, read, config)
        choice = choose(record, cleaned, config)
        recorded = cleaned.recorded
    recorded = without(recorded, record.unreadable)
    stretches = analysable(recorded, choice.sample, record.fs_hz)
    choice = choice.of(stretches)
    if len(choice.sample) < LEAST_BEATS:
        counts = f"of {choice.counts.annotated} annotated and {choice.counts.detected} detected"
        description = f"{len(choice.sample)} beats where it can be analysed ({counts})"
        raise TooFewBeats(record.name, description, f"at least {LEAST_BEATS}", record.file)
    return _tables(record, choice, cleaned, stretches), choice.counts, stretches


def clean_lead(record: Record, read: Reader, config: Preprocessing) -> CleanedLead:
    """Filter the whole lead and find its beats, block by block."""
    keep_freed_memory()
    grid = make_grid(record.n_samples, record.fs_hz)
    in_memory = grid.n_samples <= MOST_IN_MEMORY
    clean = np.empty(grid.n_samples if in_memory else 0, dtype=np.float32)
    spool = None if in_memory else _spool(grid.n_samples)
    raw_cells: list[Cells] = []
    rules, peaks = Rules(record.fs_hz), []
    holes = [NOWHERE]
    for block in filtered_blocks(read, grid, config):
        band = block.band[block.inside]
        if in_memory:
            clean[block.start : block.start + len(band)] = band
        elif spool is not None:
            spool = _appended(spool, band)
        ends = block.start + grid.hop >= grid.n_samples
        peaks.append(rules.take(candidates(block, grid), last=ends))
        holes.append(_holes(block, grid))
        raw_cells.append(_cells(block, grid))
    low = min(cells.lowest for cells in raw_cells)
    high = max(cells.highest for cells in raw_cells)
    if not low < high:
        description = "no valid sample" if not np.isfinite(low) else f"a constant {low:g} mV"
        description = f"{description} in lead {record.lead} throughout"
        raise UnusableSignal(record.name, description, "a signal that varies", record.file)
    if in_memory:
        shrink_windows(clean, grid.fs_hz, config)
        part: Reader = partial(part_of, clean)
    elif spool is not None:
        part = spooled_reader(spool.read, grid, config)
    else:
        part = cleaned_reader(read, grid, config)
    recorded = without(whole_record(grid.n_samples), unite(*holes))
    flags = cell_flags(raw_cells)
    raw_cells.clear()  # of weeks they are as large as what was made of them
    all_peaks = np.concatenate(peaks)
    peaks.clear()
    # A stretch's end is as a record's: an R peak nearer may be the flank of one that is cut off.
    inside = within(all_peaks, recorded, END_S * grid.fs_hz)
    real = all_peaks if inside.all() else all_peaks[inside]
    return CleanedLead(part, flags, real, recorded)


def _holes(block: Block, grid: Grid) -> Stretches:
    """What of a block was not recorded, as it and its margins show."""
    first = block.start - grid.margin
    low, high = max(-first, 0), min(grid.n_samples - first, grid.length)
    holes = find_unrecorded(block.raw[low:high], grid.fs_hz) + (first + low)
    own = np.array([[block.start, block.start + grid.hop]])
    return common(holes, own)


def _spool(n_samples: int) -> Spool | None:
    """Room for a lead on a disk; None where there is none."""
    try:
        return Spool(n_samples)
    except OSError:
        return None


def _appended(spool: Spool, band: Floats) -> Spool | None:
    """The spool with more of the lead; None where the disk is full."""
    try:
        spool.append(band)
    except OSError:
        return None
    return spool


def _cells(block: Block, grid: Grid) -> Cells:
    """The cells that begin in a block; the margin after it holds the rest of the last one."""
    width = cell_samples(grid.fs_hz)
    stop = min(block.start + grid.hop, grid.n_samples)
    first, last = (-(-sample // width) * width for sample in (block.start, stop))
    at = block.inside.start - block.start
    return cells_of(block.raw[at + first : at + min(last, grid.n_samples)], grid.fs_hz)


def choose(record: Record, cleaned: CleanedLead, config: Preprocessing) -> ChosenBeats:
    """Compare annotated with detected beats and keep those the policy wants.

    ``consensus``
        Beats in both, at the detected R peak, with the annotation's symbol. A beat beside one that
        is missing from either side is flagged MISSED or EXTRA, as its RR interval skips it.
    ``reference``
        All annotated beats, at the detected R peak, else at the extremum near the mark (MISSED).
    ``detected``
        All detected beats; EXTRA where none is annotated.

    Under every policy, detected beats that the annotation does not cover, as it ends early, begins
    late or leaves out a stretch, are kept and flagged UNCOVERED. A record without annotated beats
    is taken as detected.
    """
    n, detected = len(record.beats), cleaned.peaks
    if not n:
        plain = np.zeros(len(detected), np.uint16)
        no_symbols = np.broadcast_to(np.array("", record.symbols.dtype), len(detected))
        return ChosenBeats(detected, no_symbols, plain, count(0, len(detected), 0))
    fs_hz = record.fs_hz
    partner = match_beats(record.beats, detected, config.match_window_s * fs_hz)
    matched = partner >= 0
    unmatched = np.ones(len(detected), dtype=bool)
    unmatched[partner[matched]] = False
    after = np.searchsorted(record.beats, detected)
    distance = np.minimum(
        np.abs(detected - record.beats[np.minimum(after, n - 1)]),
        np.abs(detected - record.beats[np.maximum(after - 1, 0)]),
    )
    outside = unmatched & (distance > COVER_S * fs_hz)
    inside = unmatched & ~outside
    counts = Counts(n, len(detected), int(matched.sum()), int((~matched).sum()), int(inside.sum()))
    marks = _relocate(record.beats[~matched], cleaned.clean, fs_hz, record.n_samples)
    missed, extra, uncovered = (
        np.uint16(flag) for flag in (Quality.MISSED, Quality.EXTRA, Quality.UNCOVERED)
    )
    sample, symbol, flags = (
        [detected[partner[matched]], detected[outside]],
        [record.symbols[matched], np.full(outside.sum(), "", record.symbols.dtype)],
        [np.zeros(matched.sum(), np.uint16), np.full(outside.sum(), uncovered)],
    )
    if config.policy == "reference":
        sample.append(marks)
        symbol.append(record.symbols[~matched])
        flags.append(np.full(len(marks), missed))
    elif config.policy == "detected":
        sample.append(detected[inside])
        symbol.append(np.full(inside.sum(), "", record.symbols.dtype))
        flags.append(np.full(inside.sum(), extra))
    places, order = np.unique(np.concatenate(sample), return_index=True)
    quality = np.concatenate(flags)[order]
    if config.policy == "consensus":
        for skipped, flag in ((marks, missed), (detected[inside], extra)):
            right = np.searchsorted(places, skipped)
            quality[right[right < len(places)]] |= flag
            quality[right[right > 0] - 1] |= flag
    return ChosenBeats(places, np.concatenate(symbol)[order], quality, counts)


def _relocate(
    marks: NDArray[np.int64], clean: Reader, fs_hz: float, n_samples: int
) -> NDArray[np.int64]:
    """Marks moved to the extremum of the cleaned signal nearby."""
    reach = round(MARK_S * fs_hz)
    out = marks.copy()
    for i, mark in enumerate(marks.tolist()):
        low, high = max(mark - reach, 0), min(mark + reach + 1, n_samples)
        if low < high:
            near = clean(low, high)
            out[i] = low + int(np.abs(near - near.mean()).argmax())
    return out


def _tables(
    record: Record, choice: ChosenBeats, cleaned: CleanedLead | None, stretches: Stretches
) -> Iterator[BeatTable]:
    sample, stretches_s = choice.sample, seconds(stretches, record.fs_hz)
    # No interval before the first beat of a stretch, and none after the last.
    interval = np.zeros(len(sample) + 1, np.int32)
    np.subtract(sample[1:], sample[:-1], out=interval[1:-1], casting="same_kind")
    interval[:-1][begins(sample, stretches)] = 0
    for at in range(0, len(sample), TABLE_BEATS):
        rows = slice(at, at + TABLE_BEATS)
        r = sample[rows]
        rr = interval[at : at + TABLE_BEATS + 1].astype(np.int64)
        prev, after = rr[:-1], rr[1:]
        rhythm, label, unlabelled = _labels(record, r, choice.quality[rows])
        prev_s, next_s = (
            np.where(x > 0, x / record.fs_hz, np.nan).astype(np.float32) for x in (prev, after)
        )
        quality = choice.quality[rows] | unlabelled | rr_flags(prev_s, next_s)
        waveform = None
        noise = np.full(len(r), np.nan, dtype=np.float32)
        if cleaned is not None:
            low = max(int(r[0] - prev[0]), 0)
            high = int(r[-1] + after[-1]) + 1
            waveform = segment(cleaned.clean(low, high), low, r, prev, after)
            noise = noise_index(waveform)
            # Beside what was not recorded, up to it.
            start, stop = stretches[number(r, stretches)].T
            first = np.where((prev > 0) | (start == 0), r - prev // 3, start - 1)
            last = np.where((after > 0) | (stop == record.n_samples), r + 2 * after // 3, stop)
            quality = quality | segment_flags(cleaned.cells, record.fs_hz, first, last)
            quality[noise > NOISY] |= np.uint16(Quality.NOISY)
        yield BeatTable(
            dataset=record.dataset,
            record=record.name,
            subject=record.subject,
            sample=r,
            time_s=r / record.fs_hz,
            rr_prev_s=prev_s,
            rr_next_s=next_s,
            symbol=choice.symbol[rows],
            rhythm=rhythm,
            label=label,
            quality=quality,
            noise=noise,
            waveform=waveform,
            stretches_s=stretches_s,
        )


def _labels(
    record: Record, sample: NDArray[np.int64], quality: NDArray[np.uint16]
) -> tuple[NDArray[np.str_], NDArray[np.int8], NDArray[np.uint16]]:
    """Rhythm, label and NO_RHYTHM flag of beats; an uncovered beat gets no label."""
    names = np.concatenate([[""], record.rhythms]).astype(np.str_)
    rhythm = names[np.searchsorted(record.rhythm_start, sample, side="right")]
    unknown = rhythm == ""
    label = np.isin(rhythm, sorted(record.af)).astype(np.int8)
    label[unknown | ((quality & Quality.UNCOVERED) != 0)] = -1
    return rhythm, label, np.where(unknown, Quality.NO_RHYTHM, 0).astype(np.uint16)
