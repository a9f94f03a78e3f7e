"""Opening records: what is right comes through, what is wrong is its own error."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.options import SOME_RECORDS_FAILED
from storage import errors
from storage.datasets.dataset import DatasetSpec, load_spec
from storage.errors import ChecksumMismatch, RecordError
from storage.files import sha256_bytes
from storage.formats.checksums import verify_checksums
from storage.formats.wfdb_annotation import encode_annotations
from storage.formats.wfdb_write import write_dataset, write_recording
from storage.recordings.check import check_dataset, check_record
from storage.recordings.records import open_record, read_lead
from tasks.learning.simulate import SimulatedRecording, simulate_subject
from tasks.signal.beats import beat_tables
from tasks.signal.preprocessing import Preprocessing

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def made() -> SimulatedRecording:
    return simulate_subject(1, 0.02, 250.0, "paroxysmal")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, made: SimulatedRecording) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    digests: dict[str, str] = {}
    for name in ("sim001", "sim002"):
        digests |= write_recording(folder, name, 250.0, made)
    return write_dataset(folder, ["sim001", "sim002"], digests, "a test").parent


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


def edit(file: str, change: Callable[[bytes], bytes]) -> Damage:
    """Damage one file, and list the new digest, so that nothing but the damage is wrong."""

    def damage(folder: Path) -> None:
        path = folder / file
        path.write_bytes(change(path.read_bytes()))
        (folder / "SHA256SUMS.txt").unlink()

    return damage


def replaced(file: str, old: str, new: str) -> Damage:
    def change(data: bytes) -> bytes:
        assert old.encode() in data
        return data.replace(old.encode(), new.encode())

    return edit(file, change)


def marks(*texts: str) -> Damage:
    sample = np.arange(len(texts), dtype=np.int64)
    return edit(
        "sim001.atr",
        lambda _: encode_annotations(sample, ["+"] * len(texts), dict(enumerate(texts))),
    )


def few_beats(folder: Path) -> None:
    (folder / "sim001.qrs").write_bytes(encode_annotations(np.array([100, 300]), ["N", "N"]))
    (folder / "SHA256SUMS.txt").unlink()


def leads_out(folder: Path) -> None:
    (folder / "sim001.dat").unlink()
    (folder / "sim001.dat").symlink_to("/etc/passwd")


def silent(value: int) -> Damage:
    """Every sample the same 12-bit value, and a header without checksums."""
    pair = value & 0xFFF
    three = bytes([pair & 0xFF, pair >> 8 | pair >> 8 << 4, pair & 0xFF])

    def damage(folder: Path) -> None:
        dat, hea = folder / "sim001.dat", folder / "sim001.hea"
        dat.write_bytes(three * (dat.stat().st_size // 3))
        lines = hea.read_text().splitlines()
        named = [" 0 0 0 ECG1", " 0 0 0 ECG2"]
        hea.write_text("\n".join([lines[0], *(f"sim001.dat 212 200 12 0{n}" for n in named)]))
        (folder / "SHA256SUMS.txt").unlink()

    return damage


BAD: dict[str, tuple[Damage, type[RecordError], str, str]] = {
    "signal missing": (
        lambda f: (f / "sim001.dat").unlink(),
        errors.MissingFile,
        "sim001.dat",
        "no such file",
    ),
    "header missing": (
        lambda f: (f / "sim001.hea").unlink(),
        errors.MissingFile,
        "sim001.hea",
        "no such file",
    ),
    "rhythm file missing": (
        lambda f: (f / "sim001.atr").unlink(),
        errors.MissingFile,
        "sim001.atr",
        "no such file",
    ),
    "signal truncated": (
        edit("sim001.dat", lambda data: data[:-1]),
        errors.TruncatedSignal,
        "sim001.dat",
        "53999 bytes of samples; expected 54000",
    ),
    "header says more samples": (
        replaced("sim001.hea", "250 18000", "250 18001"),
        errors.TruncatedSignal,
        "sim001.dat",
        "for 18001 frames",
    ),
    "header says fewer samples": (
        replaced("sim001.hea", "250 18000", "250 9000"),
        errors.HeaderMismatch,
        "sim001.hea",
        "9000 frames of 2 samples; expected the 18000 frames of sim001.dat",
    ),
    "header says one lead": (
        edit("sim001.hea", lambda d: b"sim001 1 250 18000\n" + d.splitlines()[1] + b"\n"),
        errors.HeaderMismatch,
        "sim001.hea",
        "18000 frames of 1 samples",
    ),
    "header of another format": (
        replaced("sim001.hea", "sim001.dat 212", "sim001.dat 213"),
        errors.HeaderMismatch,
        "sim001.hea",
        "format 213",
    ),
    "header garbled": (
        replaced("sim001.hea", "sim001 2 250", "sim001 two 250"),
        errors.HeaderMismatch,
        "sim001.hea",
        "the line 'sim001 two 250 18000'",
    ),
    "signal altered": (
        edit("sim001.dat", lambda d: d[:300] + b"\1\2\3" + d[303:]),
        errors.HeaderMismatch,
        "sim001.dat",
        "the header's checksum",
    ),
    "checksum": (
        lambda f: (f / "sim001.dat").write_bytes(bytes(54000)),
        errors.ChecksumMismatch,
        "sim001.dat",
        "found SHA-256",
    ),
    "no rhythm": (marks(), errors.NoRhythm, "sim001.atr", "no rhythm mark"),
    "unknown rhythm": (
        marks("(N", "(BII"),
        errors.UnknownRhythm,
        "sim001.atr",
        "'BII'; expected one of N, AFIB",
    ),
    "annotation cut short": (
        edit("sim001.qrs", lambda data: data[:-2]),
        errors.BadAnnotation,
        "sim001.qrs",
        "no end mark",
    ),
    "beats after the end": (
        edit("sim001.qrs", lambda _: encode_annotations(np.array([9, 99, 18000]), list("NNN"))),
        errors.BadAnnotation,
        "sim001.qrs",
        "beat at sample 18000",
    ),
    "no wanted lead": (
        edit("sim001.hea", lambda data: data.replace(b"ECG", b"RESP")),
        errors.NoLead,
        "sim001.hea",
        "leads 'RESP1', 'RESP2'; expected one of 'ECG1', 'ECG2'",
    ),
    "no valid sample": (silent(-2048), errors.UnusableSignal, "sim001.dat", "no valid sample"),
    "flat": (silent(100), errors.UnusableSignal, "sim001.dat", "a constant 0.5 mV"),
    "fewer than three beats": (few_beats, errors.TooFewBeats, "sim001.qrs", "2 annotated beats"),
    "leaves the folder": (
        leads_out,
        errors.UnsafeName,
        "sim001.dat",
        "leads out of the folder",
    ),
    "signal elsewhere": (
        replaced("sim001.hea", "sim001.dat", "../sim001.dat"),
        errors.UnsafeName,
        "../sim001.dat",
        "",
    ),
}


def use(spec: DatasetSpec, folder: Path, name: str) -> None:
    """What ingest does with a record."""
    record = open_record(spec, folder, name)
    verify_checksums(folder, name, record.digests)
    tables, _, _ = beat_tables(record, partial(read_lead, record), Preprocessing())
    assert sum(map(len, tables)) > 50


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_its_own_error(folder: Path, case: str) -> None:
    """What is wrong with a record is an error of its own kind, naming the record and the file."""
    damage, kind, file, said = BAD[case]
    damage(folder)
    spec = load_spec(folder)
    check = check_record(spec, folder, "sim001", signal=True)
    assert check.problem is not None
    assert "record sim001" in check.problem
    assert file in check.problem
    assert said in check.problem
    assert check_record(spec, folder, "sim002", signal=True).problem is None
    if case == "signal altered":  # only a whole look at the signal, or SHA256SUMS, can tell
        return
    with pytest.raises(kind) as caught:
        use(spec, folder, "sim001")
    assert type(caught.value) is kind
    assert file in str(caught.value)
    assert caught.value.record == "sim001"


def test_the_whole_record_is_used(folder: Path, made: SimulatedRecording) -> None:
    """A record without fault opens, checks and reads as it was written."""
    spec = load_spec(folder)
    use(spec, folder, "sim001")
    record = open_record(spec, folder, "sim001")
    np.testing.assert_array_equal(record.beats, made.beats)
    assert record.rhythms.tolist() == made.rhythms.tolist()
    np.testing.assert_allclose(read_lead(record), made.signal_mv[:, 0], atol=0.0026)
    np.testing.assert_array_equal(read_lead(record, 500, 900), read_lead(record)[500:900])


@pytest.mark.parametrize(
    "name", ["../sim001", "/etc/passwd", "a/../../sim001", "sim\0001", "", "."]
)
def test_a_record_name_stays_inside(folder: Path, name: str) -> None:
    """A record's name that leaves its folder is UnsafeName, whatever is asked of it."""
    spec = load_spec(folder)
    with pytest.raises(errors.UnsafeName):
        open_record(spec, folder, name)
    with pytest.raises(errors.UnsafeName):
        verify_checksums(folder, name)


def test_one_bad_record_spares_the_others(folder: Path) -> None:
    """A data set's check looks at every record, and says of each what is wrong with it."""
    (folder / "RECORDS").write_text("sim001\n../other\nsim002\nsim003\n")
    checks = check_dataset(load_spec(folder), folder, lambda _: None)
    assert [check.record for check in checks] == ["sim001", "../other", "sim002", "sim003"]
    assert [check.problem is None for check in checks] == [True, False, True, False]
    assert checks[0].checksums == "fit"
    assert checks[0].lead == "ECG1"


def test_a_check_opens_each_file_as_often_as_it_is_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Header and annotations once; the signal for its digest, its lead and its sum; the list of
    checksums once for all records."""
    opened: Counter[str] = Counter()
    real = Path.open

    def counted(self: Path, *args: Any, **named: Any) -> Any:
        opened[self.suffix] += 1
        return real(self, *args, **named)

    spec = load_spec(folder)
    monkeypatch.setattr(Path, "open", counted)
    checks = check_dataset(spec, folder, lambda _: None)
    assert [check.checksums for check in checks] == ["fit", "fit"]
    once = dict.fromkeys((".hea", ".atr", ".qrs"), len(checks))
    assert {suffix: opened[suffix] for suffix in once} == once
    assert opened[".dat"] == 3 * len(checks)
    assert opened[".txt"] == 1


def test_data_check_says_so_and_exits(folder: Path) -> None:
    """`holter data check` exits with 0 where all is well, else with 3, each record a row."""
    words = ["data", "check", str(folder / "dataset.toml"), "--data", str(folder)]
    runner = CliRunner(env={"COLUMNS": "300"})
    good = runner.invoke(app, words)
    assert good.exit_code == 0, good.output
    assert "2 records, 0 with a problem." in good.output
    (folder / "sim001.dat").unlink()
    bad = runner.invoke(app, words)
    assert bad.exit_code == SOME_RECORDS_FAILED
    assert "2 records, 1 with a problem." in bad.output
    assert "sim002" in bad.output


def test_a_signal_that_shrinks_after_opening_is_noticed(folder: Path) -> None:
    """A signal file cut short or removed between opening and reading is an error."""
    record = open_record(load_spec(folder), folder, "sim001")
    dat = folder / "sim001.dat"
    dat.write_bytes(dat.read_bytes()[:30000])
    with pytest.raises(errors.TruncatedSignal, match=r"sim001\.dat: found 10000 samples"):
        read_lead(record)
    dat.unlink()
    with pytest.raises(errors.MissingFile, match=r"sim001\.dat"):
        read_lead(record)


def test_errors_cross_processes() -> None:
    """A record's error survives pickling, so a worker process can hand it back."""
    import pickle

    error = errors.TruncatedSignal("a", "1 byte", "2", "a.dat")
    found = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(found), found.file) == (str(error), "a.dat")


def test_a_list_of_checksums_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For many records the list is read once, and again when it has changed."""
    from storage.formats import checksums

    names = [f"r{n}" for n in range(50)]
    for name in names:
        (tmp_path / f"{name}.dat").write_bytes(name.encode())
    good = "".join(f"{sha256_bytes(name.encode())}  {name}.dat\n" for name in names)
    (tmp_path / checksums.SUMS).write_text(good)
    reads: list[Path] = []
    read_sums = checksums.read_sums

    def counted(folder: Path) -> dict[str, str]:
        reads.append(folder)
        return read_sums(folder)

    monkeypatch.setattr(checksums, "read_sums", counted)
    assert all(checksums.verify_checksums(tmp_path, name) for name in names)
    assert len(reads) == 1
    (tmp_path / checksums.SUMS).write_text(f"{good}\n")
    assert checksums.verify_checksums(tmp_path, "r7")
    assert len(reads) == 2
    assert checksums.verify_checksums(tmp_path, "r") is None
    (tmp_path / "r1.dat").write_bytes(b"altered")
    with pytest.raises(ChecksumMismatch):
        checksums.verify_checksums(tmp_path, "r1")
