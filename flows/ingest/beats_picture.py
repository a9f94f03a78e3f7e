"""A picture of a data set before any training: ten beats of every rhythm, as they would be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from storage.datasets.dataset import DatasetSpec
from storage.errors import RecordError
from storage.files import write_bytes
from storage.recordings.check import RecordCheck
from storage.recordings.records import open_record, read_lead
from storage.tables.beats import WAVEFORM_SAMPLES, BeatTable
from tasks.pages.figures import RhythmBeats, beats_by_rhythm
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing

BEATS = 10
#: Records read for the picture, at most: a day's record takes a second or two.
MOST_RECORDS = 24


def draw_beats(
    spec: DatasetSpec,
    folder: Path,
    checks: Sequence[RecordCheck],
    path: Path,
    on_record: Callable[[str, int], None] = lambda *_: None,
) -> Path | None:
    """Draw ten beats of every rhythm, from as many records as can be, into a PNG at `path`.

    Returns
    -------
    Path or None
        The picture; None where no record has a signal.
    """
    names = _records(checks)
    tables = []
    for name in names:
        tables += _tables(spec, folder, name)
        on_record(name, len(names))
    rhythms = sorted({rhythm for table in tables for rhythm in np.unique(table.rhythm).tolist()})
    rows = [row for rhythm in rhythms if (row := _row(spec, rhythm, tables)) is not None]
    if not rows:
        return None
    rows.sort(key=lambda row: (["AF", "not AF", "no label"].index(row.means), row.rhythm))
    title = f"{spec.title}: beats by rhythm, R peak at the line, lead {checks[0].lead or 'as told'}"
    return write_bytes(path, beats_by_rhythm(rows, title))


def _records(checks: Sequence[RecordCheck]) -> list[str]:
    """Records that together show every rhythm, in up to ten of them each."""
    usable = [check for check in checks if check.problem is None and check.lead is not None]
    usable.sort(key=lambda check: check.hours)
    rhythms = sorted({name for check in usable for name in check.rhythm_hours})
    per_rhythm = min(BEATS, max(3, MOST_RECORDS // max(1, len(rhythms))))
    names: list[str] = []
    for rhythm in rhythms:
        having = [check for check in usable if check.rhythm_hours.get(rhythm, 0) > 0]
        names += [check.record for check in having[:: -(-len(having) // per_rhythm)]]
    return list(dict.fromkeys(names))[:MOST_RECORDS]


def _tables(spec: DatasetSpec, folder: Path, name: str) -> list[BeatTable]:
    """A record's beats that have a waveform."""
    try:
        record = open_record(spec, folder, name)
        tables, _, _ = beat_tables(record, partial(read_lead, record), Preprocessing())
    except RecordError:
        return []  # the check told of it, or its signal has too few beats
    return [
        table.take(np.asarray(np.isfinite(table.waveform).all(axis=1)))
        for table in tables
        if table.waveform is not None
    ]


def _row(spec: DatasetSpec, rhythm: str, tables: Sequence[BeatTable]) -> RhythmBeats | None:
    """Ten beats of a rhythm, evenly from the records that have it."""
    having = [t for t in (table.take(table.rhythm == rhythm) for table in tables) if len(t)]
    if not having:
        return None
    total = sum(map(len, having))
    picks: list[tuple[BeatTable, int]] = []
    for number in range(BEATS):
        table = having[number % len(having)]
        share = BEATS // len(having) + 1
        place = int((number // len(having) + 0.5) / share * len(table))
        picks.append((table, min(place, len(table) - 1)))
    picks = picks[: min(total, BEATS)]
    waveform = np.empty((len(picks), WAVEFORM_SAMPLES), np.float32)
    for at, (table, place) in enumerate(picks):
        if table.waveform is not None:
            waveform[at] = table.waveform[place]
    places = [f"{table.record} {table.time_s[place]:.0f} s" for table, place in picks]
    means = "AF" if rhythm in spec.rhythms.af else "not AF" if rhythm else "no label"
    return RhythmBeats(rhythm, means, waveform, places)
