"""What is annotated of a recording: its beats, and the rhythm at every moment of it.

Both come from annotation files in MIT format; the rhythm may come from a CSV of intervals instead,
with the header `start_s,end_s,rhythm`, in ascending order, not overlapping.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.errors import BadAnnotation, NoRhythm, TooFewBeats, UnknownRhythm
from storage.files import safe_path
from storage.leads import Opened, read_small
from storage.wfdb_annotation import (
    BEAT,
    QUALITY_CHANGE,
    QUALITY_SIGNALS,
    RHYTHM_CHANGE,
    SYMBOL,
    UNREADABLE,
    Annotations,
    parse_annotations,
)

if TYPE_CHECKING:  # a device reads records without any data set, and without pydantic
    from storage.dataset import DatasetSpec

#: Beats are to be found, not read.
DETECT = "detect"
#: A record without any rhythm mark is refused.
ERROR = "error"
LEAST_BEATS = 3  #: a beat needs an RR interval on both sides
#: Rows become Python objects, thirty times as large; a year of episodes is smaller.
MOST_CSV_BYTES = 1 << 24
COLUMNS = ["start_s", "end_s", "rhythm"]
Mark = tuple[int, str]


def is_csv(annotator: str) -> bool:
    """Whether a rhythm annotator is a CSV of intervals."""
    return annotator.rpartition(".")[2] == "csv"


def annotated_beats(
    spec: DatasetSpec, folder: Path, name: str, opened: Opened, digests: dict[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.str_], NDArray[np.int64]]:
    """Sample and symbol of each annotated beat, and where no signal can be read, shape (k, 2).

    No beats where the data set leaves them to be found.

    Raises
    ------
    MissingFile, BadAnnotation, TooFewBeats
        The annotation is not there, damaged, beyond the record's end, or of less than three beats.
    """
    for annotator in spec.annotations.beats:
        if annotator == DETECT:
            return np.empty(0, np.int64), np.empty(0, "U1"), np.empty((0, 2), np.int64)
        if safe_path(folder, f"{name}.{annotator}", record=name).is_file():
            break
    file = f"{name}.{annotator}"
    found = _annotations(folder, file, name, opened, digests)
    is_beat = BEAT[found.code]
    beats, symbols = found.sample[is_beat], SYMBOL[found.code[is_beat]]
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


def annotated_rhythm(
    spec: DatasetSpec, folder: Path, name: str, opened: Opened, digests: dict[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Where each rhythm begins and its name, from marks, else comments, else the TOML's word.

    Raises
    ------
    MissingFile, BadAnnotation, UnknownRhythm, NoRhythm
    """
    rules, annotator = spec.rhythms, spec.annotations.rhythm
    file = f"{name}.{annotator}" if annotator else opened.file
    marks: list[Mark] = []
    if annotator and is_csv(annotator):
        data = read_small(folder, file, name, "its rhythm intervals", digests)
        marks = _from_intervals(data, rules.map, rules.outside, opened, name, file)
    elif annotator:
        found = _annotations(folder, file, name, opened, digests)
        for number, text in found.aux.items():
            # A rhythm change without "(" speaks of something else (WFDB Applications Guide).
            if found.code[number] == RHYTHM_CHANGE and text.startswith("("):
                rhythm = _mapped(text[1:], rules.map, name, file)
                marks.append((int(found.sample[number]), rhythm))
        if marks and marks[0][0] > 0:
            marks.insert(0, (0, rules.before_first))
    if not marks:
        comments = opened.comments
        said = [rules.from_comments[line] for line in comments if line in rules.from_comments]
        if not said and rules.unmarked == ERROR:
            raise NoRhythm(name, "no rhythm mark", "at least one", file)
        marks = [(0, said[0] if said else rules.unmarked)]
    return np.array([at for at, _ in marks], np.int64), np.array([rhythm for _, rhythm in marks])


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
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadAnnotation(name, str(error), "a CSV of intervals", file) from error
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if not rows or rows[0] != COLUMNS:
        found = f"the header {','.join(rows[0] if rows else [])[:80]!r}"
        raise BadAnnotation(name, found, ",".join(COLUMNS), file)
    marks: list[Mark] = []
    end = 0
    most_s = opened.n_samples / opened.fs_hz if opened.n_samples else math.inf
    for number, row in enumerate(rows[1:], start=2):
        try:
            start_s, end_s = float(row[0]), float(row[1])
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
