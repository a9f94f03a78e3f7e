"""Drift: the same recordings do not drift, others do, and what cannot be compared is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import PolicyError, TableError
from storage.registry.policy import DRIFT, read_checks
from storage.tables.beats import BeatTable, Quality
from tasks.scores.drift import BINS, Profile, drift, profile, read_profile, stability, together
from tasks.scores.promotion import judge

shares = st.lists(st.integers(0, 100), min_size=5, max_size=5).filter(any)


def recording(seed: int = 0, *, rate: float = 70.0, af: float = 0.2, bad: float = 0.05) -> Profile:
    """The profile of a made-up recording at a heart rate, with shares of AF and noise."""
    n, rng = 4_000, np.random.default_rng(seed)
    rr = (60 / rng.normal(rate, 6, n)).astype(np.float32)
    rr[0] = np.nan
    af_beats = np.arange(n) < af * n
    p = np.where(af_beats, rng.uniform(0.7, 1, n), rng.uniform(0, 0.3, n)).astype(np.float32)
    table = BeatTable(
        "made-up",
        "r",
        "s",
        sample=np.arange(n),
        time_s=np.arange(n, dtype=np.float64),
        rr_prev_s=rr,
        rr_next_s=rr,
        symbol=np.full(n, "N"),
        rhythm=np.full(n, "N"),
        label=np.zeros(n, np.int8),
        quality=np.where(np.arange(n) < bad * n, Quality.NOISY, 0).astype(np.uint16),
        noise=rng.uniform(0, 0.3, n).astype(np.float32),
        waveform=None,
        stretches_s=np.array([[0.0, n]]),
    )
    return profile(table, p, af_beats)


def states(reference: Profile, new: Profile) -> dict[str, str]:
    verdicts = judge(read_checks(DRIFT), drift(reference, new))
    return {one.figure: one.state for one in verdicts if one.state != "passed"}


def test_recordings_of_one_kind_do_not_drift() -> None:
    """Another recording of the same kind stays within every bound."""
    assert states(recording(1), recording(2)) == {}


@pytest.mark.parametrize(
    ("new", "figures"),
    [
        ({"rate": 110.0}, {"heart_rate_psi", "heart_rate_outside_pp"}),
        ({"af": 0.6}, {"score_psi", "af_share_change_pp"}),
        ({"bad": 0.3}, {"bad_share_rise_pp"}),
    ],
)
def test_what_changed_is_what_is_told(new: dict[str, float], figures: set[str]) -> None:
    """Faster hearts, more AF, poorer signal: each passes the bounds of its own figures alone."""
    assert states(recording(1), recording(2, **new)) == dict.fromkeys(figures, "failed")


def test_no_noise_index_is_missing_not_equal() -> None:
    """Where nothing is known of a quantity its index is missing, and a missing one never passes."""
    there = recording(1)
    blind = Profile(1, 10, 0, 0, {**there.counts, "noise index": [0] * 20})
    assert states(there, blind)["noise_psi"] == "missing"


@given(shares, shares)
def test_the_index_is_symmetric_and_zero_on_itself(one: list[int], two: list[int]) -> None:
    """The index is no less than 0, the same either way, and 0 for equal shares."""
    p, q = (np.array(x) / sum(x) for x in (one, two))
    assert stability(p, p) == 0
    assert stability(p, q) == pytest.approx(stability(q, p))
    assert stability(p, q) >= 0


def test_the_index_is_that_of_the_book() -> None:
    """By hand: shares 0.5, 0.5 against 0.6, 0.4 give 0.1 ln 1.2 - 0.1 ln 0.8."""
    found = stability(np.array([0.5, 0.5]), np.array([0.6, 0.4]))
    assert found == pytest.approx(0.1 * np.log(1.2) - 0.1 * np.log(0.8))


def test_profiles_add_up() -> None:
    """Recordings together count as all their beats; none at all is misuse."""
    one, two = recording(1), recording(2)
    both = together([one, two])
    assert (both.records, both.beats) == (2, one.beats + two.beats)
    assert sum(both.counts["P(AF)"]) == both.beats
    assert sum(both.counts["heart rate, /min"]) == both.beats - 2
    with pytest.raises(ValueError, match="no recording"):
        together([])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda said: said | {"beats": -1},
        lambda said: said | {"beats": "many"},
        lambda said: said | {"counts": {"P(AF)": [1]}},
        lambda said: said | {"more": 1},
        lambda _: None,
        lambda _: [1],
    ],
)
def test_profiles_travel_and_bad_ones_are_refused(spoil: object) -> None:
    """A profile is the same after JSON; one over other bins, or none, names its source."""
    there = recording(1)
    said = json.loads(json.dumps(there.as_json()))
    assert read_profile(said, "x") == there
    assert callable(spoil)
    with pytest.raises(TableError, match=r"analysis belt\.json"):
        read_profile(spoil(said), "analysis belt.json")


def test_thresholds_are_checked(tmp_path: Path) -> None:
    """Thresholds are as strict as a policy: an unknown key is refused by name."""
    path = tmp_path / "mine.toml"
    path.write_text(DRIFT.read_text().replace("most = 20", "at_most = 20"))
    with pytest.raises(PolicyError, match=r"mine\.toml.*no bound"):
        read_checks(path)
    assert {check.figure for check in read_checks(DRIFT)} == set(drift(recording(1), recording(2)))
    assert set(BINS) == set(recording(1).counts)
