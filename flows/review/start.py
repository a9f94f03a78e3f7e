"""How the review page is started: beside the servers of `holter up`, or alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.services.ports import LOOPBACK, REVIEW_PORT, known_port
from flows.services.ports import REVIEW as NAME
from flows.services.servers import Kind, lone_server
from storage.audit.provenance import ROOT
from storage.files import home


def review_command(_: Path, port: int) -> list[str]:
    """The command that starts the server of the page."""
    words = ["uvicorn", "--app-dir", str(ROOT), "--factory", "flows.review.server:app"]
    words += ["--host", LOOPBACK, "--port", str(port), "--log-level", "warning"]
    return [sys.executable, "-m", *words]


REVIEW = Kind(
    NAME, REVIEW_PORT, review_command, lambda folder, _: {"HOLTER_HOME": str(folder)}, "/health"
)


@contextmanager
def review_server() -> Iterator[tuple[str, int]]:
    """The page on the port of its last start, or one near: its address and process."""
    from flows.review.people import ensure_owner

    ensure_owner()
    folder = home()
    with lone_server(REVIEW, folder, known_port(folder, REVIEW.name, REVIEW.port)) as server:
        yield server
