"""The signal path: 10 h of one lead from raw WFDB to a Parquet file of beats, beside the peers."""

from __future__ import annotations

from pathlib import Path

from bench.harness import Case, Figures, measure, simulated_folder, workplace
from bench.tables import Table

#: A peer's name and function, and the hours it is run on; seconds are scaled up to 10 h.
PEERS = (
    ("stock-Python best: numpy, scipy, pywt float32, sleepecg C, gather, pyarrow", "stock", 10),
    ("wfdb + filtfilt + pywt + py-ecg-detectors + interp1d loop + pandas", "ecg_detectors", 1),
    ("wfdb + filtfilt + pywt + XQRS + interp1d loop + pandas", "wfdb_script", 1),
    ("NeuroKit2 clean + peaks + segment", "neurokit", 1),
)
PROJECT = "this project, checksums, annotations, labels, quality and provenance included"


def record_table(folder: str, name: str, out: str) -> int:
    """One record as the ingest flow makes it, without the flow."""
    from flows.ingest.build import Plan, build_table
    from storage.datasets.dataset import load_spec
    from tasks.signal.preprocessing import Preprocessing

    spec = load_spec(folder)
    _, entry = build_table(Plan(spec, Path(folder), Path(out), Preprocessing(), True), name)
    return entry.beats


def run() -> list[Table]:
    """Measure, and give the section's tables."""
    folders = {hours: str(simulated_folder(1, hours)) for hours in (1, 10, 24)}
    out = str(workplace() / "out")
    Path(out).mkdir(exist_ok=True)
    cases = {PROJECT: Case("bench.sections.signal:record_table", (folders[10], "sim000", out))}
    for name, function, hours in PEERS:
        arguments = (folders[hours], "sim000", f"{out}/peer.parquet")
        cases[name] = Case(f"bench.sections.peers:{function}", arguments, scale=10 / hours)
    results = measure(cases)
    edges = measure(
        {
            "first": Case(
                "bench.sections.signal:record_table", (folders[10], "sim000", out), cold=True
            ),
            "import": Case("bench.sections.signal:record_imports", (), cold=True),
            "day": Case("bench.sections.signal:record_table", (folders[24], "sim000", out)),
        }
    )
    return tables(results, edges)


def record_imports() -> None:
    """Import what `record_table` needs."""
    import flows.ingest.build  # noqa: F401 - the import is what is timed


def tables(results: dict[str, Figures], edges: dict[str, Figures]) -> list[Table]:
    """The section's tables, from its figures."""
    base = results[PROJECT].cpu_s
    first, imports, day = edges["first"], edges["import"], edges["day"]
    columns = [("pipeline", None), ("CPU s", 2), ("times ours", 1), ("peak MB", 0), ("beats", 0)]
    return [
        Table(
            "10 h, raw WFDB to Parquet",
            columns,
            [
                [name, figures.cpu_s, figures.cpu_s / base, figures.peak_mb, figures.result]
                for name, figures in results.items()
            ],
        ),
        Table(
            "A fresh process, and a day",
            [("case", None), ("CPU s", 2), ("peak MB", 0)],
            [
                ["10 h, the first record of a process", first.cpu_s, None],
                ["interpreter and imports alone", imports.cpu_s, imports.peak_mb],
                ["a 24-h record, warm process", day.cpu_s, day.peak_mb],
            ],
        ),
    ]
