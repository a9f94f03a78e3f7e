"""Run the benchmarks and write docs/benchmarks.md: `python -m bench [SECTION ...]`.

A section is a module of this folder with a `TITLE` and a `run` that gives its Markdown. Naming
sections redoes those alone; the others stay in the file as they are.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

from bench.harness import ROOT, rounds

#: In the order of the document. A new section is a module and its name here.
SECTIONS = (
    *("signal", "formats", "detectors", "dataset", "layout", "scaling"),
    *("training", "lineage", "load"),
)
PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = """\
# Benchmarks

Written by `make bench`; `make bench ONLY=signal` redoes that section alone. Every case runs in a
process of its own, all in one process tree, one thread each; cases take turns. CPU seconds are user
and system time of the process.
"""


def machine() -> str:
    """The processor and its cores, as this process may use them; no host names."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Linux {platform.machine()}, Python {platform.python_version()}"


def sections_of(page: str) -> dict[str, str]:
    """The sections that a page holds, by name."""
    found = re.findall(r"<!-- begin (\w+) -->\n(.*?)\n<!-- end \1 -->", page, re.DOTALL)
    return dict(found)


def page_of(sections: dict[str, str]) -> str:
    """A page of these sections, in the document's order; unknown ones come last."""
    order = [*(name for name in SECTIONS if name in sections), *sorted({*sections} - {*SECTIONS})]
    parts = [f"<!-- begin {name} -->\n{sections[name]}\n<!-- end {name} -->" for name in order]
    return "\n\n".join([HEAD.rstrip(), *parts]) + "\n"


def main(wanted: list[str]) -> None:
    """Redo the wanted sections, or all, and write the page after each."""
    if unknown := sorted({*wanted} - {*SECTIONS}):
        raise SystemExit(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    for name in wanted or SECTIONS:
        print(f"== {name}", file=sys.stderr, flush=True)
        module = importlib.import_module(f"bench.{name}")
        body: str = module.run()
        now = datetime.now(tz=timezone.utc)
        load = os.getloadavg()[1]
        about = (
            f"`make bench ONLY={name}`, {now:%Y-%m-%d}, {machine()}; load average {load:.1f} "
            f"over the last five minutes, this run's own included; medians of {rounds()} round(s)."
        )
        page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        done = sections_of(page) | {name: f"## {module.TITLE}\n\n{about}\n\n{body}"}
        PAGE.write_text(page_of(done), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
