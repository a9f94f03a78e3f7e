"""Pages of made-up records: beats, AF, gaps and a signal that is made where it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.analysis.page.facts import Page
from tasks.analysis.reliability import reliability
from tasks.scores.episodes import durations_s, episodes

START = datetime(2026, 3, 3, 10, 2, 3)
FS_HZ = 250.0
#: What was measured of a network, in a release's form.
FIGURES: tuple[dict[str, Any], ...] = (
    {
        "dataset": "afdb",
        "title": "MIT-BIH Atrial Fibrillation Database",
        "side": "test",
        "subjects": 23,
        "beats": 1_213_000,
        "prevalence": 0.41,
        "sensitivity": 0.98,
        "specificity": 0.97,
        "ppv": 0.958,
        "interval": {"sensitivity": [0.96, 0.99]},
    },
    {
        "dataset": "nsrdb",
        "title": "MIT-BIH Normal Sinus Rhythm Database",
        "side": "never seen",
        "subjects": 18,
        "beats": 1_800_000,
        "prevalence": 0.0,
        "sensitivity": None,
        "specificity": 0.99,
        "ppv": None,
        "interval": None,
    },
)


def beat_like(start: int, stop: int) -> NDArray[np.float32]:
    """A signal of one narrow peak of 1 mV each second."""
    phase = np.arange(start, stop) / FS_HZ % 1
    return np.exp(-(((phase - 0.4) / 0.012) ** 2)).astype(np.float32)


def page_with(
    hours: float,
    af_s: Sequence[tuple[float, float]] = (),
    gaps_s: Sequence[tuple[float, float]] = (),
    seed: int = 0,
    **fields: Any,
) -> Page:
    """A page of a record of so many hours with AF and gaps at these times."""
    rng = np.random.default_rng(seed)
    time_s = np.cumsum(rng.uniform(0.7, 0.9, max(int(hours * 3600 / 0.8), 1)))
    time_s = time_s[time_s < hours * 3600]
    edges = np.concatenate([[0.0], np.array(gaps_s).ravel(), [hours * 3600]]).reshape(-1, 2)
    stretches_s = edges[edges[:, 1] > edges[:, 0]]
    time_s = time_s[_inside(time_s, stretches_s)]
    decided = _inside(time_s, np.array(af_s).reshape(-1, 2))
    stretch = np.searchsorted(stretches_s[:, 0], time_s)
    rr_s = np.diff(time_s, prepend=np.nan)
    rr_s[1:][np.diff(stretch) > 0] = np.nan
    runs = episodes(decided, time_s, stretches_s) if len(time_s) else np.empty((0, 2))
    figures: dict[str, Any] = {
        "model": {"name": "rhythm", "threshold": 0.5, "sha256": "ab" * 32, "runtime": "litert"},
        "warnings": [],
        "files_sha256": {"r.dat": "cd" * 32},
        "af_s": float(durations_s(runs).sum()),
    }
    values: dict[str, Any] = {
        "record": "r",
        "lead": "II",
        "duration_s": hours * 3600,
        "fs_hz": FS_HZ,
        "stretches_s": stretches_s,
        "time_s": time_s,
        "rr_s": rr_s.astype(np.float32),
        "rr_next_s": np.append(rr_s[1:], np.nan).astype(np.float32)[: len(rr_s)],
        "flagged": rng.random(len(time_s)) < 0.01,
        "decided": decided,
        "sure": np.ones(len(time_s), bool),
        "probability": np.where(decided, 0.9, 0.1).astype(np.float32),
        "runs": runs,
        "figures": figures,
        "read": beat_like,
        "start": START,
        "registered": "holter-rhythm/3",
        "reason": "It reads intervals alone.",
    }
    page = Page(**(values | fields))
    if "network_figures" in fields:
        return page
    return replace(page, network_figures=reliability(FIGURES, page.burden))


def _inside(times: NDArray[np.float64], spans: NDArray[np.float64]) -> NDArray[np.bool_]:
    starts = np.searchsorted(spans[:, 0], times, side="right")
    return np.asarray(starts > np.searchsorted(spans[:, 1], times, side="right"))
