"""What the page writes: one decision of a reviewer, checked against the recording it is about."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from flows.review.library import Library, Shelf
from storage.errors import DecisionError
from storage.files import parse_text
from storage.labels.decisions import (
    CANNOT_TELL,
    VERDICTS,
    Decision,
    append_decision,
    read_decisions,
)
from storage.tables.beats import read_source

#: A decision with a remark of a thousand characters is smaller.
MOST_BODY = 16_384
#: Rhythms that may be decided whatever a data set's own marks are.
FLUTTER, SINUS, FIBRILLATION = "AFL", "N", "AFIB"
FIELDS = {"id", "dataset", "record", "start", "end", "verdict", "rhythm", "remark", "version"}


def save(library: Library, body: bytes, reviewer: str) -> dict[str, Any]:
    """Keep a decision; it is on the disk when this ends. The same one twice is kept once.

    Parameters
    ----------
    library : Library
        Where its record must be.
    body : bytes
        The decision as JSON, its fields as `Decision`'s, but for who and when.
    reviewer : str
        Who decides.

    Raises
    ------
    DecisionError, TableError, RecordError
        It is none; the record is not there, the passage not in it, or the verdict does not fit the
        rhythm.
    """
    try:
        value = parse_text(body)
    except ValueError as error:
        raise DecisionError(f"decision: found no JSON ({error}); expected an object") from error
    if not isinstance(value, dict) or not set(value) <= FIELDS or not _texts(value):
        raise DecisionError(f"decision: expected an object of {', '.join(sorted(FIELDS))}")
    shelf, entry = library.entry(value["dataset"], value["record"])
    source = read_source(shelf.folder / entry.file)
    decision = Decision(
        id=value["id"],
        dataset=shelf.manifest.dataset,
        record=entry.record,
        start=value.get("start", -1),
        end=value.get("end", -1),
        verdict=value["verdict"],
        rhythm=value.get("rhythm", ""),
        remark=value.get("remark", ""),
        reviewer=reviewer,
        time=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        version=value.get("version", ""),
    )
    if type(decision.end) is int and decision.end > source.n_samples:
        raise DecisionError(
            f"decision, passage: found an end at sample {decision.end}; "
            f"expected one within the {source.n_samples} of {entry.record}"
        )
    _check_rhythm(decision, shelf)
    stored = _twin(decision) or decision
    return {"saved": True, "new": append_decision(stored), "id": stored.id, "time": stored.time}


def _texts(value: dict[str, Any]) -> bool:
    """Whether the fields that must be texts are, those that may be left out too."""
    texts = FIELDS - {"start", "end"}
    required = {"id", "dataset", "record", "verdict"} <= set(value)
    return required and all(isinstance(value.get(name, ""), str) for name in texts)


def rhythms_of(shelf: Shelf) -> tuple[list[str], list[str]]:
    """The rhythms that may be decided in a data set, and those of them that are AF."""
    rules = shelf.spec.rhythms
    names = {*rules.map.values(), *rules.from_comments.values(), FLUTTER, SINUS, FIBRILLATION, ""}
    return sorted(names - {""}), sorted({*rules.af, FIBRILLATION})


def _check_rhythm(decision: Decision, shelf: Shelf) -> None:
    """Refuse a rhythm that its verdict does not go with."""
    names, af = rhythms_of(shelf)
    allowed = {
        "accept": af,
        "reject": [name for name in names if name not in af],
        "correct": names,
        "flutter": [FLUTTER],
        CANNOT_TELL: [""],
    }.get(decision.verdict)
    if allowed is None:
        raise DecisionError(
            f"decision, verdict: found {decision.verdict[:40]!r}; "
            f"expected one of {', '.join(VERDICTS)}"
        )
    if decision.rhythm not in allowed:
        raise DecisionError(
            f"decision, rhythm: found {decision.rhythm[:40]!r} with {decision.verdict!r}; "
            f"expected one of {', '.join(map(repr, allowed))}"
        )


def _twin(decision: Decision) -> Decision | None:
    """The decision that is kept under the same id by the same person, whenever it was sent."""
    log = read_decisions(decision.dataset, decision.record)
    for twin in reversed(log):
        same = Decision(**{**vars(decision), "time": twin.time}) == twin
        if twin.id == decision.id and same:
            return twin
    return None
