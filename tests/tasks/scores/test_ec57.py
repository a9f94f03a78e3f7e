"""A test by EC57: held to a count made second by second, and to what WFDB's programs printed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.datasets.dataset import load_spec
from storage.recordings.records import open_record
from tasks.analysis.ec57_record import rhythm_intervals
from tasks.scores.episodes import NO_INTERVALS, EpisodeCounts
from tasks.scores.levels.ec57 import (
    LEARNING_S,
    BeatCounts,
    CountsByRecord,
    RecordTest,
    af_counts,
    beat_counts,
    match_window,
    total,
    untold_s,
)
from tasks.scores.levels.ec57_layout import af_table, beats_table, clock, tables
from tasks.signal.match import match_beats

START = int(LEARNING_S)
#: What `epicmp -A -l` printed for AFDB's annotations held against themselves (the programs of WFDB
#: 10.7.0): episodes, and their duration. 00735 and 03665 have no signal, and were left out.
AFDB = """
04015 7 3:57.236 / 04043 82 2:11:59.704 / 04048 7 6:00.776 / 04126 7 18:43.524
04746 5 5:25:53.008 / 04908 8 51:22.452 / 04936 36 7:22:40.696 / 05091 8 1:26.768
05121 20 6:26:48.944 / 05261 11 7:59.492 / 06426 26 9:40:13.684 / 06453 6 6:11.280
06995 6 4:44:17.544 / 07162 1 10:08:43.040 / 07859 1 10:08:43.040 / 07879 2 6:10:02.688
07910 5 1:37:49.220 / 08215 2 8:14:33.968 / 08219 39 2:12:28.852 / 08378 5 2:08:18.408
08405 2 7:23:09.528 / 08434 3 23:43.736 / 08455 2 7:04:31.024
"""
AFDB_SUM = (291, "92:59:38.612")


def spans(rows: np.ndarray) -> np.ndarray:
    """Where a row of seconds is true, as intervals."""
    edges = np.flatnonzero(np.diff(rows.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2).astype(np.float64)


def made_up(
    n: int = 900,
    fs_hz: float = 1.0,
    beats: tuple[int, ...] = (),
    detected: tuple[int, ...] = (),
    symbols: str = "",
    **intervals: np.ndarray,
) -> RecordTest:
    """A record of `n` samples; its pairs are those of `match_beats`."""
    marks, found = np.array(beats, np.int64), np.array(detected, np.int64)
    parts = ("af", "flutter", "fibrillation", "decided", "untold")
    return RecordTest(
        record="r",
        subject="r",
        fs_hz=fs_hz,
        n_samples=n,
        beats=marks,
        symbols=np.array([*(symbols or "N" * len(beats))]),
        detected=found,
        partner=match_beats(marks, found, match_window(fs_hz)),
        analysed=intervals.get("analysed", np.array([[0.0, n / fs_hz]])),
        **{name: intervals.get(name, NO_INTERVALS) for name in parts},
    )


@given(st.lists(st.tuples(st.sampled_from("NNAF"), st.booleans(), st.integers(1, 90)), min_size=9))
def test_episodes_are_those_of_a_count_by_seconds(runs: list[tuple[str, bool, int]]) -> None:
    """AF, flutter and decisions as rows of seconds, each episode looked at by itself."""
    rhythm = "".join(code * length for code, _, length in runs)
    decided = np.repeat([told for _, told, _ in runs], [length for _, _, length in runs])
    af, flutter = (np.array([code == letter for code in rhythm]) for letter in "AF")
    n = max(len(rhythm), START + 1)
    af, flutter, decided = (np.pad(row, (0, n - len(rhythm))) for row in (af, flutter, decided))
    kept = af[START:], decided[START:], flutter[START:]

    hits = [kept[1][int(a) : int(b)].any() for a, b in spans(kept[0])]
    right = []
    for a, b in spans(kept[1]).astype(int):
        free = np.flatnonzero(~kept[2][a:b])
        if len(free):  # cut to what of it is outside of flutter at its ends
            right.append(kept[0][a + free[0] : a + free[-1] + 1].any())
    counts = af_counts(made_up(n, af=spans(af), flutter=spans(flutter), decided=spans(decided)))
    assert (counts.reference, counts.hits) == (len(hits), sum(hits))
    assert (counts.detected, counts.right) == (len(right), sum(right))
    assert counts.reference_s == kept[0].sum()
    assert counts.detected_s == (kept[1] & ~kept[2]).sum()
    assert counts.shared_s == (kept[0] & kept[1]).sum()


steps = st.lists(st.integers(80, 400), min_size=1, max_size=60)


@given(steps, steps, st.lists(st.integers(0, 20_000), min_size=2, max_size=6, unique=True))
def test_beats_are_those_of_a_look_around_each(
    annotated: list[int], detected: list[int], edges: list[int]
) -> None:
    """Beats more than 300 ms apart: one is found where any is near, and extra where none is."""
    fs_hz = 250.0
    begin = int(LEARNING_S * fs_hz) - 2_000
    marks, found = (begin + np.cumsum(rr) for rr in (annotated, detected))
    edges = sorted(edges)[: len(edges) // 2 * 2]
    analysed = (begin + np.array(edges, np.float64).reshape(-1, 2)) / fs_hz
    test = made_up(
        begin + 30_000,
        fs_hz,
        tuple(marks.tolist()),
        tuple(found.tolist()),
        "NV" * len(marks),
        analysed=analysed,
    )
    test = replace(test, symbols=test.symbols[: len(marks)])
    start, reach = int(LEARNING_S * fs_hz), 38  # 37.5 samples, rounded up as `strtim` does it
    near = np.abs(marks[:, None] - found[None]) <= reach
    if (near.sum(0) > 1).any() or (near.sum(1) > 1).any():
        return  # two candidates: `tests/tasks/signal/test_match.py` holds these
    counts = beat_counts(test)
    ventricular = np.arange(len(marks)) % 2 == 1
    for place, kind in ((0, ~ventricular), (1, ventricular)):
        rows = kind & (marks >= start)
        missed = rows & ~near.any(1)
        shut = [not any(a <= t <= b for a, b in analysed) for t in marks[missed] / fs_hz]
        assert counts.hits[place] == (rows & near.any(1)).sum()
        assert (counts.missed[place], counts.shut[place]) == (missed.sum(), sum(shut))
    assert counts.extra == (~near.any(0) & (found >= start)).sum()
    assert counts.annotated == (marks >= start).sum()


def test_the_learning_period_counts_for_nothing() -> None:
    """What ends in it is no episode, what reaches beyond it is cut, its beats are not compared."""
    early = made_up(
        beats=(10, 299, 300, 400),
        detected=(20, 299, 400, 500),
        af=np.array([[0.0, 300.0], [310.0, 320.0]]),
        decided=np.array([[250.0, 315.0]]),
        untold=np.array([[290.0, 305.0]]),
    )
    counts = af_counts(early)
    assert (counts.reference, counts.hits, counts.detected, counts.right) == (1, 1, 1, 1)
    assert (counts.reference_s, counts.detected_s, counts.shared_s) == (10, 15, 5)
    assert untold_s(early) == 5
    beats = beat_counts(early)
    assert (beats.annotated, sum(beats.hits), beats.extra) == (2, 1, 1)


def test_time_that_was_not_analysed_is_missed_and_told() -> None:
    """A record of which nothing was analysed misses every beat and all AF."""
    none = made_up(beats=(400, 500), af=np.array([[350.0, 450.0]]), analysed=NO_INTERVALS)
    counts = beat_counts(none)
    assert (sum(counts.missed), sum(counts.shut), counts.shut_s) == (2, 2, 600)
    assert counts.metrics()["sensitivity"] == 0
    assert np.isnan(counts.metrics()["ppv"])
    assert af_counts(none).metrics()["episode_sensitivity"] == 0


def test_detections_in_ventricular_fibrillation_are_not_extra() -> None:
    """No beat is compared where the heart makes none that can be told."""
    test = made_up(detected=(350, 400, 450), fibrillation=np.array([[390.0, 410.0]]))
    assert beat_counts(test).extra == 2


def test_gross_is_of_all_and_average_is_over_records() -> None:
    """A record without a figure is in no average; a long record weighs more in gross alone."""
    rows = {
        "a": EpisodeCounts(1, 1, 1, 1, 10.0, 10.0, 10.0, 600.0, 0.0),
        "b": EpisodeCounts(3, 0, 1, 0, 90.0, 30.0, 0.0, 600.0, 0.0),
        "c": EpisodeCounts(0, 0, 0, 0, 0.0, 0.0, 0.0, 600.0, 0.0),
    }
    figures = CountsByRecord({}, rows, dict.fromkeys(rows, 0.0)).figures()
    assert figures["af_episode_sensitivity_gross"] == 0.25
    assert figures["af_episode_sensitivity_average"] == 0.5
    assert figures["af_duration_ppv_gross"] == 0.25
    assert figures["af_duration_ppv_average"] == 0.5
    assert (figures["af_records"], figures["qrs_records"]) == (3, 0)
    assert "qrs_ppv_gross" not in figures


def test_the_layout_of_epicmp_to_the_letter() -> None:
    """A row and the sum as the program printed them."""
    counts = EpisodeCounts(82, 82, 82, 82, 7919.704, 7919.708, 7919.704, 36000.0, 0.0)
    lines = af_table({"04043": counts}).splitlines()
    assert lines[1] == "Record  TPs   FN  TPp   FP  ESe E+P DSe D+P  Ref duration  Test duration "
    assert lines[2] == " 04043   82    0   82    0  100 100 100 100   2:11:59.704    2:11:59.708"
    assert clock(334778.612) == "92:59:38.612"
    summed = "Sum     291    0  291    0                   92:59:38.612   92:59:38.628"
    many = EpisodeCounts(291, 291, 291, 291, 334778.612, 334778.628, 334778.612, 1e6, 0.0)
    lines = af_table({"x": many}).splitlines()
    assert lines[4] == summed
    assert lines[5:7] == [
        "Gross                       100 100 100 100",
        "Average                     100 100 100 100",
    ]


def test_the_rows_of_beats_are_read_back_as_sumstats_reads_them() -> None:
    """Eleven counts after the name, by white space; the figures below follow from these alone."""
    rows = {
        "100": BeatCounts((1900, 1, 0, 0), (0, 1, 0, 0), (0, 1, 0, 0), 3, 12.4),
        "a_longer_name": BeatCounts((90, 0, 2, 5), (10, 0, 1, 1), (0, 0, 0, 1), 7, 0.0),
    }
    head, *lines = beats_table(rows).splitlines()
    assert head.startswith("Record Nn' Vn' Fn' On'  Nv   Vv  Fv' Ov' No' Vo' Fo'  Q Se   Q +P")
    counts = np.array([list(map(int, line.split()[1:12])) for line in lines[:2]])
    nn, vn, fn, on, *_, no, vo, fo = counts.T
    hits, missed = nn + vn + fn, no + vo + fo
    gross = [100 * hits.sum() / (hits + missed).sum(), 100 * hits.sum() / (hits + on).sum()]
    means = [(100 * hits / (hits + missed)).mean(), (100 * hits / (hits + on)).mean()]
    assert lines[4].split()[1:3] == [f"{value:.2f}" for value in gross]
    assert lines[5].split()[1:3] == [f"{value:.2f}" for value in means]
    assert lines[3].split() == ["Sum", *map(str, counts.sum(0))]
    assert lines[6] == "Total QRS complexes: 2011  Total VEBs: 2"
    assert lines[-1] == "Summary of results from 2 records"
    shutdown = tables(CountsByRecord(rows, {}, {}))["shutdown"].splitlines()
    assert " ".join(shutdown[2].split()) == "100 0 1 0 0 0.05 0.00 50.00 - 12 seconds"
    assert " ".join(shutdown[6].split()) == f"Gross {200 / 2011:.2f} 0.00 50.00 0.00"


@pytest.mark.real
def test_afdb_counts_as_epicmp_printed_it(real_data: Path) -> None:
    """Episodes and milliseconds of AF of 23 records, of records that begin or end in AF too."""
    spec, folder = load_spec("afdb"), real_data / "afdb"
    rows = {}
    for row in AFDB.replace("\n", " / ").strip(" /").split(" / "):
        name, episodes, duration = row.split()
        record = open_record(spec, folder, name, signal=False)
        test = made_up(
            record.n_samples,
            record.fs_hz,
            af=(af := rhythm_intervals(record, record.af)),
            decided=af,
            flutter=rhythm_intervals(record, {"AFL"}),
        )
        rows[name] = af_counts(test)
        assert (rows[name].reference, clock(rows[name].reference_s).strip()) == (
            int(episodes),
            duration,
        )
        assert rows[name].hits == rows[name].detected == rows[name].right == int(episodes)
    counts = total(rows.values())
    assert (counts.reference, clock(counts.reference_s)) == AFDB_SUM
    assert af_table(rows).splitlines()[-4].split()[1:] == ["100"] * 4
