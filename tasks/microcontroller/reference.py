"""The integer arithmetic of a microcontroller in numpy: the C gives the same integers, all of them.

A whole stretch is answered at once; sums of products are taken in float64, which holds each of
them exactly, as none reaches 2**53.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.recordings.stretches import RR_RANGE_S
from tasks.features.rhythm import MEDIAN_BEATS, SHORT_MEDIAN_BEATS, nearest_median
from tasks.microcontroller.fixed import (
    EXPIT_TABLE,
    LOG_BITS,
    LOG_STEPS,
    LOG_TABLE,
    MOST_ACTIVATION,
    MOST_FEATURE,
    MOST_ODDS,
    MOST_TABLE,
    ODDS_BITS,
    ODDS_STEPS,
    ODDS_UNIT,
    SHIFT,
    SLOPE_BITS,
    TYPICAL_LOG,
    FixedLayer,
    FixedNetwork,
    FixedRule,
    Integers,
)
from tasks.microcontroller.network import convolve

#: What is told of a beat.
NOT_AF, AF, CANNOT_TELL = 0, 1, 2
#: The shortest and the longest plausible interval, in microseconds; others count as the nearer.
LEAST_US, MOST_US = (round(bound * 1_000_000) for bound in RR_RANGE_S)


@dataclass(frozen=True, eq=False)
class FixedAnswers:
    """What is answered of each beat of a stretch, shape (n,) each.

    Attributes
    ----------
    p_af : uint16
        Calibrated P(AF) in 1/65536.
    verdict : uint8
        0 not AF, 1 AF, 2 it cannot be told.
    """

    p_af: NDArray[np.uint16]
    verdict: NDArray[np.uint8]


def in_microseconds(rr_s: NDArray[np.float32]) -> Integers:
    """Intervals as a microcontroller is fed them: 0 where one is not known."""
    return np.rint(np.nan_to_num(rr_s.astype(np.float64)) * 1e6).astype(np.int64)


def fixed_answers(network: FixedNetwork, rr_us: Integers) -> FixedAnswers:
    """Answer every beat of one stretch.

    Parameters
    ----------
    network : FixedNetwork
    rr_us : int64, shape (n,)
        Interval before each beat in microseconds; 0 where it is not known, as at the first.
    """
    n = len(rr_us)
    features, mask = fixed_features(rr_us, causal=network.causal)
    odds = _log_odds(network, features, mask)
    received = np.minimum(np.arange(n) + network.ahead + 1, n)
    odds = _calibrate(network.rule, odds, received)
    p_af = _expit(odds)
    return FixedAnswers(p_af.astype(np.uint16), _verdicts(network.rule, odds, p_af))


def fixed_log2(values: Integers) -> Integers:
    """Logarithm to base 2 of whole numbers from 1 to 2**32 - 1, in 1/4096."""
    whole = np.floor(np.log2(values)).astype(np.int64)
    whole -= (values >> whole) == 0
    mantissa = values << (31 - whole)
    step, rest = (mantissa >> 25) & (LOG_STEPS - 1), (mantissa >> 9) & 0xFFFF
    part = LOG_TABLE[step] + (((LOG_TABLE[step + 1] - LOG_TABLE[step]) * rest) >> 16)
    return np.asarray((whole << LOG_BITS) + ((part + 4) >> 3))


def fixed_features(rr_us: Integers, *, causal: bool) -> tuple[Integers, Integers]:
    """The four features of each beat, (n, 4), and whether it has them, (n,).

    As `tasks.features.rhythm.rr_features`, in 1/4096 of an octave.
    """
    read = rr_us > 0
    features, mask = np.zeros((len(rr_us), 4), np.int64), np.zeros(len(rr_us), np.int64)
    if not read.any():
        return features, mask
    first = int(read.argmax())
    last = np.maximum.accumulate(np.where(read, np.arange(len(rr_us)), first))
    log_rr = fixed_log2(np.clip(rr_us[last], LEAST_US, MOST_US))
    start = first if causal else 0
    log_rr = log_rr[start:]
    long, short = (
        nearest_median(log_rr.astype(np.float32), width, causal=causal).astype(np.int64)
        for width in (MEDIAN_BEATS, SHORT_MEDIAN_BEATS)
    )
    step = np.diff(log_rr, prepend=log_rr[:1])
    columns = np.stack((log_rr - long, step, long - TYPICAL_LOG, log_rr - short), axis=1)
    features[start:], mask[start:] = np.clip(columns, -MOST_FEATURE, MOST_FEATURE), 1
    return features, mask


def _log_odds(network: FixedNetwork, features: Integers, mask: Integers) -> Integers:
    """The network's own log odds, (n,)."""
    x = features
    for number, layer in enumerate(network.layers):
        x = _layer(layer, x, mask, network.causal, carries=number > 0)
    return np.asarray(x @ network.answer + network.answer_bias)


def _layer(
    layer: FixedLayer, x: Integers, mask: Integers, causal: bool, *, carries: bool
) -> Integers:
    sums = convolve(x.astype(np.float64), layer.weight.astype(np.float64), layer.dilation, causal)
    total = np.maximum(sums.astype(np.int64) + layer.bias, 0) * layer.gain
    if carries:
        total += x * layer.carry
    out = np.minimum((total + (1 << (SHIFT - 1))) >> SHIFT, MOST_ACTIVATION)
    return np.asarray(out * mask[:, None])


def _calibrate(rule: FixedRule, odds: Integers, received: Integers) -> Integers:
    """Calibrated log odds by how many beats of the stretch had come, held within bounds."""
    if rule.lengths:
        slope, offset = _line(rule, fixed_log2(received))
        odds = np.clip(odds, -MOST_ODDS, MOST_ODDS)
        odds = ((odds * slope) >> SLOPE_BITS) + offset
    return np.clip(odds, -MOST_ODDS, MOST_ODDS)


def _line(rule: FixedRule, place: Integers) -> tuple[Integers, Integers]:
    """Slope and offset at logarithms of beats, (n,) each, interpolated."""
    rows = np.array(rule.lengths, np.int64)
    place = np.clip(place, rows[0, 0], rows[-1, 0])
    after = np.clip(np.searchsorted(rows[:, 0], place), min(1, len(rows) - 1), len(rows) - 1)
    before = np.maximum(after - 1, 0)
    width = np.maximum(rows[after, 0] - rows[before, 0], 1)
    part = ((place - rows[before, 0]) << LOG_BITS) // width
    slope, offset = (
        rows[before, k] + (((rows[after, k] - rows[before, k]) * part) >> LOG_BITS) for k in (1, 2)
    )
    return slope, offset


def _expit(odds: Integers) -> Integers:
    """Probabilities of log odds, in 1/65536."""
    far = np.minimum(np.abs(odds), MOST_TABLE * ODDS_UNIT - 1) * ODDS_STEPS
    step, rest = far >> ODDS_BITS, far & (ODDS_UNIT - 1)
    part = (EXPIT_TABLE[step + 1] - EXPIT_TABLE[step]) * rest
    p = EXPIT_TABLE[step] + (part >> ODDS_BITS)
    return np.asarray(np.where(odds < 0, ODDS_UNIT - p, p))


def _verdicts(rule: FixedRule, odds: Integers, p_af: Integers) -> NDArray[np.uint8]:
    """What is told of each beat: smoothed by a chain that looks `lag` beats ahead, and a margin."""
    n, lead, before = len(odds), [], 0
    for value in (odds - rule.threshold).tolist():
        before = min(max(before, -rule.cost), rule.cost) + value
        lead.append(before)
    leads = np.array(lead, np.int64)
    sure = np.where(leads >= rule.cost, 1, np.where(leads <= -rule.cost, 0, -1))
    place = np.where(sure >= 0, np.arange(n), n)
    following = np.minimum.accumulate(place[::-1])[::-1]
    last = np.minimum(np.arange(n) + rule.lag, n - 1)
    af = np.where(following <= last, sure[np.minimum(following, n - 1)] == 1, leads[last] >= 0)
    half = rule.around // 2
    total = np.concatenate([[0], np.cumsum(p_af)])
    low = np.maximum(np.arange(n) - half, 0)
    high = np.minimum(np.arange(n) + half + 1, n)
    sums, beats = total[high] - total[low], high - low
    clear = np.where(af, sums >= rule.high * beats, sums <= rule.low * beats)
    return np.where(clear, np.where(af, AF, NOT_AF), CANNOT_TELL).astype(np.uint8)
