"""Exports and runtimes: every file answers as Keras does, or is refused with the figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.board.kinds import device_kind
from edge_agent.cli import parser
from edge_agent.runtimes import measure_runtimes
from flows.train.release import seal
from storage.errors import DeviceError, DigestMismatch, ModelError, ParityError, TableError
from storage.files import read_json, write_json
from storage.registry.model_files import LITERT, MANIFEST, WEIGHTS
from storage.tables.golden_beats import GOLDEN, read_golden, write_golden
from tasks.learning.training import predict
from tasks.networks.models import available_models, build
from tasks.networks.sequence import input_windows, reads_records
from tasks.runtimes.convert import EXPORTS, check, compare
from tasks.runtimes.litert import LiteRT
from tasks.runtimes.onnx_export import to_onnx
from tasks.runtimes.onnx_runtime import Onnx
from tasks.runtimes.releases import self_test
from tasks.runtimes.runtimes import RUNTIMES, open_runtime
from tests.conftest import ROOT
from tests.tiny import record_with_gaps

NETWORK = "rhythm_tiny"
FILES = {
    **{name: export.file for name, export in EXPORTS.items()},
    "litert-float32": LITERT,
    "keras-hdf5": WEIGHTS,
}


@pytest.fixture(scope="module")
def rows() -> dict[str, Any]:
    """Fifty windows of made-up rhythm, from strips to full ones."""
    x = np.random.default_rng(0).normal(0, 0.3, (50, 640, 5)).astype(np.float32)
    x[..., 4] = 1
    there = np.arange(640) < np.linspace(10, 640, 50)[:, None]
    return {"rhythm": x * there[..., None].astype(np.float32)}


@pytest.fixture(scope="module")
def network() -> Any:
    """An untrained network."""
    return build(NETWORK, seed=4)


@pytest.fixture(scope="module")
def release(network: Any, rows: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed folder with the files of every runtime."""
    folder = tmp_path_factory.mktemp("release")
    for name, export in EXPORTS.items():
        (folder / FILES[name]).write_bytes(export.make(network, rows))
    network.save_weights(folder / WEIGHTS)
    runtimes = {name: {"file": file} for name, file in FILES.items()}
    write_json(folder / MANIFEST, {"name": NETWORK, "threshold": 0.5, "runtimes": runtimes})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLTER_HOME", str(tmp_path_factory.mktemp("home")))
        seal(folder, {name: array[:2] for name, array in rows.items()})
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


@pytest.mark.parametrize("name", available_models())
def test_onnx_answers_as_keras(name: str) -> None:
    """Every network there is, its biases and normalisation off their start: within 1e-4, on windows
    with gaps too."""
    model, random = build(name, seed=1), np.random.default_rng(5)
    model.set_weights([w + random.uniform(-0.1, 0.1, w.shape) for w in model.get_weights()])

    def noise(n: int) -> list[Any]:
        shapes = [(n, *entry.shape[1:]) for entry in model.inputs]
        return [random.normal(size=shape).astype(np.float32) for shape in shapes]

    def keras(rows: list[Any], *, training: bool = False) -> Any:
        return np.asarray(model(rows if len(rows) > 1 else rows[0], training=training))

    for _ in range(20):  # normalisation by what it sees: or deep networks answer all the same
        keras(noise(8), training=True)
    network, rows = Onnx(to_onnx(model)), noise(5)
    expected = keras(rows)
    assert np.ptp(expected[..., -1]) > 1e-3
    found = network.predict(dict(zip(network.inputs, rows, strict=True)), 2)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert network.providers[-1] == "CPUExecutionProvider"
    if reads_records(name):
        gaps = input_windows(name, record_with_gaps())
        found = network.predict(gaps)
        np.testing.assert_allclose(found, keras([*gaps.values()]), atol=1e-4)


def test_onnx_is_the_same_each_time() -> None:
    """The frozen file of the untrained resnet21, byte for byte; and again from the same model."""
    model = build("resnet21", seed=3)
    assert to_onnx(model) == to_onnx(model)
    frozen = ROOT / "tests" / "golden" / "resnet21-untrained.onnx"
    assert to_onnx(model) == frozen.read_bytes()


def test_onnx_prefers_tensorrt_then_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what a build of ONNX Runtime has: TensorRT, CUDA in float32, the processor; no other."""
    import onnxruntime

    asked: list[Any] = []

    def session(*_: Any, providers: list[Any]) -> None:
        asked.extend(providers)
        raise RuntimeError("no GPU here")

    there = [f"{name}ExecutionProvider" for name in ("CPU", "Azure", "CUDA", "Tensorrt")]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(ModelError, match="no GPU here"):
        Onnx(b"model")
    assert [name for name, _ in asked] == [there[3], there[2], there[0]]
    assert dict(asked)[there[2]] == {"use_tf32": "0"}


def test_a_layer_without_onnx_is_named() -> None:
    """A kind of layer, or an activation, that is not known: its name, and what is."""
    from keras import Input, Model, layers

    start = Input((30, 1), name="waveform")
    with pytest.raises(ModelError, match=r"layer odd: no LSTM; there are .*Conv1D"):
        to_onnx(Model(start, layers.LSTM(2, name="odd")(start)))
    with pytest.raises(ModelError, match="layer odd: the activation tanh"):
        to_onnx(Model(start, layers.Dense(2, "tanh", name="odd")(start)))


def test_onnx_refuses_what_it_cannot_run() -> None:
    """Bytes that are no model, and inputs that are not the model's."""
    with pytest.raises(ModelError, match="4 bytes are not a model ONNX Runtime can run"):
        Onnx(b"none")
    network = Onnx(to_onnx(build(NETWORK, seed=4)))
    with pytest.raises(ModelError, match=r"input rhythm is float32 \(2, 5, 3\); expected float32"):
        network.predict(np.zeros((2, 5, 3), np.float32))


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


def test_what_is_not_there_is_said(
    release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that the release lacks, a package that is not installed, a name that is none."""
    manifest = read_json(release / MANIFEST)
    old = {"name": NETWORK, "files": manifest["files"]}
    with pytest.raises(ModelError, match="found no file for onnx; it has litert-float32"):
        open_runtime(release, old, "onnx")
    lacking = replace(RUNTIMES["onnx"], package="no_such_package")
    monkeypatch.setitem(RUNTIMES, "onnx", lacking)
    with pytest.raises(ModelError, match=r"no_such_package, .* extra onnx of holter-af"):
        open_runtime(release, manifest, "onnx")
    for name, told in (("onnx", "no_such_package, which is not"), ("onxx", "did you mean 'onnx'")):
        with pytest.raises(SystemExit):
            parser().parse_args(["once", "--runtime", name])
        assert told in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(FILES))
def test_bytes_that_are_not_the_manifests_are_not_opened(
    release: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte that differs, and no runtime is given the file."""
    path = release / FILES[name]
    whole = path.read_bytes()
    never = replace(RUNTIMES[name], open=lambda *_: pytest.fail("opened"))
    monkeypatch.setitem(RUNTIMES, name, never)
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(DigestMismatch, match=FILES[name]):
            open_runtime(release, read_json(release / MANIFEST), name)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_the_self_test_is_of_the_runtime_that_runs(release: Path, name: str) -> None:
    """Each is held to its own golden answers; another runtime's do not stand in for them."""
    self_test(release, name)
    kept = (release / GOLDEN).read_bytes()
    inputs, usual = read_golden(release / GOLDEN)
    others = {k: read_golden(release / GOLDEN, k)[1] for k in EXPORTS if k != "litert-float32"}
    if name == "litert-float32":
        write_golden(release / GOLDEN, inputs, usual + 0.1, others)
    else:
        write_golden(release / GOLDEN, inputs, usual, {**others, name: others[name] + 0.1})
    try:
        with pytest.raises(DeviceError, match=r"found an error of 0\.1"):
            self_test(release, name)
    finally:
        (release / GOLDEN).write_bytes(kept)
    with pytest.raises(TableError, match="no answers of keras-hdf5, of litert-int8, onnx"):
        read_golden(release / GOLDEN, "keras-hdf5")


def test_runtimes_are_measured_beside_each_other(release: Path) -> None:
    """Each that is there by its threads, whose cold start is the dearest; else the reason."""
    names = ["litert-float32", "onnx-cpu", "onnx-cuda", "other"]
    table = measure_runtimes(release, names, 2, device_kind("x86-64"))
    assert "no runtime named 'other'" in str(table.pop("other"))
    assert "found no CUDAExecutionProvider; it has" in str(table.pop("onnx-cuda"))
    assert list(table) == ["litert-float32", "litert-float32 x2", "onnx-cpu", "onnx-cpu x2"]
    for row in table.values():
        assert isinstance(row, dict)
        assert 0 < row["latency_p50_ms"] <= row["latency_p99_ms"]
        assert row["throughput_rows_per_cpu_s"] > 0
        assert row["cold_start_ms"] > row["latency_p50_ms"]
        assert 20 < row["peak_memory_mb"] < 400
        assert row["bytes"] == (release / FILES[RUNTIMES[row["runtime"]].export]).stat().st_size
