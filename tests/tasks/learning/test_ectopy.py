"""What is irregular and yet not AF: premature beats in pairs and of many origins, deep breaths."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.learning import rhythm_augment
from tasks.learning.rhythm_augment import ectopy, simulated_sinus


def stretches(seed: int, count: int = 60) -> np.ndarray:
    """Stretches of even beats at 1 s with premature ones, shape (count, 400)."""
    random = np.random.default_rng(seed)
    even, label = np.ones(400, np.float32), np.zeros(400, np.int8)
    made = [ectopy(even, label, random, most=1.0)[0] for _ in range(count)]
    return np.stack([rr_s for rr_s in made if len(rr_s) == 400])


def test_premature_beats_come_alone_or_in_pairs() -> None:
    """After one in some stretches another comes at once, in most none does, and never a third."""
    early = stretches(0) < 0.96
    pairs = (early[:, 1:] & early[:, :-1]).sum(axis=1)
    assert 0.1 < (pairs > 0).mean() < 0.6
    triple = early[:, 2:] & early[:, 1:-1] & early[:, :-2]
    assert triple.sum() < 0.02 * early.sum()


def test_premature_beats_are_of_one_origin_or_of_many() -> None:
    """How early they come hardly differs in some stretches, and by a tenth and more in others."""
    spreads = np.array([np.std(rr_s[rr_s < 0.96]) for rr_s in stretches(1) if rr_s.min() < 0.9])
    assert (spreads < 0.04).any()
    assert (spreads > 0.1).any()


def test_no_time_is_lost_between_premature_beats() -> None:
    """A pause makes up for what a beat came early by, wholly or in part, and never for more."""
    total = stretches(2).sum(axis=1)
    assert total.max() < 400.01
    assert (np.abs(total - 400) < 0.01).any()
    assert (total < 399).any()


def test_simulated_sleepers_swing_as_deep_as_they_breathe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ectopy and errors intervals swing more within ten beats where breath is deeper."""

    def unchanged(rr_s: np.ndarray, label: np.ndarray, *_: object, **__: object) -> object:
        return rr_s, label

    for name in ("ectopy", "detector_errors"):
        monkeypatch.setattr(rhythm_augment, name, unchanged)
    assert max(rhythm_augment.BREATHS) > 0.1
    means = []
    for depth in (0.0, 0.07, 0.14):
        monkeypatch.setattr(rhythm_augment, "BREATHS", (depth,))
        swings = []
        for seed in range(30):
            rr_s = simulated_sinus(0, 3_000, np.random.default_rng(seed)).rr_s.reshape(-1, 10)
            swings.append(float((np.ptp(rr_s, axis=1) / rr_s.mean(axis=1)).mean()))
        means.append(np.mean(swings))
    assert means[0] * 1.05 < means[1]
    assert means[1] * 1.05 < means[2]
