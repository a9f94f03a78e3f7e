"""`holter-edge live`: a stream's beats and decisions are the whole record's, in bounded memory."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from edge_agent import slots
from edge_agent.live import Decision, Signal, decisions, millivolts, open_source, run
from flows.ingest.simulate import write_simulated
from flows.train.release import seal
from storage.errors import DeviceError, ModelError
from storage.files import sha256_bytes, write_json
from storage.recordings.records import open_alone, read_lead
from storage.registry.model_files import LITERT, MANIFEST
from storage.registry.signing import public_key
from tasks.analysis.analyse import analyse
from tasks.scores.smoothing import Forward
from tasks.signal.beats import clean_lead
from tasks.signal.preprocessing import Preprocessing
from tasks.signal.qrs import LEARNING_S
from tasks.signal.stream import BeatStream
from tests.conftest import ROOT
from tests.tasks.signal.test_signal_path import ecg

FS_HZ = 250.0
#: From before the fourth column: a device goes on with what it has.
NETWORK = (ROOT / "tests" / "golden" / "rhythm-causal-untrained.tflite").read_bytes()
ABOUT = {
    "name": "rhythm_causal",
    "threshold": 0.5,
    "files": {LITERT: {"sha256": sha256_bytes(NETWORK)}},
}
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated half hour with AF."""
    folder = tmp_path_factory.mktemp("record")
    write_simulated(folder, 2, 0.5, seed=6)
    return folder / "sim001"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The untrained causal rhythm network; the file alone, or with a signature in `home`."""
    folder = tmp_path_factory.mktemp("release")
    (folder / LITERT).write_bytes(NETWORK)
    return folder


def pieces(signal: Floats, seed: int) -> Iterator[Floats]:
    """The signal in pieces of random lengths, empty ones among them."""
    rng, at = np.random.default_rng(seed), 0
    while at < len(signal):
        size = int(rng.choice([0, 1, 7, 250, 4_000, 90_000]))
        yield signal[at : at + size]
        at += size


def whole_beats(path: Path) -> NDArray[np.int64]:
    record = open_alone(path)
    return clean_lead(record, partial(read_lead, record), Preprocessing()).peaks


def streamed(signal: Floats, fs_hz: float, seed: int) -> NDArray[np.int64]:
    stream = BeatStream(fs_hz)
    found = [stream.feed(piece).sample for piece in pieces(signal, seed)]
    return np.concatenate([*found, stream.finish().sample])


@pytest.mark.parametrize("seed", [0, 1])
def test_beats_are_those_of_the_whole_record(record: Path, seed: int) -> None:
    """However the samples come, every R peak is the whole record's, its ends included."""
    signal = read_lead(open_alone(record))
    np.testing.assert_array_equal(streamed(signal, FS_HZ, seed), whole_beats(record))


@pytest.mark.real
@pytest.mark.parametrize("name", ["mitdb/201", "mitdb/207", "cpsc2021/data_21_8"])
def test_beats_of_real_records_too(real_data: Path, name: str) -> None:
    """At 360 and 200 Hz, with ectopy, flutter and noise."""
    opened_record = open_alone(real_data / name)
    found = streamed(read_lead(opened_record), opened_record.fs_hz, 3)
    np.testing.assert_array_equal(found, whole_beats(real_data / name))


def decided(outputs: Iterator[Decision | Signal]) -> Iterator[Decision]:
    """The decisions of a stream alone."""
    return (output for output in outputs if isinstance(output, Decision))


def test_decisions_are_those_of_analyse_and_in_time(record: Path, release: Path) -> None:
    """P(AF) within 1e-5 of `analyse`, and every beat within the stated delay and two RR."""
    expected = analyse(record, release, ABOUT)
    signal = read_lead(open_alone(record))
    found = list(decided(decisions(pieces(signal, 4), FS_HZ, release, ABOUT)))
    assert [one.sample for one in found] == expected.beats.sample.tolist()
    p_af = np.array([one.p_af for one in found])
    np.testing.assert_allclose(p_af, expected.probability, atol=1e-5)
    sure = np.abs(p_af - 0.5) > 1e-5
    assert (np.array([one.af for one in found]) == expected.decided)[sure].all()
    rr_s = float(np.nanmax(expected.beats.rr_prev_s))
    longest = BeatStream(FS_HZ).delay_s + 1 + 2 * rr_s
    assert max(one.delay_s for one in found) <= longest + LEARNING_S
    assert max(one.delay_s for one in found if one.time_s > LEARNING_S + 1) <= longest


def test_a_stretch_is_a_stream_of_its_own(
    record: Path, release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beats beyond a hole are decided as if nothing had been before; lines and words say of it."""
    signal = read_lead(open_alone(record))[: 300 * 250].copy()
    signal[100 * 250 : 130 * 250] = np.nan
    signal[220 * 250 : 240 * 250] = signal[220 * 250]
    about = {**ABOUT, "threshold": 0.001}
    found = list(decisions(pieces(signal, 2), FS_HZ, release, about))
    beats = list(decided(iter(found)))
    begins = [one.time_s for one in beats if one.begins]
    assert [int(time_s) // 10 for time_s in begins] == [0, 13, 24]
    after = [one.p_af for one in beats if 130 < one.time_s < 219]
    alone = list(decisions(pieces(signal[130 * 250 : 220 * 250], 2), FS_HZ, release, about))
    fewer = [one.p_af for one in alone if isinstance(one, Decision)][: len(after)]
    np.testing.assert_allclose(after, fewer, atol=1e-5)
    changes = [(round(one.time_s, 1), one.present) for one in found if isinstance(one, Signal)]
    assert changes == [(100.0, False), (130.0, True), (220.0, False), (240.0, True)]
    words: list[str] = []
    run(iter(found), words.append)
    assert "100.0 s: signal lost; AF ends with it" in words
    assert words[2:4] == ["130.0 s: signal back", f"{begins[1]:.1f} s: AF begins"]
    assert '{"time_s": 100.0, "signal": "lost"}' in capsys.readouterr().out.splitlines()


def test_a_beat_that_becomes_known_late_begins_no_af_in_a_hole() -> None:
    """Search-back finds a beat when the signal is lost already: AF has ended, and stays so."""
    words: list[str] = []
    beats = {at: Decision(250 * at, at, 0.9, True, 1.0, at == 180) for at in (58, 59, 180)}
    run(
        iter([beats[58], Signal(60, False), beats[59], Signal(179, True), beats[180]]), words.append
    )
    assert words == [
        "58.0 s: AF begins",
        "60.0 s: signal lost; AF ends with it",
        "179.0 s: signal back",
        "180.0 s: AF begins",
        "3 beats, 3 of them AF",
    ]


def test_a_signal_without_beats_is_said_to_be_lost() -> None:
    """A lead that only wanders, without a beat for long, lost the signal with its last beat."""
    signal = ecg(60)[0]
    dead = np.sin(2 * np.pi * 0.1 * np.arange(60 * 250) / 250).astype(np.float32)
    stream = BeatStream(FS_HZ)
    changes, peaks = [], []
    for at in range(0, 180 * 250, 250):
        peaks += stream.feed(np.concatenate([signal, dead, signal])[at : at + 250]).sample.tolist()
        changes += stream.changes()
    last = max(peak for peak in peaks if peak < 60.2 * 250)
    assert changes[0] == (last, False)
    assert changes[1][1]


#: Of stream, for what memory takes.
HOURS = 72 if "HOLTER_FAULT_RUNS" in os.environ else 24


def days(record: Path, release: Path) -> tuple[Decision, int, float, list[int]]:
    """The last decision of the hours, how many, the longest delay, bytes after each hour."""
    hour = np.tile(read_lead(open_alone(record))[::2], 2)
    process, resident, count, last = psutil.Process(), [], 0, Decision(-1, 0, 0, False, 0)

    def stream() -> Iterator[Floats]:
        for _ in range(HOURS):
            for at in range(0, len(hour), 1_250):
                yield hour[at : at + 1_250]
            resident.append(process.memory_info().rss)

    longest = 0.0
    for one in decided(decisions(stream(), FS_HZ / 2, release, ABOUT)):
        assert one.sample > last.sample
        last, count, longest = one, count + 1, max(longest, one.delay_s)
    return last, count, longest, resident


@pytest.mark.slow
def test_days_take_no_more_memory_than_an_hour(record: Path, release: Path) -> None:
    """A day of stream, by night three, faster than they come: a decision a beat, level memory.

    In a process of its own: what other tests left behind in this one moves its memory too.
    """
    with get_context("spawn").Pool(1) as pool:
        last, count, longest, resident = pool.apply(days, (record, release))
    assert last.time_s > HOURS * 3600 - 30
    assert count > HOURS * 3_000
    assert longest < 24
    assert max(resident[1:]) - resident[0] < 8 << 20


def test_a_gap_is_no_beat(record: Path) -> None:
    """Invalid samples give no beat, and those around them are found again."""
    signal = read_lead(open_alone(record))[:60_000].copy()
    signal[20_000:30_000] = np.nan
    found = streamed(signal, FS_HZ, 2)
    assert not ((found > 20_100) & (found < 29_900)).any()
    assert (found > 30_000).sum() > 100


def test_forward_is_the_threshold_where_nothing_is_smoothed() -> None:
    """At a change of 0.5; at a smaller one a single beat turns nothing."""
    p = np.random.default_rng(0).random(200)
    plain = Forward(0.4)
    assert [plain.decide(value) for value in p] == (p >= 0.4).tolist()
    slow = Forward(0.5, 1e-4)
    assert [slow.decide(value) for value in (0.1, 0.1, 0.1, 0.9, 0.1)] == [False] * 5
    assert [slow.decide(0.99) for _ in range(9)][-1]


def encoded(signal: Floats, form: str) -> bytes:
    """200 units a millivolt."""
    units = np.rint(signal * 200)
    if form == "text":
        return "\n".join(f"{value:g}" for value in units).encode()
    return units.astype({"int16": "<i2", "float32": "<f4"}[form]).tobytes()


@pytest.mark.parametrize("form", ["text", "int16", "float32"])
def test_every_form_gives_the_samples(form: str) -> None:
    """Split anywhere, whole samples come out, once each, in millivolts."""
    signal = np.random.default_rng(1).normal(size=500).astype(np.float32)
    data = io.BytesIO(encoded(signal, form))
    found = np.concatenate(list(millivolts(lambda: data.read(7), form, 200)))
    np.testing.assert_allclose(found, np.rint(signal * 200) / 200, atol=1e-6)


def test_invalid_samples_are_nan() -> None:
    """The lowest int16, and the word nan."""
    (found,) = millivolts(iter([np.array([-32768, 5], "<i2").tobytes(), b""]).__next__, "int16", 1)
    assert np.isnan(found).tolist() == [True, False]
    (text,) = millivolts(iter([b"nan,2\n", b""]).__next__, "text", 1)
    assert np.isnan(text).tolist() == [True, False]


@pytest.mark.parametrize(
    ("data", "form", "words"),
    [
        (b"1\n2\nx3\n", "text", "'x3'; expected a number"),
        (b"9" * 100, "text", "expected numbers, a sample each"),
        (b"123", "int16", "1 bytes into a sample of int16"),
    ],
)
def test_what_is_no_sample_is_refused(data: bytes, form: str, words: str) -> None:
    """The error says what was found."""
    with pytest.raises(DeviceError, match=words):
        list(millivolts(iter([data, b""]).__next__, form, 1))


def test_only_loopback_is_connected_to() -> None:
    """An address elsewhere, or none, is refused before anything is sent."""
    for source in ("tcp://192.0.2.1:9", "tcp://127.0.0.1", "tcp://:7"):
        with pytest.raises(DeviceError, match="on loopback"), open_source(source, 9600):
            pass


def test_a_socket_and_a_serial_port_are_read() -> None:
    """What is sent comes in, up to the end of the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as peer:
                peer.sendall(b"1 2 3\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with open_source(f"tcp://127.0.0.1:{server.getsockname()[1]}", 0) as read:
            assert np.concatenate(list(millivolts(read, "text", 1))).tolist() == [1, 2, 3]
        thread.join()
    master, port = os.openpty()
    name = os.ttyname(port)
    with open_source(name, 115_200) as read:
        os.write(master, b"4\r\n5\r\n")
        assert read() == b"4\r\n5\r\n"
    os.close(master)
    os.close(port)


def test_a_network_that_waits_for_beats_to_come_is_refused(release: Path) -> None:
    """Live decisions need a causal network; the rate must be one that an ECG has."""
    with pytest.raises(ModelError, match="live needs a causal network"):
        list(decisions(iter([]), FS_HZ, release, {"name": "rhythm", "threshold": 0.5}))
    with pytest.raises(DeviceError, match="expected 50 to"):
        list(decisions(iter([]), 5, release, ABOUT))


def test_the_command_prints_a_line_a_beat(
    record: Path, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON lines on standard output; what begins and ends, and the sum, on standard error."""
    monkeypatch.setenv("HOLTER_HOME", str(tmp_path / "server"))
    folder = tmp_path / "release"
    shutil.copytree(release, folder)
    write_json(folder / MANIFEST, ABOUT)
    seal(folder, {"rhythm": np.random.default_rng(1).normal(size=(2, 640, 3)).astype(np.float32)})
    slots.enrol(tmp_path / "edge", public_key())
    signal = read_lead(open_alone(record))
    words = ["live", "--fs", "250", "--format", "int16", "--units-per-mv", "200"]
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", *words, "--model", str(folder)],
        input=encoded(signal, "int16"),
        capture_output=True,
        env={**os.environ, "HOLTER_EDGE_HOME": str(tmp_path / "edge"), "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert f"{len(lines)} beats" in done.stderr.decode()
    assert len(lines) > 1_500
    assert set(lines[0]) == {"sample", "time_s", "af", "told", "p_af", "delay_s"}
