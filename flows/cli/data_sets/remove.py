"""`holter data remove`: a data set's TOML and beat tables; what a version needs stays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import quiet, registry
from flows.cli.upkeep import Form, Yes, answer, confirm, size
from flows.services.progress import console
from storage.files import home

if TYPE_CHECKING:
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
    form: Form = "text",
) -> None:
    """Remove a data set: its TOML, its beat tables, what was seen of its folder.

    Tables that a registered version needs stay. Recordings are never touched, but for those that
    were fetched, where that is asked.
    """
    quiet()
    from flows.upkeep import cleaning, removal

    result = removal.plan(name, _needs())
    files, others = removal.recordings_of(records.absolute()) if records else ([], [])
    leaving = [item for item in result.items if not item.reason]
    value = {
        "removed": False,
        "name": name,
        "items": [
            {"kind": item.kind, "name": item.name, "bytes": item.bytes, "kept": item.reason}
            for item in result.items
        ],
        "recordings": len(files),
        "recordings_bytes": sum(path.stat().st_size for path in files),
        "recordings_kept": others,
        "notes": list(result.notes),
    }
    if dry_run or not (leaving or files):
        answer(form, value, _lines(value, "would go"))
        return
    if not yes:
        console.print("\n".join(_lines(value, "to go")), markup=False, soft_wrap=True)
    if not confirm(f"Remove data set {name}?", yes=yes):
        raise typer.Exit(1)
    for item in sorted(leaving, key=lambda item: item.kind == "TOML"):  # the TOML last
        cleaning.remove(item)
    if records:
        removal.remove_fetched(files, records.absolute())
    value["removed"] = True
    answer(form, value, _lines(value, "removed"))


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


def _lines(value: Mapping[str, Any], word: str) -> list[str]:
    lines = [
        f"{'kept' if item['kept'] else word:<8}  {size(item['bytes']):>10}  {item['kind']} "
        f"{item['name']}" + (f": {item['kept']}" if item["kept"] else "")
        for item in value["items"]
    ]
    if count := value["recordings"]:
        room = size(value["recordings_bytes"])
        lines.append(f"{word:<8}  {room:>10}  recordings that were fetched: {count} files")
    lines += [
        f"kept                  {file}: it was not fetched" for file in value["recordings_kept"]
    ]
    lines += [f"note: {text}" for text in value["notes"]]
    count = sum(not item["kept"] for item in value["items"])
    return [*lines, f"Data set {value['name']}: {count or 'no'} items {word}."]
