"""The signal path against an earlier commit's, in one run, by turns.

`HOLTER_BENCH_BEFORE` names a checkout of that commit (`git worktree add --detach FOLDER COMMIT`).
Every run is a fresh process, with the packages of this environment and the code of one checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.harness import QUIET, ROOT, rounds, simulated_folder
from bench.sections.formats import DAYS, day
from bench.tables import Cell, Table

#: What a child runs: a record's first table in its process, then one more; CPU seconds of both.
CHILD = """
import json, sys, time
try:
    from bench.sections.signal import record_table
except ImportError:  # commits before 0.2.0
    from bench.signal import ours as record_table
beats = record_table(*sys.argv[1:])
first = time.process_time()
record_table(*sys.argv[1:])
print(json.dumps([first, time.process_time() - first, beats]))
"""


def checkout() -> Path:
    """The folder of the earlier commit."""
    folder = Path(os.environ.get("HOLTER_BENCH_BEFORE", ""))
    if not os.environ.get("HOLTER_BENCH_BEFORE") or not (folder / "bench").is_dir():
        raise SystemExit("set HOLTER_BENCH_BEFORE to a checkout of the commit to compare with")
    return folder.resolve()


def commit_of(tree: Path) -> str:
    """The short digest of a checkout's commit."""
    words = ["git", "-C", str(tree), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(words, capture_output=True, check=True, text=True).stdout.strip()  # noqa: S603 - git


def once(tree: Path, folder: str, name: str) -> tuple[float, float, int]:
    """CPU seconds of a record's first table in a process, and of its second; its beats."""
    with TemporaryDirectory() as out:
        process = subprocess.run(  # noqa: S603 - our own modules, no shell
            [sys.executable, "-c", CHILD, folder, name, out],
            cwd=tree,
            env={**os.environ, **QUIET, "PYTHONPATH": str(tree)},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    first, warm, beats = json.loads(process.stdout.splitlines()[-1])
    return first, warm, beats


def run() -> list[Table]:
    """Measure, and give the section's table."""
    earlier = checkout()
    commit = commit_of(earlier)
    works = {
        "10 h, WFDB 212": (str(simulated_folder(1, 10)), "sim000"),
        "24 h, WFDB 212": (str(simulated_folder(1, 24)), "sim000"),
        **{
            f"24 h, {name}": (day(write, form), "rec")
            for name, (write, form) in DAYS.items()
            if name.startswith(("WFDB FLAC", "WFDB 16"))
        },
    }
    rows: list[list[Cell]] = []
    for work, (folder, name) in works.items():
        runs: dict[Path, list[tuple[float, float, int]]] = {earlier: [], ROOT: []}
        for number in range(rounds()):
            print(f"  round {number + 1}/{rounds()}  {work}", file=sys.stderr, flush=True)
            for tree, figures in runs.items():
                figures.append(once(tree, folder, name))
        for kind, column in (("first record of a process", 0), ("warm process", 1)):
            before, now = (median(run[column] for run in figures) for figures in runs.values())
            rows.append([f"{work}, {kind}", before, now, now / before])
    columns = [("work", None), (f"{commit}, CPU s", 2), ("this project, CPU s", 2), ("ratio", 2)]
    return [Table(f"Against {commit}, by turns", list(columns), rows)]
