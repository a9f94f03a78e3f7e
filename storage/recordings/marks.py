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

from storage.datasets.labels import DETECT, ERROR, record_label
from storage.errors import BadAnnotation, NoRhythm, TooFewBeats, UnknownRhythm
from storage.files import safe_path, stored_name
from storage.formats.leads import Opened, read_small
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
    spec: DatasetSpec, folder: Path, name: str, opened: Opened, digests: dict[str, str]
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
        safe_path(folder, f"{name}.{annotator}", record=name)
        if (folder / stored_name(folder, f"{name}.{annotator}")).is_file():
            break
    file = f"{name}.{annotator}"
    found = _annotations(folder, file, name, opened, digests)
    is_beat = BEAT[found.code]
    kept = unique_beats(found.sample[is_beat], found.channel[is_beat], ONE_BEAT_S * opened.fs_hz)
    beats, symbols = found.sample[is_beat][kept], SYMBOL[found.code[is_beat][kept]]
    if len(beats) < LEAST_BEATS:
        what = f"{len(beats)} annotated beats"
        raise TooFewBeats(name, what, f"at least {LEAST_BEATS}", file)
    if opened.n_samples and int(beats[-1]) >= opened.n_samples:
        expected = f"beats before the end, sample {opened.n_samples}"
        raise BadAnnotation(name, f"a beat at sample {int(beats[-1])}", expected, file)
    return beats, symbols, _unreadable(found, opened)


def _unreadable(found: Annotations, opened: Opened) -> NDArray[np.int64]:
    """Stretches of no readable signal: from a mark that says so to the next mark of quality."""
    marks = np.flatnonzero(found.code == QUALITY_CHANGE)
    end = max(opened.n_samples, int(found.sample[-1]) + 1 if len(found.sample) else 0)
    edges = np.append(found.sample[marks], end)
    every = (1 << opened.n_signals) - 1 << QUALITY_SIGNALS
    told = 0 < opened.n_signals <= QUALITY_SIGNALS
    subtypes = [found.subtype.get(mark, 0) for mark in marks.tolist()]
    none = np.array([s == UNREADABLE or (told and s & every == every) for s in subtypes], bool)
    return np.stack([edges[:-1][none], edges[1:][none]], axis=1)


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
    spec: DatasetSpec, folder: Path, name: str, opened: Opened, digests: dict[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.str_], str]:
    """Where each rhythm begins, its name, and what told it.

    Marks tell it, else the record's label, else its comments, else the TOML's word for a record
    without any mark. An annotation file may be absent where one of the latter three tells it.

    Returns
    -------
    int64, shape (m,)
        Sample at which each rhythm begins.
    str, shape (m,)
        Its name; "" where it is unknown.
    str
        `ANNOTATION`, `LABEL`, `COMMENT` or `UNMARKED`.

    Raises
    ------
    MissingFile, BadAnnotation, BadLabel, UnknownRhythm, NoRhythm
    """
    rules, annotator = spec.rhythms, spec.annotations.rhythm
    file = f"{name}.{annotator}" if annotator else opened.file
    label, label_file = record_label(spec, folder, name)
    comment = next((line for line in opened.comments if line in rules.from_comments), None)
    otherwise = label or comment or rules.unmarked != ERROR
    marks: list[Mark] = []
    safe_path(folder, file, record=name)
    if annotator and (not otherwise or (folder / stored_name(folder, file)).is_file()):
        if is_csv(annotator):
            data = read_small(folder, file, name, "its rhythm intervals", digests)
            marks = _from_intervals(data, rules.map, rules.outside, opened, name, file)
        else:
            changes = rhythm_changes(_annotations(folder, file, name, opened, digests))
            for at, code in changes:
                rhythm = rules.outside if code is None else _mapped(code, rules.map, name, file)
                marks.append((at, rhythm))
            if marks and marks[0][0] > 0:
                # Of a rhythm that ends before any has begun, nothing tells which one it was.
                marks.insert(0, (0, "" if changes[0][1] is None else rules.before_first))
    source = ANNOTATION
    if not marks:
        if label:
            source, rhythm = LABEL, _mapped(label, rules.map, name, label_file)
        elif comment is not None:
            source, rhythm = COMMENT, rules.from_comments[comment]
        elif rules.unmarked != ERROR:
            source, rhythm = UNMARKED, rules.unmarked
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
    folder: Path, file: str, name: str, opened: Opened, digests: dict[str, str]
) -> Annotations:
    data = read_small(folder, file, name, "its annotations", digests)
    return parse_annotations(data, name, file).at(opened.fs_hz, opened.counts_hz)


def _mapped(raw: str, known: Mapping[str, str], name: str, file: str) -> str:
    if raw not in known:
        raise UnknownRhythm(name, f"rhythm {raw!r}", f"one of {', '.join(known)}", file)
    return known[raw]


def _from_intervals(
    data: bytes, known: Mapping[str, str], outside: str, opened: Opened, name: str, file: str
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
        found = f"the header {','.join(rows[0] if rows else [])[:80]!r}"
        raise BadAnnotation(name, found, ",".join(COLUMNS), file)
    marks: list[Mark] = []
    end = 0
    most_s = opened.n_samples / opened.fs_hz if opened.n_samples else math.inf
    for number, row in enumerate(rows[1:], start=2):
        try:
            start_s, end_s = decimal(row[0]), decimal(row[1])
        except (ValueError, IndexError):
            start_s = end_s = math.nan
        # An interval may round up to the second in which the record ends.
        if len(row) != len(COLUMNS) or not 0 <= start_s < end_s <= min(most_s + 1, 1e9):
            raise BadAnnotation(name, f"line {number}: {','.join(row)[:80]!r}", expected, file)
        start = round(start_s * opened.fs_hz)
        if start < end:
            found = f"line {number}: an interval that begins at {start_s:g} s, before one ends"
            raise BadAnnotation(name, found, expected, file)
        if start > end:
            marks.append((end, outside))
        marks.append((start, _mapped(row[2], known, name, file)))
        end = round(end_s * opened.fs_hz)
    if (marks or outside) and (not opened.n_samples or end < opened.n_samples):
        marks.append((end, outside))
    return marks
