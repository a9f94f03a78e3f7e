"""Records that failed: told in a flow's state, in a split's error, and bounded for a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from prefect.states import Completed

from flows.services.events import ENDING
from storage.bounds import most_allowed
from storage.errors import SplitError, TooManyFailed

if TYPE_CHECKING:
    from flows.ingest.flow import IngestResult

R = TypeVar("R")
#: Failures whose reasons a sentence quotes.
MOST_REASONS = 5


def tally(failed: int, records: int) -> str:
    """How many failed of how many: the name of a state that says so."""
    return f"{failed} of {records} {ENDING}"


def reasons(failures: Mapping[str, str]) -> str:
    """Why records failed, the first of them."""
    more = len(failures) - MOST_REASONS
    texts = list(failures.values())[:MOST_REASONS]
    return "; ".join(texts) + (f"; and {more} more" if more > 0 else "")


def _failures(ingested: Sequence[IngestResult]) -> dict[str, str]:
    return {
        f"{result.manifest.dataset}/{outcome.record}": outcome.error or ""
        for result in ingested
        for outcome in result.failed
    }


def telling(value: R, ingested: Sequence[IngestResult]) -> R:
    """What a flow gives back: where records failed, in a state whose name and message say so.

    Who calls the flow gets the value: Prefect takes it out of the state.
    """
    failures = _failures(ingested)
    if not failures:
        return value
    name = tally(len(failures), sum(len(result.outcomes) for result in ingested))
    state: Any = Completed(data=value, name=name, message=f"{name}: {reasons(failures)}")
    outcome: R = state
    return outcome


def refuse_beyond(most_failed: str, result: IngestResult) -> None:
    """Raise TooManyFailed where more records of a data set failed than a training takes."""
    failed, records = len(result.failed), len(result.outcomes)
    if failed > most_allowed(most_failed, records):
        raise TooManyFailed(
            f"data set {result.manifest.dataset}: found {tally(failed, records)}; expected at most "
            f"{most_failed} (most_failed): {reasons(_failures([result]))}"
        )


@contextmanager
def naming_failed(ingested: Sequence[IngestResult]) -> Iterator[None]:
    """Say which records failed where the others are too few to be split."""
    try:
        yield
    except SplitError as error:
        failures = _failures(ingested)
        if not failures:
            raise
        name = tally(len(failures), sum(len(result.outcomes) for result in ingested))
        raise SplitError(f"{error}; {name}: {reasons(failures)}") from error
