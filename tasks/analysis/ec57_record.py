"""A record as a test by EC57 sees it: analysed blind, then held against its annotation.

Nothing that is annotated reaches the analysis: neither beats, nor rhythm, nor where an annotator
could read no signal. Where signals are not read, annotated beats stand in for detected ones, and
the detector is not tested.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from storage.datasets.dataset import DatasetSpec
from storage.errors import TooFewBeats, UnusableSignal
from storage.recordings.marks import LABEL
from storage.recordings.records import Record, open_record, read_lead
from storage.recordings.reference import fibrillation
from storage.recordings.stretches import NOWHERE, Stretches, seconds, within
from storage.tables.beats import BeatTable
from tasks.analysis.analyse import decided_beats
from tasks.runtimes.runtimes import Network
from tasks.scores.episodes import NO_INTERVALS, Intervals, episodes
from tasks.scores.evaluation import FLUTTER
from tasks.scores.levels.ec57 import LEARNING_S, PACED, RecordTest, match_window
from tasks.scores.rule import Judgement, Rule, judge
from tasks.signal.beats import beat_tables
from tasks.signal.match import match_beats
from tasks.signal.preprocessing import Preprocessing

#: Beats as an analysis tells them, and what it tells of each; None where it tells nothing at all.
Answer: TypeAlias = tuple[BeatTable, Judgement] | None
Analyser: TypeAlias = Callable[[Record], Answer]
#: What of the standard's test a record can be left out of.
QRS, AF = "QRS", "AF"


def analyser(network: Network, name: str, rule: Rule, least_beats: int = 1) -> Analyser:
    """What a network and its rule tell of a record, by the path of `holter analyse`."""

    def answer(record: Record) -> Answer:
        read = partial(read_lead, record) if record.lead is not None else None
        try:
            tables, _, _ = beat_tables(record, read, Preprocessing())
            table, answers, mask = decided_beats(network, name, tables)
        except (UnusableSignal, TooFewBeats):  # all of it is time that was not analysed
            return None
        return table, judge(rule, table, answers, least_beats=least_beats, mask=mask)

    return answer


def record_test(
    spec: DatasetSpec, folder: Path, name: str, analyse: Analyser, *, signal: bool
) -> tuple[RecordTest | None, dict[str, str]]:
    """Analyse a record blind, and lay its annotation beside.

    Parameters
    ----------
    spec, folder, name : DatasetSpec, Path, str
        The record, as its data set has it.
    analyse : callable
        As of `analyser`.
    signal : bool
        Whether its signal is read.

    Returns
    -------
    RecordTest or None
        None where it is no part of the test.
    dict of str to str
        What it is left out of, `QRS` or `AF`, and why.

    Raises
    ------
    RecordError
        The record cannot be read.
    """
    record = open_record(spec, folder, name, signal=signal)
    left_out = reasons(record, signal=signal)
    if set(left_out) == {QRS, AF}:
        return None, left_out
    answer = analyse(blind(record) if signal else record)
    fs_hz = record.fs_hz
    waves = fibrillation(spec, folder, record)
    in_test = ~within(record.beats, waves)
    beats = record.beats[in_test]
    detected, decided, untold, analysed = np.empty(0, np.int64), *[NO_INTERVALS] * 3
    if answer is not None:
        table, judgement = answer
        detected, analysed = table.sample, table.stretches_s
        decided = episodes(judgement.decided, table.time_s, table.stretches_s)
        untold = episodes(~judgement.sure, table.time_s, table.stretches_s)
    return RecordTest(
        record=name,
        subject=record.subject,
        fs_hz=fs_hz,
        n_samples=record.n_samples,
        beats=beats,
        symbols=record.symbols[in_test],
        detected=detected,
        partner=match_beats(beats, detected, match_window(fs_hz)),
        af=rhythm_intervals(record, record.af),
        flutter=rhythm_intervals(record, {FLUTTER}),
        fibrillation=seconds(waves, fs_hz),
        decided=decided,
        untold=untold,
        analysed=analysed,
    ), left_out


def reasons(record: Record, *, signal: bool) -> dict[str, str]:
    """Of what a record is left out, `QRS` or `AF`, and why."""
    length_s = record.n_samples / record.fs_hz
    whole = {
        "beats of a pacemaker are annotated": np.isin(record.symbols, PACED).any(),
        f"it ends within the learning period: {length_s:g} s": length_s <= LEARNING_S,
        "it has no signal": signal and record.lead is None,
    }
    for words, holds in whole.items():
        if holds:
            return dict.fromkeys((QRS, AF), words)
    out = {}
    if not signal:
        out[QRS] = "its signal was not read"
    elif not len(record.beats):
        out[QRS] = "no beats are annotated"
    if record.label_source == LABEL:
        out[AF] = "one label is of the whole record, and no episode is annotated"
    return out


def blind(record: Record) -> Record:
    """The record as nobody has annotated it."""
    return replace(
        record,
        beats=np.empty(0, np.int64),
        symbols=np.empty(0, record.symbols.dtype),
        rhythm_start=np.zeros(1, np.int64),
        rhythms=np.array([""]),
        unreadable=NOWHERE,
    )


def rhythm_intervals(record: Record, names: Collection[str]) -> Intervals:
    """Where any of some rhythms is annotated, shape (k, 2) in seconds, joined where they touch."""
    present = np.isin(record.rhythms, sorted(names))
    edge = np.diff(present, prepend=False, append=False)
    at: Stretches = np.append(record.rhythm_start, record.n_samples)[edge].reshape(-1, 2)
    return np.asarray(at[at[:, 1] > at[:, 0]] / record.fs_hz)
