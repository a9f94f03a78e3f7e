"""Ectopy and noise for records with shapes: what mitdb's few patients cannot show.

Every function draws from the generator it is given and takes and gives one record's arrays. Labels
stay as they are: an ectopic beat in sinus rhythm is not AF, and one within AF still is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tasks.features.fused import BEFORE_QRS, QRS, SHAPE_SAMPLES, TIMES_S
from tasks.features.rhythm import RhythmRecord
from tasks.learning.rhythm_augment import augment_rhythm, ectopic_beats

Floats = NDArray[np.float32]
#: How often a record without a signal is given simulated shapes.
DRESSED = 0.6


def augment_record(record: RhythmRecord, random: np.random.Generator) -> RhythmRecord:
    """One record as another patient might have given it; with a shape, rhythm and shape agree."""
    if record.shape is None and random.random() < DRESSED:
        record = simulate_shapes(record, random)
    if record.shape is None:
        rhythm = augment_rhythm(record, random, even=False)
        return replace(record, rr_s=rhythm.rr_s, label=rhythm.label)
    rr_s = np.where(np.isfinite(record.rr_s), record.rr_s, np.float32(0.8)).astype(np.float32)
    rr_s = rr_s * np.float32(np.exp(random.uniform(-0.2, 0.2)))
    shape = record.shape
    if random.random() < 0.5:
        rr_s, shape = with_ectopy(rr_s, shape, random)
    rr_s = np.maximum(rr_s + random.normal(0, 0.004, len(rr_s)), 0.1).astype(np.float32)
    shape = with_noise(shape, random)
    return replace(record, rr_s=rr_s, shape=shape)


def with_ectopy(rr_s: Floats, shape: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Make some beats premature, ventricular in shape or atrial, with the pause that follows."""
    rr_s, shape = rr_s.copy(), shape.copy()
    places = ectopic_beats(len(rr_s), random) if len(rr_s) > 8 else np.empty(0, np.int64)
    if not len(places):
        return rr_s, shape
    early = random.normal(random.uniform(0.55, 0.85), random.uniform(0, 0.08), len(places))
    shift_s = rr_s[places] * (1 - np.clip(early, 0.4, 0.95).astype(np.float32))
    rr_s[places] -= shift_s
    ventricular = random.random() < 0.7
    pause = random.uniform(0.8, 1.0) if ventricular else random.uniform(0, 0.8)
    rr_s[places + 1] += shift_s * np.float32(pause)
    if ventricular:
        forms = np.stack([ventricular_shape(random) for _ in range(int(random.integers(1, 4)))])
        rest = shape[random.permutation(places)] * (~QRS)
        spread = random.lognormal(0, 0.1, (len(places), 1)).astype(np.float32)
        shape[places] = forms[random.integers(0, len(forms), len(places))] * spread + 0.4 * rest
    else:
        # The premature P wave comes at another distance, on the T wave before it.
        moved = np.roll(shape[places], int(random.integers(-8, 9)), axis=1)
        part = shape[places]
        part[:, BEFORE_QRS] = moved[:, BEFORE_QRS] * np.float32(random.uniform(0.3, 1.3))
        shape[places] = part
    return rr_s, shape


def ventricular_shape(random: np.random.Generator) -> Floats:
    """A wide QRS of two Gaussians with a T wave against it, in QRS heights, shape (80,)."""
    width_s, sign = random.uniform(0.022, 0.05), random.choice([-1.0, 1.0])
    waves = (
        (random.uniform(-0.03, 0.02), width_s, random.uniform(0.6, 2.2)),
        (random.uniform(0.04, 0.1), width_s * random.uniform(0.7, 1.3), -random.uniform(0, 1.2)),
        (random.uniform(0.22, 0.34), random.uniform(0.04, 0.08), -random.uniform(0.1, 0.7)),
    )
    out = sum(sign * mv * np.exp(-0.5 * ((TIMES_S - at) / sigma) ** 2) for at, sigma, mv in waves)
    return np.asarray(out, np.float32)


def with_noise(shape: Floats, random: np.random.Generator) -> Floats:
    """Turn the lead round, scale its waves and add muscle noise and wander, each at times."""
    n = len(shape)
    out = shape * np.float32(random.choice([-1.0, 1.0], p=[0.25, 0.75]))
    if random.random() < 0.4:
        level = random.uniform(0, 0.12) * random.lognormal(0, 0.5, (n, 1))
        out = out + level * random.normal(0, 1, (n, SHAPE_SAMPLES))
    if random.random() < 0.3:
        slope = random.normal(0, random.uniform(0, 0.3), (n, 1))
        out = out + slope * TIMES_S + random.normal(0, 0.05, (n, 1))
    return np.asarray(out, np.float32)


def simulate_shapes(record: RhythmRecord, random: np.random.Generator) -> RhythmRecord:
    """Give a record without a signal the shapes of a simulated heart that fit its rhythm.

    One subject's QRS and T wave are drawn; before each beat stands a P wave outside AF, and in AF
    fibrillatory waves of 4 to 9 Hz (Petrutiu et al. 2007, doi:10.1093/europace/eum096), weak to
    strong; muscle noise over both.
    """
    n = len(record)
    af = (record.label == 1)[:, None]
    t = TIMES_S[None, :]

    def wave(at_s: float, sigma_s: float, height: float) -> NDArray[np.float64]:
        return np.asarray(height * np.exp(-0.5 * ((t - at_s) / sigma_s) ** 2))

    normal = random.normal
    qrs = wave(0, random.uniform(0.008, 0.02), 1)
    qrs = qrs + wave(-0.03, random.uniform(0.008, 0.015), -random.uniform(0, 0.3))
    qrs = qrs + wave(0.03, random.uniform(0.008, 0.02), -random.uniform(0, 0.8))
    tail = wave(random.uniform(0.2, 0.32), random.uniform(0.03, 0.07), normal(0.15, 0.2))
    p_at, p_width = random.uniform(-0.22, -0.12), random.uniform(0.015, 0.03)
    p_wave = wave(p_at, p_width, random.choice([-0.3, 1, 1, 1]) * random.uniform(0.01, 0.25))
    hz = random.uniform(4, 9) * np.exp(normal(0, 0.05, (n, 1)))
    angle = 2 * np.pi * (hz * t + random.random((n, 1)))
    f_wave = random.lognormal(-3.2, 0.7) * (np.sin(angle) + 0.4 * np.sin(2 * angle))
    muscle = random.lognormal(-3.7, 0.8) * normal(0, 1, (n, SHAPE_SAMPLES))
    spread = np.exp(normal(0, 0.05, (n, 1)))
    shape = spread * (qrs + tail) + np.where(af, f_wave, p_wave * spread) + muscle
    shape = random.choice([-1.0, 1.0, 1.0]) * shape / np.ptp(qrs)
    return replace(record, shape=shape.astype(np.float32))
