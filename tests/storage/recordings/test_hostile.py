"""Hostile files: every reader refuses them, in little time and memory, and leaves the rest."""

from __future__ import annotations

import io
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from storage.audit import fleet
from storage.audit.ledger_entry import read_entry
from storage.datasets.dataset import DatasetSpec, load_spec, record_names
from storage.errors import (
    HolterError,
    RecordError,
    RegistryError,
    SpecError,
    TableError,
    UnsafeName,
)
from storage.recordings.check import check_record
from storage.recordings.records import open_record
from storage.recordings.survey import survey
from storage.registry import client
from storage.registry.client import fetch_model_file, fetch_run_file
from storage.registry.policy import read_policy
from storage.registry.signing import verified_manifest
from storage.registry.tags import AGENT_TAG
from storage.tables.beats_manifest import Entry, Manifest, read_manifest, write_manifest
from storage.tables.golden_beats import read_golden
from storage.tables.testset import read_testset
from tests.flows.test_data_add import ishne, wfdb

MOST_MB, MOST_S = 64, 5.0
OUTSIDE = "secret.dat"


def spec(form: str, rhythm: str | None = None, **records: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(
        {
            "name": "hostile",
            "title": "x",
            "version": "1",
            "licence": "x",
            "citation": "x",
            "records": {"format": form, **(records or {"pattern": "**/*"})},
            "annotations": {"beats": ["detect"], **({"rhythm": rhythm} if rhythm else {})},
            "leads": {"prefer": ["II"]},
            "rhythms": {"af": ["AFIB"], "map": {"N": "N", "AFIB": "AFIB"}, "unmarked": "N"},
        }
    )


def edf(signals: int, records: int, samples: int, extra: int = 0) -> bytes:
    """An EDF header of so many signals and data records, and `extra` bytes of samples."""

    def field(value: object, width: int) -> bytes:
        return str(value).encode().ljust(width)[:width]

    head = b"0".ljust(8) + b" " * 160 + b"01.01.0100.00.00"
    head += field(256 * (signals + 1), 8) + b" " * 44
    head += field(records, 8) + field(1, 8) + field(signals, 4)
    one = [field("II", 16), b" " * 80, field("mV", 8), field(-1, 8), field(1, 8)]
    one += [field(-2048, 8), field(2047, 8), b" " * 80, field(samples, 8), b" " * 32]
    return head + b"".join(part * signals for part in one) + b"\0" * extra


def flac_bomb() -> bytes:
    """Eleven hours of silence at 250 Hz in a few kilobytes."""
    out = io.BytesIO()
    soundfile.write(out, np.zeros(10_000_000, np.int16), 8000, format="FLAC", subtype="PCM_16")
    return out.getvalue()


FLAC = flac_bomb()
HEA = "rec 1 250 {n}\nrec.dat 16 200 16 0 0 0 0 II\n"
#: Format, files, and what is said of them.
BOMBS: dict[str, tuple[str, dict[str, bytes], str]] = {
    "FLAC of silence": (
        "wfdb",
        {"rec.hea": b"rec 1 250 10000000\nrec.dat 516 200 16 0 0 0 0 II\n", "rec.dat": FLAC},
        "a constant 0 mV throughout",
    ),
    "FLAC beyond its header": (
        "wfdb",
        {"rec.hea": b"rec 1 250 1000\nrec.dat 516 200 16 0 0 0 0 II\n", "rec.dat": FLAC},
        "the 10000000 frames",
    ),
    "FLAC that announces years": (
        "wfdb",
        {
            "rec.hea": b"rec 1 250\nrec.dat 516 200 16 0 0 0 0 II\n",
            "rec.dat": FLAC[:21] + b"\xff\xff\xff\xff\xff" + FLAC[26:],
        },
        "whole frames",
    ),
    "samples beyond the file": (
        "wfdb",
        {"rec.hea": HEA.format(n=10**11).encode(), "rec.dat": b"\0" * 100},
        "bytes of samples",
    ),
    "more digits than a length has": (
        "wfdb",
        {"rec.hea": HEA.format(n="9" * 4000).encode(), "rec.dat": b"\0" * 100},
        "at most",
    ),
    "a million signals": ("wfdb", {"rec.hea": b"rec 1000000 250 1000\n"}, "at most 4096"),
    "segments of a billion hours": (
        "wfdb",
        {"rec.hea": b"rec/2 1 250 0\npart 250\n~ 900000000000\n", "part.hea": b"part 1 250 250\n"},
        "at most",
    ),
    "a record that is its own segment": (
        "wfdb",
        {"rec.hea": b"rec/1 1 250 250\nrec 250\n"},
        "found",
    ),
    "a frame of a billion samples": (
        "wfdb",
        {
            "rec.hea": b"rec 1 250 1000\n" + b"rec.dat 16x65536 200 16 0 0 0 0 II\n",
            "rec.dat": b"\0" * 100,
        },
        "found",
    ),
    "EDF data records beyond the file": ("edf", {"rec.edf": edf(1, 99999999, 250)}, "0 bytes of"),
    "EDF of 9999 signals": ("edf", {"rec.edf": edf(9999, 1, 1)}, "9999 signals"),
    "EDF with huge data records": ("edf", {"rec.edf": edf(1, 1, 99999999)}, "of 99999999 samples"),
    "EDF without an end": ("edf", {"rec.edf": edf(1, -1, 250, 500)}, "a constant"),
    "ISHNE samples beyond the file": ("ishne", {"rec.ecg": ishne(2**31 - 1)}, "bytes of samples"),
    "ISHNE of 32767 leads": ("ishne", {"rec.ecg": ishne(50, leads=32767)}, "32767 leads"),
    "ISHNE of -3 leads": ("ishne", {"rec.ecg": ishne(50, leads=-3)}, "-3 leads"),
    "ISHNE text of 2 GB": ("ishne", {"rec.ecg": ishne(50, text=2**31 - 600)}, "a text of"),
    "ISHNE text of -1": ("ishne", {"rec.ecg": ishne(50, text=-1, ecg_at=521)}, "a text of -1"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_memory(name: str, tmp_path: Path) -> None:
    """Counts that a file does not hold up cost neither memory nor time; the record alone fails."""
    form, files, told = BOMBS[name]
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    tracemalloc.start()
    began = time.perf_counter()
    check = check_record(spec(form), tmp_path, "rec", signal=True)
    spent, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert told in (check.problem or ""), check
    assert spent < MOST_S
    assert peak < MOST_MB << 20
    survey(tmp_path)  # must not be brought down by it either


def test_a_csv_bomb(tmp_path: Path) -> None:
    """A CSV of intervals larger than any year's is refused before its rows become objects."""
    wfdb(tmp_path, ("rec",))
    (tmp_path / "rec.csv").write_bytes(b"start_s,end_s,rhythm\n" + b"0,1,N\n" * 3_000_000)
    check = check_record(spec("wfdb", rhythm="csv"), tmp_path, "rec", signal=False)
    assert "at most 16777216" in (check.problem or "")


@pytest.fixture
def guarded(tmp_path: Path) -> Path:
    """A data set's folder with something beside it that must not be read."""
    (tmp_path / OUTSIDE).write_bytes(b"\0" * 5000)
    for suffix in ("hea", "edf", "ecg", "atr"):
        (tmp_path / f"secret.{suffix}").write_bytes(b"secret 1 250 250\n")
    folder = tmp_path / "set"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("form", ["wfdb", "edf", "ishne"])
@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "a\\b", "a\0b", ""])
def test_a_record_s_name_stays_inside(form: str, name: str, guarded: Path) -> None:
    """A record that a list names outside the folder is refused, whatever the format."""
    with pytest.raises(UnsafeName):
        open_record(spec(form), guarded, name)


@pytest.mark.parametrize("form", ["wfdb", "edf", "ishne"])
def test_a_link_out_of_the_folder_is_refused(form: str, guarded: Path) -> None:
    """A symbolic link that leads out of the folder is not followed."""
    suffix = {"wfdb": "hea", "edf": "edf", "ishne": "ecg"}[form]
    (guarded / f"rec.{suffix}").symlink_to(guarded.parent / f"secret.{suffix}")
    with pytest.raises(UnsafeName, match="leads out of the folder"):
        open_record(spec(form), guarded, "rec")
    problems = [one.problem or "" for one in survey(guarded, form).records]
    assert len(problems) == 1
    assert "leads out of the folder" in problems[0]


@pytest.mark.parametrize(
    "header",
    [
        f"rec 1 250 250\n../{OUTSIDE} 16 200 16 0 0 0 0 II\n",
        "rec/1 1 250 250\n../secret 250\n",
    ],
)
def test_a_header_s_files_stay_inside(header: str, guarded: Path) -> None:
    """A signal file or segment that a header names outside the folder is not opened."""
    (guarded / "rec.hea").write_text(header)
    with pytest.raises(UnsafeName):
        open_record(spec("wfdb"), guarded, "rec")


@pytest.mark.parametrize("listing", ["../secret.hea", "/etc/passwd"])
def test_a_list_stays_inside(listing: str, guarded: Path) -> None:
    """A TOML's list file outside the folder is not read."""
    with pytest.raises((UnsafeName, SpecError)):
        record_names(spec("wfdb", file=listing), guarded)


@pytest.mark.parametrize("fetch", [fetch_model_file, fetch_run_file])
@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\\..\\x"])
def test_an_artifact_s_name_stays_inside(
    fetch: Callable[..., Path], name: str, tmp_path: Path
) -> None:
    """An artifact whose name leads out of its folder is refused before any server is asked."""
    arguments = ("model", 1) if fetch is fetch_model_file else ("run",)
    with pytest.raises(RegistryError, match="leaves its folder"):
        fetch(*arguments, name, None, tmp_path / "to")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("file", ["../../x.parquet", "/etc/passwd", "a/../../x"])
def test_a_manifest_s_tables_stay_inside(file: str, tmp_path: Path) -> None:
    """A manifest that names a table outside its folder is refused."""
    path = tmp_path / "manifest.json"
    entry = Entry("r", "s", file, "0", "0", None, 1.0, 1, 0, 0, 0, {})
    names: tuple[str, ...] = ("dataset", "title", "version", "licence", "citation", "origin")
    names += ("spec_sha256", "preprocessing_sha256", "code_sha256")
    texts: dict[str, Any] = dict.fromkeys(names, "x")
    write_manifest(
        path,
        Manifest(**texts, simulated=False, entries=(entry,), failures={}, excluded={}),
    )
    with pytest.raises(TableError, match="one in the manifest's folder"):
        read_manifest(path)


def test_a_compressed_test_set_is_refused(tmp_path: Path) -> None:
    """A test set whose inputs are deflated, as a bomb's are, is refused without being unpacked."""
    rows = io.BytesIO()
    np.save(rows, np.zeros((20_000, 300, 1), np.float32))
    path = tmp_path / "testset.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("input.waveform.npy", rows.getvalue())
        archive.writestr("label.npy", bytes(1_000_000))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(TableError, match="compressed"):
        read_testset(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    with pytest.raises(TableError, match="columns of 1000000 bytes unpacked; at most 1000"):
        read_testset(path, most_bytes=1000)


#: JSON and TOML from outside, by what reads them.
NESTED: dict[str, Callable[[Path], object]] = {
    "manifest": read_manifest,
    "golden beats": read_golden,
    "data set": lambda path: load_spec(path.with_suffix(".toml")),
    "policy": lambda path: read_policy(path.with_suffix(".toml")),
    "signature": lambda path: verified_manifest(b"{}", path.read_bytes(), ["a"]),
    "ledger": lambda path: read_entry("model", "entry", path.read_text()),
    "MLflow": lambda _: client.call("GET", "experiments/get"),
}


@pytest.mark.parametrize("name", NESTED)
def test_deep_nesting_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that opens a hundred thousand brackets is one of our errors, not the end of a flow or
    of a device's agent."""
    path = tmp_path / "x.json"
    path.write_text("[" * 100_000)
    path.with_suffix(".toml").write_text("a = " + "[" * 100_000)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(client, "_persistent", lambda *_: path.read_bytes())
    with pytest.raises(HolterError, match=r"nested too deeply|cannot be read"):
        NESTED[name](path)


@pytest.mark.parametrize("said", ["[" * 100_000, "[]", "null", '{"seen_s": "soon"}', "x"])
def test_what_a_device_says_of_itself_spoils_no_list(said: str) -> None:
    """A device whose tag is no JSON, or other JSON, is listed as one that was never seen."""
    tags = [{"key": AGENT_TAG, "value": said}]
    assert fleet._device({"name": "edge/a", "tags": tags}).seen_ago_s is None


def test_errors_are_ours() -> None:
    """What a hostile file raises is one of the project's errors, that a command prints plainly."""
    assert issubclass(UnsafeName, RecordError)
    assert issubclass(RecordError, HolterError)
