"""What the page's scripts ask: a record, stretches of it, its decisions, a data set's queue.

Each answer is of plain values; an array is its little-endian bytes in base 64.
"""

from __future__ import annotations

import base64
import math
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request

from flows.review.cases import queue_state
from flows.review.library import Answers, Library, Sheet
from flows.review.writing import rhythms_of
from storage.errors import HolterError
from storage.labels.decisions import Decision, read_decisions
from storage.tables.beats import Quality
from tasks.review.day import MOST_RR_S, day_columns
from tasks.review.passages import (
    disagreements,
    rhythm_runs,
    told_episodes,
    true_episodes,
    untold_passages,
)

#: The most columns, rows and beats of an answer.
MOST_COLUMNS, MOST_ROWS, MOST_BEATS = 4_000, 400, 3_000
#: The most passages of a kind that the record's answer lists.
MOST_PASSAGES = 20_000
Span = tuple[float, float]


def base64_text(array: NDArray[Any]) -> str:
    """An array's bytes, least first, in base 64."""
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return base64.b64encode(data).decode()


def number(request: Request, name: str, usual: float, least: float, most: float) -> float:
    """A number of the request, within bounds.

    Raises
    ------
    ValueError
        It is none, or outside.
    """
    text = request.query_params.get(name)
    try:
        value = usual if text is None else float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise ValueError(f"{name}: found {str(text)[:40]!r}; expected {least:g} to {most:g}")
    return value


def sheet_of(library: Library, request: Request) -> Sheet:
    """The record that a request names."""
    query = request.query_params
    return library.sheet(query.get("dataset", ""), query.get("record", ""))


def span_of(request: Request, sheet: Sheet) -> Span:
    """The stretch that a request names, within its record, in seconds."""
    end = sheet.duration_s
    start_s = number(request, "from", 0, 0, end)
    stop_s = number(request, "to", end, 0, end)
    if not start_s < stop_s:
        raise ValueError(f"found {start_s:g} to {stop_s:g} s; expected a stretch")
    return start_s, stop_s


def record(library: Library, request: Request) -> dict[str, Any]:
    """All of a record that is no picture: its length, leads, passages, gaps and decisions."""
    sheet = sheet_of(library, request)
    shelf, entry, table = sheet.shelf, sheet.entry, sheet.table
    told = library.answers(shelf.name, entry.record)
    leads, note = _leads(library, sheet)
    return {
        "dataset": shelf.name,
        "source": shelf.manifest.dataset,
        "title": shelf.manifest.title,
        "record": entry.record,
        "subject": entry.subject,
        "simulated": shelf.manifest.simulated,
        "duration": sheet.duration_s,
        "fs": sheet.source.fs_hz,
        "samples": sheet.source.n_samples,
        "beats": len(table),
        "label_source": entry.label_source,
        "leads": leads,
        "notes": [*entry.warnings, *([note] if note else [])],
        "rhythms_allowed": dict(zip(("names", "af"), rhythms_of(shelf), strict=True)),
        "stretches": table.stretches_s[:MOST_PASSAGES].tolist(),
        "truth": true_episodes(table)[:MOST_PASSAGES].tolist(),
        "rhythms": rhythm_runs(table)[:MOST_PASSAGES],
        **answers_state(library, sheet, told),
        "decisions": decision_list(sheet),
    }


def answers_state(library: Library, sheet: Sheet, told: Answers) -> dict[str, Any]:
    """What the model tells of a record, or why it does not, or that it is being sheet_of."""
    release = library.releases[0]
    out: dict[str, Any] = {
        "model": str(release.manifest.get("registered") or release.manifest["name"]),
        "version": str(release.manifest.get("registered") or ""),
        "waiting": told.waiting,
        "fault": told.fault,
        "told": [],
        "untold": [],
        "differences": [],
    }
    if told.judgement is not None:
        table = sheet.table
        out["told"] = told_episodes(table, told.judgement)[:MOST_PASSAGES].tolist()
        out["untold"] = untold_passages(table, told.judgement)[:MOST_PASSAGES].tolist()
        out["differences"] = disagreements(table, told.judgement)[:MOST_PASSAGES].tolist()
    return out


def _leads(library: Library, sheet: Sheet) -> tuple[list[str], str]:
    """The leads that can be drawn, and why there is none; the signal is not read for it."""
    try:
        return library.lead_names(sheet), ""
    except HolterError as error:
        return [], f"no signal here: {error}"


def day(library: Library, request: Request) -> dict[str, Any]:
    """The columns of a stretch of beats."""
    sheet = sheet_of(library, request)
    span = span_of(request, sheet)
    columns = round(number(request, "columns", 1_000, 1, MOST_COLUMNS))
    rows = round(number(request, "rows", 80, 1, MOST_ROWS))
    told = library.answers(sheet.shelf.name, sheet.entry.record)
    view = day_columns(sheet.table, told.judgement, span, columns, rows)
    arrays = {
        name: base64_text(value)
        for name, value in vars(view).items()
        if isinstance(value, np.ndarray)
    }
    return {
        **arrays,
        "columns": columns,
        "rows": rows,
        "most_rr": MOST_RR_S,
        "beats": view.beats,
        "has_answers": told.judgement is not None,
        "waiting": told.waiting,
    }


def ecg(library: Library, request: Request) -> dict[str, Any]:
    """A stretch of a lead: least and greatest of every column, or that it is being log."""
    sheet = sheet_of(library, request)
    start_s, stop_s = span_of(request, sheet)
    columns = round(number(request, "columns", 1_000, 1, MOST_COLUMNS))
    fs, end = sheet.source.fs_hz, sheet.source.n_samples
    start = min(int(start_s * fs), end - 1)
    stop = min(max(math.ceil(stop_s * fs), start + 1), end)
    name, dataset = request.query_params.get("lead", ""), sheet.shelf.name
    if name and name not in library.lead_names(sheet):
        raise ValueError(f"lead: found {name[:40]!r}; expected one of the record's")
    rows = library.signal(
        dataset, sheet.entry.record, name, (start, stop), min(columns, stop - start)
    )
    lead = library.lead(dataset, sheet.entry.record, name)
    return {
        "waiting": rows is None,
        "from": start / fs,
        "to": stop / fs,
        "lead": lead.record.lead,
        "note": lead.note,
        "values": "" if rows is None else base64_text(rows),
    }


def beats(library: Library, request: Request) -> dict[str, Any]:
    """The beats of a stretch, one by one, where they are not too many to be told apart."""
    sheet = sheet_of(library, request)
    table = sheet.table
    low, high = np.searchsorted(table.time_s, span_of(request, sheet)).tolist()
    if high - low > MOST_BEATS:
        return {"many": high - low, "beats": []}
    told = library.answers(sheet.shelf.name, sheet.entry.record).judgement
    rows = [
        {
            "s": float(table.time_s[n]),
            "symbol": str(table.symbol[n]),
            "rhythm": str(table.rhythm[n]),
            "label": int(table.label[n]),
            "rr": float(table.rr_prev_s[n]),
            "quality": quality_words(int(table.quality[n])),
            "af": None if told is None else bool(told.decided[n]),
            "sure": None if told is None else bool(told.sure[n]),
            "p": None if told is None else round(float(told.probability[n]), 3),
        }
        for n in range(low, high)
    ]
    return {"many": 0, "beats": rows}


def quality_words(flags: int) -> str:
    """What is known against a beat; "" where nothing is."""
    names = [flag.name.lower().replace("_", " ") for flag in Quality if flag & flags and flag.name]
    return ", ".join(names)


def decisions(library: Library, request: Request) -> dict[str, Any]:
    """The decisions about a record, and how far the model is."""
    sheet = sheet_of(library, request)
    told = library.answers(sheet.shelf.name, sheet.entry.record)
    return {"decisions": decision_list(sheet), **answers_state(library, sheet, told)}


def decision_list(sheet: Sheet) -> list[dict[str, Any]]:
    """The decisions about a record, oldest first, with their limits in seconds too."""
    log = read_decisions(sheet.shelf.manifest.dataset, sheet.entry.record)
    return [decision_facts(decision, sheet.source.fs_hz) for decision in log]


def decision_facts(decision: Decision, fs_hz: float) -> dict[str, Any]:
    """A decision as the page shows it."""
    return {
        **asdict(decision),
        "from": decision.start / fs_hz,
        "to": decision.end / fs_hz,
    }


def queue(library: Library, request: Request) -> dict[str, Any]:
    """A data set's queue, as far as its records were looked at."""
    return queue_state(library, request.query_params.get("dataset", ""))
