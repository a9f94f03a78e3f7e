"""Labelled beats: the rows of one or more data sets' beat tables that a model can learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.beats import WAVEFORM_SAMPLES, BeatTable, Quality, read_beats
from storage.beats_manifest import Manifest, read_manifest
from storage.errors import TableError
from storage.files import sha256_file
from storage.places import Place


@dataclass(frozen=True, eq=False)
class LabelledBeats:
    """Beats with a waveform and a label, of every record, in the manifests' order.

    Attributes
    ----------
    waveform : float32, shape (n, 300)
        Millivolts, without NaN.
    label : int8, shape (n,)
        1 AF, 0 not AF.
    subject, record : str, shape (n,)
        Each with its data set's name before it ("mitdb/201"), so that they are unique.
    sample : int64, shape (n,)
        R peak in its record.
    rhythm : str, shape (n,)
        Rhythm at the beat.
    quality : uint16, shape (n,)
        Quality flags; flagged beats are in, but for those left out below.
    left_out : dict of str to int
        Beats that are not in, by reason.
    """

    waveform: NDArray[np.float32]
    label: NDArray[np.int8]
    subject: NDArray[np.str_]
    record: NDArray[np.str_]
    sample: NDArray[np.int64]
    rhythm: NDArray[np.str_]
    quality: NDArray[np.uint16]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.label)


def read_labelled(paths: Sequence[Place]) -> LabelledBeats:
    """Read every usable beat that the manifests name, each table checked against its digest.

    Left out, and counted: beats without a waveform (the two ends of a record, records without a
    signal), with invalid samples, that the beat annotation does not cover, and without a known
    rhythm.

    Raises
    ------
    TableError
        A table is missing or altered, or nothing is left.
    """
    tables = [table for path in paths for table in _tables(path, read_manifest(path))]
    left_out = dict.fromkeys(
        ("no waveform", "invalid samples", "not covered by annotation", "no rhythm known"), 0
    )
    kept: list[BeatTable] = []
    for table in tables:
        shape = table.waveform
        if shape is None:
            left_out["no waveform"] += len(table)
            continue
        no_shape = np.isnan(shape[:, 0])
        invalid = ~no_shape & (
            ((table.quality & Quality.GAP) != 0) | ~np.isfinite(shape).all(axis=1)
        )
        unknown = ~no_shape & ~invalid & (table.label < 0)
        left_out["no waveform"] += int(no_shape.sum())
        left_out["invalid samples"] += int(invalid.sum())
        uncovered = unknown & ((table.quality & Quality.UNCOVERED) != 0)
        left_out["not covered by annotation"] += int(uncovered.sum())
        left_out["no rhythm known"] += int((unknown & ~uncovered).sum())
        kept.append(table.take(~(no_shape | invalid | unknown)))
    if not sum(map(len, kept)):
        raise TableError(
            f"no labelled beat with a waveform in {', '.join(map(str, paths))}; "
            f"left out: {left_out}"
        )

    waveform = np.empty((sum(map(len, kept)), WAVEFORM_SAMPLES), np.float32)
    np.concatenate([table.waveform for table in kept if table.waveform is not None], out=waveform)
    return LabelledBeats(
        waveform=waveform,
        label=np.concatenate([table.label for table in kept]),
        subject=_repeated(kept, "subject"),
        record=_repeated(kept, "record"),
        sample=np.concatenate([table.sample for table in kept]),
        rhythm=np.concatenate([table.rhythm for table in kept]),
        quality=np.concatenate([table.quality for table in kept]),
        left_out=left_out,
    )


def _repeated(tables: list[BeatTable], name: str) -> NDArray[np.str_]:
    values = [f"{table.dataset}/{getattr(table, name)}" for table in tables]
    return np.repeat(np.array(values, dtype=np.str_), [len(table) for table in tables])


def read_rhythms(paths: Sequence[Place], *, waveform: bool = False) -> list[BeatTable]:
    """Read every record that the manifests name, all its beats, each checked as above.

    Raises
    ------
    TableError
        A table is missing or altered, or no beat of any has a known rhythm.
    """
    tables = [t for path in paths for t in _tables(path, read_manifest(path), waveform=waveform)]
    if not any((table.label >= 0).any() for table in tables):
        raise TableError(f"no beat with a known rhythm in {', '.join(map(str, paths))}")
    return tables


def _tables(path: Place, manifest: Manifest, *, waveform: bool = True) -> list[BeatTable]:
    tables = []
    for entry in manifest.entries:
        file = path.parent / entry.file
        if not file.is_file() or sha256_file(file) != entry.sha256:
            found = "altered bytes" if file.is_file() else "no file"
            raise TableError(f"beat table {file}: found {found}; expected SHA-256 {entry.sha256}")
        tables.append(read_beats(file, waveform=waveform))
    return tables
