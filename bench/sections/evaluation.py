"""An evaluation of all annotations of LTAFDB, stage by stage, without Prefect and MLflow."""

from __future__ import annotations

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.harness import ROOT, Case, measure
from bench.tables import Table

NETWORK = ROOT / "tests" / "golden" / "rhythm-untrained.tflite"
STAGES = ("imports", "beat tables", "scoring", "figures and tables", "page", "in all")


def folder() -> Path:
    """Where ltafdb lies: HOLTER_REAL_DATA/ltafdb, or data/ltafdb as `holter data fetch` does."""
    shared = Path(os.environ.get("HOLTER_REAL_DATA", "../shared/data"))
    for place in ((ROOT / shared / "ltafdb").resolve(), ROOT / "data" / "ltafdb"):
        if place.is_dir():
            return place
    raise SystemExit("ltafdb is not there: `holter data fetch ltafdb`, or set HOLTER_REAL_DATA")


def evaluate(place: str) -> dict[str, float]:
    """CPU seconds of each stage, hours and beats; decisions of an untrained rhythm network."""
    clock = [0.0]  # the process's own start counts as imports
    from flows.ingest.build import Plan, build_table
    from flows.reports.evaluation import figures_of, page, tables_of
    from storage.datasets.dataset import load_spec, record_names
    from storage.tables.beats import read_beats
    from tasks.runtimes.inference import probabilities
    from tasks.runtimes.litert import LiteRT
    from tasks.scores.evaluation import score_table
    from tasks.scores.rule import LengthScaling, Rule, judge
    from tasks.signal.preprocessing import Preprocessing

    clock.append(time.process_time())
    spec, network = load_spec("ltafdb"), LiteRT(NETWORK.read_bytes())
    scalings = (LengthScaling(12, 1.0, 0.0), LengthScaling(768, 1.0, 0.0))
    rule = Rule(0.5, 1e-4, scalings, margin=2.0, around=31)
    with TemporaryDirectory() as name:
        out = Path(name)
        plan = Plan(spec, Path(place), out, Preprocessing(), False)
        entries = [build_table(plan, record)[1] for record in record_names(spec, Path(place))]
        clock.append(time.process_time())
        scored = []
        for entry in entries:
            table = read_beats(out / entry.file, waveform=False)
            answers, mask = probabilities(network, "rhythm", table)
            # An untrained network's answers, drawn to the truth, so that there is AF to count.
            answers = np.asarray(np.where(table.label == 1, 0.5 + answers / 2, answers / 2))
            judgement = judge(rule, table, answers.astype(np.float32), mask=mask)
            scored.append(score_table(table, judgement, mask))
        clock.append(time.process_time())
        figures, tables = figures_of(scored), {"ltafdb": tables_of(scored)}
        clock.append(time.process_time())
        page(scored, figures, tables, [], lambda s: read_beats(out / f"{s.record}.parquet"))
        clock.append(time.process_time())
    spent = [*np.diff(clock).tolist(), clock[-1]]
    hours = sum(s.analysable_hours for s in scored)
    beats = sum(len(s.label) for s in scored)
    return {**dict(zip(STAGES, spent, strict=True)), "hours": hours, "beats": beats, "wall_s": 0.0}


def run() -> list[Table]:
    """Measure, and give the section's table: the run in the middle."""
    case = Case("bench.sections.evaluation:evaluate", (str(folder()),), once=True)
    figures = measure({"ltafdb": case})["ltafdb"].result
    title = f"{figures['hours']:,.0f} analysable hours of annotations, {figures['beats']:,} beats"
    rows = [[stage, figures[stage]] for stage in STAGES]
    return [Table(title, [("stage", None), ("CPU s", 1)], rows)]
