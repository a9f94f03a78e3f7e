"""Log lines: text, or with HOLTER_LOG=json one JSON object a line, with ids of what is at work."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone

from storage.addresses import without_credentials

#: Where everything of ours is logged.
log = logging.getLogger("holter")

FORMS = ("text", "json")
#: What Prefect's own lines carry.
PREFECT = ("flow_run_id", "flow_run_name", "flow_name", "task_run_id", "task_run_name", "task_name")
_bound: ContextVar[dict[str, str]] = ContextVar("holter_log_ids", default={})  # noqa: B039 - never changed


def as_json() -> bool:
    """Whether log lines are to be JSON."""
    return os.environ.get("HOLTER_LOG") == "json"


@contextmanager
def bound(**ids: str) -> Iterator[None]:
    """Every line that is logged meanwhile, here and in what is called, carries these ids."""
    token = _bound.set({**_bound.get(), **ids})
    try:
        yield
    finally:
        _bound.reset(token)


class JsonLines(logging.Formatter):
    """A line as one JSON object: time (UTC), level, logger, message, ids, a failure's traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The object, on one line."""
        ids = {name: getattr(record, name, None) for name in PREFECT}
        document = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in ids.items() if value},
            **_bound.get(),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return without_credentials(json.dumps(document, default=str, ensure_ascii=False))


class Lines(logging.Formatter):
    """A line as text, and a failure's traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; addresses in it are without credentials, as in `JsonLines`."""
        return without_credentials(super().format(record))


def to_stderr(logger: logging.Logger) -> logging.Handler:
    """Have a logger's lines go to standard error, and only there, in the form asked for.

    Raises
    ------
    ValueError
        HOLTER_LOG is something else than text or json.
    """
    if (form := os.environ.get("HOLTER_LOG") or FORMS[0]) not in FORMS:
        raise ValueError(f"HOLTER_LOG: found {form!r}; expected {' or '.join(FORMS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json() else Lines("%(message)s"))
    logger.handlers = [handler]
    log.setLevel(logging.INFO)
    return handler
