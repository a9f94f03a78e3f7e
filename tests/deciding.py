"""Decisions of made-up reviewers."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from storage.labels.decisions import Decision


def decision(start: int, end: int, rhythm: str, **fields: Any) -> Decision:
    """A decision of Anna's about a passage of sim001, but for what is told otherwise."""
    values = {
        "id": uuid4().hex,
        "dataset": "simulated",
        "record": "sim001",
        "verdict": "correct" if rhythm else "cannot tell",
        "remark": "",
        "reviewer": "Anna",
        "time": "2026-01-31T08:15:00+00:00",
        "version": "holter-x/1",
    }
    return Decision(start=start, end=end, rhythm=rhythm, **{**values, **fields})
