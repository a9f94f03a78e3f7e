"""Episodes, segments and burden."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.scores.episodes import (
    NO_INTERVALS,
    compare_episodes,
    durations_s,
    episodes,
    outside,
    overlapping,
    segment_shares,
    shared_s,
)


def made(*pairs: tuple[float, float]) -> np.ndarray:
    return np.array(pairs, np.float64).reshape(-1, 2)


RECORD = made((0, 1000))


def test_an_episode_runs_from_its_first_af_beat_to_the_next_other_beat() -> None:
    """It ends where the first beat after it that is not AF stands, or with the record."""
    time_s = np.arange(6.0)
    af = np.array([0, 1, 1, 0, 0, 1], bool)
    record = made((0, 7.5))
    assert episodes(af, time_s, record).tolist() == [[1.0, 3.0], [5.0, 7.5]]
    assert len(episodes(np.zeros(6, bool), time_s, record)) == 0
    assert len(episodes(np.empty(0, bool), np.empty(0), record)) == 0


def test_an_episode_ends_where_the_signal_ends() -> None:
    """What was not recorded parts an episode; a beat outside of all stretches is an error."""
    time_s, stretches_s = np.array([0.0, 1, 2, 7, 8, 9]), made((0, 2.5), (6.5, 9.2))
    af = np.array([0, 1, 1, 1, 0, 1], bool)
    found = episodes(af, time_s, stretches_s)
    assert found.tolist() == [[1.0, 2.5], [7.0, 8.0], [9.0, 9.2]]
    with pytest.raises(ValueError, match="every beat in a stretch"):
        episodes(af, time_s + 1, stretches_s)
    counts = compare_episodes(found, NO_INTERVALS, stretches_s, 0)
    assert counts.analysable_s == pytest.approx(5.2)
    assert counts.burden_error_pp == pytest.approx(-100 * 2.7 / 5.2)


def test_a_segment_counts_by_what_of_it_can_be_analysed() -> None:
    """The share of AF is of the analysable part, and unknown where that is less than half."""
    stretches_s = made((0, 40), (50, 64), (86, 100))
    shares = segment_shares(made((30, 40), (50, 55), (86, 100)), stretches_s, 20.0)
    assert shares[[0, 1, 2]].tolist() == [0.0, 0.5, 5 / 10]
    assert np.isnan(shares[3])
    assert shares[4] == 1.0


def test_epicmp_counts_by_hand() -> None:
    """An overlap finds an episode, durations are seconds shared, short ones count in no list.

    What finds or confirms an episode may be short itself.
    """
    reference = made((10, 100), (200, 220), (300, 400), (600, 640))
    detected = made((90, 150), (160, 195), (210, 260), (500, 510), (630, 631))
    counts = compare_episodes(reference, detected, RECORD)
    assert (counts.reference, counts.hits) == (3, 2)
    # (210, 260) is right: it overlaps a reference episode, though that one lasts only 20 s.
    assert (counts.detected, counts.right) == (3, 2)
    assert counts.shared_s == pytest.approx(10 + 10 + 1)
    assert counts.burden_error_pp == pytest.approx(100 * (60 + 35 + 50 + 10 + 1 - 250) / 1000)
    assert counts.metrics()["episode_sensitivity"] == pytest.approx(2 / 3)
    assert (counts + counts).metrics() == counts.metrics()


def test_flutter_is_left_out_of_ppv() -> None:
    """Inside flutter nothing is wrong, at its edge an episode is cut; the burden has it all."""
    flutter = made((100, 200), (300, 320), (500, 600))
    detected = made((110, 190), (180, 240), (250, 400), (450, 520), (590, 610))
    assert outside(detected, flutter, 30.0).tolist() == [[200, 240], [250, 400], [450, 500]]
    assert outside(detected, flutter, 45.0).tolist() == [[250, 400], [450, 500]]
    counts = compare_episodes(made((210, 250)), made((110, 190), (205, 260)), RECORD, 30.0, flutter)
    assert (counts.detected, counts.right) == (1, 1)
    assert (counts.detected_s, counts.flutter_s) == (55, 80)
    assert counts.metrics()["duration_ppv"] == pytest.approx(40 / 55)
    assert counts.burden_error_pp == pytest.approx(100 * (55 + 80 - 40) / 1000)


def test_touching_episodes_do_not_overlap() -> None:
    """An episode that starts where another ends shares no time with it."""
    assert overlapping(made((0, 10)), made((10, 20))).tolist() == [False]
    assert overlapping(made((0, 10.1)), made((10, 20))).tolist() == [True]


def test_nothing_detected_leaves_ppv_undefined() -> None:
    """Without a detected episode there is no PPV, and sensitivity is 0."""
    metrics = compare_episodes(made((0, 60)), NO_INTERVALS, made((0, 100))).metrics()
    assert np.isnan(metrics["episode_ppv"])
    assert metrics["episode_sensitivity"] == 0


def test_an_episode_beyond_the_record_is_refused() -> None:
    """Seconds outside the record are an error, not a burden above 100 %."""
    with pytest.raises(ValueError, match="can be analysed"):
        compare_episodes(made((0, 60)), NO_INTERVALS, made((0, 30)))


beats = st.lists(st.booleans(), min_size=1, max_size=60)


@given(beats, beats)
def test_seconds_agree_with_counting_them_one_by_one(a: list[bool], b: list[bool]) -> None:
    """With a beat a second, durations and overlaps are counts of beats."""
    n = min(len(a), len(b))
    one, two = np.array(a[:n]), np.array(b[:n])
    time_s = np.arange(n, dtype=np.float64)
    record = made((0, n))
    these, those = episodes(one, time_s, record), episodes(two, time_s, record)
    assert shared_s(these, those) == pytest.approx((one & two).sum())
    assert durations_s(these).sum() == pytest.approx(one.sum())
    expected = [bool((two[int(s) : int(e)]).any()) for s, e in these]
    assert overlapping(these, those).tolist() == expected
    shares = segment_shares(these, record, 7.0)
    assert shares == pytest.approx([one[k : k + 7].mean() for k in range(0, n - 6, 7)])
