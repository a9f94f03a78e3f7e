"""A simulator of two-lead Holter ECG: subjects that differ, AF episodes, ectopy, noise.

Each wave of a beat is a Gaussian around the R peak, as in the dynamical model of McSharry et al.
2003 (DOI 10.1109/TBME.2003.808805). We differ in that the Gaussians are summed at once instead of
integrating the model's equations, and in that AF, ectopy and Holter noise are added. It is made to
exercise and load the system; figures measured on it say nothing about people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Course = Literal["sinus", "paroxysmal", "persistent"]
COURSES: tuple[Course, ...] = ("sinus", "paroxysmal", "persistent")
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

#: Name, seconds after R at an RR of 1 s, width (sigma) in s, mV in lead 1 and 2. P and T move with
#: the square root of RR. Lead 1 is like II, lead 2 like V1.
WAVES = (
    ("P", -0.160, 0.022, 0.13, 0.08),
    ("Q", -0.026, 0.009, -0.10, 0.00),
    ("R", 0.000, 0.011, 1.10, 0.28),
    ("S", 0.028, 0.011, -0.22, -0.75),
    ("T", 0.250, 0.050, 0.20, 0.10),
    ("T", 0.300, 0.030, 0.10, 0.05),
)
#: A premature ventricular beat: wide, no P, T against the QRS.
PVC_WAVES = (
    ("R", 0.000, 0.036, 1.50, -1.10),
    ("S", 0.085, 0.030, -0.45, 0.35),
    ("T", 0.300, 0.060, -0.40, 0.30),
)
SHORTEST_RR_S = 0.28
BEATS_AT_ONCE = 4096  #: bounds the memory of rendering
SIGMAS = 3.5  #: a Gaussian is drawn this far; beyond, it is under 0.3 % of its height


@dataclass(frozen=True)
class Subject:
    """What makes one subject differ from another; drawn by `draw_subject`."""

    rr_s: float
    circadian: float
    circadian_phase: float
    respiration_hz: float
    respiration_depth: float
    slow_depth: float
    pac: float
    pvc: float
    af_rr_s: float
    af_spread: float
    f_wave_hz: float
    f_wave_mv: tuple[float, float]
    waves: tuple[tuple[str, float, float, float, float], ...]
    pvc_waves: tuple[tuple[str, float, float, float, float], ...]
    muscle_mv: float
    wander_mv: float
    mains_mv: float
    bursts_per_hour: float


@dataclass(frozen=True, eq=False)
class SimulatedRecording:
    """A recording and the truth about it.

    Attributes
    ----------
    signal_mv : float32, shape (n, 2)
        Two leads.
    beats : int64, shape (k,)
        R peaks as sample indices, strictly ascending.
    symbols : str, shape (k,)
        "N" sinus or AF beat, "A" premature atrial, "V" premature ventricular.
    rhythm_start : int64, shape (m,)
        Where each rhythm begins; the first at 0.
    rhythms : str, shape (m,)
        "N" or "AFIB".
    """

    signal_mv: F32
    beats: NDArray[np.int64]
    symbols: NDArray[np.str_]
    rhythm_start: NDArray[np.int64]
    rhythms: NDArray[np.str_]


def simulate_subject(
    seed: int, hours: float, fs_hz: float = 250.0, course: Course | None = None
) -> SimulatedRecording:
    """Simulate one subject's recording.

    Parameters
    ----------
    seed : int
        Decides all that is drawn: the same arguments give the same samples on one machine.
    hours : float
        Length; at least 0.005 (18 s).
    fs_hz : float
        Sampling rate, 100 Hz or more.
    course : {"sinus", "paroxysmal", "persistent"}, optional
        No AF, episodes of AF, or AF throughout; drawn where not given.
    """
    if hours < 0.005 or fs_hz < 100 or seed < 0:
        raise ValueError("needs seed >= 0, hours >= 0.005 and fs_hz >= 100")
    rng = np.random.default_rng(seed)
    subject = draw_subject(rng)
    rhythm_course = COURSES[int(rng.choice(3, p=(0.35, 0.45, 0.2)))] if course is None else course
    n, stop_s = round(hours * 3600 * fs_hz), hours * 3600
    starts_s, rhythms = _schedule(rng, stop_s, rhythm_course)
    times, symbols, in_af = _beats(rng, subject, starts_s, rhythms, stop_s)
    signal = np.zeros((2, n), np.float32)
    _add_beats(signal, subject, times, symbols, in_af, fs_hz)
    for start, stop, rhythm in zip(starts_s, [*starts_s[1:], stop_s], rhythms, strict=True):
        if rhythm == "AFIB":
            _add_f_waves(rng, signal, subject, round(start * fs_hz), round(stop * fs_hz), fs_hz)
    _add_noise(rng, signal, subject, fs_hz)
    beats = np.rint(times * fs_hz).astype(np.int64)
    inside = beats < n
    return SimulatedRecording(
        signal_mv=signal.T,
        beats=beats[inside],
        symbols=symbols[inside],
        rhythm_start=np.rint(np.array(starts_s) * fs_hz).astype(np.int64),
        rhythms=np.array(rhythms),
    )


def draw_subject(rng: np.random.Generator) -> Subject:
    """Draw a subject: rate, variability, ectopy, wave shapes, f-waves and noise."""

    def vary(
        table: tuple[tuple[str, float, float, float, float], ...],
    ) -> tuple[tuple[str, float, float, float, float], ...]:
        gain = rng.uniform(0.6, 1.5, 2)
        spread = rng.lognormal(0, 0.15, (len(table), 4))
        return tuple(
            (name, at * (0.9 + 0.1 * k[0]), width * k[1], a * k[2] * gain[0], b * k[3] * gain[1])
            for (name, at, width, a, b), k in zip(table, spread.tolist(), strict=True)
        )

    f_wave = float(rng.uniform(0.04, 0.12))
    return Subject(
        rr_s=float(rng.uniform(0.68, 1.05)),
        circadian=float(rng.uniform(0.04, 0.12)),
        circadian_phase=float(rng.uniform(0, 1)),
        respiration_hz=float(rng.uniform(0.18, 0.32)),
        respiration_depth=float(rng.uniform(0.01, 0.05)),
        slow_depth=float(rng.uniform(0.02, 0.06)),
        pac=float(min(0.06, rng.lognormal(-5.5, 1.2))),
        pvc=float(min(0.08, rng.lognormal(-5.5, 1.3))),
        af_rr_s=float(rng.uniform(0.5, 0.8)),
        af_spread=float(rng.uniform(0.35, 0.55)),
        f_wave_hz=float(rng.uniform(4.5, 8.5)),
        f_wave_mv=(f_wave * float(rng.uniform(0.5, 0.9)), f_wave),
        waves=vary(WAVES),
        pvc_waves=vary(PVC_WAVES),
        muscle_mv=float(rng.lognormal(-4.4, 0.5)),
        wander_mv=float(rng.uniform(0.03, 0.15)),
        mains_mv=float(rng.uniform(0, 0.01)),
        bursts_per_hour=float(rng.uniform(0.5, 6)),
    )


def _schedule(
    rng: np.random.Generator, stop_s: float, course: Course
) -> tuple[list[float], list[str]]:
    """Where sinus rhythm and AF begin; at least 5 s each."""
    if course != "paroxysmal":
        return [0.0], ["AFIB" if course == "persistent" else "N"]
    episodes = max(1, min(round(stop_s / 3600 * rng.uniform(0.5, 4)), int(stop_s // 60)))
    burden = rng.uniform(0.15, 0.6)
    spare = stop_s - 5.0 * (2 * episodes + 1)
    shares = np.empty(2 * episodes + 1)
    shares[0::2] = rng.dirichlet(np.full(episodes + 1, 1.5)) * (1 - burden)
    shares[1::2] = rng.dirichlet(np.full(episodes, 1.5)) * burden
    starts = np.cumsum(np.concatenate(([0.0], 5.0 + shares[:-1] * spare)))
    return starts.tolist(), [("N", "AFIB")[k % 2] for k in range(len(starts))]


def _beats(
    rng: np.random.Generator,
    subject: Subject,
    starts_s: list[float],
    rhythms: list[str],
    end: float,
) -> tuple[F64, NDArray[np.str_], NDArray[np.bool_]]:
    """Beat times, their symbols, and whether AF is in force at each."""
    times, symbols, in_af = [], [], []
    last = float(rng.uniform(-0.5, 0.2))
    for start, stop, rhythm in zip(starts_s, [*starts_s[1:], end], rhythms, strict=True):
        draw = _af_intervals if rhythm == "AFIB" else _sinus_intervals
        at = last
        rr, kind = draw(rng, subject, start, int((stop - at) / SHORTEST_RR_S) + 2)
        section = at + np.cumsum(rr)
        keep = (section >= 0.3) & (section < stop)
        if keep.any():
            last = float(section[keep][-1])
        times.append(section[keep])
        symbols.append(kind[keep])
        in_af.append(np.full(int(keep.sum()), rhythm == "AFIB"))
    return np.concatenate(times), np.concatenate(symbols), np.concatenate(in_af)


def _sinus_intervals(
    rng: np.random.Generator, subject: Subject, start_s: float, n: int
) -> tuple[F64, NDArray[np.str_]]:
    """RR intervals of sinus rhythm: day, breath, slow variability, ectopy with its pauses."""
    at = start_s + np.arange(n) * subject.rr_s
    day = subject.circadian * np.cos(2 * np.pi * (at / 86400 + subject.circadian_phase))
    breath = subject.respiration_depth * np.sin(2 * np.pi * subject.respiration_hz * at)
    periods = np.geomspace(8, 900, 8)
    phases, heights = rng.uniform(0, 2 * np.pi, 8), np.sqrt(periods / periods.sum())
    slow = sum(
        height * np.sin(2 * np.pi * at / period + phase)
        for period, phase, height in zip(periods, phases, heights, strict=True)
    )
    wobble = rng.normal(0, 0.008, n)
    rr = np.maximum(subject.rr_s * (1 + day + breath + subject.slow_depth * slow + wobble), 0.4)
    chance = rng.random(n)
    pac, pvc = chance < subject.pac, chance > 1 - subject.pvc
    after_ectopy = np.concatenate(([False], (pac | pvc)[:-1]))
    pac, pvc = pac & ~after_ectopy, pvc & ~after_ectopy
    early = np.where(pac | pvc, rng.uniform(0.58, 0.82, n), 1.0)
    # The pause after a PVC makes up for its earliness; a PAC resets the sinus node instead.
    before = np.concatenate(([1.0], early[:-1]))
    pause = np.where(np.concatenate(([False], pvc[:-1])), 2 - before, 1.0)
    symbols = np.where(pac, "A", np.where(pvc, "V", "N"))
    return np.maximum(rr * early * pause, SHORTEST_RR_S), symbols


def _af_intervals(
    rng: np.random.Generator, subject: Subject, start_s: float, n: int
) -> tuple[F64, NDArray[np.str_]]:
    """RR intervals of AF: independent, gamma-distributed above the AV node's refractory time."""
    free = subject.af_rr_s - SHORTEST_RR_S
    rr = SHORTEST_RR_S + rng.gamma(1 / subject.af_spread**2, free * subject.af_spread**2, n)
    rr *= 1 + subject.circadian * np.cos(
        2 * np.pi * ((start_s + np.arange(n) * subject.af_rr_s) / 86400 + subject.circadian_phase)
    )
    symbols = np.where(rng.random(n) < subject.pvc / 2, "V", "N")
    return np.clip(rr, SHORTEST_RR_S, 2.5), symbols


def _add_beats(
    signal: F32,
    subject: Subject,
    times: F64,
    symbols: NDArray[np.str_],
    in_af: NDArray[np.bool_],
    fs_hz: float,
) -> None:
    rr = np.diff(times, prepend=times[:1] - subject.rr_s)
    stretch = np.sqrt(np.clip(rr, 0.4, 1.3))
    breath = 1 + 0.06 * np.sin(2 * np.pi * subject.respiration_hz * times)
    wide = symbols == "V"
    for waves, of_kind in ((subject.waves, ~wide), (subject.pvc_waves, wide)):
        for name, at, width, *mv in waves:
            with_wave = of_kind & ~in_af if name == "P" else of_kind
            moves = stretch[with_wave] if name in "PT" else 1.0
            _add_gaussians(
                signal, times[with_wave] + at * moves, width, mv, breath[with_wave], fs_hz
            )


def _add_gaussians(
    signal: F32, centre_s: F64, width_s: float, mv: list[float], height: F64, fs_hz: float
) -> None:
    """Add a Gaussian at each centre; those near the ends may be cut off."""
    reach = int(np.ceil(SIGMAS * width_s * fs_hz))
    window = np.arange(-reach, reach + 1)
    middle = np.rint(centre_s * fs_hz).astype(np.int64)
    inside = (middle >= reach) & (middle < signal.shape[1] - reach)
    middle, height = middle[inside], height[inside]
    offset = (middle / fs_hz - centre_s[inside]).astype(np.float32)
    # `+=` on repeated indices keeps one of them, so neighbours, which can overlap, take turns.
    for turn in _turns(len(middle)):
        seconds = offset[turn, None] + (window / fs_hz).astype(np.float32)
        bell = np.exp(np.float32(-0.5 / width_s**2) * seconds * seconds)
        bell *= height[turn, None].astype(np.float32)
        at = middle[turn, None] + window
        for lead, amplitude in enumerate(mv):
            signal[lead, at] += np.float32(amplitude) * bell


def _turns(n: int) -> Iterator[slice]:
    for first in range(0, n, BEATS_AT_ONCE):
        for part in range(3):
            yield slice(first + part, min(n, first + BEATS_AT_ONCE), 3)


def _add_f_waves(
    rng: np.random.Generator, signal: F32, subject: Subject, start: int, stop: int, fs_hz: float
) -> None:
    """Add fibrillatory waves: a sawtooth-like sum of three harmonics of a wandering frequency."""
    phase = rng.uniform(0, 2 * np.pi, 4)
    for first in range(start, stop, 1 << 18):
        last = min(stop, first + (1 << 18))
        t = np.arange(first - start, last - start) / fs_hz
        turn = 2 * np.pi * subject.f_wave_hz * t + phase[0]
        turn += 1.2 * np.sin(2 * np.pi * 0.11 * t + phase[1]) + np.sin(
            2 * np.pi * 0.37 * t + phase[2]
        )
        angle = np.remainder(turn, 2 * np.pi).astype(np.float32)
        wave = (
            np.sin(angle)
            + np.float32(0.4) * np.sin(2 * angle)
            + np.float32(0.2) * np.sin(3 * angle)
        )
        wave *= (1 + 0.3 * np.sin(2 * np.pi * 0.07 * t + phase[3])).astype(np.float32)
        for lead, mv in enumerate(subject.f_wave_mv):
            signal[lead, first:last] += np.float32(mv) * wave


def _add_noise(rng: np.random.Generator, signal: F32, subject: Subject, fs_hz: float) -> None:
    """Add baseline wander, muscle noise, mains hum and bursts of motion."""
    n, second = signal.shape[1], round(fs_hz)
    slow_hz = 8.0
    seconds = np.arange(0, n / fs_hz + 2 / slow_hz, 1 / slow_hz)
    effort = np.exp(_smooth(rng.normal(0, 4.0, n // second + 2), 30)).astype(np.float32)
    hum = np.sin(2 * np.pi * 50 * np.arange(second) / fs_hz) * subject.mains_mv
    for lead in range(2):
        drift = _smooth(rng.normal(0, 1, len(seconds)), round(4 * slow_hz)) * 4
        breath = np.sin(2 * np.pi * subject.respiration_hz * seconds + rng.uniform(0, 6.28))
        wander = (subject.wander_mv * (drift + 0.5 * breath)).astype(np.float32)
        for first in range(0, n, 1000 * second):
            last = min(n, first + 1000 * second)
            part = signal[lead, first:last]
            muscle = rng.standard_normal(last - first, np.float32)
            muscle *= np.float32(subject.muscle_mv)
            muscle *= np.repeat(effort[first // second : -(-last // second)], second)[
                : last - first
            ]
            part += muscle
            part += np.interp(np.arange(first, last) / fs_hz, seconds, wander).astype(np.float32)
            part += np.resize(hum, last - first).astype(np.float32)
    for start in rng.integers(0, n, rng.poisson(subject.bursts_per_hour * n / fs_hz / 3600)):
        length = min(n - int(start), round(rng.uniform(2, 10) * fs_hz))
        shape = np.hanning(length + 2)[1:-1] * rng.uniform(0.3, 1.5)
        for lead in range(2):
            motion = _smooth(rng.normal(0, 1, length + second), second // 5)[:length]
            signal[lead, start : start + length] += (shape * motion * 3).astype(np.float32)
    np.clip(signal, -10, 10, out=signal)


def _smooth(x: F64, width: int) -> F64:
    """A moving average over `width` values, of the same length."""
    total = np.cumsum(np.concatenate((np.zeros(1), np.pad(x, (width // 2, width), mode="edge"))))
    return (total[width:] - total[:-width])[: len(x)] / width
