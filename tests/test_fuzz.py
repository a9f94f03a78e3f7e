"""A seeded fuzzer over every reader: damaged bytes give a value or one of our errors, never else.

200,000 inputs in all, made from real files where they are here, and from files the tests write.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from storage.edf import open_edf
from storage.errors import RecordError
from storage.ishne import open_ishne
from storage.leads import Opened, read_source
from storage.marks import annotated_rhythm
from storage.records import open_record, read_lead
from storage.wfdb_annotation import encode_annotations, parse_annotations
from storage.wfdb_header import parse_header
from tasks.simulate import simulate_subject
from tests.conftest import ROOT
from tests.test_formats import spec_of, values, write_segments, write_wfdb
from tests.test_holter_formats import CSV, dataset, write_edf, write_ishne

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
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
    """Use `inputs` damaged copies; count what became of them by the error's name."""
    rng = random.Random(2024)  # noqa: S311 - a fuzzer wants repeatable numbers
    found: dict[str, int] = {}
    for number in range(inputs):
        data = damaged(seeds[number % len(seeds)], rng)
        try:
            use(data)
            kind = "read"
        except RecordError as error:
            kind = type(error).__name__ if error.record == "rec" else "an unnamed record"
        except Exception as error:
            raise AssertionError(f"input {number}, {data!r}: {error!r}") from error
        found[kind] = found.get(kind, 0) + 1
    return found


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
    opened = Opened(250.0, 12_000, 250.0, (), "rec.edf")

    def use(data: bytes) -> None:
        (folder / "rec.csv").write_bytes(data)
        annotated_rhythm(spec, folder, "rec", opened, {})

    found = fuzz([CSV.encode()], 6_000, use)
    assert set(found) == {"read", "BadAnnotation", "UnknownRhythm", "NoRhythm"}
