"""A record under test by EC57: it is analysed blind, and left out for a reason that is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.ingest.simulate import write_simulated
from storage.datasets.dataset import DatasetSpec, load_spec
from storage.formats.wfdb_annotation import encode_annotations
from storage.recordings.records import Record, open_record
from storage.recordings.reference import fibrillation
from tasks.analysis.analyse import from_the_box
from tasks.analysis.ec57_record import AF, QRS, analyser, reasons, record_test
from tasks.runtimes.runtimes import open_runtime
from tasks.scores.levels.ec57 import af_counts, beat_counts
from tasks.scores.rule import rule_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven minutes of three simulated patients; the last has AF throughout."""
    folder = tmp_path_factory.mktemp("ec57")
    write_simulated(folder, 3, 0.12, seed=9)
    return folder


@pytest.fixture(scope="module")
def spec(folder: Path) -> DatasetSpec:
    return load_spec(folder / "dataset.toml")


def test_the_analysis_is_blind(folder: Path, spec: DatasetSpec) -> None:
    """It is given the signal, and of the annotation nothing; the annotation is compared whole."""
    seen: list[Record] = []
    test, left_out = record_test(spec, folder, "sim001", seen.append, signal=True)
    (blind,) = seen
    record = open_record(spec, folder, "sim001")
    assert (len(blind.beats), len(blind.symbols), len(blind.unreadable)) == (0, 0, 0)
    assert blind.rhythms.tolist() == [""]
    assert (blind.source, blind.lead, blind.n_samples) == (
        record.source,
        record.lead,
        record.n_samples,
    )
    assert test is not None
    assert left_out == {}
    # Nothing was told of it: all of it is missed.
    assert beat_counts(test).annotated == (record.beats >= 75_000).sum() > 100
    assert sum(beat_counts(test).hits) == 0


def test_a_release_is_tested_by_the_path_of_analyse(folder: Path, spec: DatasetSpec) -> None:
    """Beats of a clean signal and AF are found; without signals no detector is tested."""
    release = from_the_box("rhythm")
    network = open_runtime(release.folder, release.manifest)
    analyse = analyser(network, "rhythm", rule_of(release.manifest))
    test, left_out = record_test(spec, folder, "sim002", analyse, signal=True)
    assert test is not None
    assert left_out == {}
    metrics = beat_counts(test).metrics()
    assert min(metrics.values()) > 0.98
    assert beat_counts(test).shut_s == pytest.approx(0, abs=3)
    assert af_counts(test).metrics()["duration_sensitivity"] > 0.9
    alone, left_out = record_test(spec, folder, "sim002", analyse, signal=False)
    assert alone is not None
    assert left_out == {QRS: "its signal was not read"}


def test_a_record_is_left_out_for_a_reason(folder: Path, spec: DatasetSpec) -> None:
    """Pacemaker, length and missing signal leave it out of both tests, other things of one."""
    record = open_record(spec, folder, "sim000")
    assert reasons(record, signal=True) == {}
    paced = replace(record, symbols=np.where(np.arange(len(record.symbols)) == 3, "/", "N"))
    short = replace(record, n_samples=75_000)
    silent = replace(record, lead=None)
    for case, words in ((paced, "pacemaker"), (short, "period: 300 s"), (silent, "no signal")):
        left_out = reasons(case, signal=True)
        assert set(left_out) == {QRS, AF}
        assert all(words in reason for reason in left_out.values())
    bare = replace(record, beats=record.beats[:0], symbols=record.symbols[:0])
    assert set(reasons(bare, signal=True)) == {QRS}
    assert set(reasons(replace(record, label_source="record label"), signal=True)) == {AF}


def test_ventricular_fibrillation_is_between_its_marks(folder: Path, spec: DatasetSpec) -> None:
    """From `[` to `]`; one that is not closed runs to the record's end, and none is inside one."""
    record = open_record(spec, folder, "sim000")
    (name,) = [file for file in record.digests if file == "sim000.qrs"]
    assert fibrillation(spec, folder, record).tolist() == []
    sample = np.array([100, 500, 600, 700, 900, 1_000, 2_000], np.int64)
    (folder / name).write_bytes(encode_annotations(sample, [*"N[!]N[N"], {}))
    marked = replace(record, digests={name: ""})
    assert fibrillation(spec, folder, marked).tolist() == [[500, 700], [1_000, record.n_samples]]
