"""The detector as C: the R peaks of `holter-edge live`, on this computer and on a Cortex-M."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import microcontroller
from bench.microcontroller import CORES, DETECTOR, PLAIN_CORE, Core, answer_here
from edge_agent.live import Decision, decisions
from storage.datasets.dataset import load_spec
from storage.recordings.records import open_record, read_lead
from storage.registry.boxed import boxed_release
from tasks.learning.simulate import simulate_subject
from tasks.microcontroller.detector import UNITS_PER_MV, detector_to_c, in_units
from tasks.microcontroller.export import Sources, check_export, read_sources, write_export
from tasks.microcontroller.generate import ARITHMETICS, Arithmetic
from tasks.signal.stream import BeatStream
from tests.tasks.microcontroller.test_export import programs

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
MISSING = microcontroller.missing_tools()
both = pytest.mark.parametrize("arithmetic", ARITHMETICS)
#: Seconds within which a peak is the same, though not of the same sample.
NEAR_S = 0.06
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def sources() -> Sources:
    return read_sources(*boxed_release("rhythm_causal"))


def samples_of(signal: Floats, arithmetic: Arithmetic) -> bytes:
    """A signal in millivolts as the detector takes it."""
    return (in_units(signal) if arithmetic == "int8" else signal.astype("<f4")).tobytes()


def peaks_here(
    sources: Sources, signal: Floats, fs_hz: int, arithmetic: Arithmetic, folder: Path
) -> NDArray[np.int64]:
    """R peaks of a signal by the C, built to stop at what C does not define."""
    for file, text in detector_to_c(fs_hz, sources.origin, arithmetic).items():
        (folder / file).write_text(text)
    (folder / "ecg.bin").write_bytes(samples_of(signal, arithmetic))
    answer_here(folder, DETECTOR, folder, ("-O2", "-fsanitize=undefined", "-fno-sanitize-recover"))
    return np.frombuffer((folder / "peaks.bin").read_bytes(), "<u4").astype(np.int64)


def peaks_of_live(signal: Floats, fs_hz: float) -> NDArray[np.int64]:
    """R peaks of the signal by the stream of `holter-edge live`."""
    stream, second = BeatStream(fs_hz), int(fs_hz)
    parts = [stream.feed(signal[at : at + second]).sample for at in range(0, len(signal), second)]
    return np.concatenate([*parts, stream.finish().sample])


def share_alike(here: NDArray[np.int64], live: NDArray[np.int64], fs_hz: float) -> float:
    """Share of live's peaks that are the C's to the sample; each of either has one of the other."""
    assert len(here) == len(live)
    assert np.abs(here - live).max() <= NEAR_S * fs_hz
    return float(np.mean(here == live))


@both
@pytest.mark.parametrize("fs_hz", [128, 250, 360, 1000])
def test_the_c_finds_the_beats_of_live(
    fs_hz: int, arithmetic: Arithmetic, sources: Sources, tmp_path: Path
) -> None:
    """Beat for beat, at least 99 in 100 to the sample, at any rate of a Holter."""
    simulated = simulate_subject(40 + fs_hz, 0.1, fs_hz).signal_mv[:, 0]
    here = peaks_here(sources, simulated, fs_hz, arithmetic, tmp_path)
    assert share_alike(here, peaks_of_live(simulated, fs_hz), fs_hz) > 0.99


def test_whole_numbers_need_no_float(sources: Sources) -> None:
    """In whole numbers the detector has no float and no `math.h`, and no sum leaves 32 bits."""
    for fs_hz in (100, 250, 1000):
        text = "".join(detector_to_c(fs_hz, sources.origin, "int8").values())
        assert not {"float", "<math.h>", "double"} & set(text.replace("(", " ").split())
        slope, band = (
            [int(part) for part in re.findall(r"-?\d+", body)]
            for body in re.findall(r"int16_t \w+\[\w+(?: \+ 1)?\] = \{(.*?)\}", text, re.DOTALL)
        )
        assert sum(map(abs, slope)) * 2**16 < 2**31
        assert band[0] + 2 * sum(band[1:]) == 0
        assert (abs(band[0]) + 2 * sum(map(abs, band[1:]))) * 2**15 < 2**31


@pytest.mark.parametrize("step_mv", [5.0, 160.0])
def test_whole_numbers_stand_what_an_electrode_does(
    step_mv: float, sources: Sources, tmp_path: Path
) -> None:
    """Steps to the ends of a sample's range break no sum; seconds later the beats are live's."""
    signal = simulate_subject(9, 0.03, 250, "sinus").signal_mv[:, 0].copy()
    signal[8_000:8_040] = step_mv
    signal[8_040:8_080] = -step_mv
    signal = (in_units(signal) / UNITS_PER_MV).astype(np.float32)
    here, live = (
        peaks[peaks > 11_500]
        for peaks in (
            peaks_here(sources, signal, 250, "int8", tmp_path),
            peaks_of_live(signal, 250),
        )
    )
    assert len(live) > 40
    assert share_alike(here, live, 250) > 0.98


@both
def test_an_artefact_is_forgotten_as_live_forgets_it(
    arithmetic: Arithmetic, sources: Sources, tmp_path: Path
) -> None:
    """After complexes that fall to a twentieth for good, thresholds are learnt anew alike."""
    signal = simulate_subject(9, 0.03, 250, "sinus").signal_mv[:, 0].copy()
    signal[10_000:] *= 0.05
    signal = (in_units(signal) / UNITS_PER_MV).astype(np.float32)
    here, live = peaks_here(sources, signal, 250, arithmetic, tmp_path), peaks_of_live(signal, 250)
    assert np.sum(live > 10_000) > 60  # a quarter of the old level is five times the new one
    assert share_alike(here, live, 250) > 0.98


@both
@pytest.mark.parametrize("samples", [0, 1, 2, 60, 700, 3000])
def test_a_short_signal_ends_well(
    samples: int, arithmetic: Arithmetic, sources: Sources, tmp_path: Path
) -> None:
    """However few samples there are, each gets its look, and the peaks are live's."""
    signal = simulate_subject(11, 0.01, 250, "sinus").signal_mv[:samples, 0]
    here = peaks_here(sources, signal, 250, arithmetic, tmp_path)
    np.testing.assert_array_equal(here, peaks_of_live(signal, 250) if samples else [])


@pytest.mark.real
@both
@pytest.mark.parametrize("name", ["100", "208"])
def test_real_ecg_has_the_beats_of_live(
    name: str, arithmetic: Arithmetic, sources: Sources, real_data: Path, tmp_path: Path
) -> None:
    """Ten minutes of a real ECG, with ectopy or without, have live's beats."""
    record = open_record(load_spec("mitdb"), real_data / "mitdb", name, signal=True)
    signal = read_lead(record, 0, int(600 * record.fs_hz))
    here = peaks_here(sources, signal, int(record.fs_hz), arithmetic, tmp_path)
    live = peaks_of_live(signal, record.fs_hz)
    near = np.abs(here[:, None] - live).min(axis=0) <= NEAR_S * record.fs_hz
    assert abs(len(here) - len(live)) <= 2
    assert near.mean() > 0.998
    assert np.isin(live, here).mean() > 0.99


@both
def test_the_pages_belt_says_what_live_says(
    arithmetic: Arithmetic, sources: Sources, tmp_path: Path
) -> None:
    """ECG in, AF out: the page's program has live's beats and verdicts, but for rounding."""
    write_export(sources, arithmetic, tmp_path, 250)
    _, program = programs()
    (tmp_path / "belt.c").write_text(program)
    words = ["gcc", *microcontroller.WARNINGS, "-I.", "belt.c", "qrs.c", "rhythm_causal.c"]
    microcontroller.run_words([*words, "-lm", "-o", "belt"], tmp_path)
    signal = simulate_subject(21, 0.15, 250, "paroxysmal").signal_mv[:, 0]
    done = subprocess.run(
        [tmp_path / "belt"], input=samples_of(signal, arithmetic), capture_output=True
    )
    rows = [line.split(" ", 1) for line in done.stdout.decode().splitlines()]
    belt = {int(sample): verdict for sample, verdict in rows}
    folder, manifest = boxed_release("rhythm_causal")
    beats = [e for e in decisions(iter([signal]), 250, folder, manifest) if isinstance(e, Decision)]
    live = {e.sample: ("AF" if e.af else "not AF") if e.sure else "cannot tell" for e in beats}
    assert len(belt) == len(rows) == len(live)
    assert {"AF", "not AF"} <= set(belt.values())
    alike = [belt.get(sample) == verdict for sample, verdict in live.items()]
    assert np.mean(alike) > 0.97


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.parametrize(
    ("arithmetic", "core"),
    [("float32", CORES[0]), ("int8", CORES[0]), ("int8", PLAIN_CORE)],
    ids=["float32-m4", "int8-m4", "int8-m3"],
)
def test_a_cortex_m_finds_the_same_beats(
    arithmetic: Arithmetic, core: Core, sources: Sources, tmp_path: Path
) -> None:
    """An emulated Cortex-M writes this computer's bytes, in under 10,000 instructions a sample."""
    signal = simulate_subject(13, 0.01, 250).signal_mv[:, 0]
    peaks_here(sources, signal, 250, arithmetic, tmp_path)
    here = (tmp_path / "peaks.bin").read_bytes()
    counts = microcontroller.answer_on(core, tmp_path, DETECTOR, tmp_path)
    assert (tmp_path / "peaks.bin").read_bytes() == here
    assert len(here) > 4 * 20
    assert counts.instructions < 10_000 * counts.beats == 10_000 * len(signal)
    sizes = microcontroller.sizes_on(core, tmp_path, DETECTOR, tmp_path)
    assert sizes.flash < 8 << 10
    assert sizes.memory < 8 << 10


def test_an_export_takes_the_detector_along(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are in the signed manifest; without it, an earlier one's go; rates have bounds."""
    monkeypatch.setenv("HOLTER_RELEASE_KEY", str(tmp_path / "key"))
    (tmp_path / "key").write_text(bytes(range(32)).hex())
    (tmp_path / "key").chmod(0o600)
    key = write_export(sources, "float32", tmp_path / "c", 250).signed_by
    assert key is not None
    export = check_export(tmp_path / "c", [key])
    assert {"qrs.h", "qrs.c"} < set(export.manifest["files"])
    assert export.manifest["detector_hz"] == 250
    write_export(sources, "float32", tmp_path / "c")
    assert not {"qrs.h", "qrs.c"} & set(check_export(tmp_path / "c", [key]).manifest["files"])
    with pytest.raises(ValueError, match="detector_hz: found 50"):
        write_export(sources, "float32", tmp_path / "c", 50)
