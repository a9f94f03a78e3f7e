"""A seeded fuzzer over every reader: damaged bytes give a value or one of our errors, never else.

260,000 inputs in all, or as many as HOLTER_FUZZ_INPUTS says, made from real files where they are
here, and from files the tests write.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.board.kinds import FOLDER, ROOTS, read_kind
from storage.audit.ledger_entry import (
    NO_PREVIOUS,
    Entry,
    aliases,
    chain_faults,
    deed,
    entries_of_model,
    read_entry,
    read_pages,
)
from storage.errors import HolterError, RecordError
from storage.formats.edf import open_edf
from storage.formats.ishne import open_ishne
from storage.formats.leads import OpenRecording, read_source
from storage.formats.wfdb_annotation import encode_annotations, parse_annotations
from storage.formats.wfdb_header import parse_header
from storage.recordings.marks import annotated_rhythm
from storage.recordings.records import open_record, read_lead
from storage.registry.evaluations import read_outcome
from storage.registry.policy import DEFAULT, DRIFT, read_checks, read_policy
from storage.registry.signing import (
    public_key,
    read_statement,
    sign,
    sign_roll_back,
    verified_manifest,
)
from storage.registry.tags import entry_param
from storage.tables.beats import read_beats, read_waveforms, write_beats
from storage.tables.beats import read_source as read_table_source
from storage.tables.beats_manifest import read_manifest
from storage.tables.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from storage.tables.golden_beats import read_golden, write_golden
from storage.tables.results import read_arrays, write_arrays
from storage.tables.testset import TestSet, read_testset, write_testset
from tasks.learning.simulate import simulate_subject
from tasks.runtimes.runtimes import files_of
from tests.conftest import ROOT
from tests.edge_agent.test_device_hostile import OUTCOME
from tests.storage.recordings.test_formats import spec_of, values, write_segments, write_wfdb
from tests.storage.recordings.test_holter_formats import CSV, dataset, write_edf, write_ishne
from tests.storage.test_beats_manifest import dataset as beat_tables
from tests.tasks.signal.test_beats import SOURCE, table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
#: Inputs in all where HOLTER_FUZZ_INPUTS says nothing, and how many times as many are wanted.
USUAL = 260_000
TIMES = int(os.environ.get("HOLTER_FUZZ_INPUTS", USUAL)) / USUAL
WORDS = [b"0", b"-1", b"4294967296", b"9" * 30, b"nan", b"inf", b"1e308", b"~", b"../x", b"/"]
WORDS += [b"\n", b"#", b"x", b":", b"+", b"(", b" ", b"\0", b"\xff\xff", b"\x00\xec", b"\x3f\xfc"]
WORDS += ["٣".encode(), "²".encode(), b"1_0", b"\x0c", b"\x1c", b"\x85", b"-0"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: thousands of files are written to it."""
    memory = Path("/dev/shm")  # noqa: S108 - a fresh folder is made in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as name:
        yield Path(name)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A copy with one to four bytes flipped, cut, doubled, moved, or replaced by a nasty word."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randint(0, len(out)), rng.randint(1, 12)
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at : at + size]
        elif kind == 2:
            out[at:at] = out[at : at + size]
        elif kind == 3:
            out[at : at + rng.randint(0, 4)] = rng.choice(WORDS)
        elif kind == 4:
            out[at : at + size] = rng.randbytes(size)
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out)


def fuzz(seeds: list[bytes], inputs: int, use: Callable[[bytes], object]) -> dict[str, int]:
    """Use so many damaged copies, and count what became of them by the error's name.

    Of a multiple of them that HOLTER_FUZZ_INPUTS asks for, the counts are given for one.
    """
    rng = random.Random(2024)  # noqa: S311 - a fuzzer wants repeatable numbers
    found: dict[str, int] = {}
    for number in range(round(inputs * TIMES)):
        data = damaged(seeds[number % len(seeds)], rng)
        try:
            use(data)
            kind = "read"
        except RecordError as error:
            kind = type(error).__name__ if error.record == "rec" else "an unnamed record"
        except HolterError as error:
            kind = type(error).__name__
        except Exception as error:
            raise AssertionError(f"input {number}, {data!r}: {error!r}") from error
        found[kind] = found.get(kind, 0) + 1
    return {kind: round(count / TIMES) for kind, count in found.items()}


def real(pattern: str, most_bytes: int) -> list[bytes]:
    """Real files that match, cut to a length that keeps the fuzzer quick; none where none are."""
    paths = sorted((ROOT / "../shared/data").resolve().glob(pattern))[::7][:12]
    return [path.read_bytes()[:most_bytes] for path in paths]


def test_header() -> None:
    """80,000 damaged headers."""
    made = b"rec/3 2 250/1(0) 1000 10:00:00 1/1/2000\n#a\nlay 0\none 600\n~ 400\n"
    made2 = b"rec 2 360.5 650000\nrec.dat 212x2:3+8 200(1024)/mV 11 1024 995 -22131 0 MLII\n"
    seeds = [made, made2 * 2, made2 + b"b.dat 16 0.5/uV 16 0 1 2 0 V 1\n# x\n"]
    seeds += real("*/*.hea", 600)
    found = fuzz(seeds, 80_000, lambda data: parse_header(data, "rec", "rec.hea"))
    assert set(found) == {"read", "HeaderMismatch"}
    assert min(found.values()) > 5_000


def test_annotation() -> None:
    """80,000 damaged annotation files."""
    sample = np.array([3, 5, 2000, 2001, 90_000_000, 90_000_001])
    seeds = [encode_annotations(sample, list("+NVN+N"), {0: "(AFIB", 4: "(N and a long text"})]
    whole = [data + b"\0\0" for data in real("mitdb/*.atr", 400) + real("afdb/*.qrs", 120)]

    def use(data: bytes) -> None:
        parse_annotations(data, "rec", "rec.atr").at(250.0)

    found = fuzz(seeds + whole, 80_000, use)
    assert set(found) == {"read", "BadAnnotation"}
    assert min(found.values()) > 5_000


def test_212(folder: Path) -> None:
    """12,000 damaged files of format 212, their length changed too, through the whole opening."""
    signals = [values(212, 300, seed) for seed in (1, 2)]
    write_wfdb(folder, 212, signals)
    spec = spec_of(folder, "B")
    beats = encode_annotations(np.array([10, 20, 30]), list("NNN"))
    (folder / "rec.qrs").write_bytes(beats)
    path = folder / "rec.dat"
    whole = path.read_bytes()

    def use(data: bytes) -> None:
        path.write_bytes(data)
        read_lead(open_record(spec, folder, "rec"))

    found = fuzz([whole, whole + b"\1\2\3", whole + bytes(300)], 12_000, use)
    assert set(found) == {"read", "TruncatedSignal", "HeaderMismatch"}
    assert found["read"] > 1_000


@pytest.mark.parametrize("form", [16, 212, "segments"])
def test_header_beside_its_signal(folder: Path, form: int | str) -> None:
    """4,000 damaged headers each, with the signal files they speak of, opened and read."""
    if isinstance(form, int):
        write_wfdb(folder, form, [values(form, 100, seed) for seed in (1, 2)])
    else:
        write_segments(folder, variable=True)
    spec = spec_of(folder, "A")
    (folder / "rec.qrs").write_bytes(encode_annotations(np.array([1, 2, 3]), list("NNN")))
    path = folder / "rec.hea"

    def use(data: bytes) -> None:
        path.write_bytes(data)
        record = open_record(spec, folder, "rec")
        read_lead(record, 0, min(record.n_samples, 1000))

    found = fuzz([path.read_bytes()], 4_000, use)
    assert found["read"] > 100
    assert set(found) <= {
        "read", "HeaderMismatch", "TruncatedSignal", "MissingFile", "UnsafeName", "NoLead",
        "BadAnnotation",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["edf", "ishne"])
def test_holter_files(folder: Path, form: str) -> None:
    """5,000 damaged EDF+ and 5,000 damaged ISHNE files, opened and read."""
    made = simulate_subject(2, 1 / 60, 250.0, "sinus")
    spec = dataset(folder, form)
    if form == "edf":
        path, use_opener = folder / "rec.edf", open_edf
        write_edf(path, made, plus=True)
    else:
        path, use_opener = folder / "rec.ecg", open_ishne
        write_ishne(path, made)
    whole = path.read_bytes()
    head = 1500 if form == "edf" else 560

    def use(data: bytes) -> None:
        path.write_bytes(data + whole[head:])
        opened = use_opener(folder, "rec", spec.leads.prefer, {}, signal=True)
        assert opened.source is not None
        read_source(opened.source, 0, min(opened.n_samples, 1000))

    found = fuzz([whole[:head]], 5_000, use)
    assert set(found) <= {"read", "HeaderMismatch", "TruncatedSignal", "NoLead"}
    assert found["HeaderMismatch"] > 1_000


def test_intervals(folder: Path) -> None:
    """6,000 damaged CSVs of intervals."""
    spec = dataset(folder, "edf")
    opened = OpenRecording(250.0, 12_000, 250.0, (), "rec.edf")

    def use(data: bytes) -> None:
        (folder / "rec.csv").write_bytes(data)
        annotated_rhythm(spec, folder, "rec", opened, {})

    found = fuzz([CSV.encode()], 6_000, use)
    assert set(found) == {"read", "BadAnnotation", "UnknownRhythm", "NoRhythm"}


#: Seeds of our own files, and what reads each.
Own = tuple[list[bytes], Callable[[bytes], object]]
RELEASE = {
    "name": "rhythm",
    "threshold": 0.5,
    "smoothing_change": 1e-4,
    "runtime": "litert-float32",
    "runtimes": {"litert-float32": {"file": "model.tflite", "bytes": 5}},
    "files": {"model.tflite": {"sha256": "0" * 64, "bytes": 5}},
}


def of_path(path: Path, read: Callable[[Path], object]) -> Own:
    """A file that was written, and what reads it there."""
    whole = path.read_bytes()

    def use(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return [whole], use


def sets_of_beats(folder: Path) -> Own:
    """A test set of windows."""
    rows = np.zeros((3, 4, 2), np.float32)
    names, sample = np.array(["a", "b", "é"]), np.arange(12, dtype=np.int64).reshape(3, 4)
    testset = TestSet({"rhythm": rows}, np.zeros((3, 4), np.int8), names, names, sample)

    def read(path: Path) -> None:
        found = read_testset(path)
        for array in found.inputs.values():
            assert len(array[0:2]) == min(len(array), 2)
        assert (
            len(found.select_counted(np.zeros(found.label.shape, np.float32))[0])
            <= found.label.size
        )
        assert all(str(name) is not None for name in np.unique(found.record))

    return of_path(write_testset(folder / "testset.npz", testset), read)


def checkpoints(folder: Path) -> Own:
    """A checkpoint of two layers."""
    arrays: Any = [np.ones((2, 3), np.float32), np.array(5), np.zeros(3)]
    path = folder / "state.npz"
    write_checkpoint(path, Checkpoint(1, arrays, arrays, arrays, 0, 0.5, {"loss": [1.0, 2.5]}))
    return of_path(path, read_checkpoint)


def beats(folder: Path) -> Own:
    """A beat table of two row groups."""
    path = folder / "sim001.parquet"
    write_beats(path, [table(5), table(4, waveform=False)], SOURCE)

    def read(path: Path) -> None:
        found = read_beats(path)
        assert len(found.symbol) == len(found.label)
        read_table_source(path)
        read_waveforms(path, 0)

    return of_path(path, read)


def ledger_entries(_: Path) -> Own:
    """Entries among honest ones, which stand as they were; what is read is told in words."""
    known: list[Entry] = []
    for number, action in enumerate(("registered", "alias", "evaluated"), start=1):
        details = {"alias": "champion", "run_id": "r", "report": "d", "model_created_ms": "1"}
        previous = known[-1].sha256 if known else NO_PREVIOUS
        time = "2026-11-29T10:00:00+00:00"
        entry = Entry(number, time, "me", action, "m", 1, "why", details, previous)
        known.append(Entry(**{**asdict(entry), **sign(entry.signed_bytes())}))
    params = {entry_param(entry.sequence): json.dumps(asdict(entry)) for entry in known}

    def use(data: bytes) -> None:
        text = data.decode(errors="surrogateescape")
        pages = read_pages("m", {**params, entry_param(4): text})
        assert pages.entries == tuple(known)
        assert pages.faults
        entry = read_entry("m", entry_param(4), text)
        chain_faults([*known, entry], set())
        deed(entry)
        entries_of_model([replace(entry, details={}), entry], 1)
        aliases([entry])

    return [value.encode() for value in params.values()], use


def golden(folder: Path) -> Own:
    """Golden beats."""
    path, rows = folder / "golden.json", np.zeros((2, 3), np.float32)
    write_golden(path, {"rr": rows}, rows[:, 0], {"onnx": rows[:, 0]})
    return of_path(path, lambda path: (read_golden(path), read_golden(path, "onnx")))


def results(folder: Path) -> Own:
    """Results of a training."""
    path = write_arrays(folder / "r.npz", {"a": np.arange(9.0), "b": np.array(["x", "yy"])})
    return of_path(path, read_arrays)


def manifests(_: Path) -> Own:
    """A release's manifest; whatever it says, a trusted key signed it."""
    trusted = {public_key()}

    def read(data: bytes) -> None:
        found = verified_manifest(data, json.dumps(sign(data)).encode(), trusted)
        assert files_of(found) is not None
        assert float(found.get("threshold", 0)) is not None

    return [json.dumps(RELEASE).encode()], read


def signatures(_: Path) -> Own:
    """The signature of a manifest."""
    data, trusted = json.dumps(RELEASE).encode(), {public_key()}
    seed = json.dumps(sign(data)).encode()
    return [seed], lambda bent: verified_manifest(data, bent, trusted)


def statements(_: Path) -> Own:
    """A signed statement."""
    trusted, seed = {public_key()}, sign_roll_back("belt", "m", 3).encode()
    return [seed], lambda data: read_statement(data, trusted, statement="roll-back", device="belt")


def beat_manifests(folder: Path) -> Own:
    """The manifest of a data set's beat tables."""
    return of_path(beat_tables(folder), read_manifest)


def policies(folder: Path) -> Own:
    """A promotion policy."""
    path = folder / "p.toml"
    path.write_bytes(DEFAULT.read_bytes())
    return of_path(path, read_policy)


def thresholds(folder: Path) -> Own:
    """Thresholds of drift."""
    path = folder / "d.toml"
    path.write_bytes(DRIFT.read_bytes())
    return of_path(path, read_checks)


def kinds(folder: Path) -> Own:
    """A device kind."""
    path = folder / "k.toml"
    roots = "".join(f'{name} = "{root}"\n' for name, root in ROOTS.items())
    path.write_text((FOLDER / "jetson-orin-nano.toml").read_text() + f"[roots]\n{roots}")
    return of_path(path, read_kind)


OWN: dict[str, tuple[int, Callable[[Path], Own]]] = {
    "beat table": (4_000, beats),
    "beat manifest": (4_000, beat_manifests),
    "test set": (10_000, sets_of_beats),
    "checkpoint": (6_000, checkpoints),
    "results": (3_000, results),
    "golden beats": (3_000, golden),
    "release manifest": (6_000, manifests),
    "signature": (3_000, signatures),
    "statement": (3_000, statements),
    "outcome": (3_000, lambda _: ([json.dumps(OUTCOME).encode()], read_outcome)),
    "ledger entry": (3_000, ledger_entries),
    "policy": (4_000, policies),
    "thresholds of drift": (4_000, thresholds),
    "device kind": (4_000, kinds),
}


@pytest.mark.parametrize("name", OWN)
def test_our_own_files(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged files of our own, signed or not: each is read, or refused in one of our errors."""
    monkeypatch.setenv("HOLTER_HOME", str(folder / "server"))
    inputs, made = OWN[name]
    seeds, use = made(folder)
    use(seeds[0])
    found = fuzz(seeds, inputs, use)
    assert "an unnamed record" not in found
    assert len(found) > 1 or name == "results", found
