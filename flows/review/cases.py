"""A data set's queue: the cases of its records, content one record after the other meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.review.library import Library, Sheet, Shelf
from storage.errors import HolterError
from storage.labels.decisions import read_decisions
from storage.tables.beats_manifest import Entry
from tasks.review.queue import Case, RecordAnswers, cases
from tasks.scores.rule import Judgement

#: How many cases a queue shows; the rest are told by their number.
MOST_CASES = 300
NOWHERE = np.empty((0, 2), np.int64)


def queue_state(library: Library, dataset: str) -> dict[str, Any]:
    """The cases that are items, the one that teaches most first, and how far the look is."""
    shelf = library.shelf(dataset)
    items, faults, waiting = [], [], 0
    passages = passages_of(shelf)
    for entry in shelf.manifest.entries:
        stamp = (
            entry.sha256,
            passages.get((shelf.manifest.dataset, entry.record), NOWHERE).tobytes(),
        )
        content = library.cases_of(dataset, entry.record, stamp)
        if content is None:
            waiting += 1
        elif isinstance(content, str):
            faults.append(f"{entry.record}: {content}")
        else:
            items += content
    if waiting:
        library.find_cases(dataset, partial(_find, library, shelf))
    order = sorted(items, key=lambda item: (-item["weight"], item["record"], item["start"]))
    total = len(shelf.manifest.entries)
    return {
        "dataset": dataset,
        "title": shelf.manifest.title,
        "records": total,
        "looked": total - waiting,
        "count": len(order),
        "cases": order[:MOST_CASES],
        "faults": faults[:20],
        "decisions": len(read_decisions(shelf.manifest.dataset)),
    }


def passages_of(shelf: Shelf) -> dict[tuple[str, str], NDArray[np.int64]]:
    """The passages of a data set that somebody has decided about."""
    by_record: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for decision in read_decisions(shelf.manifest.dataset):
        by_record.setdefault((decision.dataset, decision.record), []).append(
            (decision.start, decision.end)
        )
    return {name: np.array(spans, np.int64) for name, spans in by_record.items()}


def _find(library: Library, shelf: Shelf, is_closing: Callable[[], bool]) -> None:
    """Look at every record whose cases are not items, and keep them."""
    for entry in shelf.manifest.entries:
        if is_closing():
            return
        passages = passages_of(shelf)
        own = passages.get((shelf.manifest.dataset, entry.record), NOWHERE)
        stamp = (entry.sha256, own.tobytes())
        if library.cases_of(shelf.name, entry.record, stamp) is not None:
            continue
        try:
            content = _record_cases(library, shelf, entry, passages)
        except (HolterError, ValueError, OSError) as error:
            library.keep_cases(shelf.name, entry.record, stamp, str(error))
        else:
            library.keep_cases(shelf.name, entry.record, stamp, content)


def _record_cases(
    library: Library, shelf: Shelf, entry: Entry, passages: dict[tuple[str, str], NDArray[np.int64]]
) -> list[dict[str, Any]]:
    sheet, (first, *others) = library.judgements_of(shelf, entry)
    answers = record_answers(sheet, first, others[0] if others else None)
    return [_facts(case, sheet.source.fs_hz) for case in cases([answers], passages)]


def record_answers(sheet: Sheet, judgement: Judgement, rival: Judgement | None) -> RecordAnswers:
    """What the queue reads of a record."""
    table = sheet.table
    return RecordAnswers(
        dataset=sheet.shelf.manifest.dataset,
        record=sheet.entry.record,
        n_samples=sheet.source.n_samples,
        sample=table.sample,
        label=table.label,
        rhythm=table.rhythm,
        probability=judgement.probability,
        decided=judgement.decided,
        sure=judgement.sure,
        rival=None if rival is None else rival.probability,
        rival_decided=None if rival is None else rival.decided,
    )


def _facts(case: Case, fs_hz: float) -> dict[str, Any]:
    return {**asdict(case), "from": case.start / fs_hz, "to": case.end / fs_hz}
