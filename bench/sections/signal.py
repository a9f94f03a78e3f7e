"""The signal path: 10 h of one lead from raw WFDB to a Parquet file of beats, beside the peers."""

from __future__ import annotations

from pathlib import Path

from bench.harness import Case, Figures, measure, simulated, table, workplace

TITLE = "Signal path: 10 h, one lead, raw WFDB to Parquet"

#: A peer's name and function, and the hours it is run on; seconds are scaled up to 10 h.
PEERS = (
    ("stock-Python best: numpy, scipy, pywt float32, sleepecg C, gather, pyarrow", "stock", 10),
    ("wfdb + filtfilt + pywt + py-ecg-detectors + interp1d loop + pandas", "ecg_detectors", 1),
    ("wfdb + filtfilt + pywt + XQRS + interp1d loop + pandas", "wfdb_script", 1),
    ("NeuroKit2 clean + peaks + segment", "neurokit", 1),
)
OURS = "this project, checksums, annotations, labels, quality and provenance included"


def ours(folder: str, name: str, out: str) -> int:
    """One record as the ingest flow makes it, without the flow."""
    from flows.ingest.build import build_table
    from storage.datasets.dataset import load_spec
    from tasks.signal.preprocessing import Preprocessing

    spec = load_spec(folder)
    _, entry = build_table(spec, Path(folder), name, Path(out), Preprocessing(), None, signal=True)
    return entry.beats


def run() -> str:
    """Measure, and give the section's text."""
    folders = {hours: str(simulated(1, hours)) for hours in (1, 10, 24)}
    out = str(workplace() / "out")
    Path(out).mkdir(exist_ok=True)
    cases = {OURS: Case("bench.signal:ours", (folders[10], "sim000", out))}
    for name, function, hours in PEERS:
        arguments = (folders[hours], "sim000", f"{out}/peer.parquet")
        cases[name] = Case(f"bench.peers:{function}", arguments, scale=10 / hours)
    found = measure(cases)
    edges = measure(
        {
            "first": Case("bench.signal:ours", (folders[10], "sim000", out), cold=True),
            "import": Case("bench.signal:ours_import", (), cold=True),
            "day": Case("bench.signal:ours", (folders[24], "sim000", out)),
        }
    )
    return text(found, edges)


def ours_import() -> None:
    """Import what `ours` needs."""
    import flows.ingest.build  # noqa: F401 - the import is what is timed


def text(found: dict[str, Figures], edges: dict[str, Figures]) -> str:
    """The section, from its figures."""
    base = found[OURS].cpu_s
    rows = [
        (
            name,
            f"{one.cpu_s:.2f}",
            f"{one.cpu_s / base:.1f}",
            f"{one.peak_mb:.0f}",
            f"{one.result:,}",
        )
        for name, one in found.items()
    ]
    first, imports, day = edges["first"], edges["import"], edges["day"]
    return f"""\
A simulated record of 250 Hz, two leads, format 212; one core, warm process. Peers of over a second
an hour are run on 1 h and their seconds multiplied by 10 (beats are then those of 1 h).

{table(("pipeline", "CPU s", "times ours", "peak MB", "beats"), rows)}

- First record in a fresh process: {first.cpu_s:.2f} CPU s, of which {imports.cpu_s:.2f} s start the
  interpreter and import numpy, PyWavelets, pyarrow and the rest.
- A 24-h record: {day.cpu_s:.2f} CPU s, {day.peak_mb:.0f} MB at the peak (of which
  {imports.peak_mb:.0f} MB are imports)."""
