"""Fused: what a network reads of rhythm and beat shape together, beat by beat.

RR intervals alone take frequent ectopy for atrial fibrillation. The waveform tells the two apart:
an ectopic QRS differs from its neighbours', a sinus P wave comes back before every beat, and in AF
what stands before the QRS is never twice the same. A record without a signal gives the same arrays
with its shapes zero and a column that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from storage.recordings.stretches import slices
from storage.tables.beats import R_INDEX, WAVEFORM_SAMPLES, BeatTable, join_tables
from tasks.features.rhythm import (
    RhythmRecord,
    fill_gaps,
    rhythm_record,
    rr_features,
    running_median,
)

#: A shape: real time around R, whatever the heart rate.
SHAPE_HZ = 100
SHAPE_S = (-0.40, 0.40)
SHAPE_SAMPLES = 80
TIMES_S = (SHAPE_S[0] + np.arange(SHAPE_SAMPLES) / SHAPE_HZ).astype(np.float32)
QRS = (TIMES_S >= -0.08) & (TIMES_S < 0.10)
BEFORE_QRS = (TIMES_S >= -0.30) & (TIMES_S < -0.06)
#: Cues: QRS similarity, height and distance; P similarity, wave and rest.
CUES = 6
#: Columns of the context: the first RR features, cues, whether there is a shape, and the rhythm of
#: the beats with a usual QRS.
RR_FEATURES, USUAL_FEATURES = 3, 2
FEATURES = RR_FEATURES + CUES + 1 + USUAL_FEATURES
#: A usual QRS correlates more than this with the running median.
USUAL = 0.8
#: Most beats from one with a usual QRS to the next; changes that their running median is of.
MOST_APART, SPREAD_BEATS = 3, 31
TEMPLATE_BEATS, TEMPLATE_STEP = 40, 8
LARGEST = 4.0
LEAST_MV = 0.02
#: Stands for the interval that a record's ends lack: so long that no neighbour is met.
FAR_S = 1e3
#: Beats at work at once: what is made of them on the way is ten times the result.
BLOCK = 512

Floats = NDArray[np.float32]


def real_time(waveform: Floats, rr_prev_s: Floats, rr_next_s: Floats) -> Floats:
    """Undo the beat tables' stretching: shapes at 100 Hz from 0.4 s before R to 0.4 s after.

    A beat's own segment ends a third of the interval before R and two thirds after; beyond, the
    neighbours' segments, which meet it there, go on up to their own R.

    Parameters
    ----------
    waveform : float32, shape (n, 300)
        Successive beats of one record, R at index 100; rows of NaN where there is none.
    rr_prev_s, rr_next_s : float32, shape (n,)
        RR intervals before and after each beat, seconds.

    Returns
    -------
    float32, shape (n, 80)
        In the waveform's unit; zero beyond the neighbours' R; rows of NaN where a beat has no
        waveform of its own.
    """
    n = len(waveform)
    out = np.empty((n, SHAPE_SAMPLES), np.float32)
    for at in range(0, n, BLOCK):
        low = max(at - 1, 0)
        part = slice(low, at + BLOCK + 1)
        shapes = _real_time(waveform[part], rr_prev_s[part], rr_next_s[part])
        out[at : at + BLOCK] = shapes[at - low :][:BLOCK]
    return out


def _real_time(waveform: Floats, rr_prev_s: Floats, rr_next_s: Floats) -> Floats:
    n, after, end = len(waveform), WAVEFORM_SAMPLES - R_INDEX, WAVEFORM_SAMPLES - 1
    before_s = np.where(rr_prev_s > 0, rr_prev_s, FAR_S).astype(np.float32)
    after_s = np.where(rr_next_s > 0, rr_next_s, FAR_S).astype(np.float32)
    place = np.empty((n, SHAPE_SAMPLES), np.float32)
    t, past = TIMES_S, int(np.searchsorted(TIMES_S, 0))
    place[:, :past] = R_INDEX * (1 + 3 * t[:past] / before_s[:, None])
    place[:, past:] = R_INDEX + after * 1.5 * t[past:] / after_s[:, None]
    # A sixth of the samples lie in a neighbour's segment.
    beat, column = np.nonzero(place < 0)
    previous = R_INDEX + after * 1.5 * (before_s[beat] + t[column]) / before_s[beat]
    sides = [(beat, column, previous, beat - 1, (beat < 1) | (previous < R_INDEX))]
    beat, column = np.nonzero(place > end)
    following = R_INDEX * (1 + 3 * (t[column] - after_s[beat]) / after_s[beat])
    sides.append((beat, column, following, beat + 1, (beat >= n - 1) | (following > R_INDEX)))
    first = np.repeat(np.arange(n) * WAVEFORM_SAMPLES, SHAPE_SAMPLES).reshape(n, SHAPE_SAMPLES)
    for beat, column, position, neighbour, outside in sides:
        place[beat, column] = np.where(outside, 0, np.clip(position, 0, end))
        first[beat, column] = np.where(outside, n, neighbour) * WAVEFORM_SAMPLES
    left = place.astype(np.int32)  # floors: no place is below zero
    part = place - left.astype(np.float32)
    at = (first + left).ravel()
    # Behind the last beat zeros: of what is outside, and what follows a last sample.
    flat = np.concatenate([waveform.ravel(), np.zeros(2, np.float32)])
    low, high = flat[at], flat[at + 1]
    high = np.where(left.ravel() < end, high, low)
    shape = (low + part.ravel() * (high - low)).reshape(n, SHAPE_SAMPLES)
    shape[~np.isfinite(shape)] = 0
    shape[np.isnan(waveform[:, 0])] = np.nan
    return np.asarray(shape, np.float32)


def tables_with_shapes(tables: Iterable[BeatTable]) -> Iterator[tuple[BeatTable, Floats]]:
    """Successive stretches of a record, as they come: each without its waveforms, and its shapes.

    The shapes are those of `real_time` over the whole record: a stretch waits for the next one,
    whose first beat its last one meets.
    """
    before: list[BeatTable] = []  # the last beat of the stretch before
    waiting: BeatTable | None = None
    for table in tables:
        if waiting is not None:
            yield _with_shapes(waiting, before, [table.take(slice(1))])
            before = [waiting.take(slice(-1, None))]
        waiting = table
    if waiting is not None:
        yield _with_shapes(waiting, before, [])


def _with_shapes(
    table: BeatTable, before: list[BeatTable], following: list[BeatTable]
) -> tuple[BeatTable, Floats]:
    stretch = join_tables([*before, table, *following])
    if stretch.waveform is None:
        raise ValueError(f"record {table.record}: shapes are of waveforms; found none")
    shapes = real_time(stretch.waveform, stretch.rr_prev_s, stretch.rr_next_s)
    return replace(table, waveform=None), shapes[len(before) :][: len(table)]


def _templates(values: Floats, use: NDArray[np.bool_]) -> Floats:
    """Running median over the 40 used beats around, the same for every 8 beats."""
    n = len(values)
    out = np.empty(values.shape, np.float32)
    for at in range(0, n, BLOCK):
        starts = np.arange(at, min(at + BLOCK, n), TEMPLATE_STEP)
        low = starts + TEMPLATE_STEP // 2 - TEMPLATE_BEATS // 2
        low = np.clip(low, 0, max(n - TEMPLATE_BEATS, 0))
        rows = np.minimum(low[:, None] + np.arange(TEMPLATE_BEATS), n - 1)
        part = out[at : at + BLOCK]
        median = _median(values[rows], use[rows])
        part[:] = np.repeat(median, TEMPLATE_STEP, axis=0)[: len(part)]
    return out


def _median(values: Floats, use: NDArray[np.bool_]) -> Floats:
    """Median over axis 1 of (m, k, s) of the rows (m, k) that are used; 0 where none is."""
    padded = np.where(use[..., None], values, np.float32(np.inf)).transpose(0, 2, 1)
    ordered = np.sort(np.ascontiguousarray(padded), axis=2)  # along memory is faster
    count, rows = use.sum(axis=1), np.arange(len(values))
    low, high = (ordered[rows, :, np.maximum(half, 0)] for half in ((count - 1) // 2, count // 2))
    out = np.asarray((low + high) / 2, np.float32)
    out[count == 0] = 0
    return out


def normalise(shape: Floats) -> Floats:
    """Shapes over the running median of their QRS height, held within -4 to 4; NaN rows stay."""
    present = np.isfinite(shape[:, 0])
    height = np.ptp(np.where(present[:, None], shape[:, QRS], 0), axis=1).astype(np.float32)
    usual = _templates(height[:, None], present)
    out = np.divide(shape, np.maximum(usual, LEAST_MV), dtype=np.float32)
    return np.asarray(np.clip(out, -LARGEST, LARGEST, out=out), np.float32)


def _similarity(a: Floats, b: Floats) -> Floats:
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / np.maximum(scale, 1e-6), np.float32)


def _level(values: Floats) -> Floats:
    """Rows less their mean and slope: the end of a T wave leans, and does so alike in AF."""
    slope = np.linspace(-1, 1, values.shape[1], dtype=np.float32)
    slope /= np.linalg.norm(slope)
    values = values - values.mean(axis=1, keepdims=True)
    return np.asarray(values - (values @ slope)[:, None] * slope, np.float32)


def cues(shape: Floats) -> Floats:
    """What a beat's shape says beside its neighbours'.

    Parameters
    ----------
    shape : float32, shape (n, 80)
        Normalised; rows of NaN where there is none.

    Returns
    -------
    float32, shape (n, 6)
        QRS against the running median QRS: correlation, logarithm of heights, RMS distance.
        The stretch before the QRS, where a P wave would be, without mean and slope, against its
        running median over beats with a usual QRS: correlation, logarithm of the median's RMS, and
        of the rest's. Zero where there is no shape.
    """
    present = np.isfinite(shape[:, 0])
    qrs, before = shape[:, QRS], shape[:, BEFORE_QRS]  # copies
    qrs[~present] = before[~present] = 0
    before = _level(before)
    usual_qrs = _templates(qrs, present)
    same = _similarity(qrs, usual_qrs)
    usual = _level(_templates(before, present & (same > USUAL)))
    rest = before - usual
    columns = (
        same,
        np.log((np.ptp(qrs, axis=1) + 0.05) / (np.ptp(usual_qrs, axis=1) + 0.05)),
        np.sqrt(((qrs - usual_qrs) ** 2).mean(axis=1)),
        _similarity(before, usual),
        0.5 * np.log((usual**2).mean(axis=1) + 1e-4) + 3,
        0.5 * np.log((rest**2).mean(axis=1) + 1e-4) + 3,
    )
    out = np.asarray(np.clip(np.stack(columns, axis=1), -2, 2), np.float32)
    out[~present] = 0
    return out


def between_usual(rr_prev_s: Floats, same: Floats) -> Floats:
    """How regular the rhythm is when ectopic beats are left out.

    A ventricular ectopic and its pause take about two intervals of the rhythm below it together, so
    what counts is the mean interval from one beat with a usual QRS to the next one. In sinus rhythm
    with every third beat ectopic it hardly changes; in AF it changes as every interval does.

    Parameters
    ----------
    rr_prev_s : float32, shape (n,)
        RR interval before each beat, seconds; NaN counts as the interval before it.
    same : float32, shape (n,)
        Correlation of each QRS with the usual one, 0 where there is no shape.

    Returns
    -------
    float32, shape (n, 2)
        At a usual beat, logarithm of the mean interval up to it over the mean interval before that
        one, 0 where either is of more than three beats; and at every beat, logarithm of the running
        median of the size of 31 such changes. Zero where fewer than three beats are usual.
    """
    out = np.zeros((len(same), USUAL_FEATURES), np.float32)
    usual = np.flatnonzero(same > USUAL)
    if len(usual) < 3:
        return out
    steps = np.diff(usual)
    mean_s = np.diff(np.cumsum(fill_gaps(rr_prev_s), dtype=np.float64)[usual]) / steps
    change = np.clip(np.diff(np.log(mean_s)), -1, 1).astype(np.float32)
    far = steps > MOST_APART
    change[far[1:] | far[:-1]] = 0
    spread = running_median(np.abs(change), SPREAD_BEATS, causal=False)
    out[usual[2:], 0] = change
    out[:, 1] = np.log(np.interp(np.arange(len(out)), usual[2:], spread) + 0.005) + 3
    return np.asarray(np.clip(out, -2, 2), np.float32)


def inputs(rr_prev_s: Floats, shape: Floats | None) -> tuple[Floats, Floats]:
    """What a fused network reads.

    Parameters
    ----------
    rr_prev_s : float32, shape (n,)
        RR interval before each beat, seconds.
    shape : float32, shape (n, 80), or None
        Normalised shapes; rows of NaN, or None, where there are none.

    Returns
    -------
    context : float32, shape (n, 12)
        RR features, cues, 1 where the beat has a shape, and the rhythm of the usual beats. A new
        column goes last: a network from before it reads the first ones.
    shape : float32, shape (n, 80)
    """
    n = len(rr_prev_s)
    out = np.zeros((n, FEATURES), np.float32)
    out[:, :RR_FEATURES] = rr_features(rr_prev_s, columns=RR_FEATURES)
    if shape is None:
        return out, np.zeros((n, SHAPE_SAMPLES), np.float32)
    present = np.isfinite(shape[:, 0])
    cue_values = cues(shape)
    columns = (cue_values, present[:, None], between_usual(rr_prev_s, cue_values[:, 0]))
    out[:, RR_FEATURES:] = np.concatenate(columns, axis=1)
    return out, np.where(present[:, None], shape, np.float32(0))


def fused_record(
    table: BeatTable, weight: float = 1.0, shape: Floats | None = None
) -> RhythmRecord:
    """Rhythm and shapes of a whole record's beat table; without waveforms, rhythm alone.

    `shape` is what `real_time` gives for it, where that is known already.
    """
    record = rhythm_record(table, weight)
    if shape is None and table.waveform is not None:
        shape = real_time(table.waveform, table.rr_prev_s, table.rr_next_s)
    if shape is None:
        return record
    parts = [normalise(shape[part]) for part in slices(record.begins)]
    return replace(record, shape=parts[0] if len(parts) == 1 else np.concatenate(parts))
