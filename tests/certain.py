"""A release of the box with a margin, calibration by length and the risk that goes with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from storage.files import read_json, write_json
from storage.registry.boxed import boxed_release
from storage.registry.model_files import MANIFEST
from storage.registry.signing import sign_release

#: A certainty as a release's manifest has it; `around` is 1 in those of causal networks.
CERTAINTY: dict[str, Any] = {
    "scalings": [
        {"beats": 12, "slope": 1.5, "offset": 0.6},
        {"beats": 48, "slope": 1.1, "offset": 0.4},
        {"beats": 768, "slope": 0.95, "offset": 0.4},
    ],
    "af_share": 0.45,
    "margin": 2.0,
    "around": 31,
    "risk": {"aim": 0.005, "wrong": 0.005, "coverage": 0.95, "patients": 56, "bound": 0.0225},
}


def certain_release(to: Path, name: str = "rhythm", **changes: Any) -> Path:
    """A copy of a boxed release with a certainty in its manifest, signed by this home's key."""
    shutil.copytree(boxed_release(name)[0], to)
    manifest = read_json(to / MANIFEST)
    write_json(to / MANIFEST, {**manifest, "certainty": CERTAINTY | changes})
    sign_release(to)
    return to
