"""Labelled beats: the rows of one or more data sets' beat tables that a model can learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.errors import TableError
from storage.files import sha256_file
from storage.places import Place
from storage.tables.beats import BeatTable, Quality, read_beats, read_groups
from storage.tables.beats_manifest import read_manifest
from storage.tables.waveforms import ChosenBeats, RowGroup, Waveforms, stamp_of


@dataclass(frozen=True, eq=False)
class Names:
    """A column of text that repeats few values, as numbers of four bytes.

    Attributes
    ----------
    values : str, shape (k,)
        The different values, sorted; each occurs.
    code : int32, shape (n,)
        Each row's place among them.
    """

    values: NDArray[np.str_]
    code: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.code)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.str_]:
        return np.asarray(self.values[self.code[rows]])

    def among(self, rows: NDArray[np.int64]) -> list[str]:
        """The different values of these rows, sorted."""
        present = np.zeros(len(self.values), bool)
        present[self.code[rows]] = True
        return [str(value) for value in self.values[present]]


def names_of(column: NDArray[np.str_] | Names) -> Names:
    """A column of text as names and numbers."""
    if isinstance(column, Names):
        return column
    values, code = np.unique(column, return_inverse=True)
    return Names(values, code.astype(np.int32))


@dataclass(frozen=True, eq=False)
class LabelledBeats:
    """Beats with a waveform and a label, of every record, in the manifests' order.

    Waveforms stay on disk: a beat takes 21 bytes of memory, not 1,200.

    Attributes
    ----------
    waveform : Waveforms, of n beats
        Millivolts, without NaN.
    label : int8, shape (n,)
        1 AF, 0 not AF.
    subject, record : Names, of n beats
        Each with its data set's name before it ("mitdb/201"), so that they are unique.
    sample : int64, shape (n,)
        R peak in its record.
    left_out : dict of str to int
        Beats that are not in, by reason.
    """

    waveform: Waveforms
    label: NDArray[np.int8]
    subject: Names
    record: Names
    sample: NDArray[np.int64]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.label)

    def select(self, positions: NDArray[np.int64]) -> ChosenBeats:
        """Some of the beats as a network reads them."""
        return ChosenBeats(self.waveform, positions)


def read_labelled(paths: Sequence[Place]) -> LabelledBeats:
    """Find every usable beat that the manifests name, each table checked against its digest.

    Left out, and counted: beats without a waveform (the two ends of a record, records without a
    signal), with invalid samples, that the beat annotation does not cover, and without a known
    rhythm. Flagged beats are in otherwise.

    Raises
    ------
    TableError
        A table is missing or altered, or nothing is left.
    """
    left_out = dict.fromkeys(
        ("no waveform", "invalid samples", "not covered by annotation", "no rhythm known"), 0
    )
    groups: list[RowGroup] = []
    parts: list[tuple[str, str, NDArray[np.int8], NDArray[np.int64]]] = []
    for file in checked_files(paths):
        stamp = stamp_of(file)
        for number, table in enumerate(read_groups(file)):
            rows = _usable(table, left_out)
            if not len(rows):
                continue
            groups.append(RowGroup(file, stamp, number, rows))
            subject, record = (f"{table.dataset}/{x}" for x in (table.subject, table.record))
            parts.append((subject, record, table.label[rows], table.sample[rows]))
    if not groups:
        raise TableError(
            f"no labelled beat with a waveform in {', '.join(map(str, paths))}; "
            f"left out: {left_out}"
        )
    counts = [len(group.rows) for group in groups]
    return LabelledBeats(
        waveform=Waveforms(groups),
        label=np.concatenate([label for _, _, label, _ in parts]),
        subject=_repeat([subject for subject, *_ in parts], counts),
        record=_repeat([record for _, record, *_ in parts], counts),
        sample=np.concatenate([sample for *_, sample in parts]),
        left_out=left_out,
    )


def _usable(table: BeatTable, left_out: dict[str, int]) -> NDArray[np.int32]:
    """Rows that a model can learn from; the others are counted by reason."""
    shape = table.waveform
    if shape is None:
        left_out["no waveform"] += len(table)
        return np.empty(0, np.int32)
    no_shape = np.isnan(shape[:, 0])
    invalid = ~no_shape & (((table.quality & Quality.GAP) != 0) | ~np.isfinite(shape).all(axis=1))
    unknown = ~no_shape & ~invalid & (table.label < 0)
    uncovered = unknown & ((table.quality & Quality.UNCOVERED) != 0)
    left_out["no waveform"] += int(no_shape.sum())
    left_out["invalid samples"] += int(invalid.sum())
    left_out["not covered by annotation"] += int(uncovered.sum())
    left_out["no rhythm known"] += int((unknown & ~uncovered).sum())
    return np.flatnonzero(~(no_shape | invalid | unknown)).astype(np.int32)


def _repeat(values: list[str], counts: list[int]) -> Names:
    short = names_of(np.array(values, dtype=np.str_))
    return Names(short.values, np.repeat(short.code, counts))


def read_rhythms(paths: Sequence[Place], *, waveform: bool = False) -> Iterator[BeatTable]:
    """Read the records that the manifests name, one after another, each checked as above.

    Raises
    ------
    TableError
        A table is missing or altered; at the end, no beat of any has a known rhythm.
    """
    has_rhythm = False
    for file in checked_files(paths):
        table = read_beats(file, waveform=waveform)
        has_rhythm |= bool((table.label >= 0).any())
        yield table
    if not has_rhythm:
        raise TableError(f"no beat with a known rhythm in {', '.join(map(str, paths))}")


def checked_files(paths: Sequence[Place]) -> Iterator[Place]:
    """The tables that the manifests name, each once its digest is found right."""
    for path in paths:
        for entry in read_manifest(path).entries:
            file = path.parent / entry.file
            if not file.is_file() or sha256_file(file) != entry.sha256:
                actual = "altered bytes" if file.is_file() else "no file"
                raise TableError(
                    f"beat table {file}: found {actual}; expected SHA-256 {entry.sha256}"
                )
            yield file
