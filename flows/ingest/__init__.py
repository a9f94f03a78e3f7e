"""Recordings become beat tables, record by record.

The flow `ingest` is handed on from here, and loaded when it is asked for.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "ingest":
        from flows.ingest.flow import ingest

        return ingest
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
