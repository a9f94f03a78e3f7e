"""One case in a process of its own: `python -m bench.child MODULE:FUNCTION JSON-ARGUMENTS RUNS`.

Prints one line of JSON: of each run CPU and wall seconds, then the process's peak memory and what
the function gave last. The first run is the cold one.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB (not a parent's, as getrusage's)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main(target: str, arguments: str, runs: str) -> dict[str, Any]:
    """Run the case and give its figures."""
    module, function = target.split(":")
    work = getattr(importlib.import_module(module), function)
    cpu_s, wall_s = [], []
    result = None
    for _ in range(int(runs)):
        cpu, wall = time.process_time(), time.perf_counter()
        result = work(*json.loads(arguments))
        cpu_s.append(time.process_time() - cpu)
        wall_s.append(time.perf_counter() - wall)
    return {
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "total_cpu_s": time.process_time(),
        "peak_mb": peak_mb(),
        "result": result,
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
