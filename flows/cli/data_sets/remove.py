"""`holter data remove`: a data set's TOML and beat tables; what a version needs stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import Format, answer
from flows.cli.options import quiet, registry
from flows.cli.upkeep import Yes, confirm, item_line, item_lines, show_lines, size, upkeep_item
from storage.files import home

if TYPE_CHECKING:
    from flows.cli.answer import upkeep_kinds
    from flows.upkeep.needs import Needs


def remove(
    name: Annotated[str, typer.Argument(help="Name of a data set.")],
    records: Annotated[
        Path | None,
        typer.Option(
            "--fetched",
            help="Also the recordings that `holter data fetch` brought into this folder.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would go, and remove nothing.")
    ] = False,
    yes: Yes = False,
    output: Format = "text",
) -> None:
    """Remove a data set: its TOML, its beat tables, what was seen of its folder.

    Tables that a registered version needs stay. Recordings are never touched, but for those that
    were fetched, where that is asked.
    """
    quiet()
    from flows.cli.answer import upkeep_kinds
    from flows.upkeep import cleaning, removal

    result = removal.plan(name, _needs())
    files, others = removal.recordings_of(records.absolute()) if records else ([], [])
    leaving = [item for item in result.items if not item.reason]
    value = upkeep_kinds.DataRemoval(
        removed=False,
        data_set=name,
        items=[upkeep_item(item) for item in result.items],
        recordings=len(files),
        recordings_bytes=sum(path.stat().st_size for path in files),
        kept_recordings=others,
        notes=[*result.notes],
    )
    if dry_run or not (leaving or files):
        answer(value, output, show_lines(_lines(value, "would go" if dry_run else "to go")))
        return
    confirm(_lines(value, "to go"), f"Remove data set {name}?", yes=yes)
    for item in sorted(leaving, key=lambda item: item.kind == "TOML"):  # the TOML last
        cleaning.remove(item)
    if records:
        removal.remove_fetched(files, records.absolute())
    value = replace(value, removed=True)
    answer(value, output, show_lines(_lines(value, "removed")))


def _needs() -> Needs:
    """What registered versions need; nothing where no registry has ever been."""
    from flows.services.access import named_servers
    from flows.services.servers import running
    from flows.upkeep.needs import Needs, read_needs

    has_registry = (home() / "mlflow" / "mlflow.db").is_file() or running() is not None
    if not (has_registry or "MLFLOW_TRACKING_URI" in named_servers()):
        return Needs()
    with registry():
        return read_needs()


def _lines(value: upkeep_kinds.DataRemoval, word: str) -> list[str]:
    lines = item_lines(value.items, word)
    if count := value.recordings:
        words = f"recordings that were fetched: {count} files"
        lines.append(item_line(word, size(value.recordings_bytes), words))
    kept_files = (f"{file}: it was not fetched" for file in value.kept_recordings)
    lines += [item_line("kept", "", words) for words in kept_files]
    lines += [f"note: {text}" for text in value.notes]
    count = sum(not item.reason for item in value.items)
    return [*lines, f"Data set {value.data_set}: {count or 'no'} items {word}."]
