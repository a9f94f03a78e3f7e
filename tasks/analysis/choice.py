"""Which network of the box decides a recording, where its user names none.

`rhythm` reads RR intervals, which every lead shows, and has figures of data sets that it never
learnt from. `fused_cues` reads beat shapes too, and has none (docs/releases.md;
`tests/storage/test_boxed.py` holds it).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

#: The usual network, and the one that is taken where it is not in the box.
USUAL = ("rhythm", "rhythm_tiny")
REASON = (
    "it reads RR intervals alone, so every lead will do, and it was tested on data sets that it "
    "never learnt from"
)


class Choice(NamedTuple):
    """A network's name, and in words why it was chosen."""

    name: str
    reason: str


def usual_network(boxed: Collection[str] = USUAL) -> Choice:
    """The network that decides, among those that are in the box.

    Raises
    ------
    ValueError
        None of the usual ones is there.
    """
    for name in USUAL:
        if name in boxed:
            return Choice(name, REASON if name == USUAL[0] else f"{USUAL[0]} is not in the box")
    raise ValueError(f"found none of {', '.join(USUAL)} among {', '.join(boxed) or 'no names'}")
