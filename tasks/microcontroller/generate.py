"""C99 text of a rhythm network: arrays in, a header and a source out."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from storage.errors import ModelError
from storage.recordings.stretches import LONGEST_PAUSE_S
from tasks.features.rhythm import MEDIAN_BEATS, SHORT_MEDIAN_BEATS, TYPICAL_RR_S
from tasks.microcontroller import fixed
from tasks.microcontroller.fixed import LAG_BEATS, FixedNetwork
from tasks.microcontroller.network import RhythmNetwork
from tasks.microcontroller.reference import LEAST_US, MOST_US
from tasks.scores.rule import EDGE, Rule, log_odds_of

if TYPE_CHECKING:
    from jinja2 import Environment

Arithmetic = Literal["int8", "float32"]
ARITHMETICS: tuple[Arithmetic, ...] = get_args(Arithmetic)
#: Layers in front whose inputs the C remembers as medians of intervals, not as activations.
REBUILT = 3
#: A line of the C is no longer.
WIDTH = 100
#: A text of a release in the C is no longer.
MOST_TEXT = 200
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,40}", re.ASCII)
#: What a release on a server has, and the C has not.
LACKS = (
    "signal quality: a beat is taken as good, whatever it was found in",
    "a smoothing that looks to the end of the recording",
    "the share of AF among people who are asked for a strip of under two minutes",
)
LENGTHS_SO_FAR = (
    "calibration by a stretch's whole length: it takes the beats that have come, so that P(AF) of "
    "a stretch's first beats differs"
)


@dataclass(frozen=True)
class Origin:
    """What made a network, as the C tells it.

    Attributes
    ----------
    registered : str
        Name and version of the release.
    manifest_sha256, weights_file, weights_sha256 : str
        Of the release's manifest and of the file with its weights.
    version, commit : str
        Of this code; no commit is "".
    sources : tuple of str
        What the weights were fitted to, with licences.
    """

    registered: str
    manifest_sha256: str
    weights_file: str
    weights_sha256: str
    version: str
    commit: str
    sources: tuple[str, ...]


def to_c(
    network: RhythmNetwork, rule: Rule, integers: FixedNetwork | None, origin: Origin
) -> dict[str, str]:
    """The header and the source of a network, by file name.

    Parameters
    ----------
    network : RhythmNetwork
    rule : Rule
        The release's.
    integers : FixedNetwork or None
        The network in integers; None for float32.
    origin : Origin

    Raises
    ------
    ModelError
        The network's name is no name of C, or it has fewer than three layers.
    """
    if len(network.convolutions) < REBUILT:
        raise ModelError(
            f"model {network.name!a}: found {len(network.convolutions)} layers; expected at least "
            f"{REBUILT}"
        )
    if not _IDENTIFIER.fullmatch(network.name):
        raise ModelError(
            f"model {network.name!a}: found no name that C takes; expected small letters, digits "
            "and _, a letter first"
        )
    values = {
        **_common(network, rule),
        **(_float_values(network, rule) if integers is None else _fixed_values(integers)),
        **vars(origin),
    }
    return {
        f"{network.name}{ending}": environment().get_template(template).render(values)
        for ending, template in ((".h", "header.h.j2"), (".c", "source.c.j2"))
    }


def _common(network: RhythmNetwork, rule: Rule) -> dict[str, Any]:
    """What both arithmetics share: sizes, words."""
    half = rule.around // 2
    lag = max(half, 0 if network.causal else LAG_BEATS)
    ahead = 0 if network.causal else MEDIAN_BEATS // 2 + network.ahead
    low, high = rule.limits
    margin = f"the mean P(AF) of {rule.around} beats around" if half else "P(AF)"
    reaches = [layer.dilation for layer in network.convolutions[:REBUILT]]
    past = 2 * sum(reaches) + 1
    words = f"{margin} lies between {low:.2f} and {high:.2f}, or on the other side than the chain"
    return {
        "name": network.name,
        "prefix": network.name.upper(),
        "causal": network.causal,
        "channels": network.channels,
        "inputs": network.convolutions[0].kernel.shape[1],
        "residual": network.convolutions[1:],
        "kept": network.convolutions[REBUILT:],
        "reaches": reaches,
        "past": past,
        "network_ahead": network.ahead,
        "delay": ahead + lag,
        "lag": lag,
        "around": rule.around,
        "span": half + lag + 1,
        "median": MEDIAN_BEATS,
        "logs": max(
            MEDIAN_BEATS + (0 if network.causal else MEDIAN_BEATS // 2),
            past + (1 if network.causal else MEDIAN_BEATS),
        ),
        "median_half": MEDIAN_BEATS // 2,
        "short_median": SHORT_MEDIAN_BEATS,
        "least_us": LEAST_US,
        "most_us": MOST_US,
        "pause_s": f"{LONGEST_PAUSE_S:g}",
        "pause_us": round(LONGEST_PAUSE_S * 1e6),
        "typical_rr_s": TYPICAL_RR_S,
        "af_share": rule.af_share,
        "change": rule.change,
        "verdict_words": f"where {words}" if rule.margin else "which is told of no beat",
        "lacks": LACKS if network.causal else (*LACKS, LENGTHS_SO_FAR),
    }


def _fixed_values(network: FixedNetwork) -> dict[str, Any]:
    """What the templates need of a network in integers."""
    rule = network.rule
    names = (
        *("typical_log", "most_feature", "shift", "most_activation", "odds_unit", "most_odds"),
        *("log_steps", "odds_steps", "odds_bits", "slope_bits", "most_table"),
    )
    return {
        **{name: getattr(fixed, name.upper()) for name in names},
        "arithmetic": "int8",
        "fixed": True,
        "log": "int16_t",
        "odds": "int32_t",
        "cell": "uint8_t",
        "weight": "int8_t",
        "bias": "int32_t",
        "sum": "int32_t",
        "layers": [
            {
                "dilation": layer.dilation,
                "weight": layer.weight.transpose(2, 0, 1),
                "bias": layer.bias,
                "gain": layer.gain,
                "carry": layer.carry,
            }
            for layer in network.layers
        ],
        "answer": network.answer,
        "answer_bias": f"({network.answer_bias})",
        "lengths": rule.lengths,
        "cost": rule.cost,
        "threshold": f"({rule.threshold})",
        "low": f"{rule.low}U",
        "high": f"{rule.high}U",
        "log_table": fixed.LOG_TABLE,
        "expit_table": fixed.EXPIT_TABLE,
    }


def _float_values(network: RhythmNetwork, rule: Rule) -> dict[str, Any]:
    """What the templates need of a network in float32."""
    low, high = rule.limits if rule.margin else (1.0, 0.0)
    share = log_odds_of(rule.af_share)
    numbers = {
        "answer_bias": network.answer_bias,
        "cost": math.log((1 - rule.change) / rule.change),
        "threshold": log_odds_of(rule.calibrated_threshold),
        "low": low,
        "high": high,
    }
    return {
        "arithmetic": "float32",
        "fixed": False,
        **dict.fromkeys(("log", "odds", "cell", "weight", "bias", "sum"), "float"),
        "layers": [
            {
                "dilation": layer.dilation,
                "weight": layer.kernel.transpose(2, 0, 1),
                "bias": layer.bias,
            }
            for layer in network.convolutions
        ],
        "answer": network.answer,
        "lengths": [
            (math.log(scaling.beats), scaling.slope, scaling.offset + share)
            for scaling in rule.scalings
        ],
        **{name: f"({_number(value)})" for name, value in numbers.items()},
        "typical_log": math.log(TYPICAL_RR_S * 1e6),
        "most_odds": log_odds_of(1 - EDGE),
    }


@cache
def environment() -> Environment:
    """The templates; Jinja2 is on the server alone, and loaded where C is written."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - C, no page: `comment` keeps a text inside its comment
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = {"numbers": _numbers, "comment": _comment, "float": _number, "wrap": _wrap}
    environment.filters |= filters
    return environment


def _comment(text: object) -> str:
    """A text of a release in a comment: printable ASCII that neither ends it nor begins one."""
    plain = "".join(letter if " " <= letter <= "~" else "?" for letter in str(text)[:MOST_TEXT])
    return plain.translate(str.maketrans("*\\", "??"))


def _wrap(text: str, indent: int, first: str = "") -> str:
    """Words on lines no longer than `WIDTH`, after so many blanks; the first line begins else."""
    blanks = " " * indent
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=f"{first:<{indent}}",
        subsequent_indent=blanks,
        break_on_hyphens=False,
    )


def _number(value: Any) -> str:
    """A number as C writes it: a float32 by its shortest digits."""
    if isinstance(value, int | np.integer):
        return str(int(value))
    text = str(np.float32(value))
    return f"{text}f" if re.search(r"[.e]", text) else f"{text}.0f"


def _numbers(values: Any) -> str:
    """An array as C initialises it, an inner array a line, no line longer than `WIDTH`."""
    rows = [_braces(row) for row in values]
    if not rows[0].startswith("{"):
        rows = [", ".join(rows)]
    body = ",\n".join(textwrap.fill(row, WIDTH - 5, break_on_hyphens=False) for row in rows)
    return "{\n" + textwrap.indent(body, "    ") + "\n}"


def _braces(value: Any) -> str:
    if isinstance(value, Sequence | np.ndarray):
        return "{" + ", ".join(_braces(part) for part in value) + "}"
    return _number(value)
