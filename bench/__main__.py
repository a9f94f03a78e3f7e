"""Run the benchmarks: `python -m bench [SECTION ...]`; `python -m bench tables` fills pages alone.

A section is a module of `bench/sections` whose `run` gives its tables. What it measures is written
to `bench/results/SECTION.json`, and the pages of docs/measurements from there. Naming sections
redoes those alone.
"""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

from bench.harness import ROOT, rounds
from bench.tables import RESULTS, Result, write_pages, write_result

#: In the order of the page. A new section is a module, its name here, and its block in the page.
SECTIONS = (
    *("signal", "formats", "detectors", "dataset", "layout", "scaling"),
    *("training", "lineage", "load", "fleet", "before", "evaluation", "commands", "beat"),
    *("micro", "micro_detector", "review", "analyse", "speed"),
)


def machine() -> dict[str, str | int]:
    """The processor and its cores, as this process may use them; no host names."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")
    return {
        "processor": model,
        "cores": f"{len(os.sched_getaffinity(0))} cores",
        "system": f"Linux {platform.machine()}",
        "python": f"Python {platform.python_version()}",
    }


def commit() -> str | None:
    """The commit of the code, with a plus where files were changed; None outside a checkout."""
    words = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)  # noqa: S603 - git
    return result.stdout.strip() or None


def main(names: list[str]) -> None:
    """Redo the wanted sections, or all, and fill the pages after each."""
    if names == ["tables"]:
        return write_pages()
    if unknown := sorted({*names} - {*SECTIONS}):
        raise SystemExit(f"no section {unknown[0]!r}; expected tables, {', '.join(SECTIONS)}")
    for name in names or SECTIONS:
        print(f"== {name}", file=sys.stderr, flush=True)
        tables = importlib.import_module(f"bench.sections.{name}").run()
        conditions: dict[str, str | float] = {
            "rounds": rounds(),
            "load of five minutes": round(os.getloadavg()[1], 1),
        }
        day = f"{datetime.now(tz=timezone.utc):%Y-%m-%d}"
        command = f"make bench ONLY={name}"
        result = Result(day, commit(), machine(), command, conditions, tables)
        write_result(RESULTS / f"{name}.json", result)
        write_pages()
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
