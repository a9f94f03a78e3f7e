"""Manifests, labelled beats and provenance."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from modulefinder import ModuleFinder
from pathlib import Path
from types import CodeType

import numpy as np
import pytest

from storage.audit import provenance
from storage.audit.provenance import ROOT, beat_code_sha256, code_of, environment_sha256, git_state
from storage.errors import TableError
from storage.files import sha256_file, whole
from storage.tables.beats import Quality, write_beats
from storage.tables.beats_manifest import (
    Entry,
    Manifest,
    known_entries,
    read_manifest,
    still_good,
    write_manifest,
)
from storage.tables.labelled import read_labelled
from tests.tasks.signal.test_beats import SOURCE, table


def dataset(folder: Path, rows: int = 30) -> Path:
    """Two records' tables with a manifest, and its path."""
    entries = []
    for number in (1, 2):
        name = f"sim00{number}"
        beats = replace(table(rows, seed=number), record=name, subject=f"s{number}")
        beats = replace(beats, quality=np.zeros(rows, np.uint16))
        file = folder / f"{name}.parquet"
        write_beats(file, [beats], replace(SOURCE, record=name, subject=f"s{number}"))
        entries.append(
            Entry(
                record=name,
                subject=f"s{number}",
                file=file.name,
                sha256=sha256_file(file),
                key="k" * 64,
                lead="ECG1",
                hours=0.1,
                beats=rows,
                af_beats=int((beats.label == 1).sum()),
                unknown_beats=int((beats.label < 0).sum()),
                flagged_beats=0,
                counts={"matched": rows},
            )
        )
    manifest = Manifest(
        dataset="sim",
        title="Simulated",
        version="1",
        licence="CC0-1.0",
        citation="none",
        origin="here",
        spec_sha256="a" * 64,
        preprocessing_sha256="b" * 64,
        code_sha256="c" * 64,
        simulated=True,
        entries=tuple(entries),
        failures={"sim003": "record sim003: found nothing; expected a header"},
        excluded={},
    )
    return write_manifest(folder / "manifest.json", manifest)


def test_round_trip(tmp_path: Path) -> None:
    """A manifest is read as it was written, and its digest hangs on the tables' digests alone."""
    path = dataset(tmp_path)
    manifest = read_manifest(path)
    assert manifest.failures == {"sim003": "record sim003: found nothing; expected a header"}
    assert replace(manifest, origin="elsewhere").digest() == manifest.digest()
    first = replace(manifest.entries[0], sha256="0" * 64)
    assert replace(manifest, entries=(first, manifest.entries[1])).digest() != manifest.digest()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"manifest_version": 99, "entries": []}'])
def test_damaged_manifest(tmp_path: Path, text: str) -> None:
    """A damaged manifest is an error that names it, and no known entries to an ingest."""
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(TableError, match=r"manifest\.json"):
        read_manifest(path)
    assert known_entries(path) == {}


def test_foreign_version(tmp_path: Path) -> None:
    """A manifest of another version is refused, with both versions named."""
    path = dataset(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"manifest_version": 99}))
    with pytest.raises(TableError, match="version 99; expected 1"):
        read_manifest(path)


def test_still_good(tmp_path: Path) -> None:
    """A table counts as kept only with the same key and unaltered bytes."""
    entry = read_manifest(dataset(tmp_path)).entries[0]
    file = tmp_path / entry.file
    assert still_good(entry, entry.key, tmp_path)
    assert not still_good(entry, "other", tmp_path)
    assert not still_good(None, entry.key, tmp_path)
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    assert not still_good(entry, entry.key, tmp_path)
    file.unlink()
    assert not still_good(entry, entry.key, tmp_path)


def test_labelled_beats(tmp_path: Path) -> None:
    """Only beats with a waveform and a label are read; the others are counted by reason."""
    beats = read_labelled([dataset(tmp_path)])
    assert np.isfinite(beats.waveform[np.arange(len(beats))]).all()
    assert set(np.unique(beats.label)) == {0, 1}
    assert beats.subject.values.tolist() == ["sim/s1", "sim/s2"]
    assert beats.left_out["no waveform"] == 2
    assert len(beats) + sum(beats.left_out.values()) == 60


def test_invalid_samples_are_left_out(tmp_path: Path) -> None:
    """A beat flagged with a gap does not reach a model."""
    path = dataset(tmp_path)
    manifest = read_manifest(path)
    file = tmp_path / manifest.entries[0].file
    flagged = replace(
        table(30, seed=1), label=np.ones(30, np.int8), quality=np.full(30, Quality.GAP, np.uint16)
    )
    write_beats(file, [flagged], SOURCE)
    entry = replace(manifest.entries[0], sha256=sha256_file(file))
    write_manifest(path, replace(manifest, entries=(entry, manifest.entries[1])))
    beats = read_labelled([path])
    assert beats.left_out["invalid samples"] == 29
    assert beats.subject.values.tolist() == ["sim/s2"]


def test_altered_table_is_refused(tmp_path: Path) -> None:
    """Training reads no table whose bytes are not the manifest's."""
    path = dataset(tmp_path)
    write_beats(tmp_path / "sim001.parquet", [table(5)], SOURCE)
    with pytest.raises(TableError, match=r"sim001\.parquet: found altered bytes"):
        read_labelled([path])
    (tmp_path / "sim001.parquet").unlink()
    with pytest.raises(TableError, match=r"sim001\.parquet: found no file"):
        read_labelled([path])


def test_imports_are_those_of_modulefinder() -> None:
    """Of every module here: read from byte code, in the order that Python's own reader gives."""

    def by_modulefinder(code: CodeType) -> list[str]:
        names = []
        for kind, operand in ModuleFinder().scan_opcodes(code):
            if kind == "absolute_import" and operand[1].partition(".")[0] in ("tasks", "storage"):
                names += [operand[1], *(f"{operand[1]}.{name}" for name in operand[0] or ())]
        inner = (x for x in code.co_consts if isinstance(x, CodeType))
        return [*names, *chain.from_iterable(map(by_modulefinder, inner))]

    count = 0
    for path in [*(ROOT / "tasks").rglob("*.py"), *(ROOT / "storage").rglob("*.py")]:
        code = compile(path.read_bytes(), str(path), "exec")
        imports = list(provenance._imports(code))
        assert imports == by_modulefinder(code), path
        count += len(imports)
    assert count > 500


def test_beat_code_covers_what_it_imports() -> None:
    """The code digest follows the imports, so no module that shapes a beat is forgotten."""
    found = code_of("tasks.signal.beats", "storage.recordings.records", "storage.tables.beats")
    assert {
        "tasks.signal.qrs",
        "tasks.signal.segment",
        "tasks.signal.preprocessing",
        "storage.files",
    } <= set(found)
    assert not any(name.startswith(("flows", "edge_agent")) for name in found)
    assert len(beat_code_sha256()) == 64


def test_git_state_names_a_commit() -> None:
    """In a checkout the commit is 40 digits and dirtiness is said."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    state = git_state()
    assert len(state["git.commit"]) == 40
    assert state["git.dirty"] in {"true", "false"}
    assert len(environment_sha256()) == 64


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    """A write that fails leaves the old file, and nothing beside it."""
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with whole(path) as partial:
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
