"""Which network of the box decides a recording, where its user names none.

Two kinds are in question. `fused_cues` compares each beat's shape with the patient's own, and takes
frequent ectopy for AF less often; `rhythm` reads RR intervals alone. Shapes tell only where the
signal shows them. So `fused_cues` decides where every fact below holds, and `rhythm` elsewhere.
Figures of both: docs/releases.md.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from storage.formats.lead_names import LEADS, rank
from storage.recordings.records import Record
from storage.tables.beats import BAD, BeatTable

#: The lowest rate of recorders whose P waves and QRS complexes are read (Kligfield et al. 2007,
#: doi:10.1016/j.jacc.2007.01.024, ask for 150 Hz of bandwidth; Holter recorders sample at 125 Hz).
LEAST_HZ = 125.0
#: A shape is compared with a running median of so many beats (`tasks.features.fused`).
LEAST_BEATS = 40
#: With more beats of poor signal than this share, shapes tell of the noise. Of 300 readable
#: recordings of CinC 2017, 95 % have fewer.
MOST_BAD = 0.1
#: Networks by how much of a signal they use: the next is taken where one is not in the box.
SHAPES, INTERVALS = "fused_cues", "rhythm"
FALLBACK = (SHAPES, INTERVALS, "rhythm_tiny")


class Choice(NamedTuple):
    """A network's name, and in words why it was chosen."""

    name: str
    reason: str


def bad_share(beats: BeatTable) -> float:
    """Share of the beats whose signal is poor; 0 where there are none."""
    return float(np.mean((beats.quality & BAD) != 0)) if len(beats) else 0.0


def usual_network(record: Record, beats: BeatTable, boxed: Collection[str] = FALLBACK) -> Choice:
    """The best network of the box that a recording's signal allows.

    Parameters
    ----------
    record : Record
        The recording, opened.
    beats : BeatTable
        Its beats.
    boxed : collection of str
        Names that are in the box.

    Raises
    ------
    ValueError
        None that suits is in the box.
    """
    place = rank(record.lead or "")
    facts = (
        (record.fs_hz >= LEAST_HZ, f"{record.fs_hz:g} Hz are below {LEAST_HZ:g}"),
        (
            place is not None and place < len(LEADS),
            f"lead {record.lead!r} is none whose shapes networks were trained on",
        ),
        (len(beats) >= LEAST_BEATS, f"{len(beats)} beats are fewer than {LEAST_BEATS}"),
        (
            bad_share(beats) <= MOST_BAD,
            f"{100 * bad_share(beats):.0f} % of the beats have a poor signal, above "
            f"{100 * MOST_BAD:.0f} %",
        ),
    )
    against = [words for holds, words in facts if not holds]
    if against:
        suitable, reason = INTERVALS, f"it reads RR intervals alone, as {' and '.join(against)}"
    else:
        suitable = SHAPES
        reason = (
            f"it reads rhythm and beat shape: {record.fs_hz:g} Hz, lead {record.lead!r}, "
            f"{len(beats):,} beats, {100 * bad_share(beats):.1f} % of them with a poor signal"
        )
    for name in FALLBACK[FALLBACK.index(suitable) :]:
        if name in boxed:
            return Choice(name, reason if name == suitable else f"{suitable} is not in the box")
    raise ValueError(f"found none of {', '.join(FALLBACK)} among {', '.join(boxed) or 'no names'}")
