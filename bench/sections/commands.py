"""Answers at the terminal against an earlier commit's, in one run, by turns.

`HOLTER_BENCH_BEFORE` names a checkout of that commit, as for `bench.sections.before`. CPU seconds
are those of the command and of every process that it starts and ends, servers too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from bench.harness import ROOT, process_cpu_s, rounds, simulated_folder, workplace
from bench.sections.before import checkout, commit_of
from bench.tables import Cell, Table

RECORDS, RECORD_HOURS = 1000, 1 / 60
MODEL = "holter-squeeze@candidate"
#: Variables that would name servers of somebody else's.
NAMES = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PREFECT_API_AUTH_STRING")


def store() -> Path:
    """A state folder with one trained, sealed version; made at first use."""
    folder = workplace() / "commands"
    if not (folder / "filled").exists():
        words = ["run", "--model", "squeeze", "--subjects", "4", "--hours", "0.1", "--epochs", "1"]
        cpu_s(ROOT, words, folder, {}, check=True)
        (folder / "filled").touch()
    return folder


def cpu_s(
    tree: Path, words: list[str], home: Path, servers: Mapping[str, str], *, check: bool = False
) -> float:
    """CPU seconds of a command by the code of a checkout."""
    clear = {name: value for name, value in os.environ.items() if name not in NAMES}
    env = {**clear, "HOLTER_HOME": str(home), **servers}
    return process_cpu_s(tree, ["-m", "flows", *words], env, check=check)


def run() -> list[Table]:
    """Measure, and give the section's table."""
    from flows.services.servers import servers

    earlier = checkout()
    commit = commit_of(earlier)
    home, records = store(), simulated_folder(RECORDS, RECORD_HOURS)
    check = ["data", "check", str(records / "dataset.toml"), "--data", str(records)]
    #: A command's words then and now, and whether servers run beside it.
    commands: dict[str, tuple[list[str], list[str], bool]] = {
        "`holter doctor`": (["doctor"], ["doctor"], False),
        "`holter status`, servers running": (["status"], ["status"], True),
        "`holter verify --quick` (`verify` then)": (
            ["verify", MODEL],
            ["verify", MODEL, "--quick"],
            False,
        ),
        f"`holter data check`, {RECORDS:,} records of a minute": (check, check, False),
    }
    figures: dict[str, list[list[float]]] = {name: [[], []] for name in commands}
    with_servers = {name: case for name, case in commands.items() if case[2]}
    without = {name: case for name, case in commands.items() if not case[2]}
    _take_turns(without, figures, earlier, home, {})
    os.environ["HOLTER_HOME"] = str(home)
    with servers() as up:
        named = {"PREFECT_API_URL": up.prefect_api, "MLFLOW_TRACKING_URI": up.mlflow}
        _take_turns(with_servers, figures, earlier, home, named)
    rows: list[list[Cell]] = []
    for name, (then, now) in figures.items():
        rows.append([name, median(then), median(now), median(now) / median(then)])
    columns = [("command", None), (f"{commit}, CPU s", 2), ("this project, CPU s", 2), ("ratio", 2)]
    return [Table(f"A small local store, against {commit}, by turns", list(columns), rows)]


def _take_turns(
    commands: Mapping[str, tuple[list[str], list[str], bool]],
    figures: dict[str, list[list[float]]],
    earlier: Path,
    home: Path,
    servers: Mapping[str, str],
) -> None:
    """Run each command by both checkouts, in turn, `rounds()` times."""
    for number in range(rounds()):
        for name, (then, now, _) in commands.items():
            print(f"  round {number + 1}/{rounds()}  {name}", file=sys.stderr, flush=True)
            figures[name][0].append(cpu_s(earlier, then, home, servers))
            figures[name][1].append(cpu_s(ROOT, now, home, servers))
