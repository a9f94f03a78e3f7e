"""Content: what tells that two recordings are the same, whatever they are called.

A recording has prints: digests of short pieces of what is read of it, and of those the `PRINTS`
smallest, so that a day needs no more room than a minute (bottom-k sketch: Broder 1997,
doi:10.1109/SEQUEN.1997.666900). A lead's pieces are of whether each sample is above, below or equal
to the one before: another format, gain, unit or offset gives the same. Two recordings are the same
where they share three quarters of the fewer prints, or of the source files.

What it does not find: a part of a recording, a copy that begins elsewhere, another lead of other
files, a copy that was filtered or sampled anew.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.compiled import kernels
from storage.logs import log
from storage.places import Place
from storage.recordings.records import Record
from storage.recordings.review import decisions_key
from storage.tables.beats_manifest import Manifest, every_manifest

PRINTS = 16
#: Of the fewer prints, the share that two recordings have in common where they are the same.
SHARE = 0.75
#: Steps from sample to sample of a piece: 2 s at 250 Hz.
PIECE_STEPS = 512
#: A piece with fewer changes is flat, or a calibration pulse: it tells nothing.
LEAST_CHANGES = 32
#: Intervals between annotated beats of a piece, and how many of them must differ.
PIECE_INTERVALS, LEAST_DIFFERENT = 32, 6
#: What a manifest's entry holds prints of.
SIGNAL, BEATS = KINDS = ("signal", "beats")
#: Digest of a file without any bytes, which is no recording.
EMPTY_FILE = hashlib.sha256().hexdigest()

Floats = NDArray[np.float32]


class LeadPrints:
    """The prints of a lead, taken while it is read.

    Parameters
    ----------
    read : callable
        Reads millivolts of samples [start, stop).
    n_samples : int
        Samples of the lead.
    """

    def __init__(self, read: Callable[[int, int], Floats], n_samples: int) -> None:
        self._read, self._n_samples = read, n_samples
        self._at = 0
        self._rest = np.empty(0, np.float32)
        self._digests = np.empty(0, np.uint64)  # the smallest, ascending

    def read(self, start: int, stop: int) -> Floats:
        """Read samples [start, stop); those that are read for the first time leave their prints."""
        part = self._read(start, stop)
        if start <= self._at < stop:
            self._take(part[self._at - start :])
            self._at = stop
        return part

    def prints(self) -> list[str]:
        """The prints of the whole lead; what nobody has read is read now."""
        while self._at < self._n_samples:
            self.read(self._at, min(self._at + (1 << 20), self._n_samples))
        if self._n_samples > PIECE_STEPS:
            return _hexadecimal(self._digests)
        digests = _step_digests(self._rest, max(len(self._rest) - 1, 1))
        return _hexadecimal(np.unique(digests)[:PRINTS])

    def _take(self, part: Floats) -> None:
        # The piece that two parts share is put together; the others are taken where they lie.
        seam = min(len(part), PIECE_STEPS + 1 - len(self._rest)) if len(self._rest) else 1
        if len(self._rest):
            self._rest = np.concatenate([self._rest, part[:seam]])
            if len(self._rest) <= PIECE_STEPS:
                return
            self._keep(self._rest)
        end = seam - 1 + (len(part) - seam) // PIECE_STEPS * PIECE_STEPS
        self._keep(part[seam - 1 : end + 1])
        self._rest = part[end:].copy()

    def _keep(self, x: Floats) -> None:
        """Take the prints of whole pieces."""
        digests = _step_digests(x, PIECE_STEPS)
        if len(self._digests) == PRINTS:
            digests = digests[digests < self._digests[-1]]
        if len(digests):
            self._digests = np.unique(np.concatenate([self._digests, digests]))[:PRINTS]


def _step_digests(x: Floats, steps: int) -> NDArray[np.uint64]:
    """The digests of pieces of so many steps from sample to sample, those that tell something."""
    library = kernels.LIBRARY
    if library is None or steps != PIECE_STEPS:
        return _step_digests_plainly(x, steps)
    count = (len(x) - 1) // steps
    pieces, changes = np.empty((count, steps // 4), np.uint8), np.empty(count, np.int32)
    at = [kernels.memory(array) for array in (np.ascontiguousarray(x), pieces, changes)]
    library.steps(at[0], count, steps, *at[1:])
    telling = pieces[changes >= LEAST_CHANGES]
    digests = np.empty(len(telling), ">u8")
    library.digests(kernels.memory(telling), *telling.shape, kernels.memory(digests))
    return digests.astype(np.uint64)


def _step_digests_plainly(x: Floats, steps: int) -> NDArray[np.uint64]:
    """The twin of `holter_steps` and `holter_digests` in numpy."""
    with np.errstate(invalid="ignore"):
        sides = (x[1:] > x[:-1], x[1:] < x[:-1])
    pieces = np.concatenate(
        [np.packbits(side.reshape(-1, steps), axis=-1) for side in sides], axis=1
    )
    telling = np.bitwise_count(pieces).sum(axis=1) >= min(LEAST_CHANGES, steps // 4)
    data, size = pieces[telling].tobytes(), pieces.shape[1]
    digests = b"".join(
        hashlib.blake2b(data[at : at + size], digest_size=8).digest()
        for at in range(0, len(data), size)
    )
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _hexadecimal(digests: NDArray[np.uint64]) -> list[str]:
    return [f"{digest:016x}" for digest in digests.tolist()]


def beat_prints(sample: NDArray[np.int64], symbol: NDArray[np.str_]) -> list[str]:
    """The prints of annotated beats: the intervals between them, in samples, and their symbols."""
    rr = np.diff(sample)
    size = min(PIECE_INTERVALS, max(len(rr), 1))
    pieces = rr[: len(rr) // size * size].reshape(-1, size)
    different = 1 + np.count_nonzero(np.diff(np.sort(pieces, axis=1), axis=1), axis=1)
    prints = []
    for row in np.flatnonzero(different >= min(LEAST_DIFFERENT, size)).tolist():
        marks = " ".join(symbol[row * size : (row + 1) * size].tolist())
        prints.append(_digest(pieces[row].astype("<i8").tobytes() + marks.encode()))
    return _smallest(prints)


def content_of(record: Record, lead: LeadPrints | None) -> dict[str, list[str]]:
    """The prints of a record: of its lead, where that is read, and of its annotated beats."""
    return {
        SIGNAL: lead.prints() if lead else [],
        BEATS: beat_prints(record.beats, record.symbols),
    }


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _smallest(prints: Iterable[str]) -> list[str]:
    return sorted(set(prints))[:PRINTS]


@dataclass(frozen=True)
class Recording:
    """What a manifest says of a record's content.

    Attributes
    ----------
    name, subject : str
        DATASET/RECORD and DATASET/SUBJECT.
    prints, files : dict of str to frozenset of str
        Prints, and digests of source files, of "signal" and of "beats". A table of before there
        were prints has none.
    has_signal : bool
        Whether its signal was read.
    """

    name: str
    subject: str
    prints: dict[str, frozenset[str]]
    files: dict[str, frozenset[str]]
    has_signal: bool


Copy = tuple[Recording, Recording]


def recordings(manifest: Manifest) -> Iterator[Recording]:
    """The recordings of a data set."""
    annotations = manifest.spec.get("annotations", {})
    beats = tuple(f".{annotator}" for annotator in annotations.get("beats", ()))
    rhythm = annotations.get("rhythm") or ()
    layers = (rhythm,) if isinstance(rhythm, str) else rhythm
    texts = (*beats, ".hea", ".csv", *(f".{layer}" for layer in layers))
    for entry in manifest.entries:
        decided = decisions_key(manifest.dataset, entry.record)
        digests = {f: sha for f, sha in entry.files.items() if sha != EMPTY_FILE and f != decided}
        files = {
            SIGNAL: [sha256 for f, sha256 in digests.items() if beats and not f.endswith(texts)],
            BEATS: [sha256 for f, sha256 in digests.items() if f.endswith(beats)],
        }
        yield Recording(
            name=f"{manifest.dataset}/{entry.record}",
            subject=f"{manifest.dataset}/{entry.subject}",
            prints={kind: frozenset(entry.content.get(kind, ())) for kind in KINDS},
            files={kind: frozenset(files[kind]) for kind in KINDS},
            has_signal=entry.lead is not None,
        )


def is_copy(first: Recording, second: Recording) -> bool:
    """Whether two records are the same recording: by signal where both have it, else by beats."""
    kind = SIGNAL if first.has_signal and second.has_signal else BEATS
    pairs = ((first.prints, second.prints), (first.files, second.files))
    return any(_overlap(left[kind], right[kind]) for left, right in pairs)


def _overlap(left: frozenset[str], right: frozenset[str]) -> bool:
    least = min(len(left), len(right))
    return least > 0 and len(left & right) >= SHARE * least


def copies(left: Iterable[Recording], right: Iterable[Recording]) -> list[Copy]:
    """Pairs of records, one of each side, that are the same recording under two names.

    A pair of two that are on both sides is given once.
    """
    left_recordings, right_recordings = list(left), list(right)
    by_mark: dict[str, list[Recording]] = defaultdict(list)
    for recording in right_recordings:
        for mark in _marks(recording):
            by_mark[mark].append(recording)
    pairs: dict[frozenset[str], Copy] = {}
    for recording in left_recordings:
        near = {copy.name: copy for mark in _marks(recording) for copy in by_mark.get(mark, ())}
        for name in sorted(near):
            key = frozenset((recording.name, name))
            if len(key) == 2 and key not in pairs and is_copy(recording, near[name]):
                pairs[key] = recording, near[name]
    return list(pairs.values())


def _marks(recording: Recording) -> Iterator[str]:
    for digests in (*recording.prints.values(), *recording.files.values()):
        yield from digests


def copies_among(manifests: Iterable[Manifest]) -> list[Copy]:
    """Pairs of records of some data sets that are the same recording under two names."""
    all_recordings = [recording for manifest in manifests for recording in recordings(manifest)]
    return copies(all_recordings, all_recordings)


def duplicates(manifest: Manifest, beats: Place) -> dict[str, list[str]]:
    """Records whose recording is among the beat tables under another name too, and those names."""
    own_recordings = list(recordings(manifest))
    other_recordings = [
        recording
        for other_manifest in every_manifest(beats)
        if other_manifest.dataset != manifest.dataset
        for recording in recordings(other_manifest)
    ]
    names: dict[str, set[str]] = {}
    for first, second in copies(own_recordings, [*own_recordings, *other_recordings]):
        log.warning(f"{first.name} and {second.name} are the same recording")
        names.setdefault(first.name, set()).add(second.name)
        names.setdefault(second.name, set()).add(first.name)
    return {
        entry.record: sorted(names[name])
        for entry in manifest.entries
        if (name := f"{manifest.dataset}/{entry.record}") in names
    }


def of_subjects(manifests: Iterable[Manifest], subjects: Collection[str]) -> list[Recording]:
    """The recordings of some subjects, DATASET/NAME."""
    all_recordings = (recording for manifest in manifests for recording in recordings(manifest))
    return [recording for recording in all_recordings if recording.subject in subjects]


def without_prints(manifests: Iterable[Manifest]) -> list[str]:
    """The data sets with a table of before there were prints."""
    return [
        manifest.dataset
        for manifest in manifests
        if any(not entry.content for entry in manifest.entries)
    ]
