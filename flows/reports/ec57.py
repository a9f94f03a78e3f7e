"""A test by EC57: its tables as files, and its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeAlias

import pandas as pd

from storage.tables.frames import as_csv
from tasks.pages.document import Block, Heading, Summary, Table, Tile, Words
from tasks.scores.levels.ec57 import CountsByRecord
from tasks.scores.levels.ec57_layout import clock, tables

#: What people call the figures, by their keys without "_gross" or "_average".
FIGURES = {
    "qrs_sensitivity": "QRS sensitivity",
    "qrs_ppv": "QRS positive predictivity",
    "af_episode_sensitivity": "AF episode sensitivity",
    "af_episode_ppv": "AF episode positive predictivity",
    "af_duration_sensitivity": "AF duration sensitivity",
    "af_duration_ppv": "AF duration positive predictivity",
}
#: What the page says of its rules.
RULES = (
    "The rules are those of ANSI/AAMI EC57 and IEC 60601-2-47, as WFDB's programs bxb, epicmp and "
    "sumstats follow EC57:1998. The first five minutes of each record are a learning period. "
    "A beat is detected where one is found within 150 ms of its mark. No beat is compared where "
    "ventricular flutter or fibrillation is annotated. "
    "An AF episode of any length counts, and any overlap finds it. Positive predictivity leaves "
    "out annotated atrial flutter. Beats and AF in time that was not analysed are missed. "
    "AF that was decided counts, told or not; the column 'cannot tell' has the seconds that are "
    "not told. Gross figures are of all records together, averages are means over the records "
    "that have the figure. Nothing that is annotated was given to the analysis."
)
NO_SIGNAL = (
    "The signals were not read: annotated beats stood in for detected ones. The detector was not "
    "tested, and AF was decided on intervals that a device may not measure so well."
)
NO_CLASSES = (
    "The standard's tables of ventricular and supraventricular beats are not here: the analysis "
    "tells no classes of beats. Nor are those of heart rate, ventricular fibrillation and ST."
)


@dataclass(frozen=True)
class LeftOut:
    """A record that is no part of a test: of which, QRS or AF, and why."""

    record: str
    test: str
    reason: str


def figures_of(totals: CountsByRecord) -> dict[str, float]:
    """Every figure, by the name that MLflow keeps it under."""
    return {f"ec57_{name}": value for name, value in totals.figures().items()}


def files_of(dataset: str, totals: CountsByRecord, left_out: Sequence[LeftOut]) -> dict[str, bytes]:
    """The tables as text and as CSV, and the records that are left out, by the files' names."""
    texts = {f"{dataset}_{name}.txt": text.encode() for name, text in tables(totals).items()}
    rows = {"qrs": qrs_rows(totals), "af": af_rows(totals), "left_out": [vars(x) for x in left_out]}
    frames = {f"{dataset}_{name}.csv": as_csv(pd.DataFrame(part)) for name, part in rows.items()}
    return texts | {name: data for name, data in frames.items() if data}


def qrs_rows(totals: CountsByRecord) -> list[dict[str, object]]:
    """A row a record of the test of beats."""
    return [
        {
            "record": record,
            "annotated": counts.annotated,
            "detected": counts.detected,
            "missed": sum(counts.missed),
            "missed_not_analysed": sum(counts.shut),
            "extra": counts.extra,
            **counts.metrics(),
            "not_analysed_s": counts.shut_s,
        }
        for record, counts in totals.beats.items()
    ]


def af_rows(totals: CountsByRecord) -> list[dict[str, object]]:
    """A row a record of the test of AF."""
    return [
        {
            "record": record,
            "episodes": counts.reference,
            "found": counts.hits,
            "decided": counts.detected,
            "right": counts.right,
            **counts.metrics(),
            "annotated_s": counts.reference_s,
            "decided_s": counts.detected_s,
            "shared_s": counts.shared_s,
            "cannot_tell_s": totals.untold_s[record],
        }
        for record, counts in totals.af.items()
    ]


def page(
    dataset: str, totals: CountsByRecord, left_out: Sequence[LeftOut], notes: Sequence[str]
) -> list[Block]:
    """The page's blocks: the gross figures, caveats, tables, what was left out, and the rules."""
    figures = totals.figures()
    blocks: list[Block] = [headline(dataset, figures)]
    blocks += [Words(note, caveat=True) for note in notes]
    blocks += [Heading("Gross and average"), gross(figures)]
    blocks += [Heading("Beats by record"), _table(qrs_rows(totals), QRS_COLUMNS)]
    blocks += [Heading("AF by record"), _table(af_rows(totals), AF_COLUMNS)]
    blocks += [Heading("Left out"), left_out_table(left_out)]
    return [*blocks, Heading("How it is counted"), Words(RULES), Words(NO_CLASSES)]


def headline(dataset: str, figures: Mapping[str, float]) -> Summary:
    """The gross figures of a data set."""
    records = max(int(figures["qrs_records"]), int(figures["af_records"]))
    tiles = [
        Tile(name, percent(figures.get(f"{key}_gross")), "gross") for key, name in FIGURES.items()
    ]
    return Summary(f"{dataset} by EC57: {records} records", tiles)


def gross(figures: Mapping[str, float]) -> Table:
    """A row a figure: gross, and the average over records."""
    kinds = ("gross", "average")
    return Table(
        ("figure", *kinds),
        [
            (name, *(percent(figures.get(f"{key}_{kind}")) for kind in kinds))
            for key, name in FIGURES.items()
        ],
    )


def left_out_table(left_out: Sequence[LeftOut]) -> Block:
    """The records that are no part of a test, and why."""
    if not left_out:
        return Words("No record is left out.")
    return Table(("record", "test", "reason"), [(x.record, x.test, x.reason) for x in left_out])


def percent(share: object) -> str:
    """A share of 1 in per cent, two decimals; `-` of nothing."""
    return f"{100 * share:.2f} %" if isinstance(share, float) and isfinite(share) else "-"


#: A column of a page's table: what it is called, and how its cell is written.
Column: TypeAlias = tuple[str, Callable[[Any], str]]
QRS_COLUMNS: dict[str, Column] = {
    "record": ("record", str),
    "annotated": ("beats", str),
    "missed": ("missed", str),
    "extra": ("extra", str),
    "sensitivity": ("sensitivity", percent),
    "ppv": ("positive predictivity", percent),
    "not_analysed_s": ("not analysed, s", "{:.0f}".format),
}
AF_COLUMNS: dict[str, Column] = {
    "record": ("record", str),
    "episodes": ("episodes", str),
    "found": ("found", str),
    "decided": ("decided", str),
    "right": ("right", str),
    "episode_sensitivity": ("episode sensitivity", percent),
    "episode_ppv": ("episode positive predictivity", percent),
    "duration_sensitivity": ("duration sensitivity", percent),
    "duration_ppv": ("duration positive predictivity", percent),
    "annotated_s": ("AF annotated", lambda seconds: clock(seconds).strip()),
    "decided_s": ("AF decided", lambda seconds: clock(seconds).strip()),
    "cannot_tell_s": ("cannot tell, s", "{:.0f}".format),
}


def _table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, Column]) -> Block:
    if not rows:
        return Words("No record is tested.")
    cells = [[write(row[key]) for key, (_, write) in columns.items()] for row in rows]
    return Table([name for name, _ in columns.values()], cells)
