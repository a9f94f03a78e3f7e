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
    from flows.ingest.flow import Ingested

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


def _failures(made: Sequence[Ingested]) -> dict[str, str]:
    return {
        f"{one.manifest.dataset}/{outcome.record}": outcome.error or ""
        for one in made
        for outcome in one.failed
    }


def telling(value: R, made: Sequence[Ingested]) -> R:
    """What a flow gives back: where records failed, in a state whose name and message say so.

    Who calls the flow gets the value: Prefect takes it out of the state.
    """
    failures = _failures(made)
    if not failures:
        return value
    name = tally(len(failures), sum(len(one.outcomes) for one in made))
    state: Any = Completed(data=value, name=name, message=f"{name}: {reasons(failures)}")
    told: R = state
    return told


def refuse_beyond(most_failed: str, made: Ingested) -> None:
    """Raise TooManyFailed where more records of a data set failed than a training takes."""
    failed, records = len(made.failed), len(made.outcomes)
    if failed > most_allowed(most_failed, records):
        raise TooManyFailed(
            f"data set {made.manifest.dataset}: found {tally(failed, records)}; expected at most "
            f"{most_failed} (most_failed): {reasons(_failures([made]))}"
        )


@contextmanager
def naming_failed(made: Sequence[Ingested]) -> Iterator[None]:
    """Say which records failed where the others are too few to be split."""
    try:
        yield
    except SplitError as error:
        failures = _failures(made)
        if not failures:
            raise
        name = tally(len(failures), sum(len(one.outcomes) for one in made))
        raise SplitError(f"{error}; {name}: {reasons(failures)}") from error
