"""What is annotated of a recording: its beats, and the rhythm at every moment of it.

Both come from annotation files in MIT format; the rhythm may come from a CSV of intervals instead,
with the header `start_s,end_s,rhythm`, in ascending order, not overlapping. Where a record has no
rhythm mark, a label of the whole record may give it; see `storage.datasets.labels`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.datasets.labels import DETECT, ERROR, REVIEW, record_label
from storage.errors import BadAnnotation, NoRhythm, TooFewBeats, UnknownRhythm
from storage.formats.leads import OpenRecording, is_present, read_small
from storage.formats.wfdb_annotation import (
    BEAT,
    QUALITY_CHANGE,
    QUALITY_SIGNALS,
    RHYTHM_CHANGE,
    SYMBOL,
    UNREADABLE,
    Annotations,
    parse_annotations,
)
from storage.labels.decisions import read_decisions
from storage.text import decimal, table_rows

if TYPE_CHECKING:  # a device reads records without any data set, and without pydantic
    from storage.datasets.dataset import DatasetSpec

LEAST_BEATS = 3  #: a beat needs an RR interval on both sides
#: Rows become Python objects, thirty times as large; a year of episodes is smaller.
MOST_CSV_BYTES = 1 << 24
COLUMNS = ["start_s", "end_s", "rhythm"]
#: Marks on different leads within this of each other are of one QRS complex: the window in which
#: ANSI/AAMI EC57 takes two marks for one beat.
ONE_BEAT_S = 0.15
#: What a record's rhythm was told by.
ANNOTATION, LABEL, COMMENT, UNMARKED = "annotation", "record label", "comment", "unmarked"
_RHYTHM_TEXT = re.compile(r"\(|\w*\s*\)$")
Mark = tuple[int, str]


def is_csv(annotator: str) -> bool:
    """Whether a rhythm annotator is a CSV of intervals."""
    return annotator.rpartition(".")[2] == "csv"


def annotated_beats(
    spec: DatasetSpec, folder: Path, name: str, recording: OpenRecording, digests: dict[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.str_], NDArray[np.int64]]:
    """Sample and symbol of each annotated beat, and where no signal can be read, shape (k, 2).

    No beats where the data set leaves them to be found.

    A beat that is marked on several leads is one beat; see `unique_beats`.

    Raises
    ------
    MissingFile, BadAnnotation, TooFewBeats
        The annotation is not there, damaged, beyond the record's end, or of less than three beats.
    """
    for annotator in spec.annotations.beats:
        if annotator == DETECT:
            return np.empty(0, np.int64), np.empty(0, "U1"), np.empty((0, 2), np.int64)
        if is_present(folder, f"{name}.{annotator}", name):
            break
    file = f"{name}.{annotator}"
    annotations = _annotations(folder, file, name, recording, digests)
    is_beat = BEAT[annotations.code]
    unique = unique_beats(
        annotations.sample[is_beat], annotations.channel[is_beat], ONE_BEAT_S * recording.fs_hz
    )
    beats, symbols = annotations.sample[is_beat][unique], SYMBOL[annotations.code[is_beat][unique]]
    if len(beats) < LEAST_BEATS:
        actual = f"{len(beats)} annotated beats"
        raise TooFewBeats(name, actual, f"at least {LEAST_BEATS}", file)
    if recording.n_samples and int(beats[-1]) >= recording.n_samples:
        expected = f"beats before the end, sample {recording.n_samples}"
        raise BadAnnotation(name, f"a beat at sample {int(beats[-1])}", expected, file)
    return beats, symbols, _unreadable(annotations, recording)


def _unreadable(annotations: Annotations, recording: OpenRecording) -> NDArray[np.int64]:
    """Stretches of no readable signal: from a mark that says so to the next mark of quality."""
    marks = np.flatnonzero(annotations.code == QUALITY_CHANGE)
    if not len(marks):
        return np.empty((0, 2), np.int64)
    end = max(
        recording.n_samples, int(annotations.sample[-1]) + 1 if len(annotations.sample) else 0
    )
    edges = np.append(annotations.sample[marks], end)
    all_signals = (1 << recording.n_signals) - 1 << QUALITY_SIGNALS
    has_flags = 0 < recording.n_signals <= QUALITY_SIGNALS
    subtypes = [annotations.subtype.get(mark, 0) for mark in marks.tolist()]
    unreadable = np.array(
        [s == UNREADABLE or (has_flags and s & all_signals == all_signals) for s in subtypes], bool
    )
    return np.stack([edges[:-1][unreadable], edges[1:][unreadable]], axis=1)


def unique_beats(
    sample: NDArray[np.int64], channel: NDArray[np.int16], reach: float
) -> NDArray[np.bool_]:
    """Which of a record's beat marks to keep, so that each beat is marked once.

    Marks at one sample are one beat. So are marks on different leads within `reach` samples of the
    first of them: the one on the lead of the lowest number is kept, with its symbol. Close marks on
    one lead all stay: their RR interval is flagged.

    Parameters
    ----------
    sample : int64, shape (n,)
        Ascending.
    channel : int16, shape (n,)
        The lead of each.
    reach : float
        In samples.

    Returns
    -------
    bool, shape (n,)
    """
    keep = np.ones(len(sample), bool)
    step = np.diff(sample)
    near = (step == 0) | ((step <= reach) & (np.diff(channel) != 0))
    if not near.any():
        return keep
    group: list[int] = []
    for i in range(len(sample)):
        leads = {int(channel[j]) for j in group}
        same = group and sample[i] == sample[group[-1]]
        if same or (
            group and sample[i] - sample[group[0]] <= reach and int(channel[i]) not in leads
        ):
            group.append(i)
        else:
            group = [i]
        keep[group] = False
        keep[min(group, key=lambda j: (channel[j], j))] = True
    return keep


def annotated_rhythm(
    spec: DatasetSpec, folder: Path, name: str, recording: OpenRecording, digests: dict[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.str_], str]:
    """Where each rhythm begins, its name, and what told it.

    Marks tell it, else the record's label, else its comments, else the TOML's word for a record
    without any mark. An annotation file may be absent where one of the latter three tells it, or
    where people decided about passages of the record: elsewhere no rhythm is known then.

    Returns
    -------
    int64, shape (m,)
        Sample at which each rhythm begins.
    str, shape (m,)
        Its name; "" where it is unknown.
    str
        `ANNOTATION`, `LABEL`, `COMMENT`, `UNMARKED`, or `REVIEW` where none of them told it.

    Raises
    ------
    MissingFile, BadAnnotation, BadLabel, UnknownRhythm, NoRhythm
    """
    rules, layers = spec.rhythms, spec.annotations.rhythm_files
    in_order = (layer for layer in layers[:-1] if is_present(folder, f"{name}.{layer}", name))
    annotator = next(in_order, layers[-1] if layers else None)
    file = f"{name}.{annotator}" if annotator else recording.file
    label, label_file = record_label(spec, folder, name)
    comment = next((line for line in recording.comments if line in rules.from_comments), None)
    is_reviewed = spec.annotations.has_review and bool(read_decisions(spec.name, name))
    otherwise = label or comment or rules.unmarked != ERROR or is_reviewed
    marks: list[Mark] = []
    if annotator and (is_present(folder, file, name) or not otherwise):
        if is_csv(annotator):
            data = read_small(folder, file, name, "its rhythm intervals", digests)
            marks = _from_intervals(data, rules.map, rules.outside, recording, name, file)
        else:
            changes = rhythm_changes(_annotations(folder, file, name, recording, digests))
            for at, code in changes:
                rhythm = rules.outside if code is None else _map_rhythm(code, rules.map, name, file)
                marks.append((at, rhythm))
            if marks and marks[0][0] > 0:
                # Of a rhythm that ends before any has begun, nothing tells which one it was.
                marks.insert(0, (0, "" if changes[0][1] is None else rules.before_first))
    source = ANNOTATION
    if not marks:
        if label:
            source, rhythm = LABEL, _map_rhythm(label, rules.map, name, label_file)
        elif comment is not None:
            source, rhythm = COMMENT, rules.from_comments[comment]
        elif rules.unmarked != ERROR:
            source, rhythm = UNMARKED, rules.unmarked
        elif is_reviewed:
            source, rhythm = REVIEW, ""
        else:
            raise NoRhythm(name, "no rhythm mark", "at least one", file)
        marks = [(0, rhythm)]
    return np.array([at for at, _ in marks], np.int64), np.array([r for _, r in marks]), source


def rhythm_changes(annotations: Annotations) -> list[tuple[int, str | None]]:
    """Where rhythms begin, with their codes, and where one ends and none begins, with None.

    A rhythm change whose text begins with "(" begins a rhythm; ")" ends the one in force, and
    "AFIB)" ends AFIB where that is in force. Other texts speak of something else (WFDB
    Applications Guide). At one sample, an end comes before a beginning.
    """
    texts = [
        (int(annotations.sample[number]), text.startswith("("), text)
        for number, text in annotations.aux.items()
        if annotations.code[number] == RHYTHM_CHANGE and _RHYTHM_TEXT.match(text)
    ]
    out: list[tuple[int, str | None]] = []
    force: str | None = None
    for at, begins, text in sorted(texts, key=lambda mark: mark[:2]):
        if begins:
            force = text[1:].strip()
        elif force in (None, text[:-1].strip()) or text == ")":
            force = None
        else:  # the end of a rhythm that another has followed already
            continue
        out.append((at, force))
    return out


def _annotations(
    folder: Path, file: str, name: str, recording: OpenRecording, digests: dict[str, str]
) -> Annotations:
    data = read_small(folder, file, name, "its annotations", digests)
    return parse_annotations(data, name, file).at(recording.fs_hz, recording.counts_hz)


def _map_rhythm(raw: str, mapping: Mapping[str, str], name: str, file: str) -> str:
    if raw not in mapping:
        raise UnknownRhythm(name, f"rhythm {raw!r}", f"one of {', '.join(mapping)}", file)
    return mapping[raw]


def _from_intervals(
    data: bytes,
    mapping: Mapping[str, str],
    outside: str,
    recording: OpenRecording,
    name: str,
    file: str,
) -> list[Mark]:
    """The marks of a CSV of intervals; between them the rhythm is `outside`."""
    expected = "start_s,end_s,rhythm, ascending, within the record"
    if len(data) > MOST_CSV_BYTES:
        raise BadAnnotation(name, f"{len(data)} bytes", f"at most {MOST_CSV_BYTES}", file)
    try:
        rows = table_rows(data)
    except ValueError as error:
        raise BadAnnotation(name, str(error), "a CSV of intervals", file) from error
    if not rows or rows[0] != COLUMNS:
        actual = f"the header {','.join(rows[0] if rows else [])[:80]!r}"
        raise BadAnnotation(name, actual, ",".join(COLUMNS), file)
    marks: list[Mark] = []
    end = 0
    most_s = recording.n_samples / recording.fs_hz if recording.n_samples else math.inf
    for number, row in enumerate(rows[1:], start=2):
        try:
            start_s, end_s = decimal(row[0]), decimal(row[1])
        except (ValueError, IndexError):
            start_s = end_s = math.nan
        # An interval may round up to the second in which the record ends.
        if len(row) != len(COLUMNS) or not 0 <= start_s < end_s <= min(most_s + 1, 1e9):
            raise BadAnnotation(name, f"line {number}: {','.join(row)[:80]!r}", expected, file)
        start = round(start_s * recording.fs_hz)
        if start < end:
            actual = f"line {number}: an interval that begins at {start_s:g} s, before one ends"
            raise BadAnnotation(name, actual, expected, file)
        if start > end:
            marks.append((end, outside))
        marks.append((start, _map_rhythm(row[2], mapping, name, file)))
        end = round(end_s * recording.fs_hz)
    if (marks or outside) and (not recording.n_samples or end < recording.n_samples):
        marks.append((end, outside))
    return marks
