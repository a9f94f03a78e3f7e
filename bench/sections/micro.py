"""Rhythm networks as C: all of afdb's intervals, and what a Cortex-M needs for them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.harness import ROOT
from bench.microcontroller import (
    CORES,
    answer_here,
    answer_on,
    missing_tools,
    read_answers,
    sizes_on,
    stretches_of,
    table_of,
    write_beats,
)
from bench.tables import Cell, Table
from storage.tables.beats import BeatTable

NETWORKS = ("rhythm_tiny", "rhythm_causal")
#: Beats of the record that an emulated core answers, and the record.
EMULATED, EMULATED_RECORD = 20_000, "04043"
GOAL = ("goal", None, None, 16_384, 4_096, None, 100_000, None, None)
#: What others report: title, what decides, target, accuracy, time and energy a decision, source.
PUBLISHED: tuple[tuple[str, str, str, float, str, str, str], ...] = (
    (
        "LSTM on HRV features of 40 intervals",
        "afdb",
        "a low-power microcontroller",
        98.46,
        "143 ms",
        "3,532 uJ",
        "doi:10.3390/s25216601",
    ),
    (
        "1D-CNN on 100 intervals",
        "a public database, patients apart",
        "Cortex-M7",
        98.0,
        "-",
        "-",
        "doi:10.3390/s25237244",
    ),
    (
        "SVM with an RBF kernel on irregularity",
        "part of the 2020 Challenge",
        "Cortex-M4",
        96.9,
        "0.72 ms",
        "-",
        "doi:10.3390/s23177521",
    ),
)


@dataclass
class Tally:
    """Beats of an arithmetic against the release and against the labels.

    Attributes
    ----------
    beats, alike, against, unequal : int
        Beats; those with the release's verdict; those that one tells as AF and the other not; those
        whose integers are not the twin's.
    confusion : int64, shape (3, 2)
        Verdict (not AF, AF, cannot tell) by label, unknown labels left out.
    """

    beats: int = 0
    alike: int = 0
    against: int = 0
    unequal: int = 0
    confusion: NDArray[np.int64] = field(default_factory=lambda: np.zeros((3, 2), np.int64))

    def add(self, table: BeatTable, verdict: NDArray[Any], release: NDArray[Any]) -> None:
        """Count the beats of one record."""
        told = (verdict != 2) & (release != 2)
        self.beats += len(table)
        self.alike += int(np.sum(verdict == release))
        self.against += int(np.sum(told & (verdict != release)))
        labelled = table.label >= 0
        np.add.at(self.confusion, (verdict[labelled], table.label[labelled]), 1)

    def rates(self) -> tuple[float, float, float]:
        """F1 and accuracy of the beats that are told, and the share that is told, in percent."""
        told = self.confusion[:2]
        wrong = told[0, 1] + told[1, 0]
        f1 = 2 * told[1, 1] / (2 * told[1, 1] + wrong)
        return 100 * f1, 100 * (1 - wrong / told.sum()), 100 * told.sum() / self.confusion.sum()


def folder(dataset: str) -> Path:
    """Where a data set lies: HOLTER_REAL_DATA, or data/ as `holter data fetch` leaves it."""
    shared = Path(os.environ.get("HOLTER_REAL_DATA", "../shared/data"))
    for place in ((ROOT / shared / dataset).resolve(), ROOT / "data" / dataset):
        if place.is_dir():
            return place
    raise SystemExit(
        f"{dataset} is not there: `holter data fetch {dataset}`, or set HOLTER_REAL_DATA"
    )


def release_verdicts(network: Any, name: str, sources: Any, table: BeatTable) -> NDArray[np.int64]:
    """What the release tells of each beat: as the server, or as `holter-edge live`."""
    from storage.recordings.stretches import slices
    from tasks.runtimes.inference import probabilities
    from tasks.scores.rule import calibrate, judge, log_odds
    from tasks.scores.smoothing import Forward

    rule = sources.rule
    answers, _ = probabilities(network, name, table)
    if not sources.network.causal:
        judgement = judge(rule, table, answers, af_share=rule.af_share)
        return np.where(judgement.sure, judgement.decided, 2)
    p_af = calibrate(rule, answers, table.begins)
    decided = np.zeros(len(table), bool)
    for part in slices(table.begins):
        chain = Forward(rule.calibrated_threshold, rule.change)
        decided[part] = [chain.decide(value) for value in p_af[part].tolist()]
    odds = log_odds(p_af)
    sure = (np.abs(odds) >= rule.margin) & ((odds >= 0) == decided)
    return np.where(sure, decided, 2)


def agreement(exports: Path) -> list[list[Cell]]:
    """Every beat of afdb by the C, its twin and the release."""
    from storage.datasets.dataset import load_spec, record_names
    from storage.registry.boxed import boxed_release
    from tasks.microcontroller.export import in_integers, read_sources, write_export
    from tasks.microcontroller.generate import ARITHMETICS
    from tasks.microcontroller.reference import fixed_answers
    from tasks.runtimes.runtimes import open_runtime

    rows: list[list[Cell]] = []
    place = folder("afdb")
    tables = [table_of(place, record) for record in record_names(load_spec("afdb"), place)]
    stretches = [stretch for table in tables for stretch in stretches_of(table)]
    write_beats(exports / "beats.bin", stretches)
    ends = np.cumsum([len(table) for table in tables])[:-1]
    for name in NETWORKS:
        print(f"  {name}", file=sys.stderr, flush=True)
        release, manifest = boxed_release(name)
        sources, network = read_sources(release, manifest), open_runtime(release, manifest)
        integers = in_integers(sources)
        told = [release_verdicts(network, name, sources, table) for table in tables]
        twins = [fixed_answers(integers, stretch) for stretch in stretches]
        tallies = {kind: Tally() for kind in ("release", *ARITHMETICS)}
        for table, verdict in zip(tables, told, strict=True):
            tallies["release"].add(table, verdict, verdict)
        for kind in ARITHMETICS:
            write_export(sources, kind, exports / f"{name}-{kind}")
            answer_here(exports / f"{name}-{kind}", name, exports)
            p_af, verdicts = read_answers(exports / "answers.bin", kind)
            parts = np.split(verdicts, ends)
            for table, part, expected in zip(tables, parts, told, strict=True):
                tallies[kind].add(table, part, expected)
            if kind == "int8":
                same = p_af == np.concatenate([twin.p_af for twin in twins])
                same &= verdicts == np.concatenate([twin.verdict for twin in twins])
                tallies[kind].unequal = int(np.sum(~same))
        for title, tally in tallies.items():
            f1, accuracy, coverage = tally.rates()
            share = None if title == "release" else 100 * tally.alike / tally.beats
            against = None if title == "release" else tally.against
            unequal = tally.unequal if title == "int8" else None
            rows.append(
                [f"`{name}`", title, tally.beats, unequal, share, against, f1, accuracy, coverage]
            )
    return rows


def costs(exports: Path) -> list[list[Cell]]:
    """Flash, memory and instructions on each core."""
    from tasks.microcontroller.generate import ARITHMETICS

    stretches = stretches_of(table_of(folder("afdb"), EMULATED_RECORD))
    rows: list[list[Cell]] = []
    for name in NETWORKS:
        for kind in ARITHMETICS:
            export = exports / f"{name}-{kind}"
            write_beats(exports / "beats.bin", [stretches[0][:EMULATED]])
            answer_here(export, name, exports)
            here = read_answers(exports / "answers.bin", kind)
            for core in CORES:
                counts = answer_on(core, export, name, exports)
                there = read_answers(exports / "answers.bin", kind)
                sizes = sizes_on(core, export, name, exports)
                alike = 100 * float(np.mean((here[0] == there[0]) & (here[1] == there[1])))
                a_beat = counts.instructions / counts.beats
                row: list[Cell] = [f"`{name}`", kind, core.cpu, sizes.flash, sizes.memory]
                row += [counts.stack, a_beat, counts.dearest_beat, alike]
                rows.append(row)
    return [*rows, list(GOAL)]


def run() -> list[Table]:
    """Measure, and give the section's tables."""
    if missing := missing_tools():
        raise SystemExit(f"not installed: {', '.join(missing)}")
    with TemporaryDirectory(prefix="holter-micro-") as work:
        decisions, cortex = agreement(Path(work)), costs(Path(work))
    published: list[list[Cell]] = [list(row) for row in PUBLISHED]
    return [
        Table(
            "All beats of afdb, annotated intervals",
            [
                *(("network", None), ("arithmetic", None), ("beats", 0)),
                *(("unlike the twin in Python", 0), ("verdict of the release, %", 3)),
                *(("AF against not AF", 0), ("F1 of told beats, %", 2)),
                *(("accuracy of told beats, %", 2), ("told, %", 2)),
            ],
            decisions,
        ),
        Table(
            f"Emulated cores, {EMULATED:,} beats of afdb {EMULATED_RECORD}, gcc -O2",
            [
                *(("network", None), ("arithmetic", None), ("core", None)),
                *(("flash, bytes", 0), ("memory, bytes", 0), ("stack, bytes", 0)),
                *(("instructions a beat", 0), ("dearest beat", 0)),
                ("same bytes as here, % of beats", 2),
            ],
            cortex,
        ),
        Table(
            "What others report, of their own data and splits",
            [
                *(("what decides", None), ("data", None), ("target", None)),
                *(("accuracy, %", 2), ("time a decision", None), ("energy a decision", None)),
                ("source", None),
            ],
            published,
        ),
    ]
