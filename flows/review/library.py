"""What the page reads: data sets, beat tables, signals and answers, the last few kept open.

A record is one of a manifest, found by name there: no name of a request becomes a path.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from threading import Event, Lock, RLock
from typing import Any, TypeAlias, TypeVar

from storage.datasets.dataset import DatasetSpec
from storage.datasets.sections import Leads
from storage.errors import HolterError, RecordError, TableError
from storage.files import home
from storage.formats.lead_names import usable
from storage.places import Place, beats_place
from storage.recordings.records import Record, open_record, read_lead
from storage.recordings.survey import DESCRIBE
from storage.tables.beats import BeatTable, Source, read_beats, read_source
from storage.tables.beats_manifest import Entry, Manifest, manifest_paths, read_manifest
from storage.tables.pyramid import Floats, Pyramid, lead_pyramid, view
from storage.tables.results import ArrayFolder
from tasks.analysis.analyse import Release, from_the_box
from tasks.analysis.choice import usual_network
from tasks.networks.sequence import reads_waveforms
from tasks.review.answers import answers_key, answers_of, as_arrays, from_arrays
from tasks.runtimes.runtimes import Network, open_runtime
from tasks.scores.rule import Judgement

#: Tables and signals that stay open. A fortnight of beats takes 80 MB, a lead that is open little.
MOST_TABLES, MOST_LEADS = 3, 12
#: Samples that are read where no pyramid is there yet: two hours at 250 Hz.
MOST_SAMPLES = 2_000_000
Value = TypeVar("Value")
#: Cases of a record with what the page shows of each, or why there are none.
Cases: TypeAlias = "list[dict[str, Any]] | str"


@dataclass(frozen=True, eq=False)
class Shelf:
    """A data set's tables: what the address calls them, the manifest, and its folder."""

    name: str
    manifest: Manifest
    folder: Place

    @property
    def spec(self) -> DatasetSpec:
        """The data set's TOML, as the ingest read it."""
        return DatasetSpec.model_validate(self.manifest.spec)


@dataclass(frozen=True, eq=False)
class Sheet:
    """A record's table: its shelf and entry, its beats and what they were made from."""

    shelf: Shelf
    entry: Entry
    table: BeatTable
    source: Source

    @property
    def duration_s(self) -> float:
        """Length of the record."""
        return self.source.n_samples / self.source.fs_hz


@dataclass(frozen=True, eq=False)
class Lead:
    """A lead that is open, and what a person must know of it; "" where there is nothing."""

    record: Record
    note: str


@dataclass(frozen=True, eq=False)
class Answers:
    """A release's answers of a record: there, on their way, or why there are none."""

    judgement: Judgement | None = None
    waiting: bool = False
    fault: str = ""


class Recent(OrderedDict[Hashable, Any]):
    """The last few values by key; a value is made once, whoever asks meanwhile."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most, self._lock = most, RLock()

    def value(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key."""
        with self._lock:
            if key not in self:
                self[key] = make()
            self.move_to_end(key)
            while len(self) > self._most:
                self.popitem(last=False)
            value: Value = self[key]
            return value


class Library:
    """What the page reads; its methods may be called from several threads.

    Parameters
    ----------
    releases : sequence of Release
        Whose answers are shown, the first one; disagreements between them are cases of the queue.
        The usual one of the box where there is none.
    """

    def __init__(self, releases: Sequence[Release] = ()) -> None:
        self._chosen = tuple(releases)
        self._shelves: dict[Place, tuple[tuple[int, int], Shelf]] = {}
        self._tables, self._answers = Recent(MOST_TABLES), Recent(MOST_TABLES)
        # The leads of a header are not to wait for the digests of a lead that is being opened.
        self._leads, self._names = Recent(MOST_LEADS), Recent(MOST_LEADS)
        self._networks: dict[int, Network] = {}
        self._jobs: dict[Hashable, Future[Any]] = {}
        self._lock, self._asking, self._closing = Lock(), Lock(), Event()
        # A pyramid is made while the model is asked.
        self._worker = ThreadPoolExecutor(2, thread_name_prefix="review")
        self._finder = ThreadPoolExecutor(1, thread_name_prefix="queue")
        self._cases: dict[tuple[str, str], tuple[Hashable, Cases]] = {}
        self._finding: dict[str, Future[None]] = {}

    @cached_property
    def releases(self) -> tuple[Release, ...]:
        """Whose answers are shown; sheet at the first look."""
        return self._chosen or (from_the_box(usual_network().name),)

    def close(self) -> None:
        """End what is on its way."""
        self._closing.set()
        for pool in (self._worker, self._finder):
            pool.shutdown(wait=True, cancel_futures=True)

    def shelves(self) -> dict[str, Shelf]:
        """Every data set that can be read, by the name of its tables."""
        shelves = {}
        for path in manifest_paths(beats_place()):
            try:
                shelf = self._shelf(path)
            except TableError:
                continue
            shelves[shelf.name] = shelf
        return shelves

    def _shelf(self, path: Place) -> Shelf:
        if not isinstance(path, Path):
            return _read_shelf(path)
        state = path.stat()
        stamp = (state.st_mtime_ns, state.st_size)
        with self._lock:
            memory = self._shelves.get(path)
        if memory is None or memory[0] != stamp:
            memory = stamp, _read_shelf(path)
            with self._lock:
                self._shelves[path] = memory
        return memory[1]

    def shelf(self, dataset: str) -> Shelf:
        """A data set by the name of its tables, or by its own.

        Raises
        ------
        TableError
            There is none of this name.
        """
        shelves = self.shelves()
        own = (shelf for shelf in shelves.values() if shelf.manifest.dataset == dataset)
        shelf = shelves.get(dataset) or next(own, None)
        if shelf is None:
            names = ", ".join(shelves) or "none: `holter ingest` makes the tables of one"
            raise TableError(f"data set {dataset[:60]!r}: found no tables; expected one of {names}")
        return shelf

    def entry(self, dataset: str, record: str) -> tuple[Shelf, Entry]:
        """A record of a data set.

        Raises
        ------
        TableError, RecordError
            There is no such data set, or no such record in it.
        """
        shelf = self.shelf(dataset)
        entry = next((entry for entry in shelf.manifest.entries if entry.record == record), None)
        if entry is None:
            raise RecordError(record[:60], "no beat table", f"one of {dataset}'s records")
        return shelf, entry

    def prepare(self, dataset: str, record: str) -> None:
        """Read a record in the background, while a browser fetches the page that will ask for it.

        What cannot be read is told when it is asked for.
        """
        for read in (self.sheet, self.lead):
            self._start((read.__name__, dataset, record), partial(read, dataset, record))

    def sheet(self, dataset: str, record: str) -> Sheet:
        """A record's beats; TableError or RecordError where there are none."""
        shelf, entry = self.entry(dataset, record)
        return self._tables.value(
            (dataset, record, entry.sha256), lambda: _read_sheet(shelf, entry)
        )

    def lead(self, dataset: str, record: str, name: str = "") -> Lead:
        """A record's lead, the one of its beats where none is named.

        Raises
        ------
        HolterError
            The recording is not there, or cannot be read.
        """
        shelf, entry = self.entry(dataset, record)
        lead = name or entry.lead or ""
        key = (dataset, record, entry.sha256, lead)
        return self._leads.value(key, lambda: _open_lead(shelf, entry, lead))

    def lead_names(self, sheet: Sheet) -> list[str]:
        """The ECG leads of a record, that of its beats first.

        Raises
        ------
        RecordError
            Its header cannot be read.
        """
        key = (sheet.shelf.name, sheet.entry.record, sheet.entry.sha256)
        return self._names.value(key, lambda: _lead_names(sheet.shelf, sheet.entry))

    def signal(
        self, dataset: str, record: str, name: str, span: tuple[int, int], columns: int
    ) -> Floats | None:
        """Least and greatest of each column, shape (columns, 2); None: the pyramid is being made.

        Parameters
        ----------
        dataset, record, name : str
            The lead.
        span : (int, int)
            Samples, within the record.
        columns : int
            Columns of the picture.
        """
        lead, folder = self.lead(dataset, record, name).record, self.shelf(dataset).folder
        pyramid = lead_pyramid(lead, folder, make=False)
        if pyramid is None:
            job: Callable[[], Pyramid | None] = partial(lead_pyramid, lead, folder)
            self._start(("pyramid", dataset, record, name), job)
            if span[1] - span[0] > MOST_SAMPLES:
                return None
        return view(pyramid, partial(read_lead, lead), *span, columns)

    def answers(self, dataset: str, record: str, number: int = 0) -> Answers:
        """What a release tells of a record's beats; asked in the background at the first look."""
        if number >= len(self.releases):
            return Answers(fault="no model was named")
        sheet = self.sheet(dataset, record)
        release = self.releases[number]
        key = answers_key(sheet.entry.sha256, release.manifest)
        memory = self._answers.get(key) or self._kept_answers(key, len(sheet.table))
        if memory is not None:
            return Answers(memory)
        job = self._start(("answers", key), partial(self._ask, sheet, number, key))
        if not job.done():
            return Answers(waiting=True)
        fault = job.exception()
        if fault is not None:
            words = str(fault) if isinstance(fault, HolterError) else type(fault).__name__
            return Answers(fault=f"the model could not answer: {words}")
        return Answers(job.result())

    def _kept_answers(self, key: str, beats: int) -> Judgement | None:
        arrays = answers_folder().read(key)
        judgement = None if arrays is None else from_arrays(arrays, beats)
        if judgement is not None:
            self._answers.value(key, lambda: judgement)
        return judgement

    def _ask(self, sheet: Sheet, number: int, key: str) -> Judgement:
        """Ask a release; a network is asked by one thread at a time."""
        release, table = self.releases[number], sheet.table
        if reads_waveforms(str(release.manifest["name"])):
            table = read_beats(sheet.shelf.folder / sheet.entry.file)
        with self._asking:
            if number not in self._networks:
                self._networks[number] = open_runtime(release.folder, release.manifest)
            judgement = answers_of(self._networks[number], release.manifest, table)
        answers_folder().write(key, as_arrays(judgement))
        return judgement

    def judgements_of(self, shelf: Shelf, entry: Entry) -> tuple[Sheet, list[Judgement]]:
        """A record that is not kept open, and what each release tells of it, asked here and now."""
        sheet, judgements = _read_sheet(shelf, entry), []
        for number, release in enumerate(self.releases):
            key = answers_key(entry.sha256, release.manifest)
            arrays = answers_folder().read(key)
            memory = None if arrays is None else from_arrays(arrays, len(sheet.table))
            judgements.append(memory or self._ask(sheet, number, key))
        return sheet, judgements

    def cases_of(self, dataset: str, record: str, stamp: Hashable) -> Cases | None:
        """A record's cases, or why there are none; None where they are of another stamp."""
        memory = self._cases.get((dataset, record))
        return memory[1] if memory and memory[0] == stamp else None

    def known_cases(self, dataset: str) -> list[dict[str, Any]]:
        """The cases of a data set that were found so far, of what its records were then."""
        lists = [cases for (name, _), (_, cases) in [*self._cases.items()] if name == dataset]
        return [case for cases in lists if not isinstance(cases, str) for case in cases]

    def keep_cases(self, dataset: str, record: str, stamp: Hashable, cases: Cases) -> None:
        """Keep a record's cases of what it is now, or why there are none."""
        self._cases[dataset, record] = stamp, cases

    def find_cases(self, dataset: str, work: Callable[[Callable[[], bool]], None]) -> None:
        """Look for a data set's cases in the background; the work asks whether to end."""
        with self._lock:
            job = self._finding.get(dataset)
            if job is None or job.done():
                self._finding[dataset] = self._finder.submit(work, self._closing.is_set)

    def _start(self, key: Hashable, work: Callable[[], Value]) -> Future[Value]:
        """Work in the background, once for each key; what has ended is let go of when asked."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                ended = [name for name, other in self._jobs.items() if other.done()]
                for name in ended[: max(0, len(self._jobs) - 64)]:
                    del self._jobs[name]
                job = self._jobs[key] = self._worker.submit(work)
            return job


def answers_folder() -> ArrayFolder:
    """Where answers are kept."""
    return ArrayFolder(home() / "review" / "answers")


def _read_shelf(path: Place) -> Shelf:
    return Shelf(path.parent.name.removeprefix("dataset="), read_manifest(path), path.parent)


def _read_sheet(shelf: Shelf, entry: Entry) -> Sheet:
    path = shelf.folder / entry.file
    source = read_source(path)
    if (source.record, source.key) != (entry.record, entry.key):
        raise TableError(
            f"beat table {path}: found another table than the manifest names; ingest it anew"
        )
    return Sheet(shelf, entry, read_beats(path, waveform=False), source)


def _lead_names(shelf: Shelf, entry: Entry) -> list[str]:
    """The ECG leads of a record, that of its beats first.

    Raises
    ------
    RecordError
        Its header cannot be read.
    """
    spec = shelf.spec
    leads = DESCRIBE[spec.records.format](Path(shelf.manifest.origin), entry.record).leads
    names = dict.fromkeys(
        [*([entry.lead] if entry.lead else []), *(leads[n][0] for n in usable(leads))]
    )
    return list(names)


def _open_lead(shelf: Shelf, entry: Entry, name: str) -> Lead:
    spec = shelf.spec.model_copy(update={"leads": Leads(prefer=(name,))} if name else {})
    record = open_record(spec, Path(shelf.manifest.origin), entry.record)
    return Lead(record, _changes(record.digests, entry))


def _changes(digests: Mapping[str, str], entry: Entry) -> str:
    """What to tell where files are not those that the table was made from."""
    other = {name for name, digest in digests.items() if entry.files.get(name, digest) != digest}
    other |= {name for name in digests if "#" in name and name not in entry.files}
    files = sorted(name for name in other if "#" not in name)
    notes = [f"changed since the beats were found: {', '.join(files)}; they may not fit"] * bool(
        files
    )
    if len(other) > len(files):
        notes.append("labels were decided since the beats were found: `holter ingest` takes them")
    return "; ".join(notes)
