"""Fill the tables of the page of releases from their manifests: `python docs/list_releases.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.reports.release_card import figures_table, learnt_table
from storage.registry.boxed import BOXED, boxed_release
from tasks.pages.document import Table

PAGE = Path(__file__).parent / "releases.md"
BLOCK = re.compile(r"<!-- begin releases -->\n.*?<!-- end releases -->", re.DOTALL)


def table(content: Table) -> str:
    """A table in Markdown; columns of numbers alone are set right."""
    rules = ["-:" if k in content.numeric else "--" for k in range(1, len(content.columns) + 1)]
    lines = (content.columns, rules, *content.rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def section(name: str, manifest: Mapping[str, Any]) -> str:
    """What a release learnt from, and its figures."""
    registered, threshold = manifest["registered"], manifest["threshold"]
    return "\n\n".join(
        [
            f"### {name}",
            f"Sealed as `{registered}`: {manifest['parameters']:,} parameters, "
            f"{manifest['epochs']} epochs, seed 0, threshold {threshold:g}. It learnt from:",
            table(learnt_table(manifest["trained_on"])),
            "Beats of patients that it did not learn from:",
            table(figures_table(manifest["figures"])),
        ]
    )


def page_of(text: str) -> str:
    """The page with its block as the manifests have it."""
    sections = [section(name, boxed_release(name)[1]) for name in BOXED]
    block = "\n\n".join(["<!-- begin releases -->", *sections, "<!-- end releases -->"])
    return BLOCK.sub(lambda _: block, text)


if __name__ == "__main__":
    PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
