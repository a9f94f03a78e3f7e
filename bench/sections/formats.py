"""Formats: a day's record in each, raw to Parquet: CPU seconds and memory of the worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.harness import Case, measure, workplace
from bench.tables import Table

HOURS, FS_HZ = 24, 250
#: Samples that are made of each where the rate is 1000 Hz, leads there, and samples a stretch.
FINER, LEADS, STRETCH = 4, 12, 1 << 18
TOML = """
name = "day"
title = "A simulated day"
version = "1"
licence = "Apache-2.0"
citation = "Made by this project's simulator; no person was recorded."

[source]
simulated = true

[records]
format = "{format}"
names = ["rec"]

[annotations]
beats = ["detect"]
rhythm = "csv"

[leads]
prefer = ["II"]

[rhythms]
af = ["AFIB"]
map = {{ N = "N", AFIB = "AFIB" }}
"""

Steps = NDArray[np.int16]


def wfdb_212(folder: Path, steps: Steps) -> None:
    """Format 212, whose samples have 12 bits."""
    _wfdb(folder, np.clip(steps // 2, -2047, 2047), "212", 200)


def wfdb_flac(folder: Path, steps: Steps) -> None:
    """Format 516: FLAC of 16 bits."""
    _wfdb(folder, steps, "516", 400)


def _wfdb(folder: Path, steps: NDArray[np.integer], form: str, per_mv: int) -> None:
    import wfdb

    wfdb.wrsamp(
        "rec",
        fs=FS_HZ,
        units=["mV", "mV"],
        sig_name=["II", "V5"],
        d_signal=steps.astype(np.int64),
        fmt=[form] * 2,
        adc_gain=[per_mv] * 2,
        baseline=[0, 0],
        write_dir=str(folder),
    )


def edf(folder: Path, steps: Steps) -> None:
    """EDF, a data record a second."""
    import edfio

    signals = [
        edfio.EdfSignal(steps[:, k] / 400, FS_HZ, label=lead, physical_dimension="mV")
        for k, lead in enumerate(("II", "V5"))
    ]
    edfio.Edf(signals).write(folder / "rec.edf")


def ishne(folder: Path, steps: Steps) -> None:
    """ISHNE Holter."""
    from tests.storage.recordings.test_holter_formats import ishne_bytes

    (folder / "rec.ecg").write_bytes(ishne_bytes(steps))


def twelve_leads(folder: Path, steps: Steps) -> None:
    """Format 16, twelve leads at 1000 Hz, 2 GB: the one lead drawn finer, twelve times."""
    n = FINER * len(steps)
    with (folder / "rec.dat").open("wb") as file:
        for at in range(0, n, STRETCH):
            place = np.arange(at, min(at + STRETCH, n)) / FINER
            low = at // FINER
            part = steps[low : low + STRETCH // FINER + 2, 0]
            fine = np.interp(place - low, np.arange(len(part)), part)
            file.write(np.repeat(np.rint(fine).astype("<i2")[:, None], LEADS, axis=1).tobytes())
    names = ("II", "I", "III", "aVR", "aVL", "aVF", *(f"V{k}" for k in range(1, 7)))
    lines = [f"rec {LEADS} {FINER * FS_HZ} {n}"]
    lines += [f"rec.dat 16 400/mV 16 0 0 0 0 {name}" for name in names]
    (folder / "rec.hea").write_text("\n".join(lines) + "\n")


#: What the table calls it, how it is written, and the format of its data set's TOML.
DAYS: dict[str, tuple[Callable[[Path, Steps], None], str]] = {
    "WFDB 212, two leads, 250 Hz": (wfdb_212, "wfdb"),
    "WFDB FLAC (516), two leads, 250 Hz": (wfdb_flac, "wfdb"),
    "EDF, two leads, 250 Hz": (edf, "edf"),
    "ISHNE, two leads, 250 Hz": (ishne, "ishne"),
    "WFDB 16, twelve leads, 1000 Hz": (twelve_leads, "wfdb"),
}


def day(write: Callable[[Path, Steps], None], form: str) -> str:
    """The folder of a day in a format, written on first use."""
    folder = workplace() / f"day-{write.__name__}"
    if not (folder / "dataset.toml").is_file():
        folder.mkdir(exist_ok=True)
        write(folder, _steps())
        (folder / "rec.csv").write_text(f"start_s,end_s,rhythm\n0,{HOURS * 3600},N\n")
        (folder / "dataset.toml").write_text(TOML.format(format=form))
    return str(folder)


def _steps() -> Steps:
    """A simulated day, two leads, 400 steps a millivolt."""
    from tasks.learning.simulate import simulate_subject

    recording = simulate_subject(0, HOURS, float(FS_HZ), "sinus")
    return np.clip(np.rint(recording.signal_mv * 400), -32767, 32767).astype(np.int16)


def run() -> list[Table]:
    """Measure, and give the section's table."""
    out = str(workplace() / "out")
    Path(out).mkdir(exist_ok=True)
    cases = {
        name: Case("bench.sections.signal:record_table", (day(write, form), "rec", out))
        for name, (write, form) in DAYS.items()
    }
    results = measure(cases)
    base = next(iter(results.values())).cpu_s
    columns = [("record", None), ("CPU s", 2), ("times 212", 1), ("peak MB", 0), ("beats", 0)]
    rows = [
        [name, figures.cpu_s, figures.cpu_s / base, figures.peak_mb, figures.result]
        for name, figures in results.items()
    ]
    return [Table("A day, one lead to Parquet, warm process", list(columns), rows)]
