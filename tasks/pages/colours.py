"""The colours of every page and picture, by what they mean.

After Okabe & Ito 2008 (Color Universal Design), safe for colour-blind readers; each is dark enough
to be read as text on white (contrast of 4.5 and more, WCAG 2.2). `DARK` is the same on black.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

AF, NOT_AF, DOUBT, UNTOLD = "#b84a00", "#0068a8", "#8a6100", "#8f3f7a"
INK, FAINT, LINE, PAPER = "#1b1b1b", "#5c5c5c", "#d9d9d9", "#ffffff"
GOOD = "#00704f"

#: Names of the style's variables, on white paper.
LIGHT = {
    "af": AF,
    "other": NOT_AF,
    "doubt": DOUBT,
    "untold": UNTOLD,
    "good": GOOD,
    "ink": INK,
    "faint": FAINT,
    "line": LINE,
    "paper": PAPER,
    "panel": "#f5f6f8",
    "entity": "#eaf1fb",
    "activity": "#fdf0dc",
    "agent": "#e9f5e9",
    "gap": "#d4d4d4",
    "ecg-paper": "#fffafa",
    "ecg-fine": "#f6dcdc",
    "ecg-bold": "#e8b4b4",
}
#: The same on a dark screen.
DARK = {
    "af": "#ff9f5a",
    "other": "#6cb8f0",
    "doubt": "#e6b94a",
    "untold": "#e0a0d0",
    "good": "#57c9a2",
    "ink": "#e8e8e8",
    "faint": "#a8adb5",
    "line": "#3a3f47",
    "paper": "#16181c",
    "panel": "#1f2329",
    "entity": "#1d2c42",
    "activity": "#3d2f17",
    "agent": "#1d3524",
    "gap": "#41464e",
    "ecg-paper": "#1b1617",
    "ecg-fine": "#33272a",
    "ecg-bold": "#553b40",
}


@cache
def stylesheet() -> str:
    """The style that every page shares: its colours on white and on a dark screen, its type."""
    return (
        f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n"
        + (Path(__file__).parent / "house.css").read_text(encoding="utf-8")
    )


def _variables(colours: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
