"""What a release answers of a record's beats, as arrays that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.files import sha256_json
from storage.tables.beats import BeatTable
from tasks.runtimes.inference import probabilities
from tasks.runtimes.runtimes import Network
from tasks.scores.rule import Judgement, judge, rule_of

#: Changes where what is kept does.
VERSION = 1
COLUMNS = ("probability", "decided", "sure", "distance")


def answers_key(table_sha256: str, manifest: Mapping[str, Any]) -> str:
    """Digest of all that a record's answers depend on: its table, and the release's manifest."""
    return sha256_json([VERSION, table_sha256, manifest])


def answers_of(network: Network, manifest: Mapping[str, Any], table: BeatTable) -> Judgement:
    """What a release tells of each beat of a record; errors as `probabilities` and `rule_of`."""
    if not len(table):
        nothing = np.zeros(0, bool)
        return Judgement(np.zeros(0, np.float32), nothing, nothing, np.zeros(0, np.float32))
    answers, mask = probabilities(network, str(manifest["name"]), table)
    return judge(rule_of(manifest), table, answers, mask=mask)


def as_arrays(judgement: Judgement) -> dict[str, NDArray[np.generic]]:
    """A judgement's arrays by name."""
    return {name: getattr(judgement, name) for name in COLUMNS}


def from_arrays(arrays: Mapping[str, Any], beats: int) -> Judgement | None:
    """The judgement of arrays that were kept; None where they are not of so many beats."""
    whole = all(name in arrays and arrays[name].shape == (beats,) for name in COLUMNS)
    return Judgement(**{name: arrays[name] for name in COLUMNS}) if whole else None
