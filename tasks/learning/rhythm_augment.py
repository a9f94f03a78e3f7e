"""Rhythms that a data set holds too few of: ectopy, detector errors, strong sinus arrhythmia.

Annotated AF databases hold patients with AF and little else, and a network that has never seen
bigeminy or a young sleeper's respiratory arrhythmia takes both for AF. Every function takes and
gives intervals and labels of one record, draws from the generator it is given, and leaves labels
as they were but for beats that it adds or removes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.features.rhythm import MEDIAN_BEATS, RhythmRecord, running_median

Floats = NDArray[np.float32]
T = TypeVar("T")
Labels = NDArray[np.signedinteger]
#: Beats of a stretch within which one kind and rate of ectopy holds.
STRETCH_BEATS = 400
#: What a network is to answer at a beat, by its class: not AF, AF, flutter. The intervals of
#: flutter may be AF's, so that neither 0 nor 1 is true of it.
TARGETS, IN_FLUTTER = np.array([0, 1, 0.3], np.float32), 2
#: Classes, and -1 for a beat that counts nowhere.
CLASSES = 4
#: How many origins premature beats of a stretch have, how much their coupling varies (sigma, as a
#: share of the interval) at most, and how many of them are the first of a pair.
FOCI, LOOSE, PAIR_SHARES = (1, 1, 2, 4), 0.12, (0, 0, 0.2, 0.6)
#: Heart rates are scaled by a factor within exp(-this) to exp(this).
RATE_SCALE = 0.15
EVEN_SHARE = 0.5
#: How deep breath swings simulated sinus rhythm at most, as a share of the interval.
BREATHS = (0.07, 0.07, 0.14)
#: In half of the records, how much of AF's irregularity is left, by stretches of so many beats.
EVENNESS, EVEN_BEATS = (0.7, 1.0), 1000
#: Lengths of the stretches that `paste_stretches` copies, and beats of the record for each.
PASTED_BEATS = (40, 1500)
BEATS_PER_PASTE = 750
#: A record is cut into blocks of so many beats; this share of them to strips, whose lengths spread
#: evenly over their logarithm: ten seconds to ten minutes.
BLOCK_BEATS, SHORT_SHARE, SHORT_BEATS = 3000, 0.2, (8, 640)


def classes(record: RhythmRecord) -> RhythmRecord:
    """The record as it is learnt from, labels being classes of `TARGETS`, or -1."""
    if record.flutter is None:
        return record
    doubtful = record.flutter & (record.label == 0)
    label = np.where(doubtful, np.int8(IN_FLUTTER), record.label)
    return replace(record, label=label, flutter=None)


def augment_rhythm(
    record: RhythmRecord, random: np.random.Generator, *, even: bool = True
) -> RhythmRecord:
    """One record as another patient, detector and sampling rate might have given it.

    Stretches stay apart. `even` has AF evened out in some of the records, those of one stretch.
    """
    rr_s = np.where(np.isfinite(record.rr_s), record.rr_s, np.float32(0.8)).astype(np.float32)
    rr_s = rr_s * np.float32(np.exp(random.uniform(-RATE_SCALE, RATE_SCALE)))
    # Beats come and go: of which stretch one is goes with its label.
    stretch = np.cumsum(record.begins[1:], dtype=np.int32)
    tag = np.append(np.int32(0), stretch)[: len(record)] * CLASSES + record.label
    if even and not stretch[-1:].any() and random.random() < EVEN_SHARE:
        rr_s = even_out(rr_s, record.label, random)
    if random.random() < 0.7:
        rr_s, tag = ectopy(rr_s, tag, random)
    if random.random() < 0.5:
        rr_s, tag = detector_errors(rr_s, tag, random, rate=random.uniform(0, 0.01))
    rr_s = quantise(rr_s, random)
    stretch = (tag + 1) // CLASSES
    rr_s[1:][np.diff(stretch) > 0] = np.nan
    return replace(record, rr_s=rr_s, label=(tag - stretch * CLASSES).astype(np.int8))


def pick(values: Sequence[T], random: np.random.Generator) -> T:
    """One of a few values, in a fifth of the time that the generator's own choice takes."""
    return values[int(random.integers(len(values)))]


def even_out(rr_s: Floats, label: Labels, random: np.random.Generator) -> Floats:
    """AF whose intervals differ less, as in patients whose ventricles are slow to answer.

    Deviations from the running median shrink, by one factor for every stretch of `EVEN_BEATS`.
    """
    log_rr = np.log(np.maximum(rr_s, 0.1)).astype(np.float32)
    usual = running_median(log_rr, MEDIAN_BEATS, causal=False)
    left = random.uniform(*EVENNESS, len(rr_s) // EVEN_BEATS + 1)
    factor = np.repeat(left, EVEN_BEATS)[: len(rr_s)]
    evened = np.exp(usual + (log_rr - usual) * factor)
    return np.where(label == 1, evened, rr_s).astype(np.float32)


def paste_stretches(record: RhythmRecord, random: np.random.Generator) -> RhythmRecord:
    """Copy stretches of a record over others of its own: every rhythm beside every other.

    A patient's AF and sinus rhythm meet at a few dozen beats in ten hours, and nowhere in a patient
    who has one of them alone at a time; what begins and ends an episode is learnt from these.
    """
    n = len(record)
    if n <= PASTED_BEATS[1]:
        return record
    rr_s, label = record.rr_s.copy(), record.label.copy()
    for _ in range(n // BEATS_PER_PASTE):
        length = int(random.integers(*PASTED_BEATS))
        source, target = random.integers(0, n - length, 2).tolist()
        rr_s[target : target + length] = record.rr_s[source : source + length]
        label[target : target + length] = record.label[source : source + length]
    return replace(record, rr_s=rr_s, label=label)


def cut_short(record: RhythmRecord, random: np.random.Generator) -> RhythmRecord:
    """Cut a record into stretches of many lengths, each to be read as a record of its own.

    No interval is known at the first beat of each. What a network makes of a strip, and of a
    record's ends, is learnt from these.
    """
    rr_s = record.rr_s.copy()
    for block in range(0, len(rr_s), BLOCK_BEATS):
        rr_s[block] = np.nan
        if random.random() < SHORT_SHARE:
            low, high = np.log(SHORT_BEATS)
            lengths = np.exp(random.uniform(low, high, BLOCK_BEATS // SHORT_BEATS[0]))
            begins = block + np.cumsum(lengths).astype(np.int64)
            rr_s[begins[begins < min(block + BLOCK_BEATS, len(rr_s))]] = np.nan
    return replace(record, rr_s=rr_s)


def ectopy(
    rr_s: Floats, label: Labels, random: np.random.Generator, most: float = 0.5
) -> tuple[Floats, Labels]:
    """Add premature beats, stretch by stretch: none, scattered, or every second to fourth beat.

    A premature beat comes at 0.5 to 0.9 of its interval. The pause after it is full (ventricular),
    or resets the sinus rhythm (atrial), or there is none (interpolated, a beat more).
    """
    out, labels = [], []
    for at in range(0, len(rr_s), STRETCH_BEATS):
        rr, lab = rr_s[at : at + STRETCH_BEATS].copy(), label[at : at + STRETCH_BEATS]
        kind = random.random()
        if kind < most and len(rr) > 8:
            places = ectopic_beats(len(rr), random)
            origins = random.uniform(0.5, 0.88, pick(FOCI, random))
            early = origins[random.integers(0, len(origins), len(places))]
            early += random.normal(0, random.uniform(0.0, LOOSE), len(places))
            early = np.clip(early, 0.4, 0.95).astype(np.float32)
            shift_s = rr[places] * (1 - early)
            rr[places] -= shift_s
            # A pause is of the same kind throughout a stretch.
            pause = pick((1.0, random.uniform(0, 0.6), random.uniform(0.8, 1.0)), random)
            pairs = _pairs(places, len(rr), random)
            rr[places + 1] += np.where(pairs, 0, shift_s * np.float32(pause))
            # The second of a pair comes as early after the first, and the pause after it.
            second = places[pairs] + 1
            later_s = rr[second] * random.uniform(0.1, 0.5, len(second)).astype(np.float32)
            rr[second] -= later_s
            rr[second + 1] += later_s * np.float32(pause)
            if random.random() < 0.1:
                rr, lab = _interpolate(rr, lab, places, random)
        out.append(rr)
        labels.append(lab)
    return np.concatenate(out), np.concatenate(labels)


def ectopic_beats(n: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Places of premature beats in a stretch of n, none beside another or at the end."""
    if random.random() < 0.5:
        places = np.flatnonzero(random.random(n - 1) < pick((0.01, 0.03, 0.1, 0.2), random))
    else:
        first, last = sorted(random.integers(0, n - 1, 2).tolist())
        places = np.arange(first, last, random.integers(2, 5))
        places = places[random.random(len(places)) < pick((1.0, 0.9, 0.7), random)]
    places = places.astype(np.int64)
    return places[np.diff(places, prepend=-9) > 1]


def _pairs(places: NDArray[np.int64], n: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Which premature beats another follows at once: none, some, or most of a stretch."""
    free = np.diff(places, append=n) > 2
    return free & (random.random(len(places)) < pick(PAIR_SHARES, random))


def _interpolate(
    rr: Floats, label: Labels, places: NDArray[np.int64], random: np.random.Generator
) -> tuple[Floats, Labels]:
    """Split the intervals at `places` in two, a beat more each."""
    part = random.uniform(0.4, 0.6, len(places)).astype(np.float32)
    first = rr[places] * part
    rr = rr.copy()
    rr[places] -= first
    return np.insert(rr, places, first), np.insert(label, places, label[places])


def detector_errors(
    rr_s: Floats, label: Labels, random: np.random.Generator, rate: float
) -> tuple[Floats, Labels]:
    """Miss beats (their interval goes to the next one) and find beats that are not there."""
    n = len(rr_s)
    missed = np.flatnonzero(random.random(n - 1) < rate)
    missed = missed[np.diff(missed, prepend=-9) > 1]
    rr = rr_s.copy()
    rr[missed + 1] += rr[missed]
    rr, label = np.delete(rr, missed), np.delete(label, missed)
    extra = np.flatnonzero(random.random(len(rr)) < rate)
    return _interpolate(rr, label, extra, random)


def quantise(rr_s: Floats, random: np.random.Generator) -> Floats:
    """Move R peaks by up to 8 ms (1 sigma) and onto a grid of 100 to 500 Hz."""
    time_s = np.cumsum(rr_s, dtype=np.float64)
    time_s += random.normal(0, random.choice([0, 0.002, 0.004, 0.008]), len(time_s))
    fs_hz = random.choice([100, 125, 128, 200, 250, 360, 500])
    time_s = np.round(time_s * fs_hz) / fs_hz
    rr = np.diff(time_s, prepend=time_s[:1] - rr_s[:1])
    return np.asarray(np.maximum(rr, 0.1), np.float32)


def simulated_sinus(number: int, beats: int, random: np.random.Generator) -> RhythmRecord:
    """A record without AF: sinus rhythm with respiratory and slow arrhythmia, ectopy and errors.

    Spectral shape after the model of McSharry et al. 2003 (doi:10.1109/TBME.2003.808805): a
    respiratory line, one near 0.1 Hz, and 1/f below, with amplitudes up to a young sleeper's.
    """
    mean_s = random.uniform(0.5, 1.3)
    knots = max(beats // 300, 4)
    place = np.arange(beats)

    def slow(low: float, high: float) -> NDArray[np.float64]:
        return np.interp(place, np.linspace(0, beats, knots), random.uniform(low, high, knots))

    base = mean_s * np.exp(slow(-0.2, 0.2))
    breath = 2 * np.pi * np.cumsum(slow(0.12, 0.4) * base)
    wave = 2 * np.pi * np.cumsum(slow(0.02, 0.13) * base)
    drift = np.cumsum(random.normal(0, 1, beats))
    drift -= np.interp(place, place[::200], drift[::200])
    # Vagal tone lengthens the interval and swings it with the breath: a fast heart breathes little.
    tone = random.choice([0.3, 1.0, 1.0, 2.0]) * np.clip((base - 0.5) / 0.5, 0.1, 1.2)
    noise = random.normal(0, random.uniform(0.002, 0.02), beats)
    # Posture, effort and the baroreflex swing it at any rate, by a tenth and more in the healthy.
    slowly = slow(0, random.choice([0.05, 0.12])) * np.sin(wave)
    slowly += random.uniform(0.002, 0.012) * drift
    deep = slow(0, random.choice(BREATHS))
    # Inspiration is short: the swing is a row of peaks rather than a sine.
    swing = np.sin(breath + random.uniform(0, 0.8) * np.sin(breath))
    rr = base * (1 + tone * (deep * swing + noise) + slowly)
    rr_s = np.clip(rr, 0.3, 2.5).astype(np.float32)
    label = np.zeros(beats, np.int8)
    rr_s, label = ectopy(rr_s, label, random, most=random.choice([0.0, 0.1, 0.5, 0.9]))
    rr_s, label = detector_errors(rr_s, label, random, rate=random.choice([0, 0.002, 0.01]))
    return RhythmRecord(f"simulated/{number}", f"simulated/{number}", quantise(rr_s, random), label)
