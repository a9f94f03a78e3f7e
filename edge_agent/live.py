"""`holter-edge live`: samples that come in now become decisions, beat by beat, as JSON lines.

A beat is known at most `BeatStream.delay_s` (12 s) after it, as the zero-phase filters want what
follows; the first beats come after 20 s, as ten are learnt from. The network is causal and adds
nothing. Memory does not grow with the stream.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import DeviceError, ModelError
from storage.formats.leads import RATES_HZ
from storage.recordings.stretches import slices
from tasks.features.rhythm import windows_of
from tasks.networks.models import spec_of
from tasks.runtimes.litert import af_probability
from tasks.runtimes.runtimes import Network, open_runtime
from tasks.scores.rule import Rule, lines, log_odds_of, probability_of, rule_of
from tasks.scores.smoothing import Forward
from tasks.signal.stream import BeatStream, Peaks, RhythmStream

CHUNK_BYTES = 1 << 16
#: Beats that cannot be told for so long in a row are said.
UNTOLD_S = 10.0
#: Text samples longer than this are none.
MOST_TEXT = 40

Floats = NDArray[np.float32]
Read = Callable[[], bytes]


@dataclass(frozen=True)
class Decision:
    """One beat, decided.

    Attributes
    ----------
    sample, time_s : int, float
        R peak, counted from the stream's start.
    p_af : float
        P(AF), calibrated by the beats of its stretch so far.
    af : bool
        The decision, told or not.
    delay_s : float
        Stream time from the beat to the decision.
    begins : bool
        Whether it is the first beat of its stretch (`storage.recordings.stretches`): no rhythm goes
        on to it.
    sure : bool
        Whether the decision is told; else it cannot be told.
    """

    sample: int
    time_s: float
    p_af: float
    af: bool
    delay_s: float
    begins: bool = False
    sure: bool = True


@dataclass(frozen=True)
class Signal:
    """The signal went, or came back, at a time of the stream: nothing is known while it is away."""

    time_s: float
    present: bool


def decisions(
    chunks: Iterator[Floats],
    fs_hz: float,
    release: Path,
    manifest: Mapping[str, Any],
    af_share: float | None = None,
) -> Iterator[Decision | Signal]:
    """Decide every beat of a stream of millivolts (NaN where invalid).

    Each stretch of the signal is decided as a stream of its own. `af_share` states how common AF
    is; left out, it is as the release was calibrated, however short the stream is as yet.

    Raises
    ------
    DeviceError
        The sampling rate is none that an ECG has.
    ModelError
        The release's network is not causal, or its margin wants beats that are still to come.
    """
    low, high = RATES_HZ
    if not low <= fs_hz <= high:
        raise DeviceError(f"found {fs_hz:g} samples a second; expected {low:g} to {high:g}")
    name = str(manifest.get("name"))
    if not spec_of(name).causal:
        raise ModelError(f"{name} reads beats that are still to come; live needs a causal network")
    rule = rule_of(manifest)
    if rule.around > 1:
        raise ModelError(f"{name}: found a margin over {rule.around} beats around; live needs 1")
    network = open_runtime(release, manifest)
    decider = Decider(network, fs_hz, rule, rule.af_share if af_share is None else af_share)
    beats, second = BeatStream(fs_hz), int(fs_hz)

    def events(peaks: Peaks) -> Iterator[Decision | Signal]:
        """What became known, in the order of its times."""
        changes = (Signal(sample / fs_hz, present) for sample, present in beats.changes())
        return merge(changes, decider.decide(peaks, beats.received), key=lambda event: event.time_s)

    for chunk in chunks:
        for at in range(0, len(chunk), second):
            yield from events(beats.feed(chunk[at : at + second]))
    yield from events(beats.finish())


@dataclass
class Decider:
    """A causal network at work on beats that come in, each stretch as a stream of its own."""

    network: Network
    fs_hz: float
    rule: Rule
    af_share: float
    _rhythm: RhythmStream = field(init=False)
    _forward: Forward = field(init=False)
    _beats: int = 0

    def decide(self, peaks: Peaks, received: int) -> Iterator[Decision]:
        """Decide the beats that became known with so many samples received."""
        for part in slices(peaks.begins):
            begins = bool(peaks.begins[part.start])
            if begins:
                # A version from before the last column was added reads fewer.
                self._rhythm = RhythmStream(self.fs_hz, self.network.inputs["rhythm"][-1])
                self._forward = Forward(self.rule.calibrated_threshold, self.rule.change)
                self._beats = 0
            sample = peaks.sample[part]
            for place, answer in enumerate(self._answers(sample)):
                self._beats += 1
                p_af, time_s = self._calibrate(answer), int(sample[place]) / self.fs_hz
                af, delay_s = self._forward.decide(p_af), received / self.fs_hz - time_s
                sure, first = self._is_sure(p_af, af), begins and not place
                yield Decision(int(sample[place]), time_s, p_af, af, delay_s, first, sure)

    def _calibrate(self, answer: float) -> float:
        """P(AF) of an answer by the beats so far, as `tasks.scores.rule.calibrate`."""
        if not self.rule.scalings:
            return answer
        slope, offset = lines(self.rule, np.array([self._beats]))
        odds = float(slope[0]) * log_odds_of(answer) + float(offset[0])
        return probability_of(odds + log_odds_of(self.af_share))

    def _is_sure(self, p_af: float, af: bool) -> bool:
        """Whether P(AF) is far enough from the threshold, on the decision's side.

        Smoothed decisions follow P(AF) some beats later: until they do, nothing is told.
        """
        lead = log_odds_of(p_af) - log_odds_of(self.rule.calibrated_threshold)
        return not self.rule.margin or (abs(lead) >= self.rule.margin and (lead >= 0) == af)

    def _answers(self, sample: NDArray[np.int64]) -> Iterator[float]:
        most = windows_of(causal=True).core
        for at in range(0, len(sample), most):
            window, place = self._rhythm.window(sample[at : at + most])
            p_af = af_probability(self.network.predict(window))
            yield from p_af[0, place].tolist()


#: What was told last, in words.
LAST = {None: "nothing yet", True: "AF", False: "no AF"}


@dataclass
class Bedside:
    """What is said aloud of beats and of the signal as they come.

    AF begins with a beat that is told to be AF, and ends with one that is told not to be: a beat
    that cannot be told changes nothing. Ten seconds of such beats in a row are said. `af` is what
    was told last; None where nothing is told yet, or since the signal went.
    """

    af: bool | None = None
    untold_since: float | None = None
    silent: bool = False
    gone_s: float = 0.0

    def signal(self, event: Signal) -> str:
        """The signal went or came back: where it goes, AF ends with it."""
        ends = "; AF ends with it" if self.af and not event.present else ""
        self.af = None
        self.gone_s = self.gone_s if event.present else event.time_s
        self.untold_since, self.silent = None, False
        return f"signal {_word(event)}{ends}"

    def beat(self, event: Decision) -> str:
        """What a beat changes; "" where nothing.

        A beat from before the signal went may become known later, and changes nothing.
        """
        if event.begins:
            self.af, self.untold_since, self.silent = None, None, False
        if event.time_s < self.gone_s:
            return ""
        return self._certain(event) if event.sure else self._uncertain(event)

    def _certain(self, event: Decision) -> str:
        again, changed = self.silent, event.af != bool(self.af)
        self.untold_since, self.silent, self.af = None, False, event.af
        if changed:
            return "AF begins" if event.af else "AF ends"
        return f"told again: {LAST[event.af]}" if again else ""

    def _uncertain(self, event: Decision) -> str:
        if self.untold_since is None:
            self.untold_since = event.time_s
        if self.silent or event.time_s - self.untold_since < UNTOLD_S:
            return ""
        self.silent = True
        return f"cannot tell; last told: {LAST[self.af]}"


def _word(event: Signal) -> str:
    return "back" if event.present else "lost"


def run(events: Iterator[Decision | Signal], say: Callable[[str], None]) -> int:
    """Print decisions as JSON lines; say what `Bedside` says, and the sum at the end."""
    bedside, beats, af_beats, untold = Bedside(), 0, 0, 0
    for event in events:
        if isinstance(event, Signal):
            words = bedside.signal(event)
            line: dict[str, Any] = {"time_s": round(event.time_s, 3), "signal": _word(event)}
        else:
            words = bedside.beat(event)
            beats, af_beats, untold = beats + 1, af_beats + event.af, untold + (not event.sure)
            line = {"sample": event.sample, "time_s": round(event.time_s, 3), "af": event.af}
            line |= {"told": event.sure, "p_af": round(event.p_af, 4)}
            line |= {"delay_s": round(event.delay_s, 2)}
        if words:
            say(f"{event.time_s:.1f} s: {words}")
        print(json.dumps(line), flush=True)
    rest = f"; {untold} cannot be told" if untold else ""
    say(f"{beats} beats, {af_beats} of them AF{rest}")
    return 0


@contextmanager
def open_source(source: str, baud: int) -> Iterator[Read]:
    """Bytes of a source as they come: "-", a serial port's or pipe's path, or tcp://HOST:PORT.

    A socket is connected to, on loopback alone: this listens on nothing.

    Raises
    ------
    DeviceError
        The source is none of these, or cannot be opened.
    """
    if source == "-":
        yield lambda: os.read(sys.stdin.fileno(), CHUNK_BYTES)
    elif source.startswith("tcp://"):
        with socket.create_connection(_loopback(source), timeout=10) as connection:
            connection.settimeout(None)
            yield lambda: connection.recv(CHUNK_BYTES)
    else:
        handle = os.open(source, os.O_RDONLY | os.O_NOCTTY)
        try:
            if stat.S_ISCHR(os.fstat(handle).st_mode) and os.isatty(handle):
                _raw(handle, baud)
            yield lambda: _read_port(handle)
        finally:
            os.close(handle)


def _read_port(handle: int) -> bytes:
    try:
        return os.read(handle, CHUNK_BYTES)
    except OSError as error:
        if error.errno == 5:  # EIO: the other end of a terminal has hung up
            return b""
        raise


def _loopback(source: str) -> tuple[str, int]:
    host, _, port = source.removeprefix("tcp://").rpartition(":")
    try:
        inside = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
        number = int(port)
    except ValueError:
        inside, number = False, 0
    if not inside:
        raise DeviceError(f"source {source!r}: expected tcp://127.0.0.1:PORT, on loopback")
    return host.strip("[]"), number


def _raw(handle: int, baud: int) -> None:
    """A serial port that gives bytes as they come: 8 bits, no parity, no echo."""
    import termios
    import tty

    speed = getattr(termios, f"B{baud}", None)
    if speed is None:
        raise DeviceError(f"found {baud} baud; expected a rate that serial ports have")
    tty.setraw(handle)
    mode = termios.tcgetattr(handle)
    mode[4] = mode[5] = speed
    termios.tcsetattr(handle, termios.TCSANOW, mode)


#: Binary formats: how one sample is stored.
BINARY: dict[str, np.dtype[Any]] = {"int16": np.dtype("<i2"), "float32": np.dtype("<f4")}


def millivolts(read: Read, form: str, units_per_mv: float) -> Iterator[Floats]:
    """Samples of a stream of bytes, as they come.

    Parameters
    ----------
    read : callable
        Gives the next bytes, none at the end.
    form : {"text", "int16", "float32"}
        Numbers parted by white space or commas; or little-endian binary.
    units_per_mv : float
        What stands for a millivolt. NaN, and -32768 in int16, are invalid samples.

    Raises
    ------
    DeviceError
        A word that is no number, or a stream that ends within a sample.
    """
    if not units_per_mv > 0:
        raise DeviceError(f"found {units_per_mv:g} units a millivolt; expected more than 0")
    left = b""
    while data := read():
        left += data
        values, left = _text(left) if form == "text" else _binary(left, BINARY[form])
        if len(values):
            yield values / np.float32(units_per_mv)
    if form == "text":
        values, _ = _text(left + b"\n")
        if len(values):
            yield values / np.float32(units_per_mv)
    elif left:
        raise DeviceError(f"the stream ended {len(left)} bytes into a sample of {form}")


def _binary(data: bytes, dtype: np.dtype[Any]) -> tuple[Floats, bytes]:
    whole = len(data) // dtype.itemsize * dtype.itemsize
    raw = np.frombuffer(data[:whole], dtype)
    values = raw.astype(np.float32)
    if dtype.kind == "i":
        values[raw == np.iinfo(dtype).min] = np.nan
    return values, data[whole:]


def _text(data: bytes) -> tuple[Floats, bytes]:
    end = max(data.rfind(mark) for mark in (b"\n", b" ", b",", b"\r", b"\t")) + 1
    if len(data) - end > MOST_TEXT:
        raise DeviceError(f"found {data[end : end + MOST_TEXT]!r}; expected numbers, a sample each")
    words = data[:end].replace(b",", b" ").split()
    try:
        return np.array([float(word) for word in words], np.float32), data[end:]
    except ValueError as error:
        raise DeviceError(f"found {str(error)[-60:]}; expected a number") from error
