"""R-peak detectors on all of mitdb, by the rules of ANSI/AAMI EC57 (WFDB's bxb)."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.harness import ROOT, Case, run_child
from bench.tables import Cell, Table
from storage.datasets.dataset import load_spec, record_names
from storage.recordings.records import Record, open_record, read_lead
from tasks.signal.match import match_beats

WINDOW_S = 0.150
LEARNING_S = 300.0
HARD = frozenset(["105", "106", "108", "203", "207", "208", "222", "228", "231"])
PROJECT = "this project"
DETECTORS = {
    PROJECT: "project",
    "sleepecg 0.6.0": "sleepecg",
    "neurokit2 0.2.12 pantompkins1985": "neurokit",
    "wfdb 4.3.1 XQRS": "xqrs",
    "ecgdatakit 2.0.3 pan_tompkins": "ecgdatakit",
    "AnuSamAlgorithm 0.1.3": "anusam",
    "fast-qrs-detector 0.1.2": "fast_qrs",
}

Samples: TypeAlias = NDArray[np.int64]


def folder() -> Path:
    """Where mitdb lies: HOLTER_REAL_DATA/mitdb, or data/mitdb as `holter data fetch` leaves it."""
    shared = Path(os.environ.get("HOLTER_REAL_DATA", "../shared/data"))
    for place in ((ROOT / shared / "mitdb").resolve(), ROOT / "data" / "mitdb"):
        if place.is_dir():
            return place
    raise SystemExit("mitdb is not there: `holter data fetch mitdb`, or set HOLTER_REAL_DATA")


def project(record: Record) -> Samples:
    """This project's detector, by the very path that makes beat tables."""
    from tasks.signal.beats import clean_lead
    from tasks.signal.preprocessing import Preprocessing

    return clean_lead(record, partial(read_lead, record), Preprocessing()).peaks


def sleepecg(record: Record) -> Samples:
    """sleepecg's C detector."""
    from sleepecg.heartbeats import detect_heartbeats

    return np.asarray(detect_heartbeats(read_lead(record).astype(np.float64), record.fs_hz))


def neurokit(record: Record) -> Samples:
    """NeuroKit2's Pan-Tompkins, after the cleaning that belongs to it."""
    import neurokit2 as nk

    fs_hz, method = int(record.fs_hz), "pantompkins1985"
    clean = nk.ecg_clean(read_lead(record), sampling_rate=fs_hz, method=method)
    _, peaks = nk.ecg_peaks(clean, sampling_rate=fs_hz, method=method)
    return np.asarray(peaks["ECG_R_Peaks"], dtype=np.int64)


def xqrs(record: Record) -> Samples:
    """wfdb's XQRS."""
    import wfdb.processing

    peaks = wfdb.processing.xqrs_detect(read_lead(record), fs=record.fs_hz, verbose=False)
    return np.asarray(peaks, dtype=np.int64)


def ecgdatakit(record: Record) -> Samples:
    """ecgdatakit's Pan-Tompkins, on either polarity."""
    from ecgdatakit.processing.peaks import detect_r_peaks

    return np.asarray(detect_r_peaks(read_lead(record).astype(np.float64), fs=int(record.fs_hz)))


def anusam(record: Record) -> Samples:
    """AnuSamAlgorithm: one threshold on the steps of the whole record."""
    from AnuSamAlgorithm import find_peak

    return np.asarray(find_peak(read_lead(record), record.fs_hz))


def fast_qrs(record: Record) -> Samples:
    """fast-qrs-detector, with its own filters."""
    from fast_qrs_detector import qrs_detector

    return np.asarray(qrs_detector(read_lead(record), int(record.fs_hz)), dtype=np.int64)


def detect(detector: str) -> dict[str, list[int]]:
    """R peaks of every record, by name."""
    find: Callable[[Record], Samples] = globals()[detector]
    spec, place = load_spec("mitdb"), folder()
    names = record_names(spec, place)
    return {name: find(open_record(spec, place, name)).tolist() for name in names}


def without(samples: Samples, stretches: list[tuple[int, int]]) -> Samples:
    """The samples outside some stretches."""
    for low, high in stretches:
        samples = samples[(samples < low) | (samples >= high)]
    return samples


def flutter(record: Record) -> list[tuple[int, int]]:
    """The stretches of ventricular flutter, which EC57 leaves out of the comparison."""
    edges = np.append(record.rhythm_start, record.n_samples)
    spans = zip(edges[:-1].tolist(), edges[1:].tolist(), record.rhythms.tolist(), strict=True)
    return [(low, high) for low, high, rhythm in spans if rhythm == "VFL"]


def most_pairs(annotated: Samples, detected: Samples, window: float) -> int:
    """The largest number of one-to-one pairs within the window: an independent check.

    Both ascend, so taking the earliest that still fits is best.
    """
    i = j = pairs = 0
    while i < len(annotated) and j < len(detected):
        away = int(detected[j]) - int(annotated[i])
        pairs += abs(away) <= window
        i, j = i + (away >= -window), j + (away <= window)
    return pairs


def compare(record: Record, detected: Samples, left_out: list[tuple[int, int]]) -> list[int]:
    """Annotated, detected and matched beats of a record, some stretches left out."""
    beats, detected = without(record.beats, left_out), without(detected, left_out)
    window = WINDOW_S * record.fs_hz
    matched = int((match_beats(beats, detected, window) >= 0).sum())
    if matched != most_pairs(beats, detected, window):
        raise AssertionError(f"record {record.name}: {matched} pairs are not the most there are")
    return [len(beats), len(detected), matched]


def percent(part: int, whole: int) -> float | None:
    """A share in percent; None of nothing."""
    return 100 * part / whole if whole else None


def run() -> list[Table]:
    """Detect, compare, and give the section's tables."""
    spec, place = load_spec("mitdb"), folder()
    records = [open_record(spec, place, name) for name in record_names(spec, place)]
    learning = {r.name: [(0, round(LEARNING_S * r.fs_hz))] for r in records}
    flutters = {r.name: flutter(r) for r in records}
    empty: dict[str, list[tuple[int, int]]] = {r.name: [] for r in records}
    learning_and_flutters = {name: learning[name] + flutters[name] for name in learning}
    rows: list[list[Cell]] = []
    per_record: list[list[Cell]] = []
    away: list[Cell] = []
    for title, detector in DETECTORS.items():
        figures, _ = run_child(Case("bench.sections.detectors:detect", (detector,)), 1)
        peaks = {k: np.array(v, np.int64) for k, v in figures["result"].items()}
        cells: list[Cell] = []
        for left_out in (flutters, learning_and_flutters, empty):
            counts = [compare(r, peaks[r.name], left_out[r.name]) for r in records]
            annotated, detected, matched = (sum(column) for column in zip(*counts, strict=True))
            cells += [percent(matched, annotated), percent(matched, detected)]
        rows.append([title, *cells, figures["cpu_s"][0]])
        if title == PROJECT:
            per_record = [
                [
                    f"**{r.name}**" if r.name in HARD else r.name,
                    r.lead,
                    annotated,
                    annotated - matched,
                    detected - matched,
                    percent(matched, annotated),
                    percent(matched, detected),
                ]
                for r in records
                for annotated, detected, matched in [compare(r, peaks[r.name], flutters[r.name])]
            ]
            away = offsets_ms(records, peaks)
    rates = ("Se %", "PPV %")
    ways = ("", " from 5 min", " with VFL")
    pooled = [("detector", None), *((f"{rate}{way}", 2) for way in ways for rate in rates)]
    counts_of = [(name, 0) for name in ("annotated", "missed", "extra")]
    of_marks = [("R peaks less marks, ms", None), ("5 %", 1), ("median", 1), ("95 %", 1)]
    return [
        Table(f"{sum(len(r.beats) for r in records):,} beats", [*pooled, ("CPU s", 0)], rows),
        Table("Where the R peaks lie", of_marks, [[PROJECT, *away]]),
        Table(
            "This project, record by record, flutter left out; hard records bold",
            [("record", None), ("lead", None), *counts_of, *((rate, 2) for rate in rates)],
            per_record,
        ),
    ]


def offsets_ms(records: list[Record], peaks: dict[str, Samples]) -> list[Cell]:
    """Milliseconds from the annotated marks to the R peaks: 5 %, median and 95 %."""
    away = []
    for r in records:
        partner = match_beats(r.beats, peaks[r.name], WINDOW_S * r.fs_hz)
        pairs = partner >= 0
        away.append((peaks[r.name][partner[pairs]] - r.beats[pairs]) / r.fs_hz * 1000)
    return [float(value) for value in np.percentile(np.concatenate(away), (5, 50, 95))]
