"""A rhythm network and its rule in integers: what the C of a microcontroller computes with.

- An interval is a logarithm to base 2, in 1/4096 (int16), as are the four features.
- Weights are int8, one scale an output channel; biases and sums are int32.
- Activations are uint8 (none is below zero), one scale a channel; the scales are in the weights
  after them.
- What a layer gives is (sum * multiplier + input * multiplier + half) >> 24, in int64, held within
  0 to 255: one rounding a layer.
- Log odds are in 1/65536 (int32), probabilities in 1/65536 (uint16).

The scheme is that of Jacob et al. 2018 (doi:10.1109/CVPR.2018.00286), but for unsigned activations
without a zero point and scales by channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storage.errors import ModelError
from tasks.features.rhythm import MEDIAN_BEATS, TYPICAL_RR_S
from tasks.microcontroller.network import Doubles, RhythmNetwork, activations
from tasks.scores.rule import EDGE, Rule, log_odds_of

Integers = NDArray[np.int64]
#: Bits after the point: of logarithms and features, of log odds and probabilities, of slopes, and
#: of the multipliers between layers.
LOG_BITS, ODDS_BITS, SLOPE_BITS, SHIFT = 12, 16, 16, 24
LOG_UNIT, ODDS_UNIT = 1 << LOG_BITS, 1 << ODDS_BITS
#: Features are held within one unit of the natural logarithm.
MOST_FEATURE = round(LOG_UNIT / math.log(2))
MOST_WEIGHT, MOST_ACTIVATION = 127, 255
#: Entries a power of two of the table of logarithms, in 1/32768.
LOG_STEPS = 64
LOG_TABLE = np.rint(np.log2(1 + np.arange(LOG_STEPS + 1) / LOG_STEPS) * (1 << 15)).astype(np.int64)
#: Probabilities of log odds 0, 1/8, ... 12; of what is beyond it is the last.
ODDS_STEPS, MOST_TABLE = 8, 12
EXPIT_TABLE = np.minimum(
    np.rint(ODDS_UNIT / (1 + np.exp(-np.arange(ODDS_STEPS * MOST_TABLE + 1) / ODDS_STEPS))),
    ODDS_UNIT - 1,
).astype(np.int64)
#: Logarithm to base 2 of the typical interval in microseconds.
TYPICAL_LOG = round(math.log2(TYPICAL_RR_S * 1e6) * LOG_UNIT)
#: Log odds are held within these.
MOST_ODDS = round(log_odds_of(1 - EDGE) * ODDS_UNIT)
#: Beats after a beat that the smoothing of a two-sided network looks at.
LAG_BEATS = 15


@dataclass(frozen=True, eq=False)
class FixedLayer:
    """A convolution in integers.

    Attributes
    ----------
    dilation : int
    weight : int64 within int8, shape (3, inputs, channels)
    bias : int64 within int32, shape (channels,)
    gain, carry : int64 within int32, shape (channels,)
        Multipliers of the sum and of the layer's input, over 2**24; the first layer carries
        nothing.
    """

    dilation: int
    weight: Integers
    bias: Integers
    gain: Integers
    carry: Integers


@dataclass(frozen=True, eq=False)
class FixedRule:
    """From log odds to what is told, in integers.

    Attributes
    ----------
    lengths : tuple of (int, int, int)
        Logarithm of beats in 1/4096, slope in 1/65536, offset (with the share of AF) in log odds.
    threshold : int
        Of calibrated log odds.
    cost : int
        Log odds that a change of rhythm costs.
    low, high : int
        A mean probability up to `low`, or from `high` on, is sure; equal where all is told.
    around : int
        Beats of that mean, an odd number.
    lag : int
        Beats after a beat that its decision waits for.
    """

    lengths: tuple[tuple[int, int, int], ...]
    threshold: int
    cost: int
    low: int
    high: int
    around: int
    lag: int


@dataclass(frozen=True, eq=False)
class FixedNetwork:
    """A rhythm network in integers, and the rule of its release.

    Attributes
    ----------
    name : str
    causal : bool
    layers : tuple of FixedLayer
    answer : int64 within int32, shape (channels,)
        Log odds of AF, in 1/65536, a unit of the last activations.
    answer_bias : int
    rule : FixedRule
    """

    name: str
    causal: bool
    layers: tuple[FixedLayer, ...]
    answer: Integers
    answer_bias: int
    rule: FixedRule

    @property
    def ahead(self) -> int:
        """Beats to come that the features and the network see."""
        if self.causal:
            return 0
        return MEDIAN_BEATS // 2 + sum(layer.dilation for layer in self.layers)

    @property
    def delay(self) -> int:
        """Beats after a beat that its answer comes."""
        return self.ahead + self.rule.lag


def to_fixed(network: RhythmNetwork, rule: Rule, examples: Sequence[Doubles]) -> FixedNetwork:
    """A network and its rule in integers.

    Parameters
    ----------
    network : RhythmNetwork
    rule : Rule
        The release's.
    examples : sequence of float64, shape (n, 5)
        Features of stretches whose activations say the scales.

    Raises
    ------
    ModelError
        A number is outside of its integers.
    """
    highest = np.max(
        [[x.max(axis=0) for x in activations(network, rows)] for rows in examples], axis=0
    )
    scales = np.maximum(highest, 1e-6) / MOST_ACTIVATION  # (layers, channels)
    layers = []
    unit = np.full(network.convolutions[0].kernel.shape[1], math.log(2) / LOG_UNIT)
    carried = np.zeros(network.channels)
    for layer, scale in zip(network.convolutions, scales, strict=True):
        kernel = layer.kernel * unit[None, :, None]
        step = np.maximum(np.abs(kernel).max(axis=(0, 1)), 1e-12) / MOST_WEIGHT
        whole = (
            np.rint(kernel / step),
            np.rint(layer.bias / step),
            np.rint(step / scale * 2**SHIFT),
            np.rint(carried / scale * 2**SHIFT),
        )
        layers.append(FixedLayer(layer.dilation, *(value.astype(np.int64) for value in whole)))
        unit = carried = scale
    answer = np.rint(network.answer * unit * ODDS_UNIT).astype(np.int64)
    bias = round(network.answer_bias * ODDS_UNIT)
    fixed = FixedNetwork(
        network.name, network.causal, tuple(layers), answer, bias, _fixed_rule(rule, network.causal)
    )
    _check(fixed)
    return fixed


def _fixed_rule(rule: Rule, causal: bool) -> FixedRule:
    share = log_odds_of(rule.af_share)
    lengths = tuple(
        (
            round(math.log2(scaling.beats) * LOG_UNIT),
            round(scaling.slope * (1 << SLOPE_BITS)),
            round((scaling.offset + share) * ODDS_UNIT),
        )
        for scaling in rule.scalings
    )
    low, high = rule.limits
    half = rule.around // 2
    return FixedRule(
        lengths=lengths,
        threshold=round(log_odds_of(rule.calibrated_threshold) * ODDS_UNIT),
        cost=round(math.log((1 - rule.change) / rule.change) * ODDS_UNIT),
        low=math.floor(low * ODDS_UNIT) if rule.margin else ODDS_UNIT,
        high=math.ceil(high * ODDS_UNIT) if rule.margin else 0,
        around=rule.around,
        lag=max(half, 0 if causal else LAG_BEATS),
    )


def _check(network: FixedNetwork) -> None:
    """Refuse numbers that the C's types do not hold, whatever comes in."""
    word = 2**31 - 1
    inside = [*[MOST_FEATURE] * len(network.layers[:1]), *[MOST_ACTIVATION] * len(network.layers)]
    for layer, most in zip(network.layers, inside, strict=False):
        reach = np.abs(layer.weight).sum(axis=(0, 1)) * most + np.abs(layer.bias)
        if reach.max() > word or max(layer.gain.max(), layer.carry.max()) > word:
            raise ModelError(f"{network.name}: found sums beyond 32 bits; expected less")
    if np.abs(network.answer).sum() * MOST_ACTIVATION + abs(network.answer_bias) > word:
        raise ModelError(f"{network.name}: found an answer beyond 32 bits; expected less")
