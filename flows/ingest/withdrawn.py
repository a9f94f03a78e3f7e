"""Withdrawn recordings: an ingest leaves them out, and tells of it; the other records go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from storage.consent.blocks import read_blocks, recording_of_files
from storage.errors import Withdrawn
from storage.logs import log
from storage.recordings.records import Record
from storage.tables.beats_manifest import Manifest
from storage.tables.content import recordings

if TYPE_CHECKING:
    from flows.ingest.flow import Outcome
    from storage.places import Place

#: The state of such a record, and what the report says of it.
WITHDRAWN: Final = "withdrawn"


def refuse_withdrawn(record: Record) -> None:
    """Raise where a record's use was withdrawn, by its subject or its files, before it is read.

    Raises
    ------
    Withdrawn
        It was.
    ConsentError
        There is a list of withdrawals that cannot be read.
    """
    recording = recording_of_files(
        f"{record.dataset}/{record.name}",
        f"{record.dataset}/{record.subject}",
        record.digests,
        has_signal=record.lead is not None,
    )
    if withdrawal := read_blocks().withdrawal_of(recording):
        raise Withdrawn(record.name, withdrawal)


def leave_out(
    manifest: Manifest, outcomes: Sequence[Outcome], folder: Place
) -> tuple[Manifest, tuple[Outcome, ...]]:
    """A manifest and outcomes without withdrawn recordings; tables of such are removed.

    A worker that has another state folder knows of no withdrawal. Here each table is held to the
    list once more, by its prints too.

    Raises
    ------
    ConsentError
        There is a list of withdrawals that cannot be read.
    """
    blocks = read_blocks()
    pairs = zip(manifest.entries, recordings(manifest), strict=True)
    blocked = {entry.record for entry, recording in pairs if blocks.withdrawal_of(recording)}
    ordered = tuple(
        replace(outcome, state=WITHDRAWN, entry=None) if outcome.record in blocked else outcome
        for outcome in outcomes
    )
    names = {outcome.record for outcome in ordered if outcome.state == WITHDRAWN}
    names |= blocked
    for name in names:
        remove_table(folder, name)
        log.warning(f"{manifest.dataset}/{name} is left out: its use was withdrawn")
    kept_entries = tuple(e for e in manifest.entries if e.record not in names)
    return replace(manifest, entries=kept_entries, withdrawn=len(names)), ordered


def remove_table(folder: Place, record: str) -> None:
    """Remove a record's beat table, and its entry beside it."""
    for path in (folder / f"{record}.parquet", folder / "entries" / f"{record}.json"):
        path.unlink(missing_ok=True)
