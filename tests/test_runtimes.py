"""Exports and runtimes: every file answers as Keras does, or is refused with the figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.bench import compared
from storage.errors import ModelError, ParityError
from storage.files import read_json, write_json
from storage.model_files import LITERT, MANIFEST, WEIGHTS
from tasks.convert import EXPORTS, check, compare
from tasks.litert import LiteRT
from tasks.models import build
from tasks.runtimes import RUNTIMES, open_runtime
from tasks.training import predict

NETWORK = "rhythm_tiny"
FILES = {"litert-float32": LITERT, "litert-int8": "model.litert-int8.tflite", "keras-hdf5": WEIGHTS}


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    """Fifty windows of made-up rhythm."""
    return {"rhythm": np.random.default_rng(0).normal(0, 0.3, (50, 640, 3)).astype(np.float32)}


@pytest.fixture(scope="module")
def network() -> Any:
    """An untrained network."""
    return build(NETWORK, seed=4)


@pytest.fixture(scope="module")
def release(network: Any, rows: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of every runtime."""
    folder = tmp_path_factory.mktemp("release")
    for name, export in EXPORTS.items():
        (folder / FILES[name]).write_bytes(export.make(network, rows))
    network.save_weights(folder / WEIGHTS)
    runtimes = {name: {"file": file} for name, file in FILES.items()}
    write_json(folder / MANIFEST, {"name": NETWORK, "threshold": 0.5, "runtimes": runtimes})
    return folder


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_runtime_answers_as_keras(
    release: Path, network: Any, rows: dict[str, Any], name: str
) -> None:
    """Within the limits of its export; Keras from HDF5 weights to the last digits."""
    found = open_runtime(release, read_json(release / MANIFEST), name).predict(rows)[..., 0]
    expected = predict(network, rows["rhythm"])
    label = (np.random.default_rng(1).random(expected.shape) < 0.5).astype(np.int8)
    parity = compare(expected, found, label, 0.5)
    if name in EXPORTS:
        most = EXPORTS[name].limits
        assert parity.mean_abs_error <= most.mean_abs_error
        assert parity.p99_abs_error <= most.p99_abs_error
    else:
        assert parity.max_abs_error < 1e-5


def test_int8_is_int8_and_deterministic(network: Any, rows: dict[str, Any], release: Path) -> None:
    """The same rows give the same bytes; and its answers lie on a grid of 1/256."""
    data = (release / FILES["litert-int8"]).read_bytes()
    assert EXPORTS["litert-int8"].make(network, rows) == data
    assert data != (release / LITERT).read_bytes()
    steps = LiteRT(data).predict(rows) * 256
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)


def test_parity_counts_known_beats_alone() -> None:
    """Errors by hand; a beat of label -1 counts nowhere; a decision that flips changes F1."""
    expected, found = np.array([0.9, 0.2, 0.6, 0.1]), np.array([0.8, 0.2, 0.4, 0.9])
    label = np.array([1, 0, 1, -1], np.int8)
    parity = compare(expected.astype(np.float32), found.astype(np.float32), label, 0.5)
    assert parity.beats == 3
    assert parity.max_abs_error == pytest.approx(0.2, abs=1e-6)
    assert parity.mean_abs_error == pytest.approx(0.1, abs=1e-6)
    assert parity.f1_change == pytest.approx(2 / 3 - 1)
    with pytest.raises(ParityError, match=r"f1_change -0.33 \(at most 0.005\)"):
        check("litert-int8", parity)


def test_nan_is_refused() -> None:
    """An export that answers NaN is held to no limit by accident."""
    nan = np.full(3, np.nan, np.float32)
    label = np.array([1, 0, 1], np.int8)
    with pytest.raises(ParityError, match="3 answers of 3 are no numbers"):
        compare(np.zeros(3, np.float32), nan, label, 0.5)


def test_what_is_not_there_is_said(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the release lacks, and a package that is not installed."""
    with pytest.raises(ModelError, match="found no file for litert-int8; it has litert-float32"):
        open_runtime(release, {"name": NETWORK}, "litert-int8")
    lacking = RUNTIMES["keras-hdf5"].__class__(RUNTIMES["keras-hdf5"].open, "no_such_package")
    monkeypatch.setitem(RUNTIMES, "keras-hdf5", lacking)
    with pytest.raises(ModelError, match="needs the package no_such_package"):
        open_runtime(release, read_json(release / MANIFEST), "keras-hdf5")


def test_bench_compares_runtimes(release: Path, rows: dict[str, Any]) -> None:
    """Latency, throughput and bytes of each that is there."""
    found = compared(release, rows, ["litert-float32", "litert-int8", "other"])
    assert found["other"] == "not in this release"
    for name in ("litert-float32", "litert-int8"):
        assert 0 < found[name]["latency_p50_ms"] <= found[name]["latency_p99_ms"]
        assert found[name]["throughput_rows_per_cpu_s"] > 0
        assert found[name]["bytes"] == (release / FILES[name]).stat().st_size
