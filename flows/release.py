"""The release step: golden beats beside the model, and a signature over the whole folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.golden_beats import GOLDEN, write_golden
from storage.model_files import LITERT
from storage.signing import sign_release
from tasks.litert import LiteRT, af_probability

GOLDEN_BEATS = 16


def seal(folder: Path, inputs: Mapping[str, NDArray[np.float32]]) -> None:
    """Keep the answers to the first sixteen beats for devices' self-tests, and sign the folder."""
    few = {name: np.ascontiguousarray(array[:GOLDEN_BEATS]) for name, array in inputs.items()}
    answer = LiteRT((folder / LITERT).read_bytes()).predict(few)
    write_golden(folder / GOLDEN, few, af_probability(answer))
    sign_release(folder)
