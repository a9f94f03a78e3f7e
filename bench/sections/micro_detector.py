"""The detector as C: R peaks of mitdb beside those of `live`, and what a Cortex-M needs for it."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.microcontroller import (
    CORES,
    DETECTOR,
    PLAIN_CORE,
    answer_here,
    answer_on,
    build_here,
    missing_tools,
    run_words,
    sizes_on,
)
from bench.sections.micro import folder
from bench.tables import Cell, Table

#: Seconds of each record of mitdb, and those within which a peak is the same.
ECG_S, NEAR_S = 300, 0.06
#: What the arithmetics are of a detector.
WORDS = {"int8": "whole numbers", "float32": "float32"}


def peaks(exports: Path) -> list[list[Cell]]:
    """R peaks of mitdb by the detector's C and by `holter-edge live`."""
    from storage.datasets.dataset import load_spec, record_names
    from storage.recordings.records import open_record, read_lead
    from storage.registry.boxed import boxed_release
    from tasks.microcontroller.detector import in_units
    from tasks.microcontroller.export import read_sources, write_export
    from tasks.microcontroller.generate import ARITHMETICS
    from tasks.signal.stream import BeatStream

    spec, place = load_spec("mitdb"), folder("mitdb")
    sources = read_sources(*boxed_release("rhythm_causal"))
    counts = {arithmetic: np.zeros(5, np.int64) for arithmetic in ARITHMETICS}
    for name in record_names(spec, place):
        print(f"  {name}", file=sys.stderr, flush=True)
        record = open_record(spec, place, name, signal=True)
        fs_hz = int(record.fs_hz)
        signal = read_lead(record, 0, ECG_S * fs_hz)
        stream = BeatStream(fs_hz)
        parts = [stream.feed(part).sample for part in np.array_split(signal, ECG_S)]
        live = np.concatenate([*parts, stream.finish().sample])
        for arithmetic, count in counts.items():
            work = exports / arithmetic
            if not work.exists():
                write_export(sources, arithmetic, work / "c", fs_hz)
                build_here(work / "c", DETECTOR, work)
            samples = in_units(signal) if arithmetic == "int8" else signal.astype("<f4")
            (work / "ecg.bin").write_bytes(samples.tobytes())
            run_words([work / "here"], work)
            here = np.frombuffer((work / "peaks.bin").read_bytes(), "<u4").astype(np.int64)
            near = np.abs(live[:, None] - here[None, :]) <= NEAR_S * fs_hz
            alike = int(np.isin(live, here).sum())
            count += len(live), len(here), alike, near.any(axis=1).sum(), near.any(axis=0).sum()
    rows: list[list[Cell]] = []
    for arithmetic, count in counts.items():
        ours, own, alike, of_live, of_c = count.tolist()
        shares = (100 * alike / ours, 100 * of_live / ours, 100 * of_c / own)
        rows.append([WORDS[arithmetic], ours, own, *shares])
    return rows


def detector_costs(exports: Path) -> list[list[Cell]]:
    """Flash, memory and instructions of the detector on each core, at 250 Hz."""
    from storage.registry.boxed import boxed_release
    from tasks.learning.simulate import simulate_subject
    from tasks.microcontroller.detector import in_units
    from tasks.microcontroller.export import read_sources, write_export
    from tasks.microcontroller.generate import ARITHMETICS

    sources = read_sources(*boxed_release("rhythm_causal"))
    signal = simulate_subject(7, 0.05, 250).signal_mv[:, 0]
    rows: list[list[Cell]] = []
    for arithmetic in ARITHMETICS:
        export = exports / f"detector-{arithmetic}"
        write_export(sources, arithmetic, export, 250)
        samples = in_units(signal) if arithmetic == "int8" else signal.astype("<f4")
        (exports / "ecg.bin").write_bytes(samples.tobytes())
        answer_here(export, DETECTOR, exports)
        here = (exports / "peaks.bin").read_bytes()
        for core in (PLAIN_CORE, *CORES):
            counts = answer_on(core, export, DETECTOR, exports)
            same = "yes" if (exports / "peaks.bin").read_bytes() == here else "no"
            sizes = sizes_on(core, export, DETECTOR, exports)
            a_sample = counts.instructions / counts.beats
            row: list[Cell] = [WORDS[arithmetic], core.cpu, sizes.flash, sizes.memory]
            rows.append([*row, a_sample, counts.dearest_beat, same])
    return rows


def run() -> list[Table]:
    """Measure, and give the section's tables."""
    if missing := missing_tools():
        raise SystemExit(f"not installed: {', '.join(missing)}")
    with TemporaryDirectory(prefix="holter-micro-") as work:
        alike, detector = peaks(Path(work)), detector_costs(Path(work))
    return [
        Table(
            f"R peaks in the first {ECG_S / 60:.0f} minutes of each record of mitdb",
            [
                *(
                    ("arithmetic", None),
                    ("by live", 0),
                    ("by the C", 0),
                    ("the same sample, % of live's", 3),
                ),
                ("one of the C within 60 ms, % of live's", 3),
                ("one of live's within 60 ms, % of the C's", 3),
            ],
            alike,
        ),
        Table(
            "The detector on emulated cores, 3 minutes of a simulated ECG of 250 Hz",
            [
                *(("arithmetic", None), ("core", None), ("flash, bytes", 0), ("memory, bytes", 0)),
                *(("instructions a sample", 0), ("dearest sample", 0)),
                ("same bytes as here", None),
            ],
            detector,
        ),
    ]
