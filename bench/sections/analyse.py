"""A day analysed from raw samples to its files, against an earlier commit's, by turns.

`HOLTER_BENCH_BEFORE` names a checkout of that commit, as for `bench.sections.before`. Each run is a
fresh process, imports included. That commit draws one picture, and its networks are untrained.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.harness import ROOT, process_cpu_s, rounds, simulated_folder
from bench.sections.before import checkout, commit_of
from bench.tables import Cell, Table

#: What the earlier commit runs: no manifest of its own is at hand, so one is made.
EARLIER = """
import shutil, sys
from pathlib import Path
from edge_agent.analyse import analyse, files_of, write_files
from storage.files import sha256_file
record, network, out = sys.argv[1:]
release = Path(out) / "release"
release.mkdir()
shutil.copy(Path("tests/golden") / f"{network}-untrained.tflite", release / "model.tflite")
files = {"model.tflite": {"sha256": sha256_file(release / "model.tflite")}}
manifest = {"name": network, "threshold": 0.9, "smoothing_change": 1e-4, "files": files}
analysis = analyse(Path(record), release, manifest)
write_files(Path(out), files_of(analysis))
"""
#: Network of today, and the earlier commit's.
NETWORKS = {"rhythm": "rhythm", "fused_cues": "fused"}


def files(folder: str) -> str:
    """The kinds of files that a run left."""
    return ", ".join(sorted({path.suffix[1:] for path in Path(folder).iterdir() if path.suffix}))


def run() -> list[Table]:
    """Measure, and give the section's table."""
    earlier = checkout()
    record = str(simulated_folder(1, 24) / "sim000.hea")
    figures: dict[str, list[list[float]]] = {network: [[], []] for network in NETWORKS}
    kinds: list[str] = ["", ""]
    for number in range(rounds()):
        for network, earlier_network in NETWORKS.items():
            print(f"  round {number + 1}/{rounds()}  {network}", file=sys.stderr, flush=True)
            for place, tree in enumerate((earlier, ROOT)):
                with TemporaryDirectory() as out:
                    words = ["-m", "edge_agent", "analyse", record, "--model", network]
                    words += ["--out", out]
                    if tree == earlier:
                        words = ["-c", EARLIER, record.removesuffix(".hea"), earlier_network, out]
                    figures[network][place].append(process_cpu_s(tree, words))
                    kinds[place] = files(out)
    rows: list[list[Cell]] = []
    for network, turns in figures.items():
        before, after = map(median, turns)
        rows.append([f"`{network}`", before, after, after / before])
    commit = commit_of(earlier)
    columns = [("network", None), (f"{commit}, CPU s", 2), ("this project, CPU s", 2), ("ratio", 2)]
    made: list[list[Cell]] = [[commit, kinds[0]], ["this project", kinds[1]]]
    return [
        Table(f"24 h, one lead, against {commit}, by turns", list(columns), rows),
        Table("Files of an answer", [("code", None), ("files", None)], made),
    ]
