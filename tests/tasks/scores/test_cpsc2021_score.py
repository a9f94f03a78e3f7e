"""The CPSC2021 score, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.scores.levels.cpsc2021_score import Kind, score_decisions, score_record

#: A beat every 100 samples, the first at 50: 20 beats in 2,000 samples.
BEATS = np.arange(20, dtype=np.int64) * 100 + 50
N = 2_000
#: One episode, from beat 6 (sample 650) to beat 12 (sample 1,250).
TRUE = np.array([[6, 12]])


def score(truth: Kind, *detected: tuple[int, int]) -> float:
    found = np.array(detected, np.int64).reshape(-1, 2)
    return score_record(truth, BEATS, TRUE, found, N)


@pytest.mark.parametrize(
    ("onset", "points"),
    [
        (449, 0),
        (450, 0.5),
        (549, 0.5),
        (550, 1),
        (650, 1),
        (849, 1),
        (850, 0.5),
        (949, 0.5),
        (950, 0),
    ],
)
def test_an_onset_earns_by_its_distance_in_beats(onset: int, points: float) -> None:
    """1 within a beat of the true one, 0.5 within two, else nothing."""
    assert score(Kind.PAROXYSMAL, (onset, 1_250)) == 1 + points + 1


@pytest.mark.parametrize(
    ("offset", "points"),
    [(949, 0), (950, 0.5), (1_049, 0.5), (1_050, 1), (1_349, 1), (1_350, 0.5), (1_450, 0)],
)
def test_an_offset_earns_by_its_distance_in_beats(offset: int, points: float) -> None:
    """1 within a beat of the true one, 0.5 within two, else nothing."""
    assert score(Kind.PAROXYSMAL, (650, offset)) == 1 + 1 + points


def test_more_episodes_than_true_share_the_points() -> None:
    """Two detected for one true: the points halve."""
    assert score(Kind.PAROXYSMAL, (650, 1_250), (1_500, 1_600)) == 1 + 2 / 2


def test_kinds_score_by_the_matrix() -> None:
    """To miss persistent AF costs two, to find AF where there is none one or a half."""
    assert score(Kind.NO_AF) == 1
    assert score(Kind.NO_AF, (0, N - 1)) == -1
    assert score(Kind.NO_AF, (650, 1_250)) == -0.5
    assert score(Kind.PERSISTENT) == -2
    assert score(Kind.PAROXYSMAL) == -1


def test_a_persistent_record_earns_at_its_ends() -> None:
    """AF from the first beat to the last, found over all samples, earns 1 + 1 + 1."""
    whole = np.array([[0, 19]])
    assert score_record(Kind.PERSISTENT, BEATS, whole, np.array([[0, N - 1]]), N) == 3


def test_an_episode_outside_the_record_is_refused() -> None:
    """A sample beyond the end is an error."""
    with pytest.raises(ValueError, match="within 0 to 1999"):
        score(Kind.PAROXYSMAL, (650, N))


def test_decisions_are_scored_as_episodes() -> None:
    """Right decisions earn the kind and two points; a whole record's, as one persistent episode."""
    time_s = BEATS / 200
    rhythm = np.where((np.arange(20) >= 6) & (np.arange(20) <= 12), "AFIB", "N")
    whole = np.array([[0.0, 10.0]])
    assert score_decisions(time_s, rhythm, rhythm == "AFIB", whole) == 3
    assert score_decisions(time_s, rhythm, np.zeros(20, bool), whole) == -1
    assert score_decisions(time_s, np.full(20, "AFL"), np.ones(20, bool), whole) == 3
    assert score_decisions(time_s, np.full(20, "N"), np.zeros(20, bool), whole) == 1


def test_what_was_not_recorded_parts_true_and_detected_episodes_alike() -> None:
    """An episode around a hole is two, in truth as in decision: right ones earn all points."""
    time_s = BEATS / 200
    rhythm = np.where((np.arange(20) >= 6) & (np.arange(20) <= 12), "AFIB", "N")
    parted = np.array([[0.0, 4.3], [4.6, 10.0]])
    assert score_decisions(time_s, rhythm, rhythm == "AFIB", parted) == 1 + 4
